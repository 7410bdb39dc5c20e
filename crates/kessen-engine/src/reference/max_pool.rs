//! Maximum over windows.
//!
//! y[n,c,p,q] = max over r, s of x[n, c, p·stride + r·dilation − padding, …]; positions outside the input don't
//! count. Of equal elements the first counts; a NaN is the maximum.

use kessen_graph::ops::max_pool::{MaxPool, MaxPoolGrad};

use super::array::Array;
use super::conv::input_position;

/// The place of the maximum of the window of output position (p, q) in channel (n, c) of x.
fn maximum_at(op: &MaxPool, x: &Array, [n, c, p, q]: [usize; 4]) -> Option<[usize; 4]> {
    let [_, _, height, width] = x.dims();
    let axis = [0, 1].map(|a| [op.stride[a], op.padding.before[a], op.dilation[a]]);
    let mut best: Option<[usize; 4]> = None;
    for r in 0..op.kernel[0] {
        for s in 0..op.kernel[1] {
            let i = input_position(p, r, axis[0], height);
            let j = input_position(q, s, axis[1], width);
            let (Some(i), Some(j)) = (i, j) else { continue };
            let at = [n, c, i, j];
            if best.is_none_or(|b| x[at] > x[b] || (x[at].is_nan() && !x[b].is_nan())) {
                best = Some(at);
            }
        }
    }
    best
}

/// Calls `f(output place, place of its maximum in x)`.
fn for_each_maximum(op: &MaxPool, x: &Array, y_shape: [usize; 4], mut f: impl FnMut([usize; 4], [usize; 4])) {
    let [n_count, c_count, p_count, q_count] = y_shape;
    for n in 0..n_count {
        for c in 0..c_count {
            for p in 0..p_count {
                for q in 0..q_count {
                    if let Some(at) = maximum_at(op, x, [n, c, p, q]) {
                        f([n, c, p, q], at);
                    }
                }
            }
        }
    }
}

/// y = the maximum of each window.
pub(super) fn max_pool(op: &MaxPool, x: &Array, y: &mut Array) {
    for_each_maximum(op, x, y.dims(), |at_y, at_x| y[at_y] = x[at_x]);
}

/// Each dy goes to its window's maximum.
pub(super) fn max_pool_grad(op: &MaxPoolGrad, dy: &Array, x: &Array, dx: &mut Array) {
    let MaxPoolGrad { kernel, stride, padding, dilation, ceil_mode } = op.clone();
    let pool = MaxPool { kernel, stride, padding, dilation, ceil_mode };
    for_each_maximum(&pool, x, dy.dims(), |at_y, at_x| dx[at_x] += dy[at_y]);
}
