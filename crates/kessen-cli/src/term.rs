//! What is printed, where, and in which colours.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style as Ansi};

/// How the command speaks.
#[derive(Debug, Clone, Copy)]
pub struct Term {
    /// Nothing but results and errors.
    pub quiet: bool,
    /// Results as JSON.
    pub json: bool,
    colour: bool,
    live: bool,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The word `error:`.
    Error,
    /// The word `warning:`.
    Warning,
    /// Headings and what matters most.
    Strong,
    /// What matters least.
    Faint,
    /// A good result.
    Good,
}

impl Term {
    /// Colours and live bars only on a terminal, and none where `NO_COLOR` is set.
    pub fn new(quiet: bool, json: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let live = std::io::stderr().is_terminal() && !dumb && !quiet;
        Self { quiet, json, colour: terminal && !dumb && !set("NO_COLOR"), live }
    }

    /// Whether a bar may be redrawn in place.
    pub fn live(&self) -> bool {
        self.live
    }

    /// Whether colours are wanted.
    pub fn colours(&self) -> bool {
        self.colour
    }

    /// `text` in the colours of `style`.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let ansi = match style {
            Style::Error => Ansi::new().bold().fg_color(Some(AnsiColor::Red.into())),
            Style::Warning => Ansi::new().bold().fg_color(Some(AnsiColor::Yellow.into())),
            Style::Strong => Ansi::new().bold(),
            Style::Faint => Ansi::new().dimmed(),
            Style::Good => Ansi::new().bold().fg_color(Some(AnsiColor::Green.into())),
        };
        format!("{ansi}{text}{ansi:#}")
    }

    /// A result, to standard output. A closed pipe ends the command quietly.
    pub fn result(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// A line for a person: to standard output, not where the output is JSON or quiet.
    pub fn say(&self, text: &str) {
        if !self.quiet && !self.json {
            self.result(text);
        }
    }

    /// A line on what is going on, to standard error, unless quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.error(text);
        }
    }

    /// Something that a user should know, to standard error.
    pub fn warn(&self, text: &str) {
        self.error(&format!("{} {text}", self.paint(Style::Warning, "warning:")));
    }

    /// A line to standard error.
    pub fn error(&self, text: &str) {
        // Nothing can be done where even this can't be written.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

/// The machine in a few words: processor, threads, instruction set.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()));
    let name = model.unwrap_or(std::env::consts::ARCH);
    format!(
        "{name}, {} threads, {}",
        kessen_kernels::threads::count(),
        kessen_kernels::isa::Isa::active().name()
    )
}

/// A number with commas between groups of three digits.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes in the unit that suits it.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let (mut value, mut unit) = (n as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Seconds as `12.3 s`, `4 min 05 s`, `2 h 03 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// Four significant digits, in scientific form only where it has to be.
pub fn figure(v: f64) -> String {
    let size = v.abs();
    match () {
        () if v == 0.0 => "0".to_owned(),
        () if !v.is_finite() => v.to_string(),
        () if !(1e-4..1e6).contains(&size) => format!("{v:.3e}"),
        () if size >= 1000.0 => format!("{v:.1}"),
        () if size >= 1.0 => format!("{v:.3}"),
        () => format!("{v:.*}", (3 - size.log10().floor() as i32) as usize),
    }
}

/// Rows with columns aligned: those of numbers to the right, others to the left. The first row is the head.
pub fn table(term: &Term, rows: &[Vec<String>], total: Option<&[String]>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let every = || rows.iter().map(Vec::as_slice).chain(total);
    let width =
        |c: usize| every().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or_default();
    let numeric = |c: usize| {
        let mut cells = rows.iter().skip(1).filter_map(|r| r.get(c)).filter(|s| !s.is_empty()).peekable();
        cells.peek().is_some()
            && cells.all(|s| s.starts_with(|ch: char| ch.is_ascii_digit() || "-–−".contains(ch)))
    };
    let shape: Vec<(usize, bool)> = (0..columns).map(|c| (width(c), numeric(c))).collect();
    let line = |row: &[String]| {
        let cell = |(c, &(width, right)): (usize, &(usize, bool))| {
            let text = row.get(c).map_or("", String::as_str);
            let gap = " ".repeat(width - text.chars().count());
            if right { format!("{gap}{text}") } else { format!("{text}{gap}") }
        };
        shape.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rule = "─".repeat(shape.iter().map(|(w, _)| w + 2).sum::<usize>().saturating_sub(2));
    let rule = term.paint(Style::Faint, &rule);
    let mut out = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        match i {
            0 => out.extend([term.paint(Style::Strong, &line(row)), rule.clone()]),
            _ => out.push(line(row)),
        }
    }
    if let Some(total) = total {
        out.extend([rule, term.paint(Style::Strong, &line(total))]);
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        let groups = [(0, "0"), (999, "999"), (1000, "1,000"), (61_100_840, "61,100,840")];
        groups.iter().for_each(|(n, text)| assert_eq!(grouped(*n), *text));
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")];
        sizes.iter().for_each(|(n, text)| assert_eq!(bytes(*n), *text));
        let times = [(0.04, "0.0 s"), (59.4, "59.4 s"), (59.6, "1 min 00 s"), (7380.0, "2 h 03 min")];
        times.iter().for_each(|(s, text)| assert_eq!(duration(*s), *text));
        let figures =
            [(0.0, "0"), (0.98331, "0.9833"), (0.001, "0.001000"), (12.34567, "12.346"), (4e-7, "4.000e-7")];
        figures.iter().for_each(|(v, text)| assert_eq!(figure(*v), *text));
    }

    #[test]
    fn columns_of_numbers_stand_right() {
        let term = Term { quiet: false, json: false, colour: false, live: false };
        let rows = [["name", "n"], ["a", "5"], ["bcd", "1,000"]].map(|r| r.map(str::to_owned).to_vec());
        let total = ["all", "1,005"].map(str::to_owned);
        let expected = "name      n\n───────────\na         5\nbcd   1,000\n───────────\nall   1,005";
        assert_eq!(table(&term, &rows, Some(&total)), expected);
    }
}
