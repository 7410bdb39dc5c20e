//! Group normalisation of `[batch, channels, inner]`: the channels of a sample in `groups` groups, each normalised by
//! its own mean and variance; weight and bias a channel. One group a channel is instance normalisation.
//!
//! Formulas as for layer norm (`row.rs`), with sums over a group's elements (Wu and He, 2018).

use super::row::{RowKind, run_moments};
use crate::Error;
use crate::isa::Isa;
use crate::simd::{Float, LANES, Simd, kernel};
use crate::threads::{Shared, parallel_for};

/// Elements of one task.
const GRAIN: usize = 16 * 1024;

/// Group normalisation of a plain tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    batch: usize,
    channels: usize,
    inner: usize,
    groups: usize,
    eps: f32,
}

impl GroupNorm {
    /// `[batch, channels, inner]` in `groups` groups, with `eps` added to the variances.
    ///
    /// # Errors
    /// `groups` does not divide `channels`.
    pub fn new([batch, channels, inner]: [usize; 3], groups: usize, eps: f32) -> Result<Self, Error> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Error::Descriptor(format!(
                "group norm of {channels} channels in {groups} groups: the groups must divide the channels"
            )));
        }
        Ok(GroupNorm { batch, channels, inner, groups, eps })
    }

    /// Elements of a group.
    fn run(&self) -> usize {
        self.channels / self.groups * self.inner
    }

    fn over_groups(&self, f: impl Fn(usize) + Sync) {
        let total = self.batch * self.groups;
        let per_task = (GRAIN / self.run().max(1)).max(1);
        parallel_for(total.div_ceil(per_task), |task| {
            (task * per_task..((task + 1) * per_task).min(total)).for_each(&f);
        });
    }

    /// Normalises `x` into `y`; keeps mean and 1/deviation, `[batch, groups]` each.
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn forward(
        &self,
        x: &[f32],
        weight: Option<&[f32]>,
        bias: Option<&[f32]>,
        y: &mut [f32],
        mean: &mut [f32],
        inv_std: &mut [f32],
    ) {
        let (run, total) = (self.run(), self.batch * self.groups);
        let fits = x.len() == total * run && y.len() == x.len();
        assert!(fits && mean.len() == total && inv_std.len() == total, "group norm: lengths don't fit");
        let isa = Isa::active();
        let (y, mean, inv_std) = (Shared::new(y), Shared::new(mean), Shared::new(inv_std));
        self.over_groups(|g| {
            let range = g * run..(g + 1) * run;
            let x = &x[range.clone()];
            // SAFETY: groups are disjoint.
            let (y, mean, s) = unsafe { (y.part(range), mean.part(g..g + 1), inv_std.part(g..g + 1)) };
            let [m, var] = moments(isa, x);
            (mean[0], s[0]) = (m, 1.0 / (var + self.eps).sqrt());
            let first = g % self.groups * (self.channels / self.groups);
            for (c, (x, y)) in x.chunks_exact(self.inner).zip(y.chunks_exact_mut(self.inner)).enumerate() {
                let scale = s[0] * weight.map_or(1.0, |w| w[first + c]);
                affine(isa, m, scale, bias.map_or(0.0, |b| b[first + c]), x, y);
            }
        });
    }

    /// Number of elements of scratch that [`GroupNorm::backward`] needs.
    pub fn backward_scratch(&self) -> usize {
        2 * self.batch * self.channels
    }

    /// Gradients of everything; `dweight` and `dbias` are `[channels]` and may be left out.
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        weight: Option<&[f32]>,
        mean: &[f32],
        inv_std: &[f32],
        dx: &mut [f32],
        dweight: Option<&mut [f32]>,
        dbias: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        let (run, per_group) = (self.run(), self.channels / self.groups);
        let fits = x.len() == self.batch * self.groups * run && dy.len() == x.len() && dx.len() == x.len();
        assert!(fits, "group norm: lengths don't fit");
        let isa = Isa::active();
        let scratch = &mut scratch[..self.backward_scratch()];
        let (dx, sums) = (Shared::new(dx), Shared::new(scratch));
        self.over_groups(|g| {
            // SAFETY: groups are disjoint.
            let dx = unsafe { dx.part(g * run..(g + 1) * run) };
            // SAFETY: as above.
            let sums = unsafe { sums.part(2 * g * per_group..2 * (g + 1) * per_group) };
            let first = g % self.groups * per_group;
            let (m, s) = (mean[g], inv_std[g]);
            let (mut total, mut total_x) = (0.0, 0.0);
            for (c, sums) in sums.chunks_exact_mut(2).enumerate() {
                let at = g * run + c * self.inner..g * run + (c + 1) * self.inner;
                let [sum, sum_x] = channel_sums(isa, m, &x[at.clone()], &dy[at]);
                let w = weight.map_or(1.0, |w| w[first + c]);
                (sums[0], sums[1]) = (sum_x * s, sum);
                (total, total_x) = (total + w * sum, total_x + w * sum_x * s);
            }
            let n = run as f32;
            for (c, dx) in dx.chunks_exact_mut(self.inner).enumerate() {
                let at = g * run + c * self.inner..g * run + (c + 1) * self.inner;
                let a = s * weight.map_or(1.0, |w| w[first + c]);
                let k = [m, a, -s * s * total_x / n, -s * total / n];
                channel_gradient(isa, k, &x[at.clone()], &dy[at], dx);
            }
        });
        for (k, out) in [dweight, dbias].into_iter().enumerate() {
            let Some(out) = out else { continue };
            for (c, o) in out.iter_mut().enumerate() {
                let parts = (0..self.batch).map(|b| f64::from(scratch[2 * (b * self.channels + c) + k]));
                *o = parts.sum::<f64>() as f32;
            }
        }
    }
}

kernel! {
    fn moments(x: &[f32]) -> [f32; 2] = moments_with;
    fn affine(mean: f32, scale: f32, shift: f32, x: &[f32], y: &mut [f32]) = affine_with;
    fn channel_sums(mean: f32, x: &[f32], dy: &[f32]) -> [f32; 2] = channel_sums_with;
    fn channel_gradient(k: [f32; 4], x: &[f32], dy: &[f32], dx: &mut [f32]) = channel_gradient_with;
}

/// Mean and variance, block by block (Chan's formula).
#[inline(always)]
fn moments_with<S: Simd>(s: S, x: &[f32]) -> [f32; 2] {
    let (mut mean, mut squares, mut seen) = (0.0, 0.0, 0.0);
    for block in x.chunks(8 * 1024) {
        let n = block.len() as f64;
        let [m, var] = run_moments(s, RowKind::Layer, block).map(f64::from);
        let (delta, total) = (m - mean, seen + n);
        mean += delta * n / total;
        squares += var * n + delta * delta * seen * n / total;
        seen = total;
    }
    [mean as f32, (squares / seen) as f32]
}

#[inline(always)]
fn affine_with<S: Simd>(s: S, mean: f32, scale: f32, shift: f32, x: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks(LANES).zip(y.chunks_mut(LANES)) {
        (s.load_part(x) - s.splat(mean)).mul_add(s.splat(scale), s.splat(shift)).store_part(y);
    }
}

#[inline(always)]
fn channel_sums_with<S: Simd>(s: S, mean: f32, x: &[f32], dy: &[f32]) -> [f32; 2] {
    let [mut sum, mut sum_x] = [s.splat(0.0); 2];
    for (x, dy) in x.chunks(LANES).zip(dy.chunks(LANES)) {
        let d = s.load_part(dy);
        (sum, sum_x) = (sum + d, d.mul_add(s.load_part(x) - s.splat(mean), sum_x));
    }
    [sum.sum(), sum_x.sum()]
}

/// dx = a·dy + b·(x − mean) + c
#[inline(always)]
fn channel_gradient_with<S: Simd>(s: S, [mean, a, b, c]: [f32; 4], x: &[f32], dy: &[f32], dx: &mut [f32]) {
    for ((x, dy), dx) in x.chunks(LANES).zip(dy.chunks(LANES)).zip(dx.chunks_mut(LANES)) {
        let centred = s.load_part(x) - s.splat(mean);
        s.load_part(dy).mul_add(s.splat(a), centred.mul_add(s.splat(b), s.splat(c))).store_part(dx);
    }
}
