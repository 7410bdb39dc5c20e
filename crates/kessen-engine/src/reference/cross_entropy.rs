//! Cross-entropy of class labels with the softmax of logits.
//!
//! `N` samples, `K` classes, `S` positions of a sample. For each target t that is not ignored, p the softmax of its
//! logits, w class weights, ε label smoothing: l = (1 − ε)·w_t·(−ln p_t) + ε/K·Σ_k w_k·(−ln p_k). `sum` gives Σ l,
//! `mean` Σ l/W with W = Σ w_t.

use kessen_graph::ops::cross_entropy::{CrossEntropy, CrossEntropyGrad};
use kessen_graph::ops::loss::Reduction;

use super::array::Array;
use super::kernel::Operands;
use crate::Result;

/// What forward and backward share.
struct Samples<'a> {
    logits: &'a Array,
    weights: Option<&'a Array>,
    /// Place of the sample's logit of class 0, distance to the next class, target; without ignored samples.
    targets: Vec<(usize, usize, usize)>,
}

impl<'a> Samples<'a> {
    fn new(
        o: &Operands<'_>,
        logits: &'a Array,
        target: &Array<i64>,
        weights: Option<&'a Array>,
        ignore_index: Option<i64>,
    ) -> Result<Self> {
        let (k_count, s_count) = (logits.shape[1], logits.shape[2..].iter().product::<usize>());
        let mut targets = Vec::new();
        for (position, &t) in target.data.iter().enumerate() {
            if Some(t) == ignore_index {
                continue;
            }
            let t = o.index(t, position, k_count)?;
            let (n, s) = (position / s_count, position % s_count);
            targets.push((n * k_count * s_count + s, s_count, t));
        }
        Ok(Self { logits, weights, targets })
    }

    fn weight(&self, k: usize) -> f64 {
        self.weights.map_or(1.0, |w| w[[k]])
    }

    /// W.
    fn total_weight(&self) -> f64 {
        self.targets.iter().map(|&(_, _, t)| self.weight(t)).sum()
    }

    /// ln p_k of a sample for all k.
    fn log_softmax(&self, start: usize, step: usize) -> Vec<f64> {
        let x: Vec<f64> = (0..self.logits.shape[1]).map(|k| self.logits.data[start + k * step]).collect();
        let m = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = x.iter().map(|x| (x - m).exp()).sum::<f64>().ln();
        x.into_iter().map(|x| x - m - log_sum).collect()
    }
}

/// The loss, a scalar.
pub(super) fn cross_entropy(
    op: &CrossEntropy,
    o: &Operands<'_>,
    (logits, target, weights): (&Array, &Array<i64>, Option<&Array>),
    loss: &mut Array,
) -> Result<()> {
    let samples = Samples::new(o, logits, target, weights, op.ignore_index)?;
    let (smoothing, k_count) = (op.label_smoothing, logits.shape[1]);
    let mut sum = 0.0;
    for &(start, step, t) in &samples.targets {
        let log_p = samples.log_softmax(start, step);
        sum -= (1.0 - smoothing) * samples.weight(t) * log_p[t];
        if smoothing > 0.0 {
            let all: f64 = (0..k_count).map(|k| samples.weight(k) * log_p[k]).sum();
            sum -= smoothing / k_count as f64 * all;
        }
    }
    loss.data[0] = match op.reduction {
        Reduction::Sum => sum,
        Reduction::Mean => sum / samples.total_weight(),
    };
    Ok(())
}

/// dlogits_k = s·((1 − ε)·w_t·(p_k − [k = t]) + ε/K·(p_k·Σ_j w_j − w_k)), s = dloss or dloss/W; 0 where ignored.
pub(super) fn cross_entropy_grad(
    op: &CrossEntropyGrad,
    o: &Operands<'_>,
    dloss: &Array,
    (logits, target, weights): (&Array, &Array<i64>, Option<&Array>),
    dlogits: &mut Array,
) -> Result<()> {
    let samples = Samples::new(o, logits, target, weights, op.ignore_index)?;
    let (smoothing, k_count) = (op.label_smoothing, logits.shape[1]);
    let all_weights: f64 = (0..k_count).map(|k| samples.weight(k)).sum();
    let scale = match op.reduction {
        Reduction::Sum => dloss.data[0],
        Reduction::Mean => dloss.data[0] / samples.total_weight(),
    };
    for &(start, step, t) in &samples.targets {
        let log_p = samples.log_softmax(start, step);
        for k in 0..k_count {
            let (p, hit) = (log_p[k].exp(), f64::from(u8::from(k == t)));
            let target_part = (1.0 - smoothing) * samples.weight(t) * (p - hit);
            let spread_part = smoothing / k_count as f64 * (p * all_weights - samples.weight(k));
            dlogits.data[start + k * step] = scale * (target_part + spread_part);
        }
    }
    Ok(())
}
