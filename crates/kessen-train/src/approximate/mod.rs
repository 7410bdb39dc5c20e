//! The lecture's exercise, done well: a function of one variable by a 1–H–1 perceptron.
//!
//! y(x) = c + Σ_i v_i·σ(w_i·x + b_i): each hidden unit is a basis function whose place and steepness are learnt.
//! `H` units, `N` points, `P` = 3H + 1 parameters, r residuals y(x_n) − f(x_n).
//!
//! Gradient descent from random first values needs some 10⁵ steps for what is shown here, and stalls where units start
//! in the same place. So a width grows from the one before: its units stay, and new ones come where the error is
//! largest; other first values spread the units over the interval, denser where f bends. v and c then follow by linear
//! least squares; and all parameters together by Levenberg and Marquardt's method (Marquardt 1963), which uses the
//! derivatives of back-propagation, ∂y/∂v_i = σ_i, ∂y/∂b_i = v_i·σ_i·(1 − σ_i), ∂y/∂w_i = ∂y/∂b_i·x, with their
//! products for the curvature. Lawson's reweighting (1961) of v and c last trades mean for worst error. Whatever is
//! tried, the best that was found counts, measured with parameters in f32; so the sum of worst and RMS error does not
//! rise with the width.

mod least_squares;
mod samples;
mod search;

use kessen_graph::{Graph, shape};
use kessen_tensor::Tensor;

use self::samples::Samples;
use self::search::Search;
use crate::{Error, Result};

/// One hidden unit: v·σ(w·x + b).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Steepness and direction.
    pub w: f64,
    /// Place: the unit is halfway at x = −b/w.
    pub b: f64,
    /// Weight in the sum.
    pub v: f64,
}

impl Unit {
    /// The basis function σ(w·x + b).
    pub fn basis(&self, x: f64) -> f64 {
        1.0 / (1.0 + (-(self.w * x + self.b)).exp())
    }
}

/// A perceptron with one hidden layer of sigmoids.
#[derive(Debug, Clone, PartialEq)]
pub struct Perceptron {
    /// The hidden units.
    pub units: Vec<Unit>,
    /// The output's bias.
    pub c: f64,
}

/// A perceptron on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What has been done so far: `spread` or `grown`, `least squares`, `step 8`, `done`.
    pub stage: String,
    /// The perceptron.
    pub perceptron: Perceptron,
    /// Largest |r| on the training points.
    pub worst: f64,
}

/// What came of an approximation.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The perceptron, with parameters that are exact in f32.
    pub perceptron: Perceptron,
    /// Largest error on ten thousand points, most of them between the training points.
    pub worst: f64,
    /// Root of the mean squared error on the same points.
    pub rms: f64,
    /// Perceptrons from first to last, for a report.
    pub snapshots: Vec<Snapshot>,
}

impl Perceptron {
    /// y(x).
    pub fn at(&self, x: f64) -> f64 {
        self.c + self.units.iter().map(|u| u.v * u.basis(x)).sum::<f64>()
    }

    /// The parameters of [`perceptron`]'s graph.
    ///
    /// # Errors
    /// None but a lack of memory.
    pub fn params(&self) -> Result<Vec<(String, Tensor)>> {
        let column = |f: fn(&Unit) -> f64| self.units.iter().map(|u| f(u) as f32).collect::<Vec<f32>>();
        let h = self.units.len();
        Ok(vec![
            ("hidden.weight".to_owned(), Tensor::from_vec(&[h, 1], column(|u| u.w))?),
            ("hidden.bias".to_owned(), Tensor::from_vec(&[h], column(|u| u.b))?),
            ("out.weight".to_owned(), Tensor::from_vec(&[1, h], column(|u| u.v))?),
            ("out.bias".to_owned(), Tensor::from_vec(&[1], vec![self.c as f32])?),
        ])
    }

    /// The perceptron that the parameters of [`perceptron`]'s graph describe.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where they are others.
    pub fn from_params(params: &[(String, Tensor)]) -> Result<Self> {
        let get = |path: &str| {
            let found = params.iter().find(|(p, _)| p == path).map(|(_, t)| t.to_f64_vec());
            found.ok_or_else(|| Error::mismatch("the perceptron", "other parameters", format!("`{path}`")))
        };
        let (w, b, v) = (get("hidden.weight")?, get("hidden.bias")?, get("out.weight")?);
        let c = get("out.bias")?;
        if w.len() != b.len() || w.len() != v.len() || c.len() != 1 {
            return Err(Error::mismatch("the perceptron", "parameters of other sizes", "1–H–1"));
        }
        let units = w.iter().zip(&b).zip(&v).map(|((&w, &b), &v)| Unit { w, b, v }).collect();
        Ok(Self { units, c: c[0] })
    }

    /// The same with parameters rounded to f32, as a model keeps them.
    fn rounded(&self) -> Self {
        let r = |v: f64| f64::from(v as f32);
        let units = self.units.iter().map(|u| Unit { w: r(u.w), b: r(u.b), v: r(u.v) }).collect();
        Self { units, c: r(self.c) }
    }
}

/// The wiring 1–H–1 with input `x` `[batch, 1]`, layers `hidden` and `out`.
///
/// # Errors
/// [`Error::Option`] for no units.
pub fn perceptron(units: usize) -> Result<Graph> {
    check_units(units)?;
    Ok(Graph::build("perceptron", |g| {
        g.input("x", shape!["batch", 1]).linear("hidden", units).sigmoid().linear("out", 1)
    })?)
}

/// First values for `units` sigmoids spread evenly over `domain`, for a training by gradient descent: v = 0, c = 0.
///
/// # Errors
/// [`Error::Option`] for no units or an empty domain.
pub fn spread(units: usize, domain: [f64; 2]) -> Result<Perceptron> {
    check_units(units)?;
    check_domain(domain)?;
    let places: Vec<f64> = (0..units).map(|i| (2 * i + 1) as f64 / units as f64 - 1.0).collect();
    Ok(samples::outside(&samples::sigmoids(&places, 3.0), 0.0, 1.0, domain))
}

/// Fits `units` sigmoids to `f` on `domain`.
///
/// ```
/// let fit = kessen_train::approximate(&|x| x.abs(), [-1.0, 1.0], 8)?;
/// assert!(fit.worst < 0.02, "{}", fit.worst);
/// # Ok::<(), kessen_train::Error>(())
/// ```
///
/// # Errors
/// [`Error::Option`] for no units or an empty domain; [`Error::Mismatch`] where `f` is not finite on the domain.
pub fn approximate(f: &dyn Fn(f64) -> f64, domain: [f64; 2], units: usize) -> Result<Fit> {
    check_units(units)?;
    let mut widths: Vec<usize> = std::iter::successors(Some(units), |w| (*w > 1).then_some(w / 2)).collect();
    widths.reverse();
    let fit = approximate_widths(f, domain, &widths)?.pop();
    fit.ok_or_else(|| Error::option("units", units, "at least 1"))
}

/// Fits several widths to `f` on `domain`, each grown from the one before; the fits in the order of `widths`, which
/// must rise. Widths that double from 1 on fit best.
///
/// # Errors
/// As [`approximate`]; [`Error::Option`] for widths that do not rise.
pub fn approximate_widths(f: &dyn Fn(f64) -> f64, domain: [f64; 2], widths: &[usize]) -> Result<Vec<Fit>> {
    check_domain(domain)?;
    if let Some(pair) = widths.windows(2).find(|p| p[0] >= p[1]) {
        return Err(Error::option("units", format!("{}, {}", pair[0], pair[1]), "widths that rise"));
    }
    let mut fits: Vec<Fit> = Vec::with_capacity(widths.len());
    for &units in widths {
        check_units(units)?;
        let samples = Samples::new(f, domain, (6 * units).max(1024))?;
        let before = fits.last().map(|fit| &fit.perceptron);
        let fit = Search::run(&samples, f, domain, units, before);
        fits.push(fit);
    }
    Ok(fits)
}

fn check_units(units: usize) -> Result<()> {
    match units {
        0 => Err(Error::option("units", 0, "at least 1")),
        _ => Ok(()),
    }
}

fn check_domain([a, b]: [f64; 2]) -> Result<()> {
    match a.is_finite() && b.is_finite() && a < b {
        true => Ok(()),
        false => Err(Error::option("domain", format!("[{a}, {b}]"), "two numbers, the smaller one first")),
    }
}
