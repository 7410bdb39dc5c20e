//! Functions of one variable as data: the lecture's own exercise.

use kessen_tensor::{Rng, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Column, Dataset, Error, Expression, Input, Preprocess, Result, Splits, Standardise, Target};

/// Which function, where, and how many points of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FunctionOptions {
    /// The function, as [`Expression`] reads it.
    pub target: String,
    /// The interval's left end.
    pub from: f64,
    /// The interval's right end.
    pub to: f64,
    /// Points to learn from, evenly spaced with both ends.
    pub points: usize,
    /// Points to test on, evenly spaced with both ends, without noise.
    pub test_points: usize,
    /// Standard deviation of the normal noise on the points to learn from.
    pub noise: f64,
    /// Draws the noise.
    pub seed: u64,
    /// Whether x and y are standardised for the network.
    pub standardise: bool,
}

impl Default for FunctionOptions {
    fn default() -> Self {
        Self {
            target: "sin(2*pi*x)".to_owned(),
            from: -1.0,
            to: 1.0,
            points: 256,
            test_points: 1001,
            noise: 0.0,
            seed: 0,
            standardise: true,
        }
    }
}

/// Points (x, y) of a function: fields `x` f32 \[1\] and `target` f32 \[1\].
///
/// ```
/// use kessen_data::{FunctionOptions, function};
///
/// let options = FunctionOptions { target: "abs(x)".into(), points: 5, standardise: false, ..Default::default() };
/// let splits = function(&options)?;
/// let sample = splits.train.sample(1)?;
/// assert_eq!(sample[0].1.as_slice::<f32>()?, [-0.5]);
/// assert_eq!(sample[1].1.as_slice::<f32>()?, [0.5]);
/// # Ok::<(), kessen_data::Error>(())
/// ```
///
/// # Errors
/// [`Error::Expression`] for a text that is no function, or one without a finite value at one of the points;
/// [`Error::Option`] for an interval, noise or number of points out of range.
pub fn function(options: &FunctionOptions) -> Result<Splits> {
    let f = Expression::parse(&options.target)?;
    let FunctionOptions { from, to, noise, .. } = *options;
    if !(from.is_finite() && to.is_finite() && from < to) {
        return Err(Error::option("from, to", format!("{from}, {to}"), "finite numbers, the first smaller"));
    }
    if !(noise >= 0.0 && noise.is_finite()) {
        return Err(Error::option("noise", noise, "0 or more"));
    }
    for (name, points) in [("points", options.points), ("test_points", options.test_points)] {
        if !(2..=10_000_000).contains(&points) {
            return Err(Error::option(name, points, "2 to 10000000"));
        }
    }
    let preprocess = Preprocess {
        input: Input::Table { columns: vec![Column { name: "x".to_owned(), values: Vec::new() }] },
        standardise: Standardise::default(),
        target: Target::Values { names: vec!["y".to_owned()], standardise: Standardise::default() },
    };
    let mut rng = Rng::named(options.seed, "function noise");
    let mut part = |n: usize, noise: f64| -> Result<Dataset> {
        let (mut x, mut y) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for i in 0..n {
            let at = from + (to - from) * i as f64 / (n - 1) as f64;
            let value = f.eval(at);
            if !(value as f32).is_finite() {
                return Err(Error::Expression {
                    text: options.target.clone(),
                    column: 1,
                    found: format!("{value} at x = {at}"),
                    expected: "a finite value; choose another interval".to_owned(),
                });
            }
            x.push(at as f32);
            y.push((value + if noise > 0.0 { noise * rng.normal() } else { 0.0 }) as f32);
        }
        let fields = [("x", Tensor::from_vec(&[n, 1], x)?), ("target", Tensor::from_vec(&[n, 1], y)?)];
        Dataset::from_tensors(fields)?.with_preprocess(preprocess.clone())
    };
    let splits = Splits::new("function", part(options.points, noise)?, part(options.test_points, 0.0)?)?;
    if options.standardise { splits.standardised() } else { Ok(splits) }
}
