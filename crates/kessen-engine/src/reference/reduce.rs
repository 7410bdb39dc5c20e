//! Reductions over dimensions.

use kessen_graph::ops::reduce::{Reduce, ReduceKind};

use super::array::{Array, broadcast_source};

/// Reduces the dimensions that `op` lists: each element of x goes to the element of y at the same place in the
/// dimensions that are kept.
pub(super) fn reduce(op: &Reduce, x: &Array, y: &mut Array) {
    let reduced = op.reduced_dims(x.shape.len());
    let kept: Vec<usize> =
        (0..x.shape.len()).map(|i| if reduced.contains(&i) { 1 } else { x.shape[i] }).collect();
    let count: usize = reduced.iter().map(|&i| x.shape[i]).product();
    let (start, combine): (f64, fn(f64, f64) -> f64) = match op.kind {
        ReduceKind::Sum | ReduceKind::Mean => (0.0, |a, x| a + x),
        ReduceKind::Max => (f64::NEG_INFINITY, |a, x| if x > a || x.is_nan() { x } else { a }),
        ReduceKind::Min => (f64::INFINITY, |a, x| if x < a || x.is_nan() { x } else { a }),
        ReduceKind::Prod => (1.0, |a, x| a * x),
    };
    y.data.fill(start);
    for i in 0..x.data.len() {
        let target = &mut y.data[broadcast_source(i, &x.shape, &kept)];
        *target = combine(*target, x.data[i]);
    }
    if op.kind == ReduceKind::Mean {
        y.data.iter_mut().for_each(|v| *v /= count as f64);
    }
}

/// y = Σ x over the dimensions along which y would be repeated to x's shape.
pub(super) fn sum_to(x: &Array, y: &mut Array) {
    for i in 0..x.data.len() {
        y.data[broadcast_source(i, &x.shape, &y.shape)] += x.data[i];
    }
}
