//! Binary cross-entropy of targets in 0 … 1 with the sigmoid of logits.
//!
//! For logit x, target y, weight w of the positive class:
//! l = (1 − y)·x + (1 + (w − 1)·y)·(ln(1 + e^−|x|) + max(−x, 0)), which is −(w·y·ln σ(x) + (1 − y)·ln(1 − σ(x))).

use kessen_graph::ops::bce::{BceWithLogits, BceWithLogitsGrad};
use kessen_graph::ops::loss::Reduction;

use super::array::{Array, broadcast_source};
use super::unary::sigmoid;

/// w of element `i` of x.
fn positive_weight(weight: Option<&Array>, x: &Array, i: usize) -> f64 {
    weight.map_or(1.0, |w| w.data[broadcast_source(i, &x.shape, &w.shape)])
}

/// The loss, a scalar.
pub(super) fn bce_with_logits(
    op: &BceWithLogits,
    logits: &Array,
    target: &Array,
    weight: Option<&Array>,
    loss: &mut Array,
) {
    let mut sum = 0.0;
    for i in 0..logits.data.len() {
        let (x, y, w) = (logits.data[i], target.data[i], positive_weight(weight, logits, i));
        sum += (1.0 - y) * x + (1.0 + (w - 1.0) * y) * ((-x.abs()).exp().ln_1p() + (-x).max(0.0));
    }
    loss.data[0] = match op.reduction {
        Reduction::Sum => sum,
        Reduction::Mean => sum / logits.data.len() as f64,
    };
}

/// dlogits = s·((1 − y) − (1 + (w − 1)·y)·σ(−x)), s = dloss or dloss/count.
pub(super) fn bce_with_logits_grad(
    op: &BceWithLogitsGrad,
    [dloss, logits, target]: [&Array; 3],
    weight: Option<&Array>,
    dlogits: &mut Array,
) {
    let scale = match op.reduction {
        Reduction::Sum => dloss.data[0],
        Reduction::Mean => dloss.data[0] / logits.data.len() as f64,
    };
    for i in 0..logits.data.len() {
        let (x, y, w) = (logits.data[i], target.data[i], positive_weight(weight, logits, i));
        dlogits.data[i] = scale * ((1.0 - y) - (1.0 + (w - 1.0) * y) * sigmoid(-x));
    }
}
