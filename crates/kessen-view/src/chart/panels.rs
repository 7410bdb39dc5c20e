//! Pictures side by side: small multiples.

use crate::font;
use crate::picture::{Anchor, Canvas, Look, Picture, Rect, Words};
use crate::style::{INK, MUTED, PAPER, size};

/// Pictures in rows and columns under one title, with names over the columns and before the rows where given.
#[derive(Debug, Clone)]
pub struct Panels {
    title: String,
    columns: usize,
    heads: Vec<String>,
    sides: Vec<String>,
    pictures: Vec<Picture>,
}

impl Panels {
    /// An empty sheet with this many columns (at least one).
    pub fn new(title: impl Into<String>, columns: usize) -> Panels {
        Panels {
            title: title.into(),
            columns: columns.max(1),
            heads: vec![],
            sides: vec![],
            pictures: vec![],
        }
    }

    /// Adds a picture; the rows fill from the left.
    pub fn panel(mut self, picture: Picture) -> Panels {
        self.pictures.push(picture);
        self
    }

    /// Names the columns.
    pub fn heads<S: Into<String>>(self, heads: impl IntoIterator<Item = S>) -> Panels {
        Panels { heads: heads.into_iter().map(Into::into).collect(), ..self }
    }

    /// Names the rows.
    pub fn sides<S: Into<String>>(self, sides: impl IntoIterator<Item = S>) -> Panels {
        Panels { sides: sides.into_iter().map(Into::into).collect(), ..self }
    }

    /// Draws the sheet.
    pub fn picture(&self) -> Picture {
        const GAP: f64 = 14.0;
        let at = |row: usize, column: usize| self.pictures.get(row * self.columns + column);
        let rows = self.pictures.len().div_ceil(self.columns);
        let columns = self.columns.min(self.pictures.len());
        let width_of = |c: usize| (0..rows).filter_map(|r| at(r, c)).map(Picture::width).fold(0.0, f64::max);
        let height_of =
            |r: usize| (0..columns).filter_map(|c| at(r, c)).map(Picture::height).fold(0.0, f64::max);
        let left = if self.sides.is_empty() { 10.0 } else { 50.0 };
        let mut top = if self.title.is_empty() { 12.0 } else { 58.0 };
        top += if self.heads.is_empty() { 0.0 } else { 30.0 };
        let sum = |sizes: &mut dyn Iterator<Item = f64>| sizes.map(|s| s + GAP).sum::<f64>();
        let title_width = font::width(&self.title, size::TITLE, true) + 40.0;
        let width = (left + sum(&mut (0..columns).map(width_of))).max(title_width);
        let height = top + sum(&mut (0..rows).map(height_of));
        let mut canvas = Canvas::new(width, height, &self.title);
        canvas.rect(Rect { x: 0.0, y: 0.0, w: width.ceil(), h: height.ceil() }, Look::fill(&PAPER));
        canvas.text(20.0, 38.0, &self.title, Words::new(size::TITLE, &INK).bold());
        let mut x = left;
        for c in 0..columns {
            if let Some(head) = self.heads.get(c) {
                let words = Words::new(size::LABEL, &INK).anchor(Anchor::Middle).bold();
                canvas.text(x + width_of(c) / 2.0, top - 10.0, head, words);
            }
            let mut y = top;
            for r in 0..rows {
                if let Some(picture) = at(r, c) {
                    canvas.place(picture, x, y, 1.0);
                }
                y += height_of(r) + GAP;
            }
            x += width_of(c) + GAP;
        }
        let mut y = top;
        for (r, side) in self.sides.iter().enumerate().take(rows) {
            let words = Words::new(size::LABEL, &MUTED).anchor(Anchor::Middle).turned(-90.0);
            canvas.text(32.0, y + height_of(r) / 2.0, side, words);
            y += height_of(r) + GAP;
        }
        canvas.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::XyChart;

    #[test]
    fn panels_stand_in_rows() {
        let panel =
            |k: i32| XyChart::new(format!("panel {k}")).size(300.0, 200.0).line("", [(0.0, 0.0), (1.0, 1.0)]);
        let mut panels = Panels::new("all", 2).heads(["left", "right"]).sides(["above", "below"]);
        for k in 0..3 {
            panels = panels.panel(panel(k).picture());
        }
        let picture = panels.picture();
        assert!(picture.width() > 600.0 && picture.width() < 720.0 && picture.height() > 400.0);
        let svg = picture.to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        assert_eq!(document.descendants().filter(|n| n.has_tag_name("g")).count(), 3);
        for text in ["all", "left", "right", "above", "below", "panel 2"] {
            assert!(document.descendants().any(|n| n.text() == Some(text)), "{text}");
        }
    }

    #[test]
    fn no_panels_at_all() {
        Panels::new("", 0).picture().to_png(1.0).unwrap();
    }
}
