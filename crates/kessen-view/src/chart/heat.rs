//! Matrices as colours: heat maps and confusion matrices.

use crate::font;
use crate::picture::{Anchor, Canvas, Look, Picture, Rect, Words};
use crate::scale::{fixed, number};
use crate::style::{CELL, INK, MUTED, PAPER, Paint, Rgb, blues, diverging, size, vermilions, viridis};
use crate::{Error, Result};

/// Colours of a heat map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColourMap {
    /// White to blue, for counts and probabilities: the smallest value or zero is white.
    #[default]
    Sequential,
    /// Blue, white, vermilion, symmetrical about zero, for weights and differences.
    Diverging,
    /// Viridis, for fields without a natural zero.
    Viridis,
}

/// A matrix shown as coloured cells, with the values in them where there is room.
#[derive(Debug, Clone)]
pub struct HeatMap {
    grid: Grid,
    colours: ColourMap,
}

/// A confusion matrix: counts of true against predicted classes. Right answers are blue and mistakes vermilion,
/// each as deep as its share of the row; to the right stands each class' recall.
#[derive(Debug, Clone)]
pub struct Confusion {
    grid: Grid,
}

#[derive(Debug, Clone)]
struct Grid {
    title: String,
    rows: Vec<String>,
    columns: Vec<String>,
    row_label: String,
    column_label: String,
    values: Vec<f64>,
    width: f64,
}

impl Grid {
    fn new(title: String, rows: Vec<String>, columns: Vec<String>, values: Vec<f64>) -> Result<Grid> {
        let expected = rows.len() * columns.len();
        if values.len() != expected {
            let what = format!("matrix {title:?} with {} rows and {} columns", rows.len(), columns.len());
            return Err(Error::Length { what, found: values.len(), expected, because: "rows × columns" });
        }
        Ok(Grid {
            title,
            rows,
            columns,
            row_label: String::new(),
            column_label: String::new(),
            values,
            width: 760.0,
        })
    }
}

fn texts<S: Into<String>>(items: impl IntoIterator<Item = S>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}

impl HeatMap {
    /// A heat map of `values`, row by row, one per pair of row and column.
    ///
    /// # Errors
    /// [`Error::Length`] where the number of values is not rows × columns.
    pub fn new<R: Into<String>, C: Into<String>>(
        title: impl Into<String>,
        rows: impl IntoIterator<Item = R>,
        columns: impl IntoIterator<Item = C>,
        values: impl IntoIterator<Item = f64>,
    ) -> Result<HeatMap> {
        let grid = Grid::new(title.into(), texts(rows), texts(columns), values.into_iter().collect())?;
        Ok(HeatMap { grid, colours: ColourMap::Sequential })
    }

    /// Sets the colours.
    pub fn colours(self, colours: ColourMap) -> HeatMap {
        HeatMap { colours, ..self }
    }

    /// Names the rows and the columns as a whole.
    pub fn labels(mut self, rows: impl Into<String>, columns: impl Into<String>) -> HeatMap {
        (self.grid.row_label, self.grid.column_label) = (rows.into(), columns.into());
        self
    }

    /// Sets the width in SVG units that the map should fill; at least 240.
    pub fn width(mut self, width: f64) -> HeatMap {
        self.grid.width = width.max(240.0);
        self
    }

    /// Draws the map.
    pub fn picture(&self) -> Picture {
        let finite = || self.grid.values.iter().copied().filter(|v| v.is_finite());
        let (low, high) = (finite().fold(0.0, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let low =
            if self.colours == ColourMap::Viridis { finite().fold(f64::INFINITY, f64::min) } else { low };
        let limit = finite().map(f64::abs).fold(0.0, f64::max);
        let share = |v: f64| if high > low { (v - low) / (high - low) } else { 0.5 };
        let colour = |v: f64| match self.colours {
            ColourMap::Sequential => blues(share(v)),
            ColourMap::Diverging => diverging(if limit > 0.0 { v / limit } else { 0.0 }),
            ColourMap::Viridis => viridis(share(v)),
        };
        self.grid.draw(|_, _, v| colour(v).into(), number, &[])
    }
}

impl Confusion {
    /// The confusion matrix of `counts`, row by row: entry (t, p) counts the samples of class t that were taken
    /// for class p.
    ///
    /// # Errors
    /// [`Error::Length`] where the number of counts is not the square of the number of classes.
    pub fn new<S: Into<String>>(classes: impl IntoIterator<Item = S>, counts: &[u64]) -> Result<Confusion> {
        let classes = texts(classes);
        let values: Vec<f64> = counts.iter().map(|&c| c as f64).collect();
        let mut grid = Grid::new("confusion".into(), classes.clone(), classes, values)?;
        (grid.row_label, grid.column_label) = ("true class".into(), "predicted class".into());
        let (right, all) = (grid.diagonal().sum::<f64>(), grid.values.iter().sum::<f64>());
        let share = if all > 0.0 { 100.0 * right / all } else { 0.0 };
        grid.title = format!("{} of {} right ({} %)", fixed(right, 0), fixed(all, 0), fixed(share, 2));
        Ok(Confusion { grid })
    }

    /// Sets the title in place of the number of right answers.
    pub fn title(mut self, title: impl Into<String>) -> Confusion {
        self.grid.title = title.into();
        self
    }

    /// Sets the width in SVG units that the matrix should fill; at least 240.
    pub fn width(mut self, width: f64) -> Confusion {
        self.grid.width = width.max(240.0);
        self
    }

    /// Draws the matrix.
    pub fn picture(&self) -> Picture {
        let n = self.grid.rows.len();
        let total = |t: usize| self.grid.values[t * n..(t + 1) * n].iter().sum::<f64>();
        let share = |t: usize, v: f64| if total(t) > 0.0 { v / total(t) } else { 0.0 };
        let colour = |t: usize, p: usize, v: f64| match () {
            _ if v <= 0.0 => (&CELL).into(),
            _ if t == p => blues(0.15 + 0.65 * share(t, v)).into(),
            // Mistakes are few: their root tells one from ten while ten from a hundred still differ.
            _ => vermilions(0.15 + 0.85 * share(t, v).sqrt()).into(),
        };
        let recall = |t: usize| match total(t) {
            0.0 => "–".to_owned(),
            _ => format!("{} %", fixed(100.0 * share(t, self.grid.values[t * n + t]), 1)),
        };
        let recalls: Vec<String> = (0..n).map(recall).collect();
        let count = |v: f64| if v == 0.0 { String::new() } else { fixed(v, 0) };
        self.grid.draw(colour, count, &recalls)
    }
}

impl Grid {
    fn diagonal(&self) -> impl Iterator<Item = f64> {
        self.values.iter().copied().step_by(self.columns.len() + 1)
    }

    /// Draws the cells with `colour(row, column, value)` and `text(value)`, and `aside` to the right of the rows.
    fn draw(
        &self,
        colour: impl Fn(usize, usize, f64) -> Paint,
        text: impl Fn(f64) -> String,
        aside: &[String],
    ) -> Picture {
        let widest =
            |items: &[String]| items.iter().map(|s| font::width(s, size::TICK, false)).fold(0.0, f64::max);
        let (rows, columns) = (self.rows.len(), self.columns.len());
        let left =
            16.0 + if self.row_label.is_empty() { 0.0 } else { 34.0 } + widest(&self.rows).min(240.0) + 12.0;
        let right = 16.0 + if aside.is_empty() { 0.0 } else { widest(aside).max(50.0) + 14.0 };
        let cell = ((self.width - left - right) / columns.max(1) as f64).clamp(8.0, 72.0);
        let cell_height = cell.min(54.0);
        let steep = widest(&self.columns) + 8.0 > cell;
        let head = if steep { widest(&self.columns).min(240.0) + 12.0 } else { 30.0 };
        let top = if self.title.is_empty() { 12.0 } else { 56.0 };
        let top = top + if self.column_label.is_empty() { 0.0 } else { 30.0 } + head;
        let plot = Rect { x: left, y: top, w: cell * columns as f64, h: cell_height * rows as f64 };
        let title_width = font::width(&self.title, size::TITLE, true) + 32.0;
        let width = (plot.right() + right).max(title_width);
        let mut canvas = Canvas::new(width, plot.bottom() + 18.0, &self.title);
        canvas.rect(
            Rect { x: 0.0, y: 0.0, w: width.ceil(), h: (plot.bottom() + 18.0).ceil() },
            Look::fill(&PAPER),
        );
        canvas.text(16.0, 36.0, &self.title, Words::new(size::TITLE, &INK).bold());
        let middle = |size| Words::new(size, &MUTED).anchor(Anchor::Middle);
        canvas.text(plot.centre().0, top - head - 6.0, &self.column_label, middle(size::LABEL));
        canvas.text(32.0, plot.centre().1, &self.row_label, middle(size::LABEL).turned(-90.0));
        for (c, name) in self.columns.iter().enumerate().step_by(skip(cell)) {
            let x = left + cell * (c as f64 + 0.5);
            let name = font::fit(name, 240.0, size::TICK, false);
            match steep {
                true => canvas.text(x + 6.0, top - 8.0, &name, Words::new(size::TICK, &INK).turned(-90.0)),
                false => {
                    canvas.text(x, top - 9.0, &name, Words::new(size::TICK, &INK).anchor(Anchor::Middle))
                }
            }
        }
        for (r, name) in self.rows.iter().enumerate().step_by(skip(cell_height)) {
            let y = top + cell_height * (r as f64 + 0.5);
            let name = font::fit(name, 240.0, size::TICK, false);
            canvas.text(left - 10.0, y, &name, Words::new(size::TICK, &INK).anchor(Anchor::End).centred());
            if let Some(aside) = aside.get(r) {
                let words = Words::new(size::TICK, &MUTED).anchor(Anchor::End).centred();
                canvas.text(plot.right() + right - 12.0, y, aside, words);
            }
        }
        if !aside.is_empty() {
            let words = Words::new(size::TICK, &MUTED).anchor(Anchor::End);
            canvas.text(plot.right() + right - 12.0, top - 9.0, "recall", words);
        }
        self.draw_cells(&mut canvas, plot, (cell, cell_height), colour, text);
        canvas.finish()
    }

    fn draw_cells(
        &self,
        canvas: &mut Canvas,
        plot: Rect,
        (cell, cell_height): (f64, f64),
        colour: impl Fn(usize, usize, f64) -> Paint,
        text: impl Fn(f64) -> String,
    ) {
        let gap = if cell > 20.0 { 2.0 } else { 0.0 };
        let letters = size::TICK.min(cell_height * 0.5);
        let room = |v: &f64| font::width(&text(*v), letters, false) + 4.0 <= cell;
        let with_text = letters >= 11.0 && self.values.iter().all(room);
        for (k, &value) in self.values.iter().enumerate() {
            let (r, c) = (k / self.columns.len(), k % self.columns.len());
            let (x, y) = (plot.x + cell * c as f64, plot.y + cell_height * r as f64);
            let fill = if value.is_finite() { colour(r, c, value) } else { Rgb(200, 200, 200).into() };
            let area = Rect { x, y, w: cell - gap, h: cell_height - gap };
            canvas.rect(area, Look::fill(fill).round(gap * 1.5));
            if with_text {
                let paint =
                    if let Paint::Rgb(fill) = fill { fill.readable().into() } else { Paint::from(&MUTED) };
                let words = Words::new(letters, paint).anchor(Anchor::Middle).centred();
                let (x, y) = area.centre();
                canvas.text(x, y, &text(value), words);
            }
        }
    }
}

/// How many lines of text one has to go on so that they do not touch.
fn skip(cell: f64) -> usize {
    (20.0 / cell).ceil().max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts_of(picture: &Picture) -> Vec<String> {
        let svg = picture.to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let texts = document.descendants().filter(|n| n.has_tag_name("text")).filter_map(|n| n.text());
        texts.map(str::to_owned).collect()
    }

    #[test]
    fn confusion_shows_counts_accuracy_and_recall() {
        let picture = Confusion::new(["cat", "dog"], &[8, 2, 1, 9]).unwrap().picture();
        let texts = texts_of(&picture);
        for expected in
            ["17 of 20 right (85.00 %)", "80.0 %", "90.0 %", "8", "2", "1", "9", "true class", "recall"]
        {
            assert!(texts.contains(&expected.to_owned()), "{expected} in {texts:?}");
        }
    }

    #[test]
    fn a_matrix_that_does_not_fit_its_names_is_refused() {
        let error = Confusion::new(["a", "b"], &[1, 2, 3]).unwrap_err().to_string();
        assert!(error.contains("found 3") && error.contains("expected 4"), "{error}");
    }

    #[test]
    fn odd_matrices_never_panic() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let none: [&str; 0] = [];
        for colours in [ColourMap::Sequential, ColourMap::Diverging, ColourMap::Viridis] {
            let empty = HeatMap::new("empty", none, none, []).unwrap();
            let odd = HeatMap::new("odd", ["<r>", "&"], ["a", "b"], [nan, inf, -inf, 1.0]).unwrap();
            let zeros = HeatMap::new("zeros", ["r"], ["a", "b"], [0.0, 0.0]).unwrap();
            for map in [empty, odd, zeros] {
                map.colours(colours).picture().to_png(0.5).unwrap();
            }
        }
        Confusion::new(none, &[]).unwrap().picture().to_png(0.5).unwrap();
        Confusion::new(["a"], &[0]).unwrap().picture().to_png(0.5).unwrap();
    }

    #[test]
    fn a_hundred_classes_stay_readable() {
        let mut counts = vec![0; 100 * 100];
        counts.iter_mut().step_by(101).for_each(|c| *c = 50);
        let picture = Confusion::new((0..100).map(|k| k.to_string()), &counts).unwrap().picture();
        assert!(picture.width() < 1200.0);
        assert!(!texts_of(&picture).contains(&"50 ".to_owned()));
    }
}
