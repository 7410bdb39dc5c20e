//! One plane of the blocked layout: a place is one vector.

use super::Pool;
use super::geometry::Taps;
use crate::simd::{Float, LANES, Mask, Simd, kernel};

kernel! {
    pub(super) fn max(p: &Pool, x: &[f32], y: &mut [f32]) = max_with;
    pub(super) fn max_backward(p: &Pool, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) = max_backward_with;
    pub(super) fn average(p: &Pool, x: &[f32], y: &mut [f32]) = average_with;
    pub(super) fn average_backward(p: &Pool, dy: &[f32], dx: &mut [f32]) = average_backward_with;
}

/// Runs `$body` for each output place with its number and the taps of both axes.
macro_rules! places {
    ($p:ident, |$o:ident, $rows:ident, $columns:ident| $body:block) => {
        let mut $o = 0;
        for oh in 0..$p.rows.output() {
            let $rows = $p.rows.taps(oh);
            for ow in 0..$p.columns.output() {
                let $columns = $p.columns.taps(ow);
                $body
                $o += 1;
            }
        }
    };
}

/// Runs `$body` for each input place of a window, in row-major order.
macro_rules! window {
    ($p:ident, $rows:ident, $columns:ident, |$i:ident| $body:block) => {
        let (rows, columns): (Taps, Taps) = ($rows, $columns);
        for r in 0..rows.count {
            let mut $i = (rows.first + r * rows.step) * $p.columns.input() + columns.first;
            for _ in 0..columns.count {
                $body
                $i += columns.step;
            }
        }
    };
}

#[inline(always)]
fn max_with<S: Simd>(s: S, p: &Pool, x: &[f32], y: &mut [f32]) {
    let (x, y) = (x.as_chunks::<LANES>().0, y.as_chunks_mut::<LANES>().0);
    let lowest = s.splat(f32::NEG_INFINITY);
    places!(p, |o, rows, columns| {
        let mut acc = lowest;
        let mut nan = lowest.is_nan();
        window!(p, rows, columns, |i| {
            let v = s.load(&x[i]);
            acc = acc.max(v);
            nan = nan.or(v.is_nan());
        });
        s.splat(f32::NAN).select(nan, acc).store(&mut y[o]);
    });
}

#[inline(always)]
fn max_backward_with<S: Simd>(s: S, p: &Pool, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let (x, dx) = (x.as_chunks::<LANES>().0, dx.as_chunks_mut::<LANES>().0);
    let (y, dy) = (y.as_chunks::<LANES>().0, dy.as_chunks::<LANES>().0);
    let zero = s.splat(0.0);
    places!(p, |o, rows, columns| {
        let (best, mut left) = (s.load(&y[o]), s.load(&dy[o]));
        let best_nan = best.is_nan();
        window!(p, rows, columns, |i| {
            let v = s.load(&x[i]);
            let hit = v.eq(best).or(v.is_nan().and(best_nan));
            // What is left becomes 0 at the first hit, so later ones add nothing.
            (s.load(&dx[i]) + left.select(hit, zero)).store(&mut dx[i]);
            left = zero.select(hit, left);
        });
    });
}

#[inline(always)]
fn average_with<S: Simd>(s: S, p: &Pool, x: &[f32], y: &mut [f32]) {
    let (x, y) = (x.as_chunks::<LANES>().0, y.as_chunks_mut::<LANES>().0);
    places!(p, |o, rows, columns| {
        let mut acc = s.splat(0.0);
        window!(p, rows, columns, |i| {
            acc = acc + s.load(&x[i]);
        });
        (acc * s.splat(p.share(rows, columns))).store(&mut y[o]);
    });
}

#[inline(always)]
fn average_backward_with<S: Simd>(s: S, p: &Pool, dy: &[f32], dx: &mut [f32]) {
    let (dy, dx) = (dy.as_chunks::<LANES>().0, dx.as_chunks_mut::<LANES>().0);
    places!(p, |o, rows, columns| {
        let d = s.load(&dy[o]) * s.splat(p.share(rows, columns));
        window!(p, rows, columns, |i| {
            (s.load(&dx[i]) + d).store(&mut dx[i]);
        });
    });
}
