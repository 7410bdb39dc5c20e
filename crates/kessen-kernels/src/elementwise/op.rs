//! The element-wise operators, each declared once: name, parameters, formula.
//!
//! Formulas are those of PyTorch's functions of the same names. `d`-forms take the gradient of the output first and
//! then what the derivative is written in: the operator's input `x` or its output `y`.

use crate::math;
use crate::simd::{Float, LANES, Mask, Simd, kernel};

/// Applies `$e` to `$n` elements behind pointers, vector by vector and then the tail.
macro_rules! sweep {
    ($s:ident, $n:ident, $y:ident, ($($v:ident = $p:ident),*), $e:expr) => {{
        let mut i = 0;
        while i + LANES <= $n {
            // SAFETY: the caller vouches for `n` elements behind each pointer.
            $(let $v = $s.load(unsafe { &*$p.add(i).cast() });)*
            let value = $e;
            // SAFETY: as above; the inputs have been read.
            value.store(unsafe { &mut *$y.add(i).cast() });
            i += LANES;
        }
        if i < $n {
            // SAFETY: as above.
            $(let $v = $s.load_part(unsafe { std::slice::from_raw_parts($p.add(i), $n - i) });)*
            let value = $e;
            // SAFETY: as above.
            value.store_part(unsafe { std::slice::from_raw_parts_mut($y.add(i), $n - i) });
        }
    }};
}

macro_rules! operators {
    (
        $(#[$meta:meta])* pub enum $enum:ident, $run:ident = $with:ident, |$s:ident; $($p:ident),*| $reads:tt;
        $($(#[$doc:meta])* $name:ident $({ $($(#[$pdoc:meta])* $param:ident),* })? => $e:expr;)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum $enum {
            $($(#[$doc])* $name $({ $($(#[$pdoc])* $param: f32),* })?,)*
        }

        kernel! {
            /// Applies `op` to `n` elements behind the pointers; the output may be one of the inputs, exactly.
            pub(super) fn $run(op: $enum, $($p: *const f32,)* y: *mut f32, n: usize) = $with;
        }

        #[inline(always)]
        fn $with<S: Simd>($s: S, op: $enum, $($p: *const f32,)* y: *mut f32, n: usize) {
            match op {
                $($enum::$name $({ $($param),* })? => sweep!($s, n, y, $reads, $e),)*
            }
        }
    };
}

operators! {
    /// Operators of one operand `x`.
    pub enum Unary, unary_strip = unary_strip_with, |s; xp| (x = xp);
    /// x
    Copy => x;
    /// −x
    Neg => -x;
    /// |x|
    Abs => x.abs();
    /// 1 where x > 0, −1 where x < 0, else x (0 or NaN)
    Sign => s.splat(1.0).select(s.splat(0.0).lt(x), s.splat(-1.0).select(x.lt(s.splat(0.0)), x));
    /// √x
    Sqrt => x.sqrt();
    /// 1/√x
    Rsqrt => s.splat(1.0) / x.sqrt();
    /// 1/x
    Reciprocal => s.splat(1.0) / x;
    /// x²
    Square => x * x;
    /// eˣ
    Exp => math::exp(s, x);
    /// ln x
    Log => math::log(s, x);
    /// sin x
    Sin => math::sin(s, x);
    /// cos x
    Cos => math::cos(s, x);
    /// erf x
    Erf => math::erf(s, x);
    /// 1/(1 + e⁻ˣ)
    Sigmoid => math::sigmoid(s, x);
    /// tanh x
    Tanh => math::tanh(s, x);
    /// max(x, 0)
    Relu => s.splat(0.0).max(x);
    /// x where x > 0, else slope·x
    LeakyRelu { /** Factor for negative arguments. */ slope } => x.select(s.splat(0.0).lt(x), x * s.splat(slope));
    /// x where x > 0, else alpha·(eˣ − 1)
    Elu { /** Negative limit. */ alpha } =>
        x.select(s.splat(0.0).lt(x), (math::exp(s, s.splat(0.0).min(x)) - s.splat(1.0)) * s.splat(alpha));
    /// x·Φ(x), Φ the normal distribution function
    Gelu => x * math::normal_cdf(s, x);
    /// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
    GeluTanh => { let t = gelu_tanh(s, x); s.splat(0.5) * x * (t + s.splat(1.0)) };
    /// x·sigmoid(x)
    Silu => x * math::sigmoid(s, x);
    /// ln(1 + eˣ)
    Softplus => math::softplus(s, x);
    /// min(max(x, low), high); NaN stays
    Clamp { /** Lower limit. */ low, /** Upper limit. */ high } => s.splat(high).min(s.splat(low).max(x));
    /// scale·x + shift
    Affine { /** Factor. */ scale, /** Summand. */ shift } => x.mul_add(s.splat(scale), s.splat(shift));
    /// x to a constant power
    PowConst { /** The power. */ exponent } => math::pow(s, x, s.splat(exponent));
    /// 1 where x = 0, else 0
    Not => s.splat(1.0).select(x.eq(s.splat(0.0)), s.splat(0.0));
}

operators! {
    /// Operators of two operands `a`, `b`. Comparisons give 1 or 0.
    pub enum Binary, binary_strip = binary_strip_with, |s; ap, bp| (a = ap, b = bp);
    /// a + b
    Add => a + b;
    /// a − b
    Sub => a - b;
    /// a·b
    Mul => a * b;
    /// a/b
    Div => a / b;
    /// min(a, b); NaN where either is
    Min => a.select(a.is_nan(), a.min(b));
    /// max(a, b); NaN where either is
    Max => a.select(a.is_nan(), a.max(b));
    /// aᵇ
    Pow => math::pow(s, a, b);
    /// a < b
    Lt => truth(s, a.lt(b));
    /// a ≤ b
    Le => truth(s, a.le(b));
    /// a > b
    Gt => truth(s, b.lt(a));
    /// a ≥ b
    Ge => truth(s, b.le(a));
    /// a = b
    Eq => truth(s, a.eq(b));
    /// a ≠ b (true where either is NaN)
    Ne => truth(s, a.eq(b).not());
    /// `Relu` backward: dy where y > 0 (or x > 0), else 0
    DRelu => a.select(s.splat(0.0).lt(b), s.splat(0.0));
    /// `LeakyRelu` backward: dy where x > 0, else slope·dy
    DLeakyRelu { /** Factor for negative arguments. */ slope } => a.select(s.splat(0.0).lt(b), a * s.splat(slope));
    /// `Elu` backward in x: dy where x > 0, else dy·alpha·eˣ
    DElu { /** Negative limit. */ alpha } =>
        a.select(s.splat(0.0).lt(b), a * s.splat(alpha) * math::exp(s, s.splat(0.0).min(b)));
    /// `Sigmoid` backward in y: dy·y·(1 − y)
    DSigmoid => a * b * (s.splat(1.0) - b);
    /// `Tanh` backward in y: dy·(1 − y²)
    DTanh => a * (s.splat(1.0) - b * b);
    /// `Gelu` backward in x: dy·(Φ(x) + x·φ(x))
    DGelu => {
        let density = math::exp(s, b * b * s.splat(-0.5)) * s.splat(0.398_942_3);
        a * b.mul_add(density, math::normal_cdf(s, b))
    };
    /// `GeluTanh` backward in x
    DGeluTanh => {
        let (t, one) = (gelu_tanh(s, b), s.splat(1.0));
        let du = (b * b).mul_add(s.splat(3.0 * GELU_CUBIC * GELU_SCALE), s.splat(GELU_SCALE));
        a * s.splat(0.5) * (b * du).mul_add((one - t) * (one + t), one + t)
    };
    /// `Silu` backward in x: dy·σ·(1 + x·(1 − σ))
    DSilu => {
        let (y, one) = (math::sigmoid(s, b), s.splat(1.0));
        a * y * b.mul_add(one - y, one)
    };
    /// `Softplus` backward in x: dy·sigmoid(x)
    DSoftplus => a * math::sigmoid(s, b);
    /// `Clamp` backward in x: dy where low ≤ x ≤ high, else 0
    DClamp { /** Lower limit. */ low, /** Upper limit. */ high } =>
        a.select(s.splat(low).le(b).and(b.le(s.splat(high))), s.splat(0.0));
    /// a + scale·b
    AddScaled { /** Factor of b. */ scale } => b.mul_add(s.splat(scale), a);
}

operators! {
    /// Operators of three operands `a`, `b`, `c`.
    pub enum Ternary, ternary_strip = ternary_strip_with, |s; ap, bp, cp| (a = ap, b = bp, c = cp);
    /// b where a ≠ 0, else c
    Select => c.select(a.eq(s.splat(0.0)), b);
    /// a·b + c
    MulAdd => a.mul_add(b, c);
    /// min(max(a, b), c); NaN in a stays
    Clamp => c.min(b.max(a));
}

/// √(2/π)
const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBIC: f32 = 0.044_715;

/// tanh(√(2/π)·(x + 0.044715·x³))
#[inline(always)]
fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let cubic = (x * x).mul_add(s.splat(GELU_CUBIC * GELU_SCALE), s.splat(GELU_SCALE));
    math::tanh(s, x * cubic)
}

/// 1 or 0.
#[inline(always)]
fn truth<S: Simd>(s: S, mask: S::M) -> S::F {
    s.splat(1.0).select(mask, s.splat(0.0))
}
