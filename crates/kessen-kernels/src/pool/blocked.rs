//! One plane of the blocked layout: a place is one vector.
//!
//! Full windows of 2×2 and 3×3 have loops of constant length; all others share one general form.

use super::Pool;
use super::geometry::Taps;
use crate::simd::{Float, LANES, Mask, Simd, kernel};

kernel! {
    pub(super) fn max(p: &Pool, x: &[f32], y: &mut [f32]) = max_with;
    pub(super) fn max_backward(p: &Pool, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) = max_backward_with;
    pub(super) fn average(p: &Pool, x: &[f32], y: &mut [f32]) = average_with;
    pub(super) fn average_backward(p: &Pool, dy: &[f32], dx: &mut [f32]) = average_backward_with;
}

/// A place of sixteen channels.
type Place = [f32; LANES];

/// Calls `$f::<S, K>` with the kernel's size as a constant where there is a special form, else with 0.
macro_rules! by_size {
    ($p:ident, $f:ident($($a:expr),*)) => {
        match ($p.rows.kernel().0, $p.columns.kernel().0) {
            (2, 2) => $f::<S, 2>($($a),*),
            (3, 3) => $f::<S, 3>($($a),*),
            _ => $f::<S, 0>($($a),*),
        }
    };
}

/// For each output place number `$o`: `$full` with the first input place of a full window, or `$clipped` with taps.
macro_rules! places {
    ($p:ident, |$o:ident| full |$at:ident| $full:block clipped |$rows:ident, $columns:ident| $clipped:block) => {
        let (full_rows, full_columns) = ($p.rows.full(), $p.columns.full());
        let (width, stride, before) = ($p.columns.input(), $p.columns.stride(), $p.columns.before());
        let mut $o = 0;
        for oh in 0..$p.rows.output() {
            let $rows = $p.rows.taps(oh);
            let inside = full_rows.contains(&oh);
            for ow in 0..$p.columns.output() {
                if inside && full_columns.contains(&ow) {
                    let $at = $rows.first * width + ow * stride - before;
                    $full
                } else {
                    let $columns = $p.columns.taps(ow);
                    $clipped
                }
                $o += 1;
            }
        }
    };
}

/// Runs `$body` for each input place of a clipped window, in row-major order.
macro_rules! clipped {
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

/// Runs `$body` for each place of a full window from `$at` on; `K` = 0 reads the size from the descriptor.
macro_rules! full {
    ($p:ident, $k:ident, $x:ident, $at:ident, |$v:ident| $body:block) => {
        let (rows, columns) = match $k {
            0 => ($p.rows.kernel().0, $p.columns.kernel().0),
            k => (k, k),
        };
        for r in 0..rows {
            let start = $at + r * $p.columns.input();
            for $v in &$x[start..start + columns] $body
        }
    };
    ($p:ident, $k:ident, mut $x:ident, $at:ident, |$i:ident, $v:ident| $body:block) => {
        let (rows, columns) = match $k {
            0 => ($p.rows.kernel().0, $p.columns.kernel().0),
            k => (k, k),
        };
        for r in 0..rows {
            let start = $at + r * $p.columns.input();
            for ($i, $v) in $x[start..start + columns].iter_mut().enumerate() {
                let $i = start + $i;
                $body
            }
        }
    };
}

#[inline(always)]
fn max_with<S: Simd>(s: S, p: &Pool, x: &[f32], y: &mut [f32]) {
    by_size!(p, max_sized(s, p, x.as_chunks().0, y.as_chunks_mut().0))
}

#[inline(always)]
fn max_sized<S: Simd, const K: usize>(s: S, p: &Pool, x: &[Place], y: &mut [Place]) {
    let lowest = s.splat(f32::NEG_INFINITY);
    places!(p, |o| full |at| {
        let (mut acc, mut sum) = (lowest, s.splat(0.0));
        full!(p, K, x, at, |v| {
            let v = s.load(v);
            acc = acc.max(v);
            sum = sum + v;
        });
        // A NaN makes the sum one; so do opposite infinities, for which this changes nothing.
        if sum.is_nan().any() {
            let mut nan = lowest.is_nan();
            full!(p, K, x, at, |v| {
                nan = nan.or(s.load(v).is_nan());
            });
            acc = s.splat(f32::NAN).select(nan, acc);
        }
        acc.store(&mut y[o]);
    } clipped |rows, columns| {
        let (mut acc, mut nan) = (lowest, lowest.is_nan());
        clipped!(p, rows, columns, |i| {
            let v = s.load(&x[i]);
            acc = acc.max(v);
            nan = nan.or(v.is_nan());
        });
        s.splat(f32::NAN).select(nan, acc).store(&mut y[o]);
    });
}

#[inline(always)]
fn max_backward_with<S: Simd>(s: S, p: &Pool, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let (x, y, dy, dx) = (x.as_chunks().0, y.as_chunks().0, dy.as_chunks().0, dx.as_chunks_mut().0);
    by_size!(p, max_backward_sized(s, p, x, y, dy, dx))
}

#[inline(always)]
fn max_backward_sized<S: Simd, const K: usize>(
    s: S,
    p: &Pool,
    x: &[Place],
    y: &[Place],
    dy: &[Place],
    dx: &mut [Place],
) {
    let zero = s.splat(0.0);
    let once = p.rows.disjoint() && p.columns.disjoint();
    places!(p, |o| full |at| {
        // What is left becomes 0 at the first hit, so later ones add nothing.
        let (best, mut left) = (s.load(&y[o]), s.load(&dy[o]));
        let best_nan = best.is_nan();
        if best_nan.any() {
            full!(p, K, mut dx, at, |i, d| {
                let v = s.load(&x[i]);
                let hit = v.eq(best).or(v.is_nan().and(best_nan));
                let share = left.select(hit, zero);
                if once { share } else { s.load(d) + share }.store(d);
                left = zero.select(hit, left);
            });
        } else if once {
            full!(p, K, mut dx, at, |i, d| {
                let hit = s.load(&x[i]).eq(best);
                left.select(hit, zero).store(d);
                left = zero.select(hit, left);
            });
        } else {
            full!(p, K, mut dx, at, |i, d| {
                let hit = s.load(&x[i]).eq(best);
                (s.load(d) + left.select(hit, zero)).store(d);
                left = zero.select(hit, left);
            });
        }
    } clipped |rows, columns| {
        let (best, mut left) = (s.load(&y[o]), s.load(&dy[o]));
        let best_nan = best.is_nan();
        clipped!(p, rows, columns, |i| {
            let v = s.load(&x[i]);
            let hit = v.eq(best).or(v.is_nan().and(best_nan));
            (s.load(&dx[i]) + left.select(hit, zero)).store(&mut dx[i]);
            left = zero.select(hit, left);
        });
    });
}

#[inline(always)]
fn average_with<S: Simd>(s: S, p: &Pool, x: &[f32], y: &mut [f32]) {
    by_size!(p, average_sized(s, p, x.as_chunks().0, y.as_chunks_mut().0))
}

#[inline(always)]
fn average_sized<S: Simd, const K: usize>(s: S, p: &Pool, x: &[Place], y: &mut [Place]) {
    let share = s.splat(p.full_share());
    places!(p, |o| full |at| {
        let mut acc = s.splat(0.0);
        full!(p, K, x, at, |v| {
            acc = acc + s.load(v);
        });
        (acc * share).store(&mut y[o]);
    } clipped |rows, columns| {
        let mut acc = s.splat(0.0);
        clipped!(p, rows, columns, |i| {
            acc = acc + s.load(&x[i]);
        });
        (acc * s.splat(p.share(rows, columns))).store(&mut y[o]);
    });
}

#[inline(always)]
fn average_backward_with<S: Simd>(s: S, p: &Pool, dy: &[f32], dx: &mut [f32]) {
    by_size!(p, average_backward_sized(s, p, dy.as_chunks().0, dx.as_chunks_mut().0))
}

#[inline(always)]
fn average_backward_sized<S: Simd, const K: usize>(s: S, p: &Pool, dy: &[Place], dx: &mut [Place]) {
    let share = s.splat(p.full_share());
    places!(p, |o| full |at| {
        let d = s.load(&dy[o]) * share;
        full!(p, K, mut dx, at, |i, v| {
            debug_assert!(i >= at);
            (s.load(v) + d).store(v);
        });
    } clipped |rows, columns| {
        let d = s.load(&dy[o]) * s.splat(p.share(rows, columns));
        clipped!(p, rows, columns, |i| {
            (s.load(&dx[i]) + d).store(&mut dx[i]);
        });
    });
}
