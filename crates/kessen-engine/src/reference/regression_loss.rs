//! Losses of real-valued predictions, by the error e = prediction − target of each element.

use kessen_graph::ops::loss::Reduction;
use kessen_graph::ops::regression_loss::{RegressionKind, RegressionLoss, RegressionLossGrad};

use super::array::Array;

/// The loss, a scalar.
pub(super) fn regression_loss(op: &RegressionLoss, prediction: &Array, target: &Array, loss: &mut Array) {
    let mut sum = 0.0;
    for i in 0..prediction.data.len() {
        let e = prediction.data[i] - target.data[i];
        sum += match op.kind {
            RegressionKind::Mse => e * e,
            RegressionKind::Mae => e.abs(),
            RegressionKind::Huber if e.abs() <= op.delta => e * e / 2.0,
            RegressionKind::Huber => op.delta * (e.abs() - op.delta / 2.0),
        };
    }
    loss.data[0] = match op.reduction {
        Reduction::Sum => sum,
        Reduction::Mean => sum / prediction.data.len() as f64,
    };
}

/// dprediction = s·f, s = dloss or dloss/count, f the derivative by e.
pub(super) fn regression_loss_grad(
    op: &RegressionLossGrad,
    [dloss, prediction, target]: [&Array; 3],
    dprediction: &mut Array,
) {
    let scale = match op.reduction {
        Reduction::Sum => dloss.data[0],
        Reduction::Mean => dloss.data[0] / prediction.data.len() as f64,
    };
    for i in 0..prediction.data.len() {
        let e = prediction.data[i] - target.data[i];
        dprediction.data[i] = scale
            * match op.kind {
                RegressionKind::Mse => 2.0 * e,
                RegressionKind::Mae if e == 0.0 => 0.0,
                RegressionKind::Mae => e.signum(),
                RegressionKind::Huber => e.clamp(-op.delta, op.delta),
            };
    }
}
