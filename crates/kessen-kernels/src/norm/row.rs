//! Normalisation of rows: layer norm and RMS norm over `[rows, n]`.
//!
//! Layer norm: x̂ = (x − mean)·s with s = 1/√(variance + ε) (Ba, Kiros and Hinton, 2016); RMS norm: x̂ = x·s with
//! s = 1/√(mean of x² + ε) (Zhang and Sennrich, 2019); y = x̂·weight + bias. Backward, with g = dy·weight:
//! `dx = s·(g − mean(g) − x̂·mean(g·x̂))`, without mean(g) for RMS norm; dweight = Σ dy·x̂ and dbias = Σ dy over rows.

use crate::isa::Isa;
use crate::simd::{Float, LANES, Simd, kernel};
use crate::threads::{Shared, parallel_for};

/// Elements of one task.
const GRAIN: usize = 16 * 1024;
/// Most partial sums of dweight and dbias.
const MAX_PARTS: usize = 32;

/// What rows are normalised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// Mean and standard deviation.
    Layer,
    /// Root mean square.
    Rms,
}

/// Normalisation of each row of `[rows, n]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowNorm {
    /// What rows are normalised by.
    pub kind: RowKind,
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row.
    pub n: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl RowNorm {
    fn parts(&self) -> usize {
        (self.rows * self.n / GRAIN).clamp(1, MAX_PARTS).min(self.rows.max(1))
    }

    fn part(&self, part: usize) -> std::ops::Range<usize> {
        let parts = self.parts();
        part * self.rows / parts..(part + 1) * self.rows / parts
    }

    /// Normalises `x` into `y` and keeps each row's mean (0 for RMS norm) and s, `[rows]` each.
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
        let fits = x.len() == self.rows * self.n && y.len() == x.len();
        let affine = weight.is_none_or(|w| w.len() == self.n) && bias.is_none_or(|b| b.len() == self.n);
        assert!(fits && affine && mean.len() == self.rows && inv_std.len() == self.rows, "row norm: lengths");
        let isa = Isa::active();
        let (y, mean, inv_std) = (Shared::new(y), Shared::new(mean), Shared::new(inv_std));
        parallel_for(self.parts(), |part| {
            for r in self.part(part) {
                let row = r * self.n..(r + 1) * self.n;
                // SAFETY: rows are disjoint.
                let (y, mean, s) =
                    unsafe { (y.part(row.clone()), mean.part(r..r + 1), inv_std.part(r..r + 1)) };
                [mean[0], s[0]] = row_forward(isa, self.kind, self.eps, &x[row], weight, bias, y);
            }
        });
    }

    /// Number of elements of scratch that [`RowNorm::backward`] needs.
    pub fn backward_scratch(&self) -> usize {
        2 * self.n * self.parts()
    }

    /// Gradients of everything; `dweight` and `dbias` are `[n]` and may be left out.
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
        let fits = x.len() == self.rows * self.n && dy.len() == x.len() && dx.len() == x.len();
        assert!(fits && mean.len() == self.rows && inv_std.len() == self.rows, "row norm: lengths");
        let isa = Isa::active();
        let n = self.n;
        let scratch = &mut scratch[..self.backward_scratch()];
        let (dx, sums) = (Shared::new(dx), Shared::new(scratch));
        parallel_for(self.parts(), |part| {
            // SAFETY: each part has its own sums.
            let sums = unsafe { sums.part(part * 2 * n..(part + 1) * 2 * n) };
            sums.fill(0.0);
            for r in self.part(part) {
                let row = r * n..(r + 1) * n;
                // SAFETY: rows are disjoint.
                let dx = unsafe { dx.part(row.clone()) };
                let stats = [mean[r], inv_std[r]];
                row_backward(isa, self.kind, &x[row.clone()], &dy[row], weight, stats, dx, sums);
            }
        });
        for (k, out) in [dweight, dbias].into_iter().enumerate() {
            let Some(out) = out else { continue };
            out.copy_from_slice(&scratch[k * n..(k + 1) * n]);
            for part in scratch.chunks_exact(2 * n).skip(1) {
                out.iter_mut().zip(&part[k * n..]).for_each(|(o, &p)| *o += p);
            }
        }
    }
}

kernel! {
    /// Normalises one row; returns its mean and 1/deviation.
    fn row_forward(kind: RowKind, eps: f32, x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>,
        y: &mut [f32]) -> [f32; 2] = row_forward_with;
    /// The gradient of one row; adds to dweight and dbias in `sums`.
    fn row_backward(kind: RowKind, x: &[f32], dy: &[f32], weight: Option<&[f32]>, stats: [f32; 2],
        dx: &mut [f32], sums: &mut [f32]) = row_backward_with;
}

/// Mean and mean squared deviation of a run that fits in cache (mean 0 for RMS norm).
#[inline(always)]
pub(super) fn run_moments<S: Simd>(s: S, kind: RowKind, x: &[f32]) -> [f32; 2] {
    let (vectors, tail) = x.as_chunks::<LANES>();
    let n = x.len() as f32;
    let mut mean = 0.0;
    if kind == RowKind::Layer {
        let [mut a, mut b] = [s.load_part(tail), s.splat(0.0)];
        for v in vectors {
            (a, b) = (b, a + s.load(v));
        }
        mean = (a + b).sum() / n;
    }
    let m = s.splat(mean);
    let [mut a, mut b] = [s.splat(0.0); 2];
    for v in vectors {
        let d = s.load(v) - m;
        (a, b) = (b, d.mul_add(d, a));
    }
    let mut squares = (a + b).sum();
    for &x in tail {
        squares += (x - mean) * (x - mean);
    }
    [mean, squares / n]
}

/// Elements of an optional vector, or `absent` everywhere.
#[inline(always)]
fn optional<S: Simd>(s: S, v: Option<&[f32]>, at: usize, width: usize, absent: f32) -> S::F {
    match v {
        Some(v) => s.load_part(&v[at..at + width]),
        None => s.splat(absent),
    }
}

#[inline(always)]
fn row_forward_with<S: Simd>(
    s: S,
    kind: RowKind,
    eps: f32,
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> [f32; 2] {
    let [mean, var] = run_moments(s, kind, x);
    let inv_std = 1.0 / (var + eps).sqrt();
    let (m, scale) = (s.splat(mean), s.splat(inv_std));
    for (i, (x, y)) in x.chunks(LANES).zip(y.chunks_mut(LANES)).enumerate() {
        let (at, width) = (i * LANES, x.len());
        let normal = (s.load_part(x) - m) * scale;
        let (w, b) = (optional(s, weight, at, width, 1.0), optional(s, bias, at, width, 0.0));
        normal.mul_add(w, b).store_part(y);
    }
    [mean, inv_std]
}

#[inline(always)]
fn row_backward_with<S: Simd>(
    s: S,
    kind: RowKind,
    x: &[f32],
    dy: &[f32],
    weight: Option<&[f32]>,
    [mean, inv_std]: [f32; 2],
    dx: &mut [f32],
    sums: &mut [f32],
) {
    let (m, scale, n) = (s.splat(mean), s.splat(inv_std), x.len());
    let (dweight, dbias) = sums.split_at_mut(n);
    let [mut sum, mut sum_x] = [s.splat(0.0); 2];
    for (i, (x, dy)) in x.chunks(LANES).zip(dy.chunks(LANES)).enumerate() {
        let range = i * LANES..i * LANES + x.len();
        let (normal, d) = ((s.load_part(x) - m) * scale, s.load_part(dy));
        let g = d * optional(s, weight, range.start, x.len(), 1.0);
        (sum, sum_x) = (sum + g, g.mul_add(normal, sum_x));
        d.mul_add(normal, s.load_part(&dweight[range.clone()])).store_part(&mut dweight[range.clone()]);
        (d + s.load_part(&dbias[range.clone()])).store_part(&mut dbias[range]);
    }
    let (mean_g, mean_gx) = (sum.sum() / n as f32, s.splat(sum_x.sum() / n as f32));
    let mean_g = s.splat(if kind == RowKind::Layer { mean_g } else { 0.0 });
    for (i, ((x, dy), dx)) in x.chunks(LANES).zip(dy.chunks(LANES)).zip(dx.chunks_mut(LANES)).enumerate() {
        let normal = (s.load_part(x) - m) * scale;
        let g = s.load_part(dy) * optional(s, weight, i * LANES, x.len(), 1.0);
        (scale * (g - mean_g - normal * mean_gx)).store_part(dx);
    }
}
