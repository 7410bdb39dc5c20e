//! Optimiser updates: one pass over flat slices of parameters, gradients and state.
//!
//! Formulas are those of `torch.optim`. In the same pass the gradient is multiplied by a factor (global-norm
//! clipping, accumulation), clipped by value, and an exponential moving average of the weights is kept. State below
//! the normal range becomes 0, since denormals are slow and mean nothing there.
//!
//! Vectors of parameters whose gradient and state are all 0 are not read or written where the rule leaves them as they
//! are: the words of a vocabulary that training has not met cost a look at their state.

mod rule;

use crate::isa::Isa;
use crate::prefetch::prefetch;
use crate::threads::{Shared, parallel_chunks};
use rule::{Moments, Momentum, Plain, Rms, Rule};
use std::ops::Range;

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
        self.pieces(p, velocity, common).run(g);
    }

    /// The same step for a gradient that comes in pieces.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn pieces<'a>(&self, p: &'a mut [f32], velocity: &'a mut [f32], common: Common<'a>) -> Pieces<'a> {
        if self.momentum == 0.0 {
            let rule = AnyRule::Plain(Plain { lr: self.lr, decay: self.weight_decay });
            Pieces::new(rule, p, [&mut [], &mut [], &mut []], 0, common)
        } else {
            Pieces::new(AnyRule::Momentum(Momentum(*self)), p, [velocity, &mut [], &mut []], 1, common)
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
        self.pieces(p, m, v, common).run(g);
    }

    /// The same step for a gradient that comes in pieces.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn pieces<'a>(
        &self,
        p: &'a mut [f32],
        m: &'a mut [f32],
        v: &'a mut [f32],
        common: Common<'a>,
    ) -> Pieces<'a> {
        Pieces::new(AnyRule::Moments(Moments::new(self)), p, [m, v, &mut []], 2, common)
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
        self.pieces(p, v, a, b, common).run(g);
    }

    /// The same step for a gradient that comes in pieces.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn pieces<'a>(
        &self,
        p: &'a mut [f32],
        v: &'a mut [f32],
        a: &'a mut [f32],
        b: &'a mut [f32],
        common: Common<'a>,
    ) -> Pieces<'a> {
        match (self.centered, self.momentum != 0.0) {
            (false, false) => Pieces::new(AnyRule::Rms(Rms(*self)), p, [v, &mut [], &mut []], 1, common),
            (true, false) => Pieces::new(AnyRule::RmsCentred(Rms(*self)), p, [v, a, &mut []], 2, common),
            (false, true) => Pieces::new(AnyRule::RmsMomentum(Rms(*self)), p, [v, b, &mut []], 2, common),
            (true, true) => Pieces::new(AnyRule::RmsBoth(Rms(*self)), p, [v, a, b], 3, common),
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

impl Around {
    /// Whether a gradient of 0 stays 0.
    fn rests(self) -> bool {
        self.grad_scale.is_finite() && self.clip >= 0.0
    }
}

/// Every rule with the number of its states.
#[derive(Clone, Copy)]
enum AnyRule {
    Plain(Plain),
    Momentum(Momentum),
    Moments(Moments),
    Rms(Rms<false, false>),
    RmsCentred(Rms<true, false>),
    RmsMomentum(Rms<false, true>),
    RmsBoth(Rms<true, true>),
}

/// A step under way: a parameter with its state, changed piece by piece as the gradient becomes known. So a product
/// that computes a gradient can hand each tile on while it lies in cache, and no gradient is ever stored as a whole.
pub struct Pieces<'a> {
    rule: AnyRule,
    around: Around,
    isa: Isa,
    p: Shared<'a, f32>,
    states: [Shared<'a, f32>; 3],
    average: Option<Shared<'a, f32>>,
}

impl<'a> Pieces<'a> {
    /// A step whose rule has `used` states, the first ones of `states`.
    fn new(
        rule: AnyRule,
        p: &'a mut [f32],
        states: [&'a mut [f32]; 3],
        used: usize,
        common: Common<'a>,
    ) -> Self {
        let n = p.len();
        assert!(states[..used].iter().all(|s| s.len() == n), "optimiser: one state a parameter");
        let (average, keep) = match common.average {
            Some((average, decay)) => (Some(Shared::new(average)), 1.0 - decay),
            None => (None, 0.0),
        };
        assert!(average.as_ref().is_none_or(|a| a.len() == n), "optimiser: one average a parameter");
        let around = Around { grad_scale: common.grad_scale, clip: common.clip, keep };
        Self { rule, around, isa: Isa::active(), p: Shared::new(p), states: states.map(Shared::new), average }
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.p.len()
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.p.is_empty()
    }

    /// Whether a gradient of 0 leaves a (finite) parameter as it is, so that such pieces may be left out.
    pub fn skips_zeros(&self) -> bool {
        match self.rule {
            AnyRule::Plain(rule) => rule.rests() && self.around.rests() && self.average.is_none(),
            _ => false,
        }
    }

    /// Where the parameters, their states and averages begin, for those who ask memory for them.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = *const f32> + Clone + '_ {
        let states = self.states.iter().chain(&self.average).filter(|s| s.len() == self.len());
        std::iter::once(&self.p).chain(states).map(|s| s.as_ptr().cast_const())
    }

    /// Asks for `len` parameters from `at` on: in front of an update that most of the parameters beside them are left out of.
    pub(crate) fn ask(&self, at: usize, len: usize) {
        prefetch(self.p.as_ptr().wrapping_add(at), len);
    }

    /// Updates all parameters, in parallel.
    ///
    /// # Panics
    /// If there are not as many gradients.
    pub fn run(&self, g: &[f32]) {
        assert_eq!(g.len(), self.len(), "optimiser: one gradient a parameter");
        parallel_chunks(g.len(), GRAIN, |range| {
            // SAFETY: chunks are disjoint.
            unsafe { self.update(range.start, &g[range.clone()]) }
        });
    }

    /// Updates the parameters from `at` on, whose gradients are `g`.
    ///
    /// # Safety
    /// Nobody else updates any of these parameters meanwhile.
    ///
    /// # Panics
    /// If there are fewer parameters.
    pub unsafe fn update(&self, at: usize, g: &[f32]) {
        let range = at..at + g.len();
        // SAFETY: the caller's promise, for each of the rules.
        unsafe {
            match self.rule {
                AnyRule::Plain(rule) => self.apply(rule, range, g),
                AnyRule::Momentum(rule) => self.apply(rule, range, g),
                AnyRule::Moments(rule) => self.apply(rule, range, g),
                AnyRule::Rms(rule) => self.apply(rule, range, g),
                AnyRule::RmsCentred(rule) => self.apply(rule, range, g),
                AnyRule::RmsMomentum(rule) => self.apply(rule, range, g),
                AnyRule::RmsBoth(rule) => self.apply(rule, range, g),
            }
        }
    }

    /// # Safety
    /// As for [`Self::update`].
    unsafe fn apply<R: Rule<N>, const N: usize>(&self, rule: R, range: Range<usize>, g: &[f32]) {
        // SAFETY: the caller's promise.
        let p = unsafe { self.p.part(range.clone()) };
        // SAFETY: as above; a rule's states are as long as its parameters.
        let states: [&mut [f32]; N] = std::array::from_fn(|k| unsafe { self.states[k].part(range.clone()) });
        // SAFETY: as above.
        let average = self.average.as_ref().map(|a| unsafe { a.part(range.clone()) });
        rule.apply(self.isa, self.around, p, g, states, average);
    }
}

#[cfg(test)]
mod tests;
