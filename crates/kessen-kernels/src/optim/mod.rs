//! Optimiser updates: one pass over flat slices of parameters, gradients and state.
//!
//! Formulas are those of `torch.optim`. In the same pass the gradient is multiplied by a factor (global-norm
//! clipping, accumulation), clipped by value, and an exponential moving average of the weights is kept. State below
//! the normal range becomes 0, since denormals are slow and mean nothing there.

mod rule;

use crate::isa::Isa;
use crate::threads::{Shared, parallel_chunks};
use rule::Rule;

/// Elements of one task.
const GRAIN: usize = 16 * 1024;

/// What every optimiser does around its own rule.
#[derive(Debug)]
pub struct Common<'a> {
    /// What gradients are multiplied with first.
    pub grad_scale: f32,
    /// Largest absolute value of a gradient after that; infinity for none.
    pub clip: f32,
    /// The weights' moving average and its decay d: `average += (1 − d)·(p − average)`, with the new p.
    pub average: Option<(&'a mut [f32], f32)>,
}

impl Default for Common<'_> {
    fn default() -> Self {
        Common { grad_scale: 1.0, clip: f32::INFINITY, average: None }
    }
}

/// Stochastic gradient descent.
///
/// g ← g + weight_decay·p; v ← momentum·v + (1 − dampening)·g (v ← g in the first step); p ← p − lr·v, or with
/// Nesterov p − lr·(g + momentum·v).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f32,
    /// Share of the velocity that stays; 0 needs no state.
    pub momentum: f32,
    /// What is taken from the gradient on its way into the velocity.
    pub dampening: f32,
    /// L2 penalty.
    pub weight_decay: f32,
    /// Whether to look ahead along the velocity.
    pub nesterov: bool,
    /// Whether this is the first step.
    pub first: bool,
}

impl Sgd {
    /// One step; `velocity` may be empty where `momentum` is 0.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn step(&self, p: &mut [f32], g: &[f32], velocity: &mut [f32], common: Common<'_>) {
        if self.momentum == 0.0 {
            run(rule::Plain { lr: self.lr, decay: self.weight_decay }, p, g, [], common);
        } else {
            run(rule::Momentum(*self), p, g, [velocity], common);
        }
    }
}

/// Adam, and AdamW where the decay is decoupled.
///
/// g ← g + weight_decay·p (Adam) or p ← p·(1 − lr·weight_decay) (AdamW); m ← β₁·m + (1 − β₁)·g;
/// v ← β₂·v + (1 − β₂)·g²; p ← p − lr/(1 − β₁ᵗ)·m/(√v/√(1 − β₂ᵗ) + ε).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f32,
    /// β₁
    pub beta1: f32,
    /// β₂
    pub beta2: f32,
    /// ε
    pub eps: f32,
    /// Decay of the weights.
    pub weight_decay: f32,
    /// Whether the decay bypasses the moments (AdamW).
    pub decoupled: bool,
    /// Number of this step t, from 1.
    pub step: u64,
}

impl Adam {
    /// One step with the first moments `m` and the second moments `v`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn step(&self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], common: Common<'_>) {
        run(rule::Moments::new(self), p, g, [m, v], common);
    }
}

/// RMSprop.
///
/// g ← g + weight_decay·p; v ← α·v + (1 − α)·g²; centred: a ← α·a + (1 − α)·g and d = √(v − a²) + ε, else
/// d = √v + ε; with momentum b ← momentum·b + g/d and p ← p − lr·b, else p ← p − lr·g/d.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// Learning rate.
    pub lr: f32,
    /// α
    pub alpha: f32,
    /// ε
    pub eps: f32,
    /// L2 penalty.
    pub weight_decay: f32,
    /// Share of the update that stays.
    pub momentum: f32,
    /// Whether the mean gradient's square is taken from the mean square.
    pub centered: bool,
}

impl RmsProp {
    /// One step with the mean squares `v`, the mean gradients `a` (may be empty unless centred) and the momentum's
    /// buffer `b` (may be empty where `momentum` is 0).
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn step(
        &self,
        p: &mut [f32],
        g: &[f32],
        v: &mut [f32],
        a: &mut [f32],
        b: &mut [f32],
        common: Common<'_>,
    ) {
        match (self.centered, self.momentum != 0.0) {
            (false, false) => run(rule::Rms::<false, false>(*self), p, g, [v], common),
            (true, false) => run(rule::Rms::<true, false>(*self), p, g, [v, a], common),
            (false, true) => run(rule::Rms::<false, true>(*self), p, g, [v, b], common),
            (true, true) => run(rule::Rms::<true, true>(*self), p, g, [v, a, b], common),
        }
    }
}

/// What a task is told besides its slices.
#[derive(Clone, Copy)]
struct Around {
    grad_scale: f32,
    clip: f32,
    keep: f32,
}

/// Runs a rule over the slices in parallel.
fn run<R: Rule<N>, const N: usize>(
    rule: R,
    p: &mut [f32],
    g: &[f32],
    states: [&mut [f32]; N],
    common: Common<'_>,
) {
    let n = p.len();
    assert_eq!(g.len(), n, "optimiser: one gradient a parameter");
    assert!(states.iter().all(|s| s.len() == n), "optimiser: one state a parameter");
    let (average, keep) = match common.average {
        Some((average, decay)) => (Some(Shared::new(average)), 1.0 - decay),
        None => (None, 0.0),
    };
    assert!(average.as_ref().is_none_or(|a| a.len() == n), "optimiser: one average a parameter");
    let around = Around { grad_scale: common.grad_scale, clip: common.clip, keep };
    let isa = Isa::active();
    let (p, states) = (Shared::new(p), states.map(Shared::new));
    parallel_chunks(n, GRAIN, |range| {
        // SAFETY: chunks are disjoint.
        let (p, average) =
            unsafe { (p.part(range.clone()), average.as_ref().map(|a| a.part(range.clone()))) };
        // SAFETY: as above.
        let states = states.each_ref().map(|s| unsafe { s.part(range.clone()) });
        rule.apply(isa, around, p, &g[range], states, average);
    });
}

#[cfg(test)]
mod tests;
