//! Element-wise functions of one value and their derivatives.

use std::f64::consts::{FRAC_2_SQRT_PI, PI, SQRT_2};

use kessen_graph::ops::unary::{Unary, UnaryGrad, UnaryKind};

use super::array::Array;

/// y = f(x).
pub(super) fn unary(op: &Unary, x: &Array, y: &mut Array) {
    for i in 0..y.data.len() {
        y.data[i] = function(op.kind, op.alpha, x.data[i]);
    }
}

/// dx = dy·f′, f′ from x or from y as the function's entry says.
pub(super) fn unary_grad(op: &UnaryGrad, dy: &Array, known: &Array, dx: &mut Array) {
    for i in 0..dx.data.len() {
        let slope = slope(op.kind, op.alpha, known.data[i]);
        dx.data[i] = dy.data[i] * slope;
    }
}

fn function(kind: UnaryKind, alpha: f64, x: f64) -> f64 {
    match kind {
        UnaryKind::Relu if x.is_nan() => x,
        UnaryKind::Relu => x.max(0.0),
        UnaryKind::LeakyRelu => {
            if x > 0.0 {
                x
            } else {
                alpha * x
            }
        }
        UnaryKind::Sigmoid => sigmoid(x),
        UnaryKind::Tanh => x.tanh(),
        UnaryKind::Gelu => x * normal_distribution(x),
        UnaryKind::GeluTanh => x / 2.0 * (1.0 + gelu_argument(x).tanh()),
        UnaryKind::Silu => x * sigmoid(x),
        // ln(1 + e^x) = max(x, 0) + ln(1 + e^−|x|), which does not overflow.
        UnaryKind::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        UnaryKind::Elu => {
            if x > 0.0 {
                x
            } else {
                alpha * x.exp_m1()
            }
        }
        UnaryKind::Exp => x.exp(),
        UnaryKind::Log => x.ln(),
        UnaryKind::Sqrt => x.sqrt(),
        UnaryKind::Neg => -x,
        UnaryKind::Abs => x.abs(),
        UnaryKind::Square => x * x,
        UnaryKind::Reciprocal => 1.0 / x,
        UnaryKind::Sin => x.sin(),
        UnaryKind::Cos => x.cos(),
        UnaryKind::Erf => erf(x),
    }
}

/// f′, in terms of x or of y: `known` is the one that [`UnaryKind::grad_uses`] names.
fn slope(kind: UnaryKind, alpha: f64, known: f64) -> f64 {
    let (x, y) = (known, known);
    match kind {
        UnaryKind::Relu => f64::from(u8::from(y > 0.0)),
        UnaryKind::LeakyRelu => {
            if y > 0.0 {
                1.0
            } else {
                alpha
            }
        }
        UnaryKind::Sigmoid => y * (1.0 - y),
        UnaryKind::Tanh => 1.0 - y * y,
        UnaryKind::Gelu => normal_distribution(x) + x * normal_density(x),
        UnaryKind::GeluTanh => {
            let t = gelu_argument(x).tanh();
            let inner = (2.0 / PI).sqrt() * (1.0 + 3.0 * 0.044_715 * x * x);
            (1.0 + t) / 2.0 + x / 2.0 * (1.0 - t * t) * inner
        }
        UnaryKind::Silu => sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),
        UnaryKind::Softplus => sigmoid(x),
        UnaryKind::Elu => {
            if x > 0.0 {
                1.0
            } else {
                alpha * x.exp()
            }
        }
        UnaryKind::Exp => y,
        UnaryKind::Log => 1.0 / x,
        UnaryKind::Sqrt => 0.5 / y,
        UnaryKind::Neg => -1.0,
        UnaryKind::Abs if x == 0.0 => 0.0,
        UnaryKind::Abs => x.signum(),
        UnaryKind::Square => 2.0 * x,
        UnaryKind::Reciprocal => -y * y,
        UnaryKind::Sin => x.cos(),
        UnaryKind::Cos => -x.sin(),
        UnaryKind::Erf => FRAC_2_SQRT_PI * (-x * x).exp(),
    }
}

/// 1 / (1 + e^−x), from whichever exponential does not overflow.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// √(2/π)·(x + 0.044715·x³).
fn gelu_argument(x: f64) -> f64 {
    (2.0 / PI).sqrt() * (x + 0.044_715 * x * x * x)
}

/// φ(x) = e^(−x²/2)/√(2π).
fn normal_density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / (2.0 * PI).sqrt()
}

/// Φ(x) = (1 + erf(x/√2))/2.
fn normal_distribution(x: f64) -> f64 {
    (1.0 + erf(x / SQRT_2)) / 2.0
}

/// erf(x) = 2/√π·e^(−x²)·Σ_n 2ⁿ·x^(2n+1)/(2n+1)!! (Abramowitz & Stegun 7.1.6), whose terms all have one sign.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum(); // 1 − erf(6) is 2e-17
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}
