//! The same elements under another shape, and repeated to a larger one.

use super::array::{Array, broadcast_source};

/// No element moves.
pub(super) fn reshape<T: Copy>(x: &Array<T>, y: &mut Array<T>) {
    y.data.copy_from_slice(&x.data);
}

/// Repeats dimensions of 1 and missing leading ones.
pub(super) fn broadcast<T: Copy>(x: &Array<T>, y: &mut Array<T>) {
    for i in 0..y.data.len() {
        y.data[i] = x.data[broadcast_source(i, &y.shape, &x.shape)];
    }
}
