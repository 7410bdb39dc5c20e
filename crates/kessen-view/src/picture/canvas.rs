//! Writes SVG marks.

use super::Picture;
use crate::font::{self, CAP_HEIGHT};
use crate::style::{Paint, Rgb};
use std::borrow::Cow;
use std::fmt::{self, Write};

/// An axis-parallel rectangle: left, top, width, height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Rect {
    pub fn right(&self) -> f64 {
        self.x + self.w
    }

    pub fn bottom(&self) -> f64 {
        self.y + self.h
    }

    pub fn centre(&self) -> (f64, f64) {
        (self.x + self.w / 2.0, self.y + self.h / 2.0)
    }
}

/// How a mark is painted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    fill: Paint,
    stroke: Paint,
    width: f64,
    dash: Option<&'static str>,
    opacity: f64,
    round: f64,
}

impl Look {
    pub fn fill(paint: impl Into<Paint>) -> Look {
        Look { fill: paint.into(), stroke: Paint::None, width: 0.0, dash: None, opacity: 1.0, round: 0.0 }
    }

    pub fn stroke(paint: impl Into<Paint>, width: f64) -> Look {
        Look { fill: Paint::None, stroke: paint.into(), width, ..Look::fill(Paint::None) }
    }

    pub fn outlined(self, paint: impl Into<Paint>, width: f64) -> Look {
        Look { stroke: paint.into(), width, ..self }
    }

    pub fn dashed(self, dash: Option<&'static str>) -> Look {
        Look { dash, ..self }
    }

    pub fn opacity(self, opacity: f64) -> Look {
        Look { opacity, ..self }
    }

    /// Rounds a rectangle's corners.
    pub fn round(self, round: f64) -> Look {
        Look { round, ..self }
    }
}

/// Side of a text on which its anchor point lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words {
    size: f64,
    paint: Paint,
    anchor: Anchor,
    bold: bool,
    centred: bool,
    turned: f64,
    halo: bool,
}

impl Words {
    pub fn new(size: f64, paint: impl Into<Paint>) -> Words {
        let paint = paint.into();
        Words { size, paint, anchor: Anchor::Start, bold: false, centred: false, turned: 0.0, halo: false }
    }

    pub fn anchor(self, anchor: Anchor) -> Words {
        Words { anchor, ..self }
    }

    pub fn bold(self) -> Words {
        Words { bold: true, ..self }
    }

    /// Centres the capitals on `y` in place of setting the baseline there.
    pub fn centred(self) -> Words {
        Words { centred: true, ..self }
    }

    /// Turns the text about its anchor, in degrees clockwise.
    pub fn turned(self, turned: f64) -> Words {
        Words { turned, ..self }
    }

    /// Draws a rim in the colour of the paper around the letters, for text that lies on lines.
    pub fn halo(self) -> Words {
        Words { halo: true, ..self }
    }
}

/// A picture in the making.
#[derive(Debug)]
pub(crate) struct Canvas {
    picture: Picture,
}

impl Canvas {
    pub fn new(width: f64, height: f64, title: &str) -> Canvas {
        let (width, height) = (width.ceil(), height.ceil());
        Canvas { picture: Picture { width, height, title: title.into(), body: String::new() } }
    }

    pub fn finish(self) -> Picture {
        self.picture
    }

    pub fn rect(&mut self, r: Rect, look: Look) {
        let round = if look.round > 0.0 { format!(" rx=\"{}\"", Num(look.round)) } else { String::new() };
        let (x, y, w, h) = (Num(r.x), Num(r.y), Num(r.w.max(0.0)), Num(r.h.max(0.0)));
        self.write(format_args!("<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"{round}{look}/>\n"));
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), look: Look) {
        let (x1, y1, x2, y2) = (Num(from.0), Num(from.1), Num(to.0), Num(to.1));
        self.write(format_args!("<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"{look}/>\n"));
    }

    pub fn circle(&mut self, centre: (f64, f64), radius: f64, look: Look) {
        let (x, y, r) = (Num(centre.0), Num(centre.1), Num(radius));
        self.write(format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\"{look}/>\n"));
    }

    pub fn path(&mut self, d: &str, look: Look) {
        self.write(format_args!(
            "<path d=\"{d}\" stroke-linejoin=\"round\" stroke-linecap=\"round\"{look}/>\n"
        ));
    }

    /// A line through `points`.
    pub fn polyline(&mut self, points: &[(f64, f64)], look: Look) {
        let mut d = String::with_capacity(points.len() * 12);
        for (k, &(x, y)) in points.iter().enumerate() {
            let _ = write!(d, "{}{} {}", if k == 0 { 'M' } else { 'L' }, Num(x), Num(y));
        }
        self.path(&d, look);
    }

    pub fn text(&mut self, x: f64, y: f64, text: &str, words: Words) {
        if text.is_empty() {
            return;
        }
        let y = if words.centred { y + words.size * CAP_HEIGHT / 2.0 } else { y };
        let (x, y, size) = (Num(x), Num(y), Num(words.size));
        let anchor = match words.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let bold = if words.bold { " font-weight=\"bold\"" } else { "" };
        let turned = match words.turned {
            0.0 => String::new(),
            angle => format!(" transform=\"rotate({} {x} {y})\"", Num(angle)),
        };
        let look = Look::fill(words.paint);
        let text = set(text, words.size);
        if words.halo {
            let rim = Look::stroke(&crate::style::PAPER, 5.0);
            self.write(format_args!(
                "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{anchor}{bold}{turned}{rim} stroke-linejoin=\"round\" aria-hidden=\"true\">{text}</text>\n"
            ));
        }
        self.write(format_args!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{anchor}{bold}{turned}{look}>{text}</text>\n"
        ));
    }

    /// An embedded PNG.
    pub fn image(&mut self, r: Rect, png: &[u8]) {
        use base64::Engine;
        let data = base64::engine::general_purpose::STANDARD.encode(png);
        let (x, y, w, h) = (Num(r.x), Num(r.y), Num(r.w), Num(r.h));
        self.write(format_args!(
            "<image x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{data}\"/>\n"
        ));
    }

    /// Another picture with its top left corner at (x, y), enlarged by `scale`.
    pub fn place(&mut self, picture: &Picture, x: f64, y: f64, scale: f64) {
        let scale = if scale == 1.0 { String::new() } else { format!(" scale({scale:.4})") };
        let (x, y) = (Num(x), Num(y));
        self.write(format_args!("<g transform=\"translate({x} {y}){scale}\">\n{}</g>\n", picture.body()));
    }

    /// Draws what `draw` draws, cut off at the borders of `r`. A nested `svg` clips without an id, so that many
    /// pictures can share one page.
    pub fn clipped(&mut self, r: Rect, draw: impl FnOnce(&mut Canvas)) {
        let (x, y, w, h) = (Num(r.x), Num(r.y), Num(r.w), Num(r.h));
        self.write(format_args!(
            "<svg x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" viewBox=\"{x} {y} {w} {h}\">\n"
        ));
        draw(self);
        self.write(format_args!("</svg>\n"));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.picture.body.write_fmt(text);
    }
}

/// A coordinate with at most two decimals.
struct Num(f64);

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = if self.0.is_finite() { (self.0 * 100.0).round() / 100.0 } else { 0.0 };
        write!(f, "{}", rounded + 0.0)
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut classes = Vec::new();
        for (name, letter, paint) in [("fill", 'f', self.fill), ("stroke", 's', self.stroke)] {
            match paint {
                Paint::None if name == "fill" => write!(f, " fill=\"none\"")?,
                Paint::None => {}
                Paint::Rgb(Rgb(r, g, b)) => write!(f, " {name}=\"#{r:02x}{g:02x}{b:02x}\"")?,
                Paint::Role(role) => {
                    write!(f, " {name}=\"{}\"", role.light)?;
                    classes.push(format!("{letter}-{}", role.class));
                }
            }
        }
        if !classes.is_empty() {
            write!(f, " class=\"{}\"", classes.join(" "))?;
        }
        if self.stroke != Paint::None {
            write!(f, " stroke-width=\"{}\"", Num(self.width))?;
        }
        if let Some(dash) = self.dash {
            write!(f, " stroke-dasharray=\"{dash}\"")?;
        }
        if self.opacity < 1.0 {
            write!(f, " opacity=\"{}\"", Num(self.opacity))?;
        }
        Ok(())
    }
}

/// One line of text with raised digits set as smaller, raised plain ones.
fn set(text: &str, size: f64) -> Cow<'_, str> {
    if !text.contains(|c| font::raised(c).is_some()) {
        return escape(text);
    }
    let (small, up) = (Num(size * font::RAISED.0), Num(size * font::RAISED.1));
    let mut line = String::new();
    let mut drop = String::new();
    let letters: Vec<char> = text.chars().collect();
    for run in letters.chunk_by(|&a, &b| font::raised(a).is_some() == font::raised(b).is_some()) {
        let plain: String = run.iter().filter_map(|&c| font::raised(c)).collect();
        if plain.is_empty() {
            let _ = write!(line, "<tspan{drop}>{}</tspan>", escape(&run.iter().collect::<String>()));
        } else {
            let _ = write!(line, "<tspan dy=\"-{up}\" font-size=\"{small}\">{plain}</tspan>");
            drop = format!(" dy=\"{up}\"");
        }
    }
    line.into()
}

/// Text as XML character data or attribute value; control characters, which XML forbids, become spaces.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    let special =
        |c: char| matches!(c, '<' | '>' | '&' | '"' | '\'') || (c.is_control() && c != '\n') || forbidden(c);
    if !text.contains(special) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            c if c.is_control() || forbidden(c) => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped.into()
}

fn forbidden(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}')
}
