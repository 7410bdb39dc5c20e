use super::*;
use crate::isa::Isa;
use crate::simd::kernel;

type Apply = fn(Isa, &[f32; 16], &mut [f32; 16]);

macro_rules! apply {
    ($($name:ident $with:ident $f:ident)*) => {$(
        kernel! { fn $name(x: &[f32; 16], y: &mut [f32; 16]) = $with; }
        #[inline(always)]
        fn $with<S: Simd>(s: S, x: &[f32; 16], y: &mut [f32; 16]) {
            $f(s, s.load(x)).store(y)
        }
    )*};
}
apply! { exp_all exp_with exp exp2_all exp2_with exp2 log_all log_with log tanh_all tanh_with tanh sigmoid_all sigmoid_with sigmoid
softplus_all softplus_with softplus erf_all erf_with erf cdf_all cdf_with normal_cdf sin_all sin_with sin
cos_all cos_with cos }

/// erf in f64: Taylor series for small arguments, a continued fraction for erfc beyond.
fn erf64(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..120 {
            term *= -a * a / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let mut fraction = 0.0;
        for k in (1..60).rev() {
            fraction = 0.5 * k as f64 / (a + fraction);
        }
        1.0 - (-a * a).exp() / (std::f64::consts::PI.sqrt() * (a + fraction))
    };
    value.copysign(x)
}

/// Distance between neighbouring floats at `x`.
fn ulp(x: f64) -> f64 {
    let a = (x.abs() as f32).clamp(f32::MIN_POSITIVE, f32::from_bits(f32::MAX.to_bits() - 1));
    f64::from(f32::from_bits(a.to_bits() + 1)) - f64::from(a)
}

/// Calls `check(x, f(x))` over `[low, high]` in 40,000 steps and returns the largest value.
fn sweep(isa: Isa, f: Apply, low: f32, high: f32, check: impl Fn(f64, f64) -> f64) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    for block in 0..2500 {
        let x = std::array::from_fn(|i| {
            (f64::from(low) + (f64::from(high) - f64::from(low)) * (block * 16 + i) as f64 / 39_999.0) as f32
        });
        let mut y = [0.0; 16];
        f(isa, &x, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let error = check(f64::from(x), f64::from(y));
            if error.is_nan() || error > worst.0 {
                worst = (error, x);
            }
        }
    }
    worst
}

#[test]
fn errors_stay_below_the_documented_bounds() {
    type Row = (&'static str, Apply, fn(f64) -> f64, f32, f32, f64);
    let sigmoid64 = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus64 = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let rows: [Row; 21] = [
        ("exp", exp_all, f64::exp, -110.0, 88.7, 1.1),
        ("exp", exp_all, f64::exp, -1.0, 1.0, 1.1),
        ("exp", exp_all, f64::exp, -1e-6, 1e-6, 1.1),
        ("exp2", exp2_all, f64::exp2, -160.0, 127.9, 1.0),
        ("exp2", exp2_all, f64::exp2, -1.0, 1.0, 1.0),
        ("exp2", exp2_all, f64::exp2, -1e-6, 1e-6, 1.0),
        ("log", log_all, f64::ln, 0.4, 2.5, 1.0),
        ("log", log_all, f64::ln, 1e-38, 1e-37, 1.0),
        ("log", log_all, f64::ln, 1e-44, 1e-39, 1.0),
        ("log", log_all, f64::ln, 1.0, 3e38, 1.0),
        ("log", log_all, f64::ln, 0.999, 1.001, 1.0),
        ("tanh", tanh_all, f64::tanh, -10.0, 10.0, 3.0),
        ("tanh", tanh_all, f64::tanh, -0.5, 0.5, 3.0),
        ("tanh", tanh_all, f64::tanh, -1e-30, 1e-30, 3.0),
        ("sigmoid", sigmoid_all, sigmoid64, -104.0, 30.0, 2.5),
        ("sigmoid", sigmoid_all, sigmoid64, -3.0, 3.0, 2.5),
        ("softplus", softplus_all, softplus64, -104.0, 30.0, 3.0),
        ("softplus", softplus_all, softplus64, -3.0, 3.0, 3.0),
        ("erf", erf_all, erf64, -4.5, 4.5, 1.5),
        ("erf", erf_all, erf64, -0.9, 0.9, 1.5),
        ("erf", erf_all, erf64, -1e-30, 1e-30, 1.5),
    ];
    for isa in Isa::available() {
        let slack = if isa == Isa::Scalar { 1.0 } else { 0.0 };
        for (name, f, exact, low, high, bound) in rows {
            let (worst, at) = sweep(isa, f, low, high, |x, y| (y - exact(x)).abs() / ulp(exact(x)));
            assert!(worst <= bound + slack, "{name} on {isa}: {worst} ulp at {at:e}");
        }
        let absolute: [(&str, Apply, fn(f64) -> f64, f32); 5] = [
            ("cdf", cdf_all, |x| 0.5 * (1.0 + erf64(x * std::f64::consts::FRAC_1_SQRT_2)), 8.0),
            ("sin", sin_all, f64::sin, 7.0),
            ("sin", sin_all, f64::sin, 5000.0),
            ("cos", cos_all, f64::cos, 7.0),
            ("cos", cos_all, f64::cos, 1e7),
        ];
        for (name, f, exact, range) in absolute {
            let (worst, at) = sweep(isa, f, -range, range, |x, y| (y - exact(x)).abs());
            assert!(worst <= 1.2e-7, "{name} on {isa}: {worst:e} at {at:e}");
        }
    }
}

#[test]
fn limits_and_nan() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let rows: [(&str, Apply, [f32; 6]); 10] = [
        // arguments: -inf, inf, NaN, -0, 0, -1000
        ("exp", exp_all, [0.0, inf, nan, 1.0, 1.0, 0.0]),
        ("exp2", exp2_all, [0.0, inf, nan, 1.0, 1.0, 0.0]),
        ("log", log_all, [nan, inf, nan, -inf, -inf, nan]),
        ("tanh", tanh_all, [-1.0, 1.0, nan, -0.0, 0.0, -1.0]),
        ("sigmoid", sigmoid_all, [0.0, 1.0, nan, 0.5, 0.5, 0.0]),
        ("softplus", softplus_all, [0.0, inf, nan, std::f32::consts::LN_2, std::f32::consts::LN_2, 0.0]),
        ("erf", erf_all, [-1.0, 1.0, nan, -0.0, 0.0, -1.0]),
        ("cdf", cdf_all, [0.0, 1.0, nan, 0.5, 0.5, 0.0]),
        ("sin", sin_all, [nan, nan, nan, 0.0, 0.0, -0.826_879_54]),
        ("cos", cos_all, [nan, nan, nan, 1.0, 1.0, 0.562_379_1]),
    ];
    for isa in Isa::available() {
        for (name, f, expected) in rows {
            let mut x = [0.0; 16];
            x[..6].copy_from_slice(&[-inf, inf, nan, -0.0, 0.0, -1000.0]);
            let mut y = [0.0; 16];
            f(isa, &x, &mut y);
            for (i, want) in expected.into_iter().enumerate() {
                let same = y[i] == want || (y[i].is_nan() && want.is_nan()) || (y[i] - want).abs() < 1e-7;
                assert!(same, "{name}({}) on {isa}: {} instead of {want}", x[i], y[i]);
            }
        }
    }
}
