//! Values held between two bounds.

use kessen_graph::ops::clamp::{Clamp, ClampGrad};

use super::array::Array;

/// y = min(max(x, min), max).
pub(super) fn clamp(op: &Clamp, x: &Array, y: &mut Array) {
    for i in 0..x.data.len() {
        y.data[i] = x.data[i].clamp(op.min, op.max);
    }
}

/// dx = dy where min ≤ x ≤ max, else 0.
pub(super) fn clamp_grad(op: &ClampGrad, dy: &Array, x: &Array, dx: &mut Array) {
    for i in 0..x.data.len() {
        if op.min <= x.data[i] && x.data[i] <= op.max {
            dx.data[i] = dy.data[i];
        }
    }
}
