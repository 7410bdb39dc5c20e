//! The function on a grid, and where units are put for it.

use super::{Perceptron, Unit};
use crate::{Error, Result};

/// f on a grid, brought to t in [−1, 1] and values of magnitude 1.
pub(super) struct Samples {
    pub t: Vec<f64>,
    pub y: Vec<f64>,
    pub mean: f64,
    pub scale: f64,
}

impl Samples {
    pub(super) fn new(f: &dyn Fn(f64) -> f64, [a, b]: [f64; 2], n: usize) -> Result<Self> {
        let t: Vec<f64> = (0..n).map(|i| 2.0 * i as f64 / (n - 1) as f64 - 1.0).collect();
        let y: Vec<f64> = t.iter().map(|t| f(a + (b - a) * (t + 1.0) / 2.0)).collect();
        if let Some(i) = y.iter().position(|y| !y.is_finite()) {
            let x = a + (b - a) * (t[i] + 1.0) / 2.0;
            let expected = "a finite number; choose another interval";
            return Err(Error::mismatch("the function", format!("{} at x = {x}", y[i]), expected));
        }
        let mean = y.iter().sum::<f64>() / n as f64;
        let largest = y.iter().fold(0.0f64, |m, y| m.max((y - mean).abs()));
        let scale = if largest > 0.0 { largest } else { 1.0 };
        let y = y.iter().map(|y| (y - mean) / scale).collect();
        Ok(Self { t, y, mean, scale })
    }

    /// Places for `h` units: a share `bent` of them by the density |f″|^½, which balances the error of pieces
    /// between them, the others evenly.
    pub(super) fn bends(&self, h: usize, bent: f64) -> Vec<f64> {
        let n = self.t.len();
        let reach = (n / (4 * h)).clamp(1, n / 8);
        let bend = |i: usize| {
            let (i, y) = (i.clamp(reach, n - 1 - reach), &self.y);
            (y[i - reach] - 2.0 * y[i] + y[i + reach]).abs().sqrt()
        };
        self.places(h, &(0..n).map(bend).collect::<Vec<_>>(), bent)
    }

    /// Places for `h` units: a share `by_density` of them by `density` at the points, the others evenly.
    pub(super) fn places(&self, h: usize, density: &[f64], by_density: f64) -> Vec<f64> {
        let n = self.t.len();
        let total: f64 = density.iter().sum();
        let even = if total > 1e-12 { 1.0 - by_density } else { 1.0 };
        let share = |d: &f64| (1.0 - even) * d / total.max(1e-300) + even / n as f64;
        let density: Vec<f64> = density.iter().map(share).collect();
        let mass: f64 = density.iter().sum();
        let (mut places, mut sum, mut i) = (Vec::with_capacity(h), 0.0, 0);
        for k in 0..h {
            let wanted = mass * (k as f64 + 0.5) / h as f64;
            while i + 1 < n && sum + density[i] < wanted {
                sum += density[i];
                i += 1;
            }
            let inside = if density[i] > 0.0 { ((wanted - sum) / density[i]).clamp(0.0, 1.0) } else { 0.5 };
            places.push(self.t[i] + (2.0 * inside - 1.0) / n as f64);
        }
        places
    }
}

/// Sigmoids at `places` (in order), of steepness `steepness` per spacing.
pub(super) fn sigmoids(places: &[f64], steepness: f64) -> Perceptron {
    let h = places.len();
    let unit = |i: usize| {
        let (before, after) = (places[i.saturating_sub(1)], places[(i + 1).min(h - 1)]);
        let spacing = match h {
            1 => 2.0,
            _ => ((after - before) / if i == 0 || i == h - 1 { 1.0 } else { 2.0 }).max(1e-4),
        };
        let w = steepness / spacing;
        Unit { w, b: -w * places[i], v: 0.0 }
    };
    Perceptron { units: (0..h).map(unit).collect(), c: 0.0 }
}

/// The same function in x and y instead of t and normalised values.
pub(super) fn outside(p: &Perceptron, mean: f64, scale: f64, [a, b]: [f64; 2]) -> Perceptron {
    let (stretch, centre) = (2.0 / (b - a), (a + b) / 2.0);
    let unit = |u: &Unit| Unit { w: u.w * stretch, b: u.b - u.w * stretch * centre, v: u.v * scale };
    Perceptron { units: p.units.iter().map(unit).collect(), c: p.c * scale + mean }
}

/// The reverse of [`outside`].
pub(super) fn inside(p: &Perceptron, mean: f64, scale: f64, [a, b]: [f64; 2]) -> Perceptron {
    let (stretch, centre) = (2.0 / (b - a), (a + b) / 2.0);
    let unit = |u: &Unit| Unit { w: u.w / stretch, b: u.b + u.w * centre, v: u.v / scale };
    Perceptron { units: p.units.iter().map(unit).collect(), c: (p.c - mean) / scale }
}
