//! Softmax and its logarithm over one dimension.

use kessen_graph::ops::softmax::{Softmax, SoftmaxGrad};

use super::array::Array;

/// The lines of `shape` along `dim`: calls `f` with a function from k to the place of the line's k-th element.
pub(super) fn for_each_line(shape: &[usize], dim: usize, mut f: impl FnMut(&dyn Fn(usize) -> usize)) {
    let outer: usize = shape[..dim].iter().product();
    let inner: usize = shape[dim + 1..].iter().product();
    for o in 0..outer {
        for i in 0..inner {
            f(&|k| (o * shape[dim] + k) * inner + i);
        }
    }
}

/// y_k = e^(x_k − m)/Σ_j e^(x_j − m), m the line's maximum; with `log` y_k = x_k − m − ln Σ_j e^(x_j − m).
pub(super) fn softmax(op: &Softmax, x: &Array, y: &mut Array) {
    let k_count = x.shape[op.dim];
    for_each_line(&x.shape, op.dim, |at| {
        let m = (0..k_count).map(|k| x.data[at(k)]).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..k_count).map(|k| (x.data[at(k)] - m).exp()).sum();
        for k in 0..k_count {
            let shifted = x.data[at(k)] - m;
            y.data[at(k)] = if op.log { shifted - sum.ln() } else { shifted.exp() / sum };
        }
    });
}

/// dx_k = y_k·(dy_k − Σ_j dy_j·y_j); with `log` dx_k = dy_k − e^(y_k)·Σ_j dy_j.
pub(super) fn softmax_grad(op: &SoftmaxGrad, dy: &Array, y: &Array, dx: &mut Array) {
    let k_count = y.shape[op.dim];
    for_each_line(&y.shape, op.dim, |at| {
        let weight = |k: usize| if op.log { 1.0 } else { y.data[at(k)] };
        let sum: f64 = (0..k_count).map(|k| dy.data[at(k)] * weight(k)).sum();
        for k in 0..k_count {
            let (y, dy) = (y.data[at(k)], dy.data[at(k)]);
            dx.data[at(k)] = if op.log { dy - y.exp() * sum } else { y * (dy - sum) };
        }
    });
}
