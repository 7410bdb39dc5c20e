//! Pooling to a given output size.
//!
//! Output position p of Q sees the input positions ⌊p·J/Q⌋ … ⌈(p+1)·J/Q⌉ − 1, and likewise along the width.

use kessen_graph::ops::adaptive_pool::{AdaptivePool, AdaptivePoolGrad, PoolKind};

use super::array::Array;

/// Calls `f(output place, start and end of its window along height, and along width)`.
fn for_each_window(
    x_shape: [usize; 4],
    y_shape: [usize; 4],
    mut f: impl FnMut([usize; 4], (usize, usize), (usize, usize)),
) {
    let ([n_count, c_count, p_count, q_count], [_, _, height, width]) = (y_shape, x_shape);
    for n in 0..n_count {
        for c in 0..c_count {
            for p in 0..p_count {
                for q in 0..q_count {
                    let rows = AdaptivePool::window(p, height, p_count);
                    let columns = AdaptivePool::window(q, width, q_count);
                    f([n, c, p, q], rows, columns);
                }
            }
        }
    }
}

/// The place of the window's maximum; of equal elements the first, and a NaN before all.
fn maximum_at(
    x: &Array,
    [n, c, ..]: [usize; 4],
    rows: (usize, usize),
    columns: (usize, usize),
) -> [usize; 4] {
    let mut best = [n, c, rows.0, columns.0];
    for i in rows.0..rows.1 {
        for j in columns.0..columns.1 {
            let at = [n, c, i, j];
            if x[at] > x[best] || (x[at].is_nan() && !x[best].is_nan()) {
                best = at;
            }
        }
    }
    best
}

/// y = the mean or maximum of each window.
pub(super) fn adaptive_pool(op: &AdaptivePool, x: &Array, y: &mut Array) {
    for_each_window(x.dims(), y.dims(), |at, rows, columns| match op.kind {
        PoolKind::Avg => {
            let count = (rows.1 - rows.0) * (columns.1 - columns.0);
            let mut sum = 0.0;
            for i in rows.0..rows.1 {
                for j in columns.0..columns.1 {
                    sum += x[[at[0], at[1], i, j]];
                }
            }
            y[at] = sum / count as f64;
        }
        PoolKind::Max => y[at] = x[maximum_at(x, at, rows, columns)],
    });
}

/// dy/count to all elements of the window, or dy to its maximum; `x` is there for the maximum.
pub(super) fn adaptive_pool_grad(op: &AdaptivePoolGrad, dy: &Array, x: Option<&Array>, dx: &mut Array) {
    for_each_window(dx.dims(), dy.dims(), |at, rows, columns| match (op.kind, x) {
        (PoolKind::Max, Some(x)) => dx[maximum_at(x, at, rows, columns)] += dy[at],
        _ => {
            let count = (rows.1 - rows.0) * (columns.1 - columns.0);
            for i in rows.0..rows.1 {
                for j in columns.0..columns.1 {
                    dx[[at[0], at[1], i, j]] += dy[at] / count as f64;
                }
            }
        }
    });
}
