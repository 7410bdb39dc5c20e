//! Mean over windows.
//!
//! y[n,c,p,q] = 1/d·Σ_r Σ_s x[n, c, p·stride + r − padding, …], zeros outside. d counts the window's positions
//! inside the padded input (`count_include_pad`) or inside the input itself.

use kessen_graph::ops::avg_pool::{AvgPool, AvgPoolGrad};

use super::array::Array;
use super::conv::input_position;

/// How many positions of the window of output position `p` count along one axis.
fn divisor(op: &AvgPool, axis: usize, p: usize, size: usize) -> usize {
    let (before, after) = (op.padding.before[axis], op.padding.after[axis]);
    let positions = (0..op.kernel[axis]).map(|r| p * op.stride[axis] + r);
    match op.count_include_pad {
        true => positions.filter(|&i| i < before + size + after).count(),
        false => positions.filter(|&i| i >= before && i < before + size).count(),
    }
}

/// Calls `f(output place, input place, 1/d)` for every input element of every window.
fn for_each_share(
    op: &AvgPool,
    x_shape: [usize; 4],
    y_shape: [usize; 4],
    mut f: impl FnMut([usize; 4], [usize; 4], f64),
) {
    let ([n_count, c_count, p_count, q_count], [_, _, height, width]) = (y_shape, x_shape);
    let axis = [0, 1].map(|a| [op.stride[a], op.padding.before[a], 1]);
    for n in 0..n_count {
        for c in 0..c_count {
            for p in 0..p_count {
                for q in 0..q_count {
                    let share = 1.0 / (divisor(op, 0, p, height) * divisor(op, 1, q, width)) as f64;
                    for r in 0..op.kernel[0] {
                        for s in 0..op.kernel[1] {
                            let i = input_position(p, r, axis[0], height);
                            let j = input_position(q, s, axis[1], width);
                            if let (Some(i), Some(j)) = (i, j) {
                                f([n, c, p, q], [n, c, i, j], share);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// y = the mean of each window.
pub(super) fn avg_pool(op: &AvgPool, x: &Array, y: &mut Array) {
    for_each_share(op, x.dims(), y.dims(), |at_y, at_x, share| y[at_y] += share * x[at_x]);
}

/// Each dy/d goes to all of its window's elements.
pub(super) fn avg_pool_grad(op: &AvgPoolGrad, dy: &Array, dx: &mut Array) {
    let AvgPoolGrad { kernel, stride, padding, ceil_mode, count_include_pad, .. } = op.clone();
    let pool = AvgPool { kernel, stride, padding, ceil_mode, count_include_pad };
    for_each_share(&pool, dx.dims(), dy.dims(), |at_y, at_x, share| dx[at_x] += share * dy[at_y]);
}
