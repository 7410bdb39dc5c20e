//! Position of the largest element.

use kessen_graph::ops::argmax::ArgMax;

use super::array::Array;
use super::softmax::for_each_line;

/// The first k with the largest x_k of each line; a NaN is the largest.
pub(super) fn argmax(op: &ArgMax, x: &Array, y: &mut Array<i64>) {
    let mut line = 0;
    for_each_line(&x.shape, op.dim, |at| {
        let mut best = 0;
        for k in 1..x.shape[op.dim] {
            let (candidate, largest) = (x.data[at(k)], x.data[at(best)]);
            if candidate > largest || (candidate.is_nan() && !largest.is_nan()) {
                best = k;
            }
        }
        y.data[line] = best as i64;
        line += 1;
    });
}
