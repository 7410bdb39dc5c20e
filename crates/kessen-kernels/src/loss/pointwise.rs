//! Losses between predictions and targets of one shape.

use super::Reduction;
use crate::isa::Isa;
use crate::math;
use crate::simd::{Float, LANES, Simd, kernel};
use crate::threads::{Shared, parallel_chunks};

/// Elements of one partial sum.
const BLOCK: usize = 4 * 1024;

/// The loss of one prediction `x` and target `t`, with d = x − t.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pointwise {
    /// d²
    Mse,
    /// |d|
    Mae,
    /// d²/2 where |d| ≤ delta, else delta·(|d| − delta/2)
    Huber {
        /// Where the parabola ends.
        delta: f32,
    },
    /// d²/(2·beta) where |d| < beta, else |d| − beta/2
    SmoothL1 {
        /// Where the parabola ends.
        beta: f32,
    },
    /// (1−t)·x + (1 + (pos_weight−1)·t)·ln(1 + e⁻ˣ)
    BceWithLogits {
        /// Factor for the positive class.
        pos_weight: f32,
    },
}

/// Number of elements of scratch that [`pointwise`] needs for `n` elements.
pub fn pointwise_scratch(n: usize) -> usize {
    n.div_ceil(BLOCK)
}

/// The loss; where `dx` is given, also `dloss` times its gradient by `x`.
///
/// # Panics
/// If the lengths don't fit.
pub fn pointwise(
    kind: Pointwise,
    reduction: Reduction,
    x: &[f32],
    target: &[f32],
    dloss: f32,
    dx: Option<&mut [f32]>,
    scratch: &mut [f32],
) -> f32 {
    assert_eq!(x.len(), target.len(), "pointwise loss: predictions and targets must have the same length");
    assert!(dx.as_ref().is_none_or(|d| d.len() == x.len()), "pointwise loss: gradient's length");
    let share = match reduction {
        Reduction::Mean => 1.0 / x.len() as f64,
        Reduction::Sum => 1.0,
    };
    let scale = (share * f64::from(dloss)) as f32;
    let isa = Isa::active();
    let scratch = &mut scratch[..pointwise_scratch(x.len())];
    let partial = Shared::new(scratch);
    let dx = dx.map(Shared::new);
    parallel_chunks(partial.len(), 4, |blocks| {
        for block in blocks {
            let range = block * BLOCK..((block + 1) * BLOCK).min(x.len());
            // SAFETY: blocks are disjoint.
            let d = dx.as_ref().map(|d| unsafe { d.part(range.clone()) });
            // SAFETY: as above.
            let sum = unsafe { partial.part(block..block + 1) };
            sum[0] = run(isa, kind, scale, &x[range.clone()], &target[range], d);
        }
    });
    (scratch.iter().map(|&p| f64::from(p)).sum::<f64>() * share) as f32
}

kernel! {
    fn run(kind: Pointwise, scale: f32, x: &[f32], t: &[f32], d: Option<&mut [f32]>) -> f32 = run_with;
}

#[inline(always)]
fn run_with<S: Simd>(s: S, kind: Pointwise, scale: f32, x: &[f32], t: &[f32], d: Option<&mut [f32]>) -> f32 {
    match kind {
        Pointwise::Mse => sweep(s, Mse, scale, x, t, d),
        Pointwise::Mae => sweep(s, Mae, scale, x, t, d),
        Pointwise::Huber { delta } => sweep(s, Huber { width: delta, slope: delta }, scale, x, t, d),
        Pointwise::SmoothL1 { beta } => sweep(s, Huber { width: beta, slope: 1.0 }, scale, x, t, d),
        Pointwise::BceWithLogits { pos_weight } => sweep(s, Bce { pos_weight }, scale, x, t, d),
    }
}

/// Loss and derivative of one element.
trait Element: Copy {
    fn at<S: Simd>(self, s: S, x: S::F, t: S::F) -> (S::F, S::F);
}

#[inline(always)]
fn sweep<S: Simd, E: Element>(
    s: S,
    element: E,
    scale: f32,
    x: &[f32],
    t: &[f32],
    mut d: Option<&mut [f32]>,
) -> f32 {
    let (mut sum, mut tail) = (s.splat(0.0), 0.0);
    for (i, (x, t)) in x.chunks(LANES).zip(t.chunks(LANES)).enumerate() {
        let (loss, slope) = element.at(s, s.load_part(x), s.load_part(t));
        if let Some(d) = d.as_deref_mut() {
            (slope * s.splat(scale)).store_part(&mut d[i * LANES..i * LANES + x.len()]);
        }
        if x.len() == LANES {
            sum = sum + loss;
        } else {
            let mut last = [0.0; LANES];
            loss.store_part(&mut last[..x.len()]);
            tail = s.load(&last).sum();
        }
    }
    sum.sum() + tail
}

#[derive(Clone, Copy)]
struct Mse;

impl Element for Mse {
    #[inline(always)]
    fn at<S: Simd>(self, _: S, x: S::F, t: S::F) -> (S::F, S::F) {
        let d = x - t;
        (d * d, d + d)
    }
}

#[derive(Clone, Copy)]
struct Mae;

impl Element for Mae {
    #[inline(always)]
    fn at<S: Simd>(self, s: S, x: S::F, t: S::F) -> (S::F, S::F) {
        let (d, zero) = (x - t, s.splat(0.0));
        (d.abs(), s.splat(1.0).select(zero.lt(d), s.splat(-1.0).select(d.lt(zero), d)))
    }
}

/// slope·(|d| − width/2) outside a parabola of the given width.
#[derive(Clone, Copy)]
struct Huber {
    width: f32,
    slope: f32,
}

impl Element for Huber {
    #[inline(always)]
    fn at<S: Simd>(self, s: S, x: S::F, t: S::F) -> (S::F, S::F) {
        let (d, width, slope) = (x - t, s.splat(self.width), s.splat(self.slope));
        let inside = d.abs().lt(width);
        let curve = if self.width > 0.0 { slope / width } else { s.splat(0.0) };
        let sign = s.splat(1.0).select(s.splat(0.0).lt(d), s.splat(-1.0).select(d.lt(s.splat(0.0)), d));
        let outer = slope * (d.abs() - width * s.splat(0.5));
        ((s.splat(0.5) * d * d * curve).select(inside, outer), (d * curve).select(inside, sign * slope))
    }
}

#[derive(Clone, Copy)]
struct Bce {
    pos_weight: f32,
}

impl Element for Bce {
    #[inline(always)]
    fn at<S: Simd>(self, s: S, x: S::F, t: S::F) -> (S::F, S::F) {
        let one = s.splat(1.0);
        let factor = t.mul_add(s.splat(self.pos_weight - 1.0), one);
        let negative = one - t;
        let loss = negative.mul_add(x, factor * math::softplus(s, -x));
        (loss, negative - factor * math::sigmoid(s, -x))
    }
}
