//! Vectorised elementary functions.
//!
//! Each states its largest error, measured over a dense sweep of the range against f64 (the tests hold them); where
//! the CPU has no fused multiply-add it may be one ulp more. NaN gives NaN, infinities give the limit, and denormal
//! arguments and results are exact to the stated error unless said otherwise. The polynomials are minimax fits
//! (iteratively reweighted least squares in the weight of the final relative error).

use crate::simd::{Float, Int, Mask, Simd};

/// ln 2 in two parts, the first with nine bits, so that its product with an exponent is exact.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// (eʳ − 1 − r)/r² on |r| ≤ ½ ln 2.
const EXP: [f32; 5] = [4.999_999_4e-1, 1.666_652e-1, 4.166_839_3e-2, 8.368_781e-3, 1.381_446_5e-3];
/// (2ʳ − 1)/r on |r| ≤ ½.
const EXP2: [f32; 6] =
    [std::f32::consts::LN_2, 2.402_264_8e-1, 5.550_332_4e-2, 9.618_437e-3, 1.339_887_5e-3, 1.535_336_2e-4];
/// (ln(1+f) − f + f²/2)/f³ on √½ ≤ 1+f ≤ √2.
const LOG: [f32; 8] = [
    3.333_333e-1,
    -2.500_082_3e-1,
    2.000_123_3e-1,
    -1.662_329_7e-1,
    1.420_155_8e-1,
    -1.316_059_5e-1,
    1.276_33e-1,
    -7.635_588e-2,
];
/// (erf(x) − x)/x in x², |x| ≤ 0.95.
const ERF_SMALL: [f32; 7] = [
    1.283_791_7e-1,
    -3.761_263e-1,
    1.128_366_4e-1,
    -2.685_770_6e-2,
    5.196_952e-3,
    -8.097_702_5e-4,
    8.185_091e-5,
];
/// ln erfc(x) on 0.93 ≤ x ≤ 4, weighted by erfc/erf.
const ERF_LARGE: [f32; 8] = [
    1.773_349_7e-4,
    -1.129_527_7,
    -6.333_212e-1,
    -1.083_082_7e-1,
    2.513_762_4e-2,
    -4.177_963e-3,
    4.358_849e-4,
    -2.121_793_8e-5,
];
/// (sin r − r)/r³ in r², |r| ≤ π/4.
const SIN: [f32; 4] = [-1.666_666_7e-1, 8.333_329e-3, -1.983_930_4e-4, 2.718_046_3e-6];
/// (cos r − 1 + r²/2)/r⁴ in r², |r| ≤ π/4.
const COS: [f32; 3] = [4.166_664_6e-2, -1.388_731e-3, 2.443_241_1e-5];
/// π/2 in three parts of 9, 12 and 24 bits.
const HALF_PI: [f32; 3] = [1.5703125, 0.000_483_751_3, 7.549_79e-8];
/// Largest argument reduced in f32; larger ones go through the f64 library.
const TRIG_LIMIT: f32 = 4096.0;

/// Horner's scheme, `c[0] + c[1]·x + …`.
#[inline(always)]
fn poly<S: Simd, const N: usize>(s: S, x: S::F, c: [f32; N]) -> S::F {
    let mut y = s.splat(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        y = y.mul_add(x, s.splat(c[i]));
    }
    y
}

/// `x` with `from`'s sign bit added to its own (meant for `x ≥ 0`).
#[inline(always)]
fn with_sign<S: Simd>(s: S, x: S::F, from: S::F) -> S::F {
    (x.bits() | (from.bits() & s.splat_i(i32::MIN))).as_float()
}

/// n = round(x/ln 2) and e^(x − n·ln 2) − 1.
#[inline(always)]
fn exp_parts<S: Simd>(s: S, x: S::F) -> (S::F, S::F) {
    let n = (x * s.splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(s.splat(-LN2_HI), x);
    let r = n.mul_add(s.splat(-LN2_LO), r);
    (n, poly(s, r, EXP).mul_add(r * r, r))
}

/// eˣ, error below 1.1 ulp.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.splat(89.0).min(s.splat(-104.0).max(x));
    let (n, p) = exp_parts(s, x);
    s.times_power(p + s.splat(1.0), n)
}

/// 2ˣ, error below 1 ulp.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.splat(129.0).min(s.splat(-151.0).max(x));
    let n = x.round();
    let r = x - n;
    s.times_power(poly(s, r, EXP2).mul_add(r, s.splat(1.0)), n)
}

/// ln x, error below 1 ulp; −∞ at 0, NaN below.
#[inline(always)]
pub(crate) fn log<S: Simd>(s: S, x: S::F) -> S::F {
    let tiny = x.lt(s.splat(f32::MIN_POSITIVE));
    let scaled = (x * s.splat(16_777_216.0)).select(tiny, x);
    let bits = scaled.bits();
    let exponent = (bits - s.splat_i(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32)).sar::<23>();
    let f = (bits - exponent.shl::<23>()).as_float() - s.splat(1.0);
    let e = exponent.to_float() - s.splat(24.0).select(tiny, s.splat(0.0));
    let z = f * f;
    let y = (poly(s, f, LOG) * f).mul_add(z, e * s.splat(LN2_LO));
    let y = z.mul_add(s.splat(-0.5), y);
    let y = e.mul_add(s.splat(LN2_HI), f + y);
    let y = x.select(x.eq(s.splat(f32::INFINITY)).or(x.is_nan()), y);
    let y = s.splat(f32::NEG_INFINITY).select(x.eq(s.splat(0.0)), y);
    s.splat(f32::NAN).select(x.lt(s.splat(0.0)), y)
}

/// ln(1 + x) for 0 ≤ x ≤ 1, error below 2 ulp.
#[inline(always)]
fn log1p_unit<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    let u = one + x;
    log(s, u) + (x - (u - one)) / u
}

/// tanh x, error below 3 ulp.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let a = s.splat(9.1).min(x.abs());
    let (n, p) = exp_parts(s, a + a);
    let scale = (n.to_int() + s.splat_i(127)).shl::<23>().as_float();
    let t = p.mul_add(scale, scale - s.splat(1.0));
    with_sign(s, t / (t + s.splat(2.0)), x)
}

/// 1/(1 + e⁻ˣ), error below 2.5 ulp.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    let e = exp(s, -x.abs());
    e.select(x.lt(s.splat(0.0)), one) / (one + e)
}

/// ln(1 + eˣ), error below 3 ulp.
#[inline(always)]
pub(crate) fn softplus<S: Simd>(s: S, x: S::F) -> S::F {
    s.splat(0.0).max(x) + log1p_unit(s, exp(s, -x.abs()))
}

/// erf x, error below 1.5 ulp.
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    let t = s.splat(4.0).min(x.abs());
    let small = poly(s, t * t, ERF_SMALL).mul_add(t, t);
    let large = s.splat(1.0) - exp(s, poly(s, t, ERF_LARGE));
    with_sign(s, small.select(t.lt(s.splat(0.94)), large), x)
}

/// The normal distribution function Φ(x) = ½(1 + erf(x/√2)), absolute error below 1.2·10⁻⁷.
#[inline(always)]
pub(crate) fn normal_cdf<S: Simd>(s: S, x: S::F) -> S::F {
    let half = s.splat(0.5);
    erf(s, x * s.splat(std::f32::consts::FRAC_1_SQRT_2)).mul_add(half, half)
}

/// sin x, absolute error below 1.2·10⁻⁷; NaN at ±∞.
#[inline(always)]
pub(crate) fn sin<S: Simd>(s: S, x: S::F) -> S::F {
    if s.splat(TRIG_LIMIT).lt(x.abs()).any() {
        return lanewise(s, x, libm_sin);
    }
    sin_shifted(s, x, 0)
}

/// cos x, absolute error below 1.2·10⁻⁷; NaN at ±∞.
#[inline(always)]
pub(crate) fn cos<S: Simd>(s: S, x: S::F) -> S::F {
    if s.splat(TRIG_LIMIT).lt(x.abs()).any() {
        return lanewise(s, x, libm_cos);
    }
    sin_shifted(s, x, 1)
}

/// sin(x + quarters·π/2) for |x| ≤ `TRIG_LIMIT`.
#[inline(always)]
fn sin_shifted<S: Simd>(s: S, x: S::F, quarters: i32) -> S::F {
    let n = (x * s.splat(std::f32::consts::FRAC_2_PI)).round();
    let r = n.mul_add(s.splat(-HALF_PI[0]), x);
    let r = n.mul_add(s.splat(-HALF_PI[1]), r);
    let r = n.mul_add(s.splat(-HALF_PI[2]), r);
    let z = r * r;
    let sine = (poly(s, z, SIN) * z).mul_add(r, r);
    let cosine = (poly(s, z, COS) * z).mul_add(z, z.mul_add(s.splat(-0.5), s.splat(1.0)));
    let q = n.to_int() + s.splat_i(quarters);
    let odd = (q & s.splat_i(1)).eq(s.splat_i(1));
    let sign = (q & s.splat_i(2)).shl::<30>();
    (cosine.select(odd, sine).bits() ^ sign).as_float()
}

fn libm_sin(x: f32) -> f32 {
    f64::from(x).sin() as f32
}

fn libm_cos(x: f32) -> f32 {
    f64::from(x).cos() as f32
}

/// Applies `f` lane by lane.
#[inline(always)]
fn lanewise<S: Simd>(s: S, x: S::F, f: fn(f32) -> f32) -> S::F {
    let mut a = x.array();
    for x in &mut a {
        *x = f(*x);
    }
    s.load(&a)
}

/// xʸ by the library, lane by lane.
#[inline(always)]
pub(crate) fn pow<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
    let (mut a, b) = (x.array(), y.array());
    for (x, y) in a.iter_mut().zip(b) {
        *x = x.powf(y);
    }
    s.load(&a)
}

/// `x`, or 0 where it is below the normal range.
#[inline(always)]
pub(crate) fn flush<S: Simd>(s: S, x: S::F) -> S::F {
    s.splat(0.0).select(x.abs().lt(s.splat(f32::MIN_POSITIVE)), x)
}

#[cfg(test)]
mod tests;
