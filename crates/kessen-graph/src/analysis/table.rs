//! A summary as an aligned table.

use std::fmt;

use super::{ReceptiveField, Row, Summary};

const COLUMNS: usize = 9;
const HEADER: [&str; COLUMNS] =
    ["node", "operator", "output", "field", "stride", "start", "parameters", "MACs", "activations"];

impl fmt::Display for Summary {
    /// One line per row, numbers to the right, sums at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<[String; COLUMNS]> = vec![HEADER.map(str::to_owned)];
        lines.extend(self.rows.iter().map(cells));
        let total = &self.total;
        let sums = [grouped(total.parameters), counted(total.macs), bytes(total.activation_bytes)];
        let [parameters, macs, activations] = sums;
        let empty = String::new;
        lines.push([
            "total".to_owned(),
            empty(),
            empty(),
            empty(),
            empty(),
            empty(),
            parameters,
            macs,
            activations,
        ]);
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; COLUMNS] = std::array::from_fn(width);

        let sizes: Vec<String> = self.bindings.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let title: Vec<&str> = [self.name.as_str()]
            .into_iter()
            .chain(sizes.iter().map(String::as_str))
            .filter(|t| !t.is_empty())
            .collect();
        writeln!(f, "{}", title.join(", "))?;
        let rule: usize = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        for (i, line) in lines.iter().enumerate() {
            if i == 1 || i + 1 == lines.len() {
                writeln!(f, "{}", "─".repeat(rule))?;
            }
            let cell = |(column, text): (usize, &String)| {
                let blanks = " ".repeat(widths[column] - text.chars().count());
                if column < 3 { format!("{text}{blanks}") } else { format!("{blanks}{text}") }
            };
            let cells: Vec<String> = line.iter().enumerate().map(cell).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        write!(f, "parameters {}", bytes(total.parameter_bytes))?;
        if total.buffers > 0 {
            write!(f, ", with {} numbers that are kept but not learnt", grouped(total.buffers))?;
        }
        writeln!(f)
    }
}

fn cells(row: &Row) -> [String; COLUMNS] {
    let shape: Vec<String> = row.shape.iter().map(ToString::to_string).collect();
    let shape = if shape.is_empty() { "scalar".to_owned() } else { shape.join("×") };
    let blank = |text: String, zero: bool| if zero { String::new() } else { text };
    let [field, stride, start] = match row.receptive_field {
        None => Default::default(),
        Some(ReceptiveField::Whole) => ["whole".to_owned(), String::new(), String::new()],
        Some(ReceptiveField::Window(w)) => [pair(w.size), pair(w.stride), pair(w.start)],
    };
    [
        row.path.clone(),
        row.phrase.clone(),
        shape,
        field,
        stride,
        start,
        blank(grouped(row.parameters), row.parameters == 0),
        blank(counted(row.macs), row.macs == 0),
        blank(bytes(row.activation_bytes), row.activation_bytes == 0),
    ]
}

/// `5`, or `3×5` where height and width differ.
fn pair<T: PartialEq + fmt::Display>([height, width]: [T; 2]) -> String {
    if height == width { height.to_string() } else { format!("{height}×{width}") }
}

/// `61,706`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// A number with a prefix, three digits: `417 k`, `15.5 G`.
fn counted(n: u64) -> String {
    scaled(n as f64, 1000.0, &["", "k", "M", "G", "T", "P", "E"])
}

/// Bytes with a binary prefix: `18.4 KiB`.
fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn scaled(mut n: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while n >= 999.5 && unit + 1 < units.len() {
        n /= base;
        unit += 1;
    }
    let digits = match n {
        _ if unit == 0 => 0,
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{n:.digits$} {}", units[unit]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [
            (0, "0", "0 B"),
            (999, "999", "999 B"),
            (1000, "1.00 k", "0.98 KiB"),
            (61_706, "61.7 k", "60.3 KiB"),
        ];
        for (n, count, size) in cases {
            assert_eq!((counted(n).as_str(), bytes(n).as_str()), (count, size));
        }
        assert_eq!(counted(15_470_264_320), "15.5 G");
        assert_eq!((grouped(7), grouped(1_234_567)), ("7".to_owned(), "1,234,567".to_owned()));
    }
}
