//! What happens to one query's products with a tile of keys.

use crate::math;
use crate::simd::{Float, LANES, Simd, kernel};

/// One query's masks for the keys at hand.
#[derive(Clone, Copy)]
pub(super) struct RowMask<'a> {
    /// 0 hides a key.
    pub keys: Option<&'a [f32]>,
    /// Added to the products.
    pub bias: Option<&'a [f32]>,
}

kernel! {
    /// Turns products into e^(s − m) with m the largest so far, given the largest before; returns m, the factor
    /// e^(before − m) of what was summed before, and the sum.
    pub(super) fn softmax(s: &mut [f32], mask: RowMask<'_>, before: f32) -> [f32; 3] = softmax_with;
    /// Turns products into probabilities e^(s − sum).
    pub(super) fn probabilities(s: &mut [f32], mask: RowMask<'_>, sum: f32) = probabilities_with;
    /// Turns dP into dS = scale·p·(dp − delta).
    pub(super) fn gradient(p: &[f32], dp: &mut [f32], delta: f32, scale: f32) = gradient_with;
    /// x = a·x
    pub(super) fn scale(x: &mut [f32], a: f32) = scale_with;
    /// Σ a·b
    pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 = dot_with;
}

/// The products with bias, −∞ where hidden.
#[inline(always)]
fn masked<S: Simd>(s: S, x: &[f32], mask: RowMask<'_>, at: usize) -> S::F {
    let mut v = s.load_part(x);
    if let Some(bias) = mask.bias {
        v = v + s.load_part(&bias[at..at + x.len()]);
    }
    if let Some(keys) = mask.keys {
        let hidden = s.load_part(&keys[at..at + x.len()]).eq(s.splat(0.0));
        v = s.splat(f32::NEG_INFINITY).select(hidden, v);
    }
    v
}

#[inline(always)]
fn softmax_with<S: Simd>(s: S, x: &mut [f32], mask: RowMask<'_>, before: f32) -> [f32; 3] {
    let mut largest = before;
    let mut acc = s.splat(f32::NEG_INFINITY);
    for (i, x) in x.chunks_mut(LANES).enumerate() {
        let v = masked(s, x, mask, i * LANES);
        v.store_part(x);
        if x.len() == LANES {
            acc = acc.select(acc.is_nan(), acc.max(v));
        } else {
            for &x in x.iter() {
                largest = if largest > x || largest.is_nan() { largest } else { x };
            }
        }
    }
    let lanes = acc.largest();
    largest = if largest > lanes || largest.is_nan() { largest } else { lanes };
    if largest == f32::NEG_INFINITY {
        x.fill(0.0);
        return [largest, 1.0, 0.0];
    }
    let (m, mut sum, mut tail) = (s.splat(largest), s.splat(0.0), 0.0);
    for x in x.chunks_mut(LANES) {
        let e = math::exp(s, s.load_part(x) - m);
        e.store_part(x);
        if x.len() == LANES {
            sum = sum + e;
        } else {
            tail = s.load_part(x).sum();
        }
    }
    let factor = math::exp(s, s.splat(before) - m).array()[0];
    [largest, factor, sum.sum() + tail]
}

#[inline(always)]
fn probabilities_with<S: Simd>(s: S, x: &mut [f32], mask: RowMask<'_>, sum: f32) {
    for (i, x) in x.chunks_mut(LANES).enumerate() {
        math::exp(s, masked(s, x, mask, i * LANES) - s.splat(sum)).store_part(x);
    }
}

#[inline(always)]
fn gradient_with<S: Simd>(s: S, p: &[f32], dp: &mut [f32], delta: f32, scale: f32) {
    for (p, dp) in p.chunks(LANES).zip(dp.chunks_mut(LANES)) {
        let d = s.load_part(dp) - s.splat(delta);
        (s.load_part(p) * d * s.splat(scale)).store_part(dp);
    }
}

#[inline(always)]
fn scale_with<S: Simd>(s: S, x: &mut [f32], a: f32) {
    for x in x.chunks_mut(LANES) {
        (s.load_part(x) * s.splat(a)).store_part(x);
    }
}

#[inline(always)]
fn dot_with<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        sum = s.load_part(a).mul_add(s.load_part(b), sum);
    }
    sum.sum()
}
