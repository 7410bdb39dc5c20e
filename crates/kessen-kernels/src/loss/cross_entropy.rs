//! Softmax and cross-entropy in one: logits `[N, K, inner]`, one class of `K` for each of the `N·inner` places.
//!
//! With p = softmax(logits), class t, weights w and smoothing ε, one place's loss is
//! `−(1−ε)·w_t·ln p_t − ε/K·Σ_k w_k·ln p_k`, and the gradient is
//! `(1−ε)·w_t·(p_k − [k=t]) + ε/K·(p_k·Σ_j w_j − w_k)`. The mean divides by Σ w_t over the places not ignored, and
//! is 0 where all are.
//!
//! Where places are neighbours (`inner` > 1), sixteen of them lie in the vectors' lanes; where the classes are, one place's
//! do. Rows of few classes would leave lanes empty and spend their time on sums across them: sixteen rows are turned into
//! places that are neighbours, and back.

use super::Reduction;
use crate::isa::Isa;
use crate::layout::transpose;
use crate::math;
use crate::simd::{Float, LANES, Simd, kernel};
use crate::softmax::{Shape, columns_exp, columns_exp_sum, columns_max, row_exp, row_exp_sum, row_max};
use crate::split::dividing;
use crate::threads::{Shared, parallel_for};
use crate::{Error, Indices};

/// Elements of one task.
const GRAIN: usize = 8 * 1024;
/// Most classes of rows that are turned.
const FEW_CLASSES: usize = 64;

/// The loss and its options.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    /// A factor for each class.
    pub weight: Option<&'a [f32]>,
    /// Label smoothing ε, 0 to 1.
    pub smoothing: f32,
    /// The class of places that don't count.
    pub ignore: Option<i64>,
    /// How the places' losses are made one.
    pub reduction: Reduction,
}

impl Default for CrossEntropy<'_> {
    fn default() -> Self {
        CrossEntropy { weight: None, smoothing: 0.0, ignore: Some(-100), reduction: Reduction::Mean }
    }
}

/// What the kernels need: the options with the sums worked out.
#[derive(Clone, Copy)]
struct Plan<'a> {
    weight: Option<&'a [f32]>,
    /// 1 − ε
    sharp: f32,
    /// ε/K
    spread: f32,
    /// Σ w over all classes
    weights: f32,
    /// What gradients are multiplied with.
    scale: f32,
    shape: Shape,
}

impl Plan<'_> {
    fn weight(&self, class: usize) -> f32 {
        self.weight.map_or(1.0, |w| w[class])
    }

    /// Whether rows are turned.
    fn has_few_classes(&self) -> bool {
        self.shape[2] == 1 && self.shape[1] <= FEW_CLASSES
    }

    /// Rows of one task; whole turns of them.
    fn rows_of_a_task(&self) -> usize {
        let [n, k, inner] = self.shape;
        let tasks = dividing(n.div_ceil((GRAIN / (k * inner).max(1)).max(1)));
        n.div_ceil(tasks.max(1)).next_multiple_of(if self.has_few_classes() { LANES } else { 1 }).max(1)
    }
}

impl CrossEntropy<'_> {
    /// The loss, and each place's in `losses` (`[N, inner]`, 0 where ignored, before the reduction).
    ///
    /// # Errors
    /// A class is neither below `K` nor the ignored one.
    ///
    /// # Panics
    /// If the lengths don't fit `shape`.
    pub fn forward(
        &self,
        logits: &[f32],
        shape: Shape,
        classes: Indices<'_>,
        losses: &mut [f32],
    ) -> Result<f32, Error> {
        self.run(logits, shape, classes, 1.0, losses, None)
    }

    /// As [`CrossEntropy::forward`], with `dlogits` = `dloss` times the gradient of the loss.
    ///
    /// # Errors
    /// As for the forward pass.
    ///
    /// # Panics
    /// If the lengths don't fit `shape`.
    pub fn forward_backward(
        &self,
        logits: &[f32],
        shape: Shape,
        classes: Indices<'_>,
        dloss: f32,
        losses: &mut [f32],
        dlogits: &mut [f32],
    ) -> Result<f32, Error> {
        self.run(logits, shape, classes, dloss, losses, Some(dlogits))
    }

    fn run(
        &self,
        logits: &[f32],
        shape: Shape,
        classes: Indices<'_>,
        dloss: f32,
        losses: &mut [f32],
        dlogits: Option<&mut [f32]>,
    ) -> Result<f32, Error> {
        let [n, k, inner] = shape;
        assert_eq!(logits.len(), n * k * inner, "cross-entropy: logits don't fit {shape:?}");
        assert!(classes.len() == n * inner && losses.len() == n * inner, "cross-entropy: classes or losses");
        assert!(self.weight.is_none_or(|w| w.len() == k), "cross-entropy: one weight a class");
        if let Some(d) = &dlogits {
            assert_eq!(d.len(), logits.len(), "cross-entropy: gradient's length");
        }
        let (plan, share) = self.plan(shape, self.counted(classes, k)?, dloss);
        let isa = Isa::active();
        let (losses_out, dlogits_out) = (Shared::new(losses), dlogits.map(Shared::new));
        let per_task = plan.rows_of_a_task();
        parallel_for(n.div_ceil(per_task), |task| {
            let rows = task * per_task..((task + 1) * per_task).min(n);
            let (places, range) =
                (rows.start * inner..rows.end * inner, rows.start * k * inner..rows.end * k * inner);
            let target = |place: usize| match classes.get(places.start + place) {
                t if Some(t) == self.ignore => None,
                t => Some(t as usize),
            };
            // SAFETY: tasks' rows are disjoint.
            let losses = unsafe { losses_out.part(places.clone()) };
            // SAFETY: as above.
            let d = dlogits_out.as_ref().map(|d| unsafe { d.part(range.clone()) });
            match plan.has_few_classes() {
                true => few_classes_losses(isa, plan, &target, &logits[range], losses, d),
                false => rows_losses(isa, plan, &target, &logits[range], losses, d),
            }
        });
        Ok((total(losses) * share) as f32)
    }

    /// The kernels' plan and what the sum of the losses is multiplied with.
    fn plan(&self, shape: Shape, counted: f64, dloss: f32) -> (Plan<'_>, f64) {
        let share = match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean if counted > 0.0 => 1.0 / counted,
            Reduction::Mean => 0.0,
        };
        let k = shape[1] as f32;
        let weights = self.weight.map_or(k, |w| w.iter().sum());
        let (sharp, spread) = (1.0 - self.smoothing, self.smoothing / k);
        let scale = (share * f64::from(dloss)) as f32;
        (Plan { weight: self.weight, sharp, spread, weights, scale, shape }, share)
    }

    /// Checks the classes and sums the weights of the places that count.
    fn counted(&self, classes: Indices<'_>, k: usize) -> Result<f64, Error> {
        let (mut count, mut sum) = (0, 0.0);
        for place in 0..classes.len() {
            let t = classes.get(place);
            if Some(t) == self.ignore {
                continue;
            }
            if t < 0 || t as usize >= k {
                return Err(Error::Class { place, found: classes.show(place), classes: k });
            }
            count += 1;
            sum += self.weight.map_or(0.0, |w| f64::from(w[t as usize]));
        }
        Ok(if self.weight.is_some() { sum } else { f64::from(count) })
    }
}

/// The sum of all losses, in sixteen parts.
fn total(losses: &[f32]) -> f64 {
    let mut parts = [0.0; LANES];
    for losses in losses.chunks(LANES) {
        parts.iter_mut().zip(losses).for_each(|(sum, &loss)| *sum += f64::from(loss));
    }
    parts.iter().sum()
}

kernel! {
    fn row_loss(plan: Plan<'_>, target: usize, x: &[f32]) -> f32 = row_loss_with;
    fn row_gradient(plan: Plan<'_>, target: usize, x: &[f32], d: &mut [f32]) -> f32 = row_gradient_with;
    fn tile(plan: Plan<'_>, targets: &[Option<usize>; LANES], first: usize, width: usize, x: &[f32],
        losses: &mut [f32], d: Option<&mut [f32]>) = tile_with;
}

/// −(1−ε)·w_t·ln p_t − ε/K·Σ w·ln p, with ln p = x − log_sum.
#[inline(always)]
fn place_loss<S: Simd>(s: S, plan: Plan<'_>, target: usize, x: &[f32], log_sum: f32) -> f32 {
    let mut loss = plan.sharp * plan.weight(target) * (log_sum - x[target]);
    if plan.spread != 0.0 {
        let mut dot = s.splat(0.0);
        for (i, v) in x.chunks(LANES).enumerate() {
            let v = s.load_part(v);
            dot = match plan.weight {
                None => dot + v,
                Some(w) => v.mul_add(s.load_part(&w[i * LANES..w.len().min((i + 1) * LANES)]), dot),
            };
        }
        loss += plan.spread * (plan.weights * log_sum - dot.sum());
    }
    loss
}

#[inline(always)]
fn row_loss_with<S: Simd>(s: S, plan: Plan<'_>, target: usize, x: &[f32]) -> f32 {
    let max = row_max(s, x);
    let sum = row_exp_sum(s, x, max);
    place_loss(s, plan, target, x, max + sum.ln())
}

#[inline(always)]
fn row_gradient_with<S: Simd>(s: S, plan: Plan<'_>, target: usize, x: &[f32], d: &mut [f32]) -> f32 {
    let max = row_max(s, x);
    let sum = row_exp(s, x, max, d);
    let own = plan.sharp * plan.weight(target);
    let factor = s.splat(plan.scale * (own + plan.spread * plan.weights) / sum);
    let spread = s.splat(-plan.scale * plan.spread);
    for (i, d) in d.chunks_mut(LANES).enumerate() {
        let e = s.load_part(d) * factor;
        let w = match plan.weight {
            None => s.splat(1.0),
            Some(w) => s.load_part(&w[i * LANES..i * LANES + d.len()]),
        };
        w.mul_add(spread, e).store_part(d);
    }
    d[target] -= plan.scale * own;
    place_loss(s, plan, target, x, max + sum.ln())
}

/// Some rows or slabs, one after the other.
fn rows_losses(
    isa: Isa,
    plan: Plan<'_>,
    target: &impl Fn(usize) -> Option<usize>,
    x: &[f32],
    losses: &mut [f32],
    mut d: Option<&mut [f32]>,
) {
    let [_, k, inner] = plan.shape;
    for (row, losses) in losses.chunks_mut(inner.max(1)).enumerate() {
        let range = row * k * inner..(row + 1) * k * inner;
        let (x, d) = (&x[range.clone()], d.as_deref_mut().map(|d| &mut d[range]));
        if inner > 1 {
            slab_losses(isa, plan, &|place| target(row * inner + place), x, losses, d);
            continue;
        }
        losses[0] = match (target(row), d) {
            (None, d) => {
                d.into_iter().for_each(|d| d.fill(0.0));
                0.0
            }
            (Some(t), None) => row_loss(isa, plan, t, x),
            (Some(t), Some(d)) => row_gradient(isa, plan, t, x, d),
        };
    }
}

/// Some rows of few classes: sixteen at a time become one slab of sixteen places.
fn few_classes_losses(
    isa: Isa,
    plan: Plan<'_>,
    target: &impl Fn(usize) -> Option<usize>,
    x: &[f32],
    losses: &mut [f32],
    mut d: Option<&mut [f32]>,
) {
    let k = plan.shape[1];
    let plan = Plan { shape: [1, k, LANES], ..plan };
    let (mut slab, mut slab_d) = ([0.0; FEW_CLASSES * LANES], [0.0; FEW_CLASSES * LANES]);
    let (slab, slab_d) = (&mut slab[..k * LANES], &mut slab_d[..k * LANES]);
    for (turn, losses) in losses.chunks_mut(LANES).enumerate() {
        let (first, rows) = (turn * LANES, losses.len());
        let range = first * k..(first + rows) * k;
        transpose(&x[range.clone()], k, slab, LANES, rows, k);
        let targets = tile_targets(target, first, rows);
        match d.as_deref_mut() {
            None => tile(isa, plan, &targets, 0, rows, slab, losses, None),
            Some(d) => {
                tile(isa, plan, &targets, 0, rows, slab, losses, Some(slab_d));
                transpose(slab_d, LANES, &mut d[range], k, k, rows);
            }
        }
    }
}

/// The targets of a tile of `width` places.
fn tile_targets(
    target: &impl Fn(usize) -> Option<usize>,
    first: usize,
    width: usize,
) -> [Option<usize>; LANES] {
    std::array::from_fn(|lane| if lane < width { target(first + lane) } else { None })
}

/// One sample with several places: sixteen places at a time.
fn slab_losses(
    isa: Isa,
    plan: Plan<'_>,
    target: &impl Fn(usize) -> Option<usize>,
    x: &[f32],
    losses: &mut [f32],
    mut d: Option<&mut [f32]>,
) {
    let inner = plan.shape[2];
    for first in (0..inner).step_by(LANES) {
        let width = LANES.min(inner - first);
        let targets = tile_targets(target, first, width);
        tile(isa, plan, &targets, first, width, x, &mut losses[first..first + width], d.as_deref_mut());
    }
}

#[inline(always)]
fn tile_with<S: Simd>(
    s: S,
    plan: Plan<'_>,
    targets: &[Option<usize>; LANES],
    first: usize,
    width: usize,
    x: &[f32],
    losses: &mut [f32],
    mut d: Option<&mut [f32]>,
) {
    let inner = plan.shape[2];
    let max = columns_max(s, inner, first, width, x);
    let sum = match d.as_deref_mut() {
        None => columns_exp_sum(s, inner, first, width, x, max),
        Some(d) => columns_exp(s, inner, first, width, x, max, d),
    };
    let log_sum = max + math::log(s, sum);
    let mut smooth = s.splat(0.0);
    if plan.spread != 0.0 {
        let mut dot = s.splat(0.0);
        for (k, x) in x.chunks_exact(inner).enumerate() {
            dot = s.load_part(&x[first..first + width]).mul_add(s.splat(plan.weight(k)), dot);
        }
        smooth = (log_sum * s.splat(plan.weights) - dot) * s.splat(plan.spread);
    }
    let (log_sums, smooths) = (log_sum.array(), smooth.array());
    let (mut own, mut counted) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..width {
        losses[lane] = 0.0;
        if let Some(t) = targets[lane] {
            own[lane] = plan.sharp * plan.weight(t);
            counted[lane] = 1.0;
            losses[lane] = own[lane] * (log_sums[lane] - x[t * inner + first + lane]) + smooths[lane];
        }
    }
    let Some(d) = d else { return };
    let (zero, counted) = (s.splat(0.0), s.load(&counted).eq(s.splat(1.0)));
    let factor = s.splat(plan.scale) * (s.load(&own) + s.splat(plan.spread * plan.weights)) / sum;
    let spread = s.splat(-plan.scale * plan.spread);
    for (k, d) in d.chunks_exact_mut(inner).enumerate() {
        let d = &mut d[first..first + width];
        // The gradient at an ignored place is 0 whatever its logits are.
        let slope = s.splat(plan.weight(k)).mul_add(spread, s.load_part(d) * factor);
        slope.select(counted, zero).store_part(d);
    }
    for lane in 0..width {
        if let Some(t) = targets[lane] {
            d[t * inner + first + lane] -= plan.scale * own[lane];
        }
    }
}
