//! Matrices as colours: heat maps and confusion matrices.

use super::matrix::{Aside, Matrix};
use crate::Result;
use crate::picture::Picture;
use crate::scale::{fixed, number};
use crate::style::{CELL, blues, diverging, vermilions, viridis};

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
    grid: Matrix,
    colours: ColourMap,
}

/// A confusion matrix: counts of true against predicted classes. Right answers are blue and mistakes vermilion,
/// each as deep as its share of the row; to the right stands each class' recall.
#[derive(Debug, Clone)]
pub struct Confusion {
    grid: Matrix,
}

fn texts<S: Into<String>>(items: impl IntoIterator<Item = S>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}

impl HeatMap {
    /// A heat map of `values`, row by row, one per pair of row and column.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) where the number of values is not rows × columns.
    pub fn new<R: Into<String>, C: Into<String>>(
        title: impl Into<String>,
        rows: impl IntoIterator<Item = R>,
        columns: impl IntoIterator<Item = C>,
        values: impl IntoIterator<Item = f64>,
    ) -> Result<HeatMap> {
        let grid = Matrix::new(title.into(), texts(rows), texts(columns), values.into_iter().collect())?;
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
        let (from, to) = if self.colours == ColourMap::Diverging { (-limit, limit) } else { (low, high) };
        let aside = Aside::Bar { colour: &colour, from, to };
        // All with the decimals that the largest needs, so that they compare at a glance.
        let whole = finite().all(|v| v.fract() == 0.0);
        let decimals = if whole { 0 } else { (1.0 - limit.log10().floor()).clamp(0.0, 9.0) as usize };
        let plain = limit < 1e6 && decimals <= 5;
        let text = |v: f64| if v.is_finite() && plain { fixed(v, decimals) } else { number(v) };
        self.grid.draw(|_, _, v| colour(v).into(), text, aside)
    }
}

impl Confusion {
    /// The confusion matrix of `counts`, row by row: entry (t, p) counts the samples of class t that were taken
    /// for class p.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) where the number of counts is not the square of the number of classes.
    pub fn new<S: Into<String>>(classes: impl IntoIterator<Item = S>, counts: &[u64]) -> Result<Confusion> {
        let classes = texts(classes);
        let values: Vec<f64> = counts.iter().map(|&c| c as f64).collect();
        let mut grid = Matrix::new("confusion".into(), classes.clone(), classes, values)?;
        (grid.row_label, grid.column_label) = ("true class".into(), "predicted class".into());
        let diagonal = grid.values.iter().step_by(grid.columns.len() + 1);
        let (right, all) = (diagonal.sum::<f64>(), grid.values.iter().sum::<f64>());
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
        self.grid.draw(colour, count, Aside::Column { head: "recall", cells: &recalls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts_of(picture: &Picture) -> Vec<String> {
        let svg = picture.to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let words =
            |n: roxmltree::Node| n.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect();
        let texts = document.descendants().filter(|n| n.has_tag_name("text"));
        texts.map(words).collect()
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
    fn values_have_the_decimals_of_the_largest() {
        let texts = |values: [f64; 2]| {
            let texts = texts_of(&HeatMap::new("", ["r"], ["a", "b"], values).unwrap().picture());
            texts.into_iter().filter(|t| t.contains(|c: char| c.is_ascii_digit())).collect::<Vec<_>>()
        };
        assert_eq!(texts([0.5, -0.00123]), ["0.50", "0.00"]);
        assert_eq!(texts([12.0, 3.0]), ["12", "3"]);
        assert_eq!(texts([25.5, 3.0]), ["26", "3"]);
        assert_eq!(texts([2e9, 1.5]), ["2×109", "1.5"]);
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
