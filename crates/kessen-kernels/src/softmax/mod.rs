//! Softmax and log-softmax along one axis of a `[outer, n, inner]` tensor, forward and backward.
//!
//! Rows (`inner` = 1) are walked along the axis; otherwise sixteen neighbouring columns are worked on at once.

use crate::isa::Isa;
use crate::math;
use crate::simd::{Float, LANES, Simd, kernel};
use crate::threads::{Shared, parallel_for};

/// Elements of one task.
const GRAIN: usize = 16 * 1024;

/// `[outer, n, inner]`: sizes before, of, and behind the axis.
pub type Shape = [usize; 3];

/// What a kernel computes.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Softmax,
    LogSoftmax,
}

/// y = eˣ / Σ eˣ along the axis.
///
/// # Panics
/// If the lengths don't fit `shape`.
pub fn softmax(x: &[f32], shape: Shape, y: &mut [f32]) {
    forward(Kind::Softmax, x, shape, y);
}

/// y = x − ln Σ eˣ along the axis.
///
/// # Panics
/// If the lengths don't fit `shape`.
pub fn log_softmax(x: &[f32], shape: Shape, y: &mut [f32]) {
    forward(Kind::LogSoftmax, x, shape, y);
}

/// dx = y·(dy − Σ dy·y), with `y` the softmax.
///
/// # Panics
/// If the lengths don't fit `shape`.
pub fn softmax_backward(y: &[f32], dy: &[f32], shape: Shape, dx: &mut [f32]) {
    backward(Kind::Softmax, y, dy, shape, dx);
}

/// dx = dy − eʸ·Σ dy, with `y` the log-softmax.
///
/// # Panics
/// If the lengths don't fit `shape`.
pub fn log_softmax_backward(y: &[f32], dy: &[f32], shape: Shape, dx: &mut [f32]) {
    backward(Kind::LogSoftmax, y, dy, shape, dx);
}

fn forward(kind: Kind, x: &[f32], shape: Shape, y: &mut [f32]) {
    assert!(x.len() == shape.iter().product() && y.len() == x.len(), "softmax: lengths don't fit {shape:?}");
    let isa = Isa::active();
    over_slabs(shape, y, |slab, y| {
        let x = &x[slab * y.len()..(slab + 1) * y.len()];
        match shape[2] {
            1 => forward_row(isa, kind, x, y),
            inner => forward_columns(isa, kind, inner, x, y),
        }
    });
}

fn backward(kind: Kind, y: &[f32], dy: &[f32], shape: Shape, dx: &mut [f32]) {
    let fits = y.len() == shape.iter().product() && dy.len() == y.len() && dx.len() == y.len();
    assert!(fits, "softmax backward: lengths don't fit {shape:?}");
    let isa = Isa::active();
    over_slabs(shape, dx, |slab, dx| {
        let range = slab * dx.len()..(slab + 1) * dx.len();
        match shape[2] {
            1 => backward_row(isa, kind, &y[range.clone()], &dy[range], dx),
            inner => backward_columns(isa, kind, inner, &y[range.clone()], &dy[range], dx),
        }
    });
}

/// Calls `f` with the number and the output of each `[n, inner]` slab, in parallel.
fn over_slabs(shape: Shape, y: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
    let [outer, n, inner] = shape;
    let slab = n * inner;
    if slab == 0 {
        return;
    }
    let per_task = (GRAIN / slab).max(1);
    let out = Shared::new(y);
    parallel_for(outer.div_ceil(per_task), |task| {
        for o in task * per_task..((task + 1) * per_task).min(outer) {
            // SAFETY: slabs are disjoint.
            f(o, unsafe { out.part(o * slab..(o + 1) * slab) });
        }
    });
}

kernel! {
    fn forward_row(kind: Kind, x: &[f32], y: &mut [f32]) = forward_row_with;
    fn backward_row(kind: Kind, y: &[f32], dy: &[f32], dx: &mut [f32]) = backward_row_with;
    fn forward_columns(kind: Kind, inner: usize, x: &[f32], y: &mut [f32]) = forward_columns_with;
    fn backward_columns(kind: Kind, inner: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) = backward_columns_with;
}

/// Largest element (NaN where there is one; −∞ of none).
#[inline(always)]
pub(crate) fn row_max<S: Simd>(s: S, x: &[f32]) -> f32 {
    let (vectors, tail) = x.as_chunks::<LANES>();
    let mut acc = s.splat(f32::NEG_INFINITY);
    for v in vectors {
        acc = acc.select(acc.is_nan(), acc.max(s.load(v)));
    }
    let mut largest = acc.largest();
    for &x in tail {
        largest = if largest > x || largest.is_nan() { largest } else { x };
    }
    largest
}

/// Σ e^(x − max).
#[inline(always)]
pub(crate) fn row_exp_sum<S: Simd>(s: S, x: &[f32], max: f32) -> f32 {
    let (vectors, tail) = x.as_chunks::<LANES>();
    let (mut sum, max) = (s.splat(0.0), s.splat(max));
    for v in vectors {
        sum = sum + math::exp(s, s.load(v) - max);
    }
    let mut total = sum.sum();
    if !tail.is_empty() {
        let mut last = [0.0; LANES];
        math::exp(s, s.load_part(tail) - max).store_part(&mut last[..tail.len()]);
        total += s.load(&last).sum();
    }
    total
}

/// y = e^(x − max); returns the sum.
#[inline(always)]
pub(crate) fn row_exp<S: Simd>(s: S, x: &[f32], max: f32, y: &mut [f32]) -> f32 {
    let (vectors, tail) = x.as_chunks::<LANES>();
    let (outputs, rest) = y.as_chunks_mut::<LANES>();
    let (mut sum, max) = (s.splat(0.0), s.splat(max));
    for (v, y) in vectors.iter().zip(outputs) {
        let e = math::exp(s, s.load(v) - max);
        e.store(y);
        sum = sum + e;
    }
    let mut total = sum.sum();
    if !tail.is_empty() {
        math::exp(s, s.load_part(tail) - max).store_part(rest);
        total += s.load_part(rest).sum();
    }
    total
}

/// y = a·x + b.
#[inline(always)]
fn row_affine<S: Simd>(s: S, x: &[f32], a: f32, b: f32, y: &mut [f32]) {
    for (x, y) in x.chunks(LANES).zip(y.chunks_mut(LANES)) {
        s.load_part(x).mul_add(s.splat(a), s.splat(b)).store_part(y);
    }
}

#[inline(always)]
fn forward_row_with<S: Simd>(s: S, kind: Kind, x: &[f32], y: &mut [f32]) {
    let max = row_max(s, x);
    match kind {
        Kind::Softmax => {
            let scale = 1.0 / row_exp(s, x, max, y);
            for y in y.chunks_mut(LANES) {
                (s.load_part(y) * s.splat(scale)).store_part(y);
            }
        }
        Kind::LogSoftmax => {
            let sum = row_exp_sum(s, x, max);
            row_affine(s, x, 1.0, -max - sum.ln(), y);
        }
    }
}

#[inline(always)]
fn backward_row_with<S: Simd>(s: S, kind: Kind, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let mut sum = s.splat(0.0);
    for (y, dy) in y.chunks(LANES).zip(dy.chunks(LANES)) {
        let d = s.load_part(dy);
        sum = if kind == Kind::Softmax { d.mul_add(s.load_part(y), sum) } else { sum + d };
    }
    let sum = s.splat(sum.sum());
    for ((y, dy), dx) in y.chunks(LANES).zip(dy.chunks(LANES)).zip(dx.chunks_mut(LANES)) {
        let (y, d) = (s.load_part(y), s.load_part(dy));
        gradient(s, kind, y, d, sum).store_part(dx);
    }
}

/// dx from y, dy and their sum.
#[inline(always)]
fn gradient<S: Simd>(s: S, kind: Kind, y: S::F, dy: S::F, sum: S::F) -> S::F {
    match kind {
        Kind::Softmax => y * (dy - sum),
        Kind::LogSoftmax => dy - math::exp(s, y) * sum,
    }
}

#[inline(always)]
fn forward_columns_with<S: Simd>(s: S, kind: Kind, inner: usize, x: &[f32], y: &mut [f32]) {
    let mut first = 0;
    while first < inner {
        let width = LANES.min(inner - first);
        let max = columns_max(s, inner, first, width, x);
        match kind {
            Kind::Softmax => {
                let scale = s.splat(1.0) / columns_exp(s, inner, first, width, x, max, y);
                for y in y.chunks_exact_mut(inner) {
                    let y = &mut y[first..first + width];
                    (s.load_part(y) * scale).store_part(y);
                }
            }
            Kind::LogSoftmax => {
                let shift = max + math::log(s, columns_exp_sum(s, inner, first, width, x, max));
                for (x, y) in x.chunks_exact(inner).zip(y.chunks_exact_mut(inner)) {
                    (s.load_part(&x[first..first + width]) - shift).store_part(&mut y[first..first + width]);
                }
            }
        }
        first += width;
    }
}

/// The largest of each of up to sixteen columns of `[n, inner]`, as [`row_max`].
#[inline(always)]
pub(crate) fn columns_max<S: Simd>(s: S, inner: usize, first: usize, width: usize, x: &[f32]) -> S::F {
    let mut max = s.splat(f32::NEG_INFINITY);
    for x in x.chunks_exact(inner) {
        max = max.select(max.is_nan(), max.max(s.load_part(&x[first..first + width])));
    }
    max
}

/// Σ e^(x − max) of each of these columns.
#[inline(always)]
pub(crate) fn columns_exp_sum<S: Simd>(
    s: S,
    inner: usize,
    first: usize,
    width: usize,
    x: &[f32],
    max: S::F,
) -> S::F {
    let mut sum = s.splat(0.0);
    for x in x.chunks_exact(inner) {
        sum = sum + math::exp(s, s.load_part(&x[first..first + width]) - max);
    }
    sum
}

/// y = e^(x − max) in these columns; returns the sums.
#[inline(always)]
pub(crate) fn columns_exp<S: Simd>(
    s: S,
    inner: usize,
    first: usize,
    width: usize,
    x: &[f32],
    max: S::F,
    y: &mut [f32],
) -> S::F {
    let mut sum = s.splat(0.0);
    for (x, y) in x.chunks_exact(inner).zip(y.chunks_exact_mut(inner)) {
        let e = math::exp(s, s.load_part(&x[first..first + width]) - max);
        e.store_part(&mut y[first..first + width]);
        sum = sum + e;
    }
    sum
}

#[inline(always)]
fn backward_columns_with<S: Simd>(s: S, kind: Kind, inner: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let mut first = 0;
    while first < inner {
        let columns = first..(first + LANES).min(inner);
        let mut sum = s.splat(0.0);
        for (y, dy) in y.chunks_exact(inner).zip(dy.chunks_exact(inner)) {
            let d = s.load_part(&dy[columns.clone()]);
            sum = if kind == Kind::Softmax {
                d.mul_add(s.load_part(&y[columns.clone()]), sum)
            } else {
                sum + d
            };
        }
        for ((y, dy), dx) in y.chunks_exact(inner).zip(dy.chunks_exact(inner)).zip(dx.chunks_exact_mut(inner))
        {
            let (y, d) = (s.load_part(&y[columns.clone()]), s.load_part(&dy[columns.clone()]));
            gradient(s, kind, y, d, sum).store_part(&mut dx[columns.clone()]);
        }
        first = columns.end;
    }
}

#[cfg(test)]
mod tests;
