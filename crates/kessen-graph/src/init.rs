//! Initialisers of parameters, by the names the field gives them.

use std::fmt;
use std::str::FromStr;

use kessen_tensor::{Rng, Tensor};

use crate::{Error, Result, nearest};

/// How a parameter's first values are drawn.
///
/// *fan-in* and *fan-out* follow PyTorch: for a shape `[out, in, kernel…]`, fan-in = in·∏kernel and
/// fan-out = out·∏kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// All equal.
    Constant(f64),
    /// U(−bound, bound).
    Uniform(f64),
    /// N(0, std²).
    Normal(f64),
    /// N(0, std²), drawn again outside two standard deviations.
    TruncatedNormal(f64),
    /// U(−b, b), b = gain·√(3/fan-in) (He et al. 2015). PyTorch's default for weights has gain 1/√3.
    KaimingUniform(f64),
    /// N(0, gain²/fan-in) (He et al. 2015); gain √2 for ReLU.
    KaimingNormal(f64),
    /// N(0, gain²/fan-out): torchvision's for convolutions (`mode="fan_out"`).
    KaimingNormalFanOut(f64),
    /// U(−b, b), b = gain·√(6/(fan-in + fan-out)) (Glorot & Bengio 2010).
    XavierUniform(f64),
    /// N(0, gain²·2/(fan-in + fan-out)) (Glorot & Bengio 2010).
    XavierNormal(f64),
    /// A (semi-)orthogonal matrix times gain (Saxe et al. 2014), over `[out, in·∏kernel]`.
    Orthogonal(f64),
    /// Positions over `[…, T, D]` (Vaswani et al. 2017), nothing drawn: with ω_i = base^(−2i/D),
    /// p\[t, 2i\] = sin(ω_i·t) and p\[t, 2i+1\] = cos(ω_i·t). The paper's base is 10000.
    Sinusoidal(f64),
}

/// PyTorch's default for the weight of a linear or convolution layer: `kaiming_uniform_(a=√5)`, that is
/// U(−1/√fan-in, 1/√fan-in).
pub const DEFAULT_WEIGHT: Init = Init::KaimingUniform(0.577_350_269_189_625_8);

impl Init {
    const NAMES: [&'static str; 11] = [
        "constant",
        "uniform",
        "normal",
        "truncated_normal",
        "kaiming_uniform",
        "kaiming_normal",
        "kaiming_normal_fan_out",
        "xavier_uniform",
        "xavier_normal",
        "orthogonal",
        "sinusoidal",
    ];

    /// PyTorch's default for the bias of a layer with that fan-in: U(−1/√fan-in, 1/√fan-in).
    pub fn default_bias(fan_in: usize) -> Self {
        Self::Uniform(1.0 / (fan_in.max(1) as f64).sqrt())
    }

    fn parts(self) -> (usize, f64) {
        match self {
            Self::Constant(v) => (0, v),
            Self::Uniform(v) => (1, v),
            Self::Normal(v) => (2, v),
            Self::TruncatedNormal(v) => (3, v),
            Self::KaimingUniform(v) => (4, v),
            Self::KaimingNormal(v) => (5, v),
            Self::KaimingNormalFanOut(v) => (6, v),
            Self::XavierUniform(v) => (7, v),
            Self::XavierNormal(v) => (8, v),
            Self::Orthogonal(v) => (9, v),
            Self::Sinusoidal(v) => (10, v),
        }
    }

    fn from_parts(index: usize, v: f64) -> Self {
        match index {
            0 => Self::Constant(v),
            1 => Self::Uniform(v),
            2 => Self::Normal(v),
            3 => Self::TruncatedNormal(v),
            4 => Self::KaimingUniform(v),
            5 => Self::KaimingNormal(v),
            6 => Self::KaimingNormalFanOut(v),
            7 => Self::XavierUniform(v),
            8 => Self::XavierNormal(v),
            9 => Self::Orthogonal(v),
            _ => Self::Sinusoidal(v),
        }
    }

    /// First values of the parameter `path` under `seed`: each parameter draws from a stream of its own, so adding
    /// one changes no other.
    ///
    /// # Errors
    /// A shape too large for this machine.
    pub fn sample(self, shape: &[usize], seed: u64, path: &str) -> Result<Tensor> {
        let mut tensor = Tensor::zeros(kessen_tensor::DType::F32, shape)?;
        let values = tensor.as_slice_mut::<f32>()?;
        let mut rng = Rng::named(seed, path);
        let (fan_in, fan_out) = fans(shape);
        let mut uniform = |values: &mut [f32], b: f64| {
            values.iter_mut().for_each(|v| *v = ((2.0 * rng.uniform_f64() - 1.0) * b) as f32);
        };
        let mut rng_normal = Rng::named(seed, path);
        let mut normal = |values: &mut [f32], std: f64| {
            values.iter_mut().for_each(|v| *v = (rng_normal.normal() * std) as f32);
        };
        match self {
            // Memory that is zero already is not touched, and so not taken from the system.
            Self::Constant(0.0) => {}
            Self::Constant(c) => values.fill(c as f32),
            Self::Uniform(b) => uniform(values, b),
            Self::Normal(std) => normal(values, std),
            Self::TruncatedNormal(std) => {
                for v in values {
                    let mut draw = rng.normal();
                    while draw.abs() > 2.0 {
                        draw = rng.normal();
                    }
                    *v = (draw * std) as f32;
                }
            }
            Self::KaimingUniform(gain) => uniform(values, gain * (3.0 / fan_in).sqrt()),
            Self::KaimingNormal(gain) => normal(values, gain / fan_in.sqrt()),
            Self::KaimingNormalFanOut(gain) => normal(values, gain / fan_out.sqrt()),
            Self::XavierUniform(gain) => uniform(values, gain * (6.0 / (fan_in + fan_out)).sqrt()),
            Self::XavierNormal(gain) => normal(values, gain * (2.0 / (fan_in + fan_out)).sqrt()),
            Self::Orthogonal(gain) => orthogonal(values, shape.first().copied().unwrap_or(1), gain, &mut rng),
            Self::Sinusoidal(base) => sinusoidal(values, shape, base),
        }
        Ok(tensor)
    }
}

/// Fan-in and fan-out of a weight of that shape.
fn fans(shape: &[usize]) -> (f64, f64) {
    let kernel: usize = shape.iter().skip(2).product();
    let fan = |i: usize| (shape.get(i).copied().unwrap_or(1) * kernel).max(1) as f64;
    (if shape.len() < 2 { fan(0) } else { fan(1) }, fan(0))
}

/// Fills `values`, a `rows`-row matrix, with orthonormal rows or columns (whichever are fewer) times `gain`, by
/// modified Gram–Schmidt on standard normal vectors.
fn orthogonal(values: &mut [f32], rows: usize, gain: f64, rng: &mut Rng) {
    let columns = values.len() / rows.max(1);
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    while basis.len() < count {
        let mut v: Vec<f64> = (0..length).map(|_| rng.normal()).collect();
        for b in &basis {
            let dot: f64 = v.iter().zip(b).map(|(x, y)| x * y).sum();
            v.iter_mut().zip(b).for_each(|(x, y)| *x -= dot * y);
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        // A draw inside the span of the others (probability 0) would leave noise; draw again.
        if norm > 1e-6 {
            v.iter_mut().for_each(|x| *x /= norm);
            basis.push(v);
        }
    }
    for r in 0..rows {
        for c in 0..columns {
            let v = if rows <= columns { basis[r][c] } else { basis[c][r] };
            values[r * columns + c] = (gain * v) as f32;
        }
    }
}

/// Fills `values`, matrices `[T, D]` one after the other, as [`Init::Sinusoidal`] says.
fn sinusoidal(values: &mut [f32], shape: &[usize], base: f64) {
    let features = shape.last().copied().unwrap_or(1).max(1);
    let steps = shape.len().checked_sub(2).map_or(1, |i| shape[i]).max(1);
    for (row, values) in values.chunks_exact_mut(features).enumerate() {
        let t = (row % steps) as f64;
        for (k, v) in values.iter_mut().enumerate() {
            let angle = t * base.powf(-((k / 2 * 2) as f64) / features as f64);
            *v = if k % 2 == 0 { angle.sin() } else { angle.cos() } as f32;
        }
    }
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, v) = self.parts();
        write!(f, "{}({v})", Self::NAMES[index])
    }
}

impl FromStr for Init {
    type Err = Error;

    /// `zeros`, `ones`, or a name with its number: `normal(0.02)`. The number may be left out where the field has
    /// a usual one: gain 1 (Xavier, orthogonal), gain √2 (Kaiming), base 10000 (sinusoidal).
    fn from_str(text: &str) -> Result<Self> {
        let (name, number) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')').and_then(|n| n.parse::<f64>().ok())),
            None => match text {
                "zeros" => return Ok(Self::Constant(0.0)),
                "ones" => return Ok(Self::Constant(1.0)),
                "kaiming_uniform" | "kaiming_normal" | "kaiming_normal_fan_out" => {
                    (text, Some(std::f64::consts::SQRT_2))
                }
                "xavier_uniform" | "xavier_normal" | "orthogonal" => (text, Some(1.0)),
                "sinusoidal" => (text, Some(10_000.0)),
                _ => (text, None),
            },
        };
        let index = Self::NAMES.iter().position(|n| *n == name).ok_or_else(|| Error::Unknown {
            kind: "initialiser",
            name: name.to_owned(),
            nearest: nearest(name, Self::NAMES.into_iter().chain(["zeros", "ones"])),
        })?;
        match number.filter(|n| n.is_finite()) {
            Some(v) => Ok(Self::from_parts(index, v)),
            None => Err(Error::Attribute {
                operator: "param",
                key: "init".to_owned(),
                found: text.to_owned(),
                expected: format!("a finite number in parentheses, as {name}(0.1)"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(init: Init, shape: &[usize]) -> (f64, f64, f64) {
        let v = init.sample(shape, 3, "w").unwrap().to_f64_vec();
        let n = v.len() as f64;
        let mean = v.iter().sum::<f64>() / n;
        let largest = v.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        (mean, (v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt(), largest)
    }

    #[test]
    fn spreads_follow_the_formulas() {
        let shape = [64, 32, 3, 3]; // fan-in 288, fan-out 576
        let cases = [
            (Init::KaimingNormal(2f64.sqrt()), (2.0 / 288.0f64).sqrt()),
            (Init::KaimingNormalFanOut(2f64.sqrt()), (2.0 / 576.0f64).sqrt()),
            (Init::XavierNormal(1.0), (2.0 / 864.0f64).sqrt()),
            (Init::XavierUniform(1.0), (2.0 / 864.0f64).sqrt()),
            (DEFAULT_WEIGHT, 1.0 / (3.0 * 288.0f64).sqrt()),
            (Init::Normal(0.02), 0.02),
        ];
        for (init, std) in cases {
            let (mean, found, _) = moments(init, &shape);
            assert!(
                mean.abs() < 0.03 * std && (found / std - 1.0).abs() < 0.03,
                "{init}: {mean} {found} {std}"
            );
        }
        assert!(moments(DEFAULT_WEIGHT, &shape).2 <= 1.0 / 288f64.sqrt() + 1e-7);
        assert!(moments(Init::TruncatedNormal(0.1), &shape).2 <= 0.2 + 1e-7);
    }

    #[test]
    fn orthogonal_rows_or_columns_are_orthonormal() {
        for (rows, columns) in [(5, 12), (12, 5), (7, 7)] {
            let w = Init::Orthogonal(2.0).sample(&[rows, columns], 1, "w").unwrap().to_f64_vec();
            let at =
                |i: usize, k: usize| if rows <= columns { w[i * columns + k] } else { w[k * columns + i] };
            for i in 0..rows.min(columns) {
                for j in 0..=i {
                    let dot: f64 = (0..rows.max(columns)).map(|k| at(i, k) * at(j, k)).sum();
                    let expected = if i == j { 4.0 } else { 0.0 };
                    assert!((dot - expected).abs() < 1e-5, "{rows}x{columns} {i} {j}: {dot}");
                }
            }
        }
    }

    #[test]
    fn positions_turn_at_the_rates_of_the_formula() {
        for (steps, features) in [(6, 4), (3, 5), (1, 1)] {
            let shape = [2, steps, features];
            let p = "sinusoidal".parse::<Init>().unwrap().sample(&shape, 0, "p").unwrap().to_f64_vec();
            for (i, found) in p.iter().enumerate() {
                let (t, k) = ((i / features % steps) as f64, i % features);
                let angle = t / 10_000f64.powf((k - k % 2) as f64 / features as f64);
                let expected = if k % 2 == 0 { angle.sin() } else { angle.cos() };
                assert!((found - expected).abs() < 1e-7, "{shape:?} {i}: {found} {expected}");
            }
        }
        // Two steps on, each pair has turned by the same angle wherever it was: what attention can make use of.
        let p = Init::Sinusoidal(100.0).sample(&[9, 2], 0, "p").unwrap().to_f64_vec();
        for t in 0..7 {
            let dot = p[2 * t] * p[2 * t + 4] + p[2 * t + 1] * p[2 * t + 5];
            assert!((dot - 2f64.cos()).abs() < 1e-6, "{t}: {dot}");
        }
    }

    #[test]
    fn names_round_trip_and_suggest() {
        let inits = [
            DEFAULT_WEIGHT,
            Init::Constant(0.0),
            Init::Orthogonal(1.0),
            Init::Uniform(1.0 / 3.0),
            Init::Sinusoidal(1e4),
        ];
        for init in inits {
            assert_eq!(init.to_string().parse::<Init>().unwrap(), init);
        }
        let error = "kaiming_unifrm".parse::<Init>().unwrap_err().to_string();
        assert!(error.contains("`kaiming_uniform`"), "{error}");
        assert!("normal(x)".parse::<Init>().is_err() && "normal(inf)".parse::<Init>().is_err());
    }
}
