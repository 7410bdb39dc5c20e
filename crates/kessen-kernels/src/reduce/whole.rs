//! Reductions of whole slices and along one axis by index.

use crate::isa::Isa;
use crate::simd::{Float, LANES, Mask, Simd, kernel};
use crate::threads::{Shared, parallel_chunks, parallel_for};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements of one partial sum.
const BLOCK: usize = 16 * 1024;

kernel! {
    fn block_squares(x: &[f32]) -> f32 = block_squares_with;
    fn is_finite(x: &[f32]) -> bool = is_finite_with;
    fn row_argmax(x: &[f32]) -> usize = row_argmax_with;
}

#[inline(always)]
fn block_squares_with<S: Simd>(s: S, x: &[f32]) -> f32 {
    let (quads, rest) = x.as_chunks::<{ 4 * LANES }>();
    let (mut a, mut b, mut c, mut d) = (s.splat(0.0), s.splat(0.0), s.splat(0.0), s.splat(0.0));
    for q in quads {
        let (q, _) = q.as_chunks::<LANES>();
        let (x0, x1, x2, x3) = (s.load(&q[0]), s.load(&q[1]), s.load(&q[2]), s.load(&q[3]));
        a = x0.mul_add(x0, a);
        b = x1.mul_add(x1, b);
        c = x2.mul_add(x2, c);
        d = x3.mul_add(x3, d);
    }
    for v in rest.chunks(LANES) {
        let x = s.load_part(v);
        a = x.mul_add(x, a);
    }
    ((a + b) + (c + d)).sum()
}

/// Number of elements of scratch that [`sum_of_squares`] needs.
pub fn sum_of_squares_scratch(slices: &[&[f32]]) -> usize {
    slices.iter().map(|x| x.len().div_ceil(BLOCK)).sum()
}

/// Σ x² over all elements of all slices, as for a global gradient norm; blocks are joined in f64.
///
/// # Panics
/// If `scratch` is shorter than [`sum_of_squares_scratch`].
pub fn sum_of_squares(slices: &[&[f32]], scratch: &mut [f32]) -> f64 {
    let isa = Isa::active();
    let mut first = 0;
    for x in slices {
        let blocks = x.len().div_ceil(BLOCK);
        let partial = Shared::new(&mut scratch[first..first + blocks]);
        let per_task = 4;
        parallel_for(blocks.div_ceil(per_task), |task| {
            let range = task * per_task..((task + 1) * per_task).min(blocks);
            // SAFETY: tasks have disjoint blocks.
            let partial = unsafe { partial.part(range.clone()) };
            for (p, block) in partial.iter_mut().zip(range) {
                *p = block_squares(isa, &x[block * BLOCK..((block + 1) * BLOCK).min(x.len())]);
            }
        });
        first += blocks;
    }
    scratch[..first].iter().map(|&p| f64::from(p)).sum()
}

/// Whether every element is finite: 0·x is 0 or −0 for those and NaN for the others.
#[inline(always)]
fn is_finite_with<S: Simd>(s: S, x: &[f32]) -> bool {
    let (vectors, tail) = x.as_chunks::<LANES>();
    let zero = s.splat(0.0);
    let mut acc = s.load_part(tail) * zero;
    for v in vectors {
        acc = s.load(v).mul_add(zero, acc);
    }
    !acc.is_nan().any()
}

/// Index of the first element that is NaN or infinite.
pub fn first_non_finite(x: &[f32]) -> Option<usize> {
    let isa = Isa::active();
    let found = AtomicUsize::new(usize::MAX);
    parallel_chunks(x.len(), 8 * BLOCK, |range| {
        if found.load(Ordering::Relaxed) < range.start || is_finite(isa, &x[range.clone()]) {
            return;
        }
        if let Some(at) = x[range.clone()].iter().position(|x| !x.is_finite()) {
            found.fetch_min(range.start + at, Ordering::Relaxed);
        }
    });
    let at = found.into_inner();
    (at != usize::MAX).then_some(at)
}

/// Index of the first largest element; the first NaN where there is one.
#[inline(always)]
fn row_argmax_with<S: Simd>(s: S, x: &[f32]) -> usize {
    let (vectors, tail) = x.as_chunks::<LANES>();
    let mut acc = s.splat(f32::NEG_INFINITY);
    for v in vectors {
        acc = acc.select(acc.is_nan(), acc.max(s.load(v)));
    }
    let mut largest = acc.largest();
    for &x in tail {
        largest = if largest > x || largest.is_nan() { largest } else { x };
    }
    let nan = largest.is_nan();
    for (i, v) in vectors.iter().enumerate() {
        let v = s.load(v);
        let hit = if nan { v.is_nan() } else { v.eq(s.splat(largest)) };
        if hit.any() {
            return i * LANES + hit.bits().trailing_zeros() as usize;
        }
    }
    let start = vectors.len() * LANES;
    for (i, &x) in tail.iter().enumerate() {
        if x == largest || (nan && x.is_nan()) {
            return start + i;
        }
    }
    0
}

/// For a `[outer, n, inner]` tensor: along `n`, the index of the first largest element (the first NaN where there is
/// one), as a `[outer, inner]` tensor.
///
/// # Panics
/// If the lengths don't fit, or `n` is 0.
pub fn argmax(x: &[f32], [outer, n, inner]: [usize; 3], y: &mut [i64]) {
    assert!(n > 0, "argmax: nothing to choose from");
    assert_eq!(x.len(), outer * n * inner, "argmax: operand's length");
    assert_eq!(y.len(), outer * inner, "argmax: output's length");
    let isa = Isa::active();
    let out = Shared::new(y);
    parallel_chunks(outer, (BLOCK / (n * inner).max(1)).max(1), |rows| {
        for o in rows {
            // SAFETY: rows are disjoint.
            let y = unsafe { out.part(o * inner..(o + 1) * inner) };
            let x = &x[o * n * inner..(o + 1) * n * inner];
            if inner == 1 {
                y[0] = row_argmax(isa, x) as i64;
                continue;
            }
            y.fill(0);
            for k in 1..n {
                for (i, y) in y.iter_mut().enumerate() {
                    let (best, new) = (x[*y as usize * inner + i], x[k * inner + i]);
                    if new > best || (new.is_nan() && !best.is_nan()) {
                        *y = k as i64;
                    }
                }
            }
        }
    });
}
