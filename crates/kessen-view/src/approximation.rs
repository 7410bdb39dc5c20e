//! The lecture's pictures of function approximation: how the hidden units' basis functions add up to a curve.
//!
//! A perceptron with one input, one hidden layer and one output computes y(x) = Σᵢ wᵢ·fᵢ(x) + b, where the basis
//! function fᵢ(x) = f(vᵢ·x + cᵢ) is itself learnt: vᵢ sets its steepness and direction, cᵢ its place.

use crate::chart::{Axis, Mark, Panels, Scale, Series, XyChart};
use crate::picture::Picture;
use crate::style::{INK, MUTED, VERMILION, series_paint};
use crate::{Error, Result};

/// One hidden unit: its basis function at the places `x` of an [`Approximation`], and its weight in the output.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// fᵢ(x), one value per place.
    pub basis: Vec<f64>,
    /// wᵢ.
    pub weight: f64,
}

/// A network at one moment of its training.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// When: `before`, `step 500`, `after`.
    pub title: String,
    /// The hidden units, in the order of their colours.
    pub units: Vec<Unit>,
    /// b, the output's bias.
    pub bias: f64,
}

impl Snapshot {
    /// The snapshot of a 1–H–1 perceptron: hidden weights vᵢ and biases cᵢ, output weights wᵢ and bias b, and the
    /// activation f, evaluated at the places `x`.
    ///
    /// # Errors
    /// [`Error::Length`] where the three lists have different lengths.
    pub fn perceptron(
        title: impl Into<String>,
        x: &[f64],
        hidden: (&[f64], &[f64]),
        output: (&[f64], f64),
        activation: impl Fn(f64) -> f64,
    ) -> Result<Snapshot> {
        let (slopes, places) = hidden;
        let (weights, bias) = output;
        same_length("hidden biases", places.len(), slopes.len(), "one per hidden unit")?;
        same_length("output weights", weights.len(), slopes.len(), "one per hidden unit")?;
        let unit = |((&v, &c), &weight): ((&f64, &f64), &f64)| {
            let basis = x.iter().map(|x| activation(v * x + c)).collect();
            Unit { basis, weight }
        };
        let units = slopes.iter().zip(places).zip(weights).map(unit).collect();
        Ok(Snapshot { title: title.into(), units, bias })
    }

    /// y(x) at `count` places.
    fn output(&self, count: usize) -> Vec<f64> {
        let at = |k: usize| self.units.iter().map(|u| u.weight * u.basis[k]).sum::<f64>() + self.bias;
        (0..count).map(at).collect()
    }
}

/// A function, the data it was learnt from, and the network at some moments of its training.
#[derive(Debug, Clone)]
pub struct Approximation {
    title: String,
    x: Vec<f64>,
    target: Option<Vec<f64>>,
    data: Vec<(f64, f64)>,
    snapshots: Vec<Snapshot>,
}

impl Approximation {
    /// An approximation evaluated at the places `x`, in ascending order.
    pub fn new(title: impl Into<String>, x: impl Into<Vec<f64>>) -> Approximation {
        Approximation { title: title.into(), x: x.into(), target: None, data: vec![], snapshots: vec![] }
    }

    /// The function to approximate, one value per place.
    ///
    /// # Errors
    /// [`Error::Length`] where there is not one value per place.
    pub fn target(self, target: impl Into<Vec<f64>>) -> Result<Approximation> {
        let target = target.into();
        same_length("target", target.len(), self.x.len(), "one value per place x")?;
        Ok(Approximation { target: Some(target), ..self })
    }

    /// The training data.
    pub fn data(self, data: impl IntoIterator<Item = (f64, f64)>) -> Approximation {
        Approximation { data: data.into_iter().collect(), ..self }
    }

    /// Adds a moment of the training, in the order of time.
    ///
    /// # Errors
    /// [`Error::Length`] where a unit's basis function does not have one value per place.
    pub fn snapshot(mut self, snapshot: Snapshot) -> Result<Approximation> {
        for (k, unit) in snapshot.units.iter().enumerate() {
            let what = format!("basis function {k} of snapshot {:?}", snapshot.title);
            same_length(&what, unit.basis.len(), self.x.len(), "one value per place x")?;
        }
        self.snapshots.push(snapshot);
        Ok(self)
    }

    /// One column per snapshot; three rows: data, target and the network's curve; every unit's basis function;
    /// every unit's weighted basis function with their sum.
    pub fn picture(&self) -> Picture {
        let rows = ["data and network", "basis functions", "weighted, and their sum"];
        let heads = self.snapshots.iter().map(|s| s.title.as_str());
        let mut panels = Panels::new(&self.title, self.snapshots.len()).heads(heads).sides(rows);
        let heights = self.heights();
        for snapshot in &self.snapshots {
            panels = panels.panel(small(self.fit_chart(snapshot, heights, "")));
        }
        let bases = self.snapshots.iter().flat_map(|s| &s.units).flat_map(|u| &u.basis);
        let reach = crate::scale::extent(Scale::Linear, bases.copied().chain([0.0, 1.0]));
        for snapshot in &self.snapshots {
            panels = panels.panel(small(self.bases_chart(snapshot, reach)));
        }
        for snapshot in &self.snapshots {
            panels = panels.panel(small(self.contributions_chart(snapshot)));
        }
        panels.picture()
    }

    /// The data, the target and the curve of the last snapshot.
    pub fn fit(&self) -> Picture {
        match self.snapshots.last() {
            Some(last) => self.fit_chart(last, self.heights(), &self.title).picture(),
            None => XyChart::new(&self.title).points("data", self.data.iter().copied()).picture(),
        }
    }

    /// The range that all fits share: the data's and the target's, with room for a curve that is still off.
    fn heights(&self) -> (f64, f64) {
        let target = self.target.iter().flatten().copied();
        let known = crate::scale::extent(Scale::Linear, self.data.iter().map(|p| p.1).chain(target));
        crate::scale::padded(Scale::Linear, known, 0.15)
    }

    fn curve<'a>(&'a self, y: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
        self.x.iter().copied().zip(y.iter().copied())
    }

    fn chart(&self, title: &str, y: Axis) -> XyChart {
        let (from, to) = crate::scale::extent(Scale::Linear, self.x.iter().copied());
        XyChart::new(title).x(Axis::new("x").range(from, to)).y(y).legend()
    }

    fn fit_chart(&self, snapshot: &Snapshot, (low, high): (f64, f64), title: &str) -> XyChart {
        let mut chart = self.chart(title, Axis::new("y").range(low, high));
        if !self.data.is_empty() {
            let radius = if self.data.len() > 200 { 3.0 } else { 4.5 };
            let data = Series::new("data", Mark::Points, self.data.iter().copied());
            chart = chart.series(data.colour(0).radius(radius));
        }
        if let Some(target) = &self.target {
            let target = Series::new("target", Mark::Line, self.curve(target));
            chart = chart.series(target.paint(&MUTED).dashed().width(3.0));
        }
        let output = snapshot.output(self.x.len());
        chart.series(Series::new("network", Mark::Line, self.curve(&output)).paint(&VERMILION).width(4.0))
    }

    fn bases_chart(&self, snapshot: &Snapshot, (low, high): (f64, f64)) -> XyChart {
        let y =
            Axis::new(format!("f(vx + c) of {} units", snapshot.units.len())).range(low - 0.05, high + 0.05);
        let mut chart = self.chart("", y);
        for (k, unit) in snapshot.units.iter().enumerate() {
            let line = Series::new("", Mark::Line, self.curve(&unit.basis));
            chart = chart.series(line.paint(series_paint(k, snapshot.units.len())).width(2.5));
        }
        chart
    }

    fn contributions_chart(&self, snapshot: &Snapshot) -> XyChart {
        let mut chart = self.chart("", Axis::new("w f(vx + c)"));
        for (k, unit) in snapshot.units.iter().enumerate() {
            let weighted: Vec<f64> = unit.basis.iter().map(|f| unit.weight * f).collect();
            let line = Series::new("", Mark::Line, self.curve(&weighted));
            chart = chart.series(line.paint(series_paint(k, snapshot.units.len())).width(2.5));
        }
        let bias = vec![snapshot.bias; self.x.len()];
        let output = snapshot.output(self.x.len());
        chart
            .series(Series::new("bias", Mark::Line, self.curve(&bias)).paint(&MUTED).dashed().width(2.5))
            .series(Series::new("sum", Mark::Line, self.curve(&output)).paint(&INK).width(5.0))
    }
}

fn small(chart: XyChart) -> Picture {
    chart.size(480.0, 330.0).picture()
}

fn same_length(what: &str, found: usize, expected: usize, because: &'static str) -> Result<()> {
    let what = what.to_owned();
    if found == expected { Ok(()) } else { Err(Error::Length { what, found, expected, because }) }
}

/// The error of the network found with one number of hidden units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WidthError {
    /// Hidden units.
    pub units: usize,
    /// Largest absolute error over the interval.
    pub worst: f64,
    /// Root of the mean squared error over the interval.
    pub rms: f64,
}

/// Universal approximation: worst and RMS error against the number of hidden units, both axes logarithmic.
pub fn error_by_width(title: impl Into<String>, errors: &[WidthError]) -> Picture {
    let line = |name: &str, of: fn(&WidthError) -> f64| {
        Series::new(
            name,
            Mark::LinePoints,
            errors.iter().map(|e| (e.units as f64, of(e))).collect::<Vec<_>>(),
        )
    };
    XyChart::new(title)
        .x(Axis::new("hidden units").scale(Scale::Log2))
        .y(Axis::new("error").scale(Scale::Log10))
        .series(line("worst", |e| e.worst))
        .series(line("RMS", |e| e.rms))
        .picture()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sigmoid(u: f64) -> f64 {
        1.0 / (1.0 + (-u).exp())
    }

    fn sample(units: usize) -> Approximation {
        let x: Vec<f64> = (0..=20).map(|k| f64::from(k) / 10.0 - 1.0).collect();
        let (v, c, w) = (vec![4.0; units], vec![0.5; units], vec![1.0; units]);
        let before = Snapshot::perceptron("before", &x, (&v, &c), (&w, 0.0), sigmoid).unwrap();
        let after = Snapshot { title: "after".into(), ..before.clone() };
        let target: Vec<f64> = x.iter().map(|x| x.abs()).collect();
        let data = x.iter().copied().zip(target.clone()).collect::<Vec<_>>();
        let empty = Approximation::new("|x| & co", x).target(target).unwrap().data(data);
        empty.snapshot(before).unwrap().snapshot(after).unwrap()
    }

    #[test]
    fn output_is_the_weighted_sum() {
        let snapshot =
            Snapshot::perceptron("", &[0.0, 1.0], (&[1.0, 2.0], &[0.0, -1.0]), (&[3.0, -1.0], 0.5), |u| u);
        assert_eq!(snapshot.unwrap().output(2), [0.5 + 1.0, 0.5 + 3.0 - 1.0]);
    }

    #[test]
    fn every_unit_is_drawn_in_every_snapshot() {
        for units in [0, 1, 5, 20] {
            let svg = sample(units).picture().to_svg();
            let document = roxmltree::Document::parse(&svg).unwrap();
            let paths = document.descendants().filter(|n| n.has_tag_name("path")).count();
            // Per snapshot: target and network; the bases; the contributions, bias and sum.
            assert_eq!(paths, 2 * (2 + units + units + 2), "{units} units");
            for text in ["before", "after", "|x| & co"] {
                assert!(document.descendants().any(|n| n.text() == Some(text)), "{text}");
            }
        }
    }

    #[test]
    fn lists_that_do_not_belong_together_are_refused() {
        let x = [0.0, 1.0];
        let cases = [
            Snapshot::perceptron("", &x, (&[1.0], &[1.0, 2.0]), (&[1.0], 0.0), |u| u).map(drop),
            Snapshot::perceptron("", &x, (&[1.0], &[1.0]), (&[], 0.0), |u| u).map(drop),
            Approximation::new("", x).target([1.0]).map(drop),
            Approximation::new("", x)
                .snapshot(Snapshot {
                    title: "".into(),
                    units: vec![Unit { basis: vec![], weight: 1.0 }],
                    bias: 0.0,
                })
                .map(drop),
        ];
        for (k, case) in cases.into_iter().enumerate() {
            assert!(matches!(case, Err(Error::Length { .. })), "case {k}");
        }
    }

    #[test]
    fn pictures_of_nothing_never_panic() {
        let nothing = Approximation::new("", []);
        nothing.picture().to_png(1.0).unwrap();
        nothing.fit().to_png(1.0).unwrap();
        error_by_width("", &[]).to_png(1.0).unwrap();
        error_by_width("", &[WidthError { units: 0, worst: f64::NAN, rms: 0.0 }]).to_png(1.0).unwrap();
    }
}
