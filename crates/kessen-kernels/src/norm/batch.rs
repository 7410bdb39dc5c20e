//! Batch normalisation with optional residual and bounds (a ReLU, a clamp) in the same pass.
//!
//! `N` batch, `C` channels, `inner` places of a sample. Over the `n = N·inner` elements of a channel, with mean m,
//! biased variance v and s = 1/√(v + ε): `y = hold?((x − m)·s·weight + bias + residual?)`. Backward, with g = dy
//! behind the bounds and x̂ = (x − m)·s: dbias = Σ g, dweight = Σ g·x̂, dresidual = g and
//! `dx = weight·s·(g − Σ g/n − x̂·Σ g·x̂/n)` (Ioffe and Szegedy, 2015).

use super::walk::{self, Gate, Gradient, Lanes, Normalise, Walk};
use crate::isa::Isa;
use crate::layout::slice_len;
use crate::pool::Layout;
use crate::simd::LANES;
use crate::threads::{Shared, parallel_chunks, parallel_for};
use std::ops::Range;

/// Elements of one task.
const GRAIN: usize = 16 * 1024;

/// Batch normalisation of `[batch, channels, inner]` (plain) or `[batch, ⌈channels/16⌉, inner, 16]` (blocked, where
/// padded lanes of `x` must be 0 and those of `y` become the residual's).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// How numbers lie in memory.
    pub layout: Layout,
    /// Number of samples.
    pub batch: usize,
    /// Number of channels.
    pub channels: usize,
    /// Places of a sample.
    pub inner: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Operands that are slices of larger tensors.
    pub steps: Steps,
}

/// Distances of the images of operands in elements, where they are slices of the channels of larger blocked tensors;
/// `None` where images follow each other. Residual, `dx` and `dresidual` always do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Steps {
    /// Of `x`.
    pub x: Option<usize>,
    /// Of `y`.
    pub y: Option<usize>,
    /// Of `dy`.
    pub dy: Option<usize>,
}

/// Weight and bias, `[channels]` each; absent ones are 1 and 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Affine<'a> {
    /// Factor of the normalised value.
    pub weight: Option<&'a [f32]>,
    /// Summand.
    pub bias: Option<&'a [f32]>,
}

/// What follows in the same pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fused<'a> {
    /// Added before the bounds; laid out like `y`.
    pub residual: Option<&'a [f32]>,
    /// What the sum is held to.
    pub bounds: Option<Bounds>,
}

/// The function that a value is held between bounds by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bounds {
    /// max(v, 0); its gradient passes where v > 0.
    Relu,
    /// min(max(v, low), high); its gradient passes where low ≤ v ≤ high.
    Clamp(f32, f32),
}

impl Bounds {
    /// Lower and upper bound.
    fn hold(self) -> [f32; 2] {
        match self {
            Bounds::Relu => [0.0, f32::INFINITY],
            Bounds::Clamp(low, high) => [low, high],
        }
    }

    /// Gradients pass where the operand is larger than the first and at most the second.
    fn passes(self) -> [f32; 2] {
        match self {
            Bounds::Relu => [0.0, f32::INFINITY],
            Bounds::Clamp(low, high) => [low.next_down(), high],
        }
    }
}

/// The function that the forward pass ended in, for the backward pass.
#[derive(Clone, Copy, Debug)]
pub enum Function<'a> {
    /// There was none.
    None,
    /// A ReLU whose output is given.
    Relu(&'a [f32]),
    /// Bounds right behind the normalisation with this bias, without a residual: their operand is computed again, to the same
    /// bits, so that neither it nor the output need be read.
    Behind(&'a [f32], Bounds),
}

impl<'a> Function<'a> {
    /// The function's gate in a walk: over the part of its output, or given the walk's factors and summands.
    fn gate<'w>(self, [scale, shift]: &'w [Lanes; 2], part: impl Fn(&'a [f32]) -> &'a [f32]) -> Gate<'w>
    where
        'a: 'w,
    {
        match self {
            Function::None => Gate::Open,
            Function::Relu(y) => Gate::Output(part(y)),
            Function::Behind(_, bounds) => Gate::Operand { scale, shift, passes: bounds.passes() },
        }
    }
}

/// Statistics kept for the backward pass, `[channels]` each.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// The batch's mean.
    pub mean: &'a [f32],
    /// 1/√(biased variance + ε)
    pub inv_std: &'a [f32],
}

/// How the channels are cut into tiles of lanes, and a tile's elements into units of memory.
struct Units {
    /// Number of tiles.
    tiles: usize,
    /// Units of a tile: unit `u` belongs to tile `u % tiles`.
    per_tile: usize,
    /// Whether all lanes of a tile are one channel.
    rows: bool,
}

impl BatchNorm {
    /// Elements of a channel.
    fn count(&self) -> usize {
        self.batch * self.inner
    }

    /// Number of elements of an operand that is no slice.
    pub fn len(&self) -> usize {
        match self.layout {
            Layout::Plain => self.count() * self.channels,
            Layout::Blocked => self.count() * self.channels.div_ceil(LANES) * LANES,
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an operand of `len` elements is one with images that far apart.
    fn fits(&self, len: usize, step: Option<usize>) -> bool {
        match (step, self.layout) {
            (None, _) => len == self.len(),
            (Some(step), Layout::Blocked) => {
                let own = self.channels.div_ceil(LANES) * self.inner * LANES;
                step >= own && len == slice_len(self.batch, own, Some(step))
            }
            (Some(_), Layout::Plain) => false,
        }
    }

    /// The elements of a walk that begins at `at` of an operand that is no slice, in one whose images are that far apart.
    fn range(&self, at: usize, walk: Walk, step: Option<usize>) -> Range<usize> {
        let at = match step {
            None => at,
            Some(step) => {
                let own = self.channels.div_ceil(LANES) * self.inner * LANES;
                at / own * step + at % own
            }
        };
        at..at + walk.extent()
    }

    fn units(&self) -> Units {
        let blocks = self.channels.div_ceil(LANES);
        match self.layout {
            Layout::Blocked => Units { tiles: blocks, per_tile: self.batch, rows: false },
            Layout::Plain if self.inner == 1 => Units { tiles: blocks, per_tile: 1, rows: false },
            Layout::Plain => Units { tiles: self.channels, per_tile: self.batch, rows: true },
        }
    }

    /// Where unit `u` begins and how it is walked.
    fn unit(&self, u: usize) -> (usize, Walk) {
        let c = self.channels;
        match self.layout {
            Layout::Blocked => (u * self.inner * LANES, Walk::column(self.inner, LANES, LANES)),
            Layout::Plain if self.inner == 1 => {
                (u * LANES, Walk::column(self.batch, c, LANES.min(c - u * LANES)))
            }
            Layout::Plain => (u * self.inner, Walk::row(self.inner)),
        }
    }

    /// The channels of a tile: one, or up to sixteen.
    fn tile_channels(&self, rows: bool, tile: usize) -> Range<usize> {
        if rows { tile..tile + 1 } else { tile * LANES..((tile + 1) * LANES).min(self.channels) }
    }

    /// Number of elements of scratch that [`BatchNorm::statistics`] and [`BatchNorm::backward`] need.
    pub fn scratch(&self) -> usize {
        let units = self.units();
        2 * LANES * units.tiles * units.per_tile
    }

    /// The mean and the biased variance of each channel, `[channels]`.
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn statistics(&self, x: &[f32], mean: &mut [f32], var: &mut [f32], scratch: &mut [f32]) {
        assert!(self.fits(x.len(), self.steps.x), "batch norm: operand's length");
        let isa = Isa::active();
        let units = self.units();
        let counts = |lane: usize| match units.rows {
            true => self.inner / LANES + usize::from(lane < self.inner % LANES),
            false => self.count() / units.per_tile,
        };
        self.partials(&units, scratch, |unit| {
            let (at, walk) = self.unit(unit);
            let [mut mean, mut squares] = walk::moments(isa, walk, &x[self.range(at, walk, self.steps.x)]);
            if units.rows {
                let (_, m, q) = join((0..LANES).map(|lane| (counts(lane), mean[lane], squares[lane])));
                (mean[0], squares[0]) = (m as f32, q as f32);
            }
            [mean, squares]
        });
        let n = if units.rows { self.inner } else { counts(0) };
        for tile in 0..units.tiles {
            for (lane, c) in self.tile_channels(units.rows, tile).enumerate() {
                let parts = (0..units.per_tile).map(|k| {
                    let p = &scratch[(k * units.tiles + tile) * 2 * LANES..];
                    (n, p[lane], p[LANES + lane])
                });
                let (n, m, squares) = join(parts);
                (mean[c], var[c]) = (m as f32, (squares / n) as f32);
            }
        }
    }

    /// Moves the running statistics towards the batch's: `r += momentum·(new − r)`, with the unbiased variance.
    pub fn update_running(
        &self,
        momentum: f32,
        mean: &[f32],
        var: &[f32],
        running_mean: &mut [f32],
        running_var: &mut [f32],
    ) {
        let n = self.count() as f32;
        let unbiased = n / (n - 1.0).max(1.0);
        for c in 0..self.channels {
            running_mean[c] += momentum * (mean[c] - running_mean[c]);
            running_var[c] += momentum * (var[c] * unbiased - running_var[c]);
        }
    }

    /// Turns variances into 1/√(v + ε), in place.
    pub fn invert(&self, var: &mut [f32]) {
        var.iter_mut().for_each(|v| *v = 1.0 / (*v + self.eps).sqrt());
    }

    /// `y = hold?((x − mean)·inv_std·weight + bias + residual?)`, with statistics of the batch (training) or running
    /// ones (inference).
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn normalise(
        &self,
        x: &[f32],
        saved: Saved<'_>,
        affine: Affine<'_>,
        fused: Fused<'_>,
        y: &mut [f32],
    ) {
        let fits = self.fits(x.len(), self.steps.x) && self.fits(y.len(), self.steps.y);
        assert!(
            fits && fused.residual.is_none_or(|r| r.len() == self.len()),
            "batch norm: lengths don't fit"
        );
        let isa = Isa::active();
        let units = self.units();
        let out = Shared::new(y);
        self.over_slabs(&units, |tile, at, walk| {
            let lanes = |data| self.lanes(&units, tile, data);
            let (mean, shift) =
                (lanes(Some(saved.mean)), affine.bias.map_or([0.0; LANES], |b| lanes(Some(b))));
            let (inv_std, weight) = (lanes(Some(saved.inv_std)), lanes(affine.weight));
            let scale = std::array::from_fn(|i| inv_std[i] * weight[i]);
            let range = |step| self.range(at, walk, step);
            let n =
                Normalise { mean: &mean, scale: &scale, shift: &shift, hold: fused.bounds.map(Bounds::hold) };
            let y = range(self.steps.y);
            // SAFETY: `over_slabs` hands out extents that are disjoint wherever calls run at the same time.
            let y = unsafe { std::slice::from_raw_parts_mut(out.as_ptr().add(y.start), y.len()) };
            let residual = fused.residual.map(|r| &r[range(None)]);
            walk::normalise(isa, walk, n, &x[range(self.steps.x)], residual, y);
        });
    }

    /// Gradients of everything. `function` is what the forward pass ended in; `dresidual` is written where given;
    /// `dweight` and `dbias` are `[channels]`.
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn backward(
        &self,
        x: &[f32],
        function: Function<'_>,
        dy: &[f32],
        saved: Saved<'_>,
        weight: Option<&[f32]>,
        dx: &mut [f32],
        dresidual: Option<&mut [f32]>,
        dweight: &mut [f32],
        dbias: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (len, steps) = (self.len(), self.steps);
        let fits = self.fits(x.len(), steps.x) && self.fits(dy.len(), steps.dy);
        let fits = fits && dx.len() == len;
        let fits = fits && !matches!(function, Function::Relu(y) if !self.fits(y.len(), steps.y));
        assert!(fits && dresidual.as_ref().is_none_or(|d| d.len() == len), "batch norm: lengths don't fit");
        let isa = Isa::active();
        let units = self.units();
        self.partials(&units, scratch, |unit| {
            let (at, walk) = self.unit(unit);
            let range = |step| self.range(at, walk, step);
            let tile = unit % units.tiles;
            let mean = self.lanes(&units, tile, Some(saved.mean));
            let line = self.line(&units, tile, saved, weight, function);
            let gate = function.gate(&line, |y| &y[range(steps.y)]);
            walk::sums(isa, walk, &mean, &x[range(steps.x)], gate, &dy[range(steps.dy)])
        });
        self.join_sums(&units, scratch, saved, dweight, dbias);
        let n = self.count() as f32;
        let (dweight, dbias) = (&*dweight, &*dbias);
        let (dx, dresidual) = (Shared::new(dx), dresidual.map(Shared::new));
        self.over_slabs(&units, |tile, at, walk| {
            let lanes = |data| self.lanes(&units, tile, data);
            let (mean, s, w) = (lanes(Some(saved.mean)), lanes(Some(saved.inv_std)), lanes(weight));
            let (dw, db) = (lanes(Some(dweight)), lanes(Some(dbias)));
            let a: Lanes = std::array::from_fn(|i| w[i] * s[i]);
            let b = std::array::from_fn(|i| -a[i] * s[i] * dw[i] / n);
            let c = std::array::from_fn(|i| -a[i] * db[i] / n);
            let range = |step| self.range(at, walk, step);
            let k = Gradient { mean: &mean, a: &a, b: &b, c: &c };
            // SAFETY: as in `normalise`.
            let dx = unsafe { std::slice::from_raw_parts_mut(dx.as_ptr().add(at), walk.extent()) };
            let dr = dresidual.as_ref().map(|d| {
                // SAFETY: as above.
                unsafe { std::slice::from_raw_parts_mut(d.as_ptr().add(at), walk.extent()) }
            });
            let line = self.line(&units, tile, saved, weight, function);
            let gate = function.gate(&line, |y| &y[range(steps.y)]);
            walk::gradient(isa, walk, k, &x[range(steps.x)], gate, &dy[range(steps.dy)], dx, dr);
        });
    }

    /// A tile's factor and summand of the forward pass, as [`BatchNorm::normalise`] computes them; without a bias to compute
    /// it from, anything.
    fn line(
        &self,
        units: &Units,
        tile: usize,
        saved: Saved<'_>,
        weight: Option<&[f32]>,
        function: Function<'_>,
    ) -> [Lanes; 2] {
        let Function::Behind(bias, _) = function else { return [[0.0; LANES]; 2] };
        let lanes = |data| self.lanes(units, tile, data);
        let (inv_std, weight) = (lanes(Some(saved.inv_std)), lanes(weight));
        [std::array::from_fn(|i| inv_std[i] * weight[i]), lanes(Some(bias))]
    }

    /// Adds the units' sums up into dbias = Σ g and dweight = s·Σ g·(x − m).
    fn join_sums(
        &self,
        units: &Units,
        scratch: &[f32],
        saved: Saved<'_>,
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) {
        for tile in 0..units.tiles {
            for (lane, c) in self.tile_channels(units.rows, tile).enumerate() {
                let (mut sum, mut sum_x) = (0.0, 0.0);
                for k in 0..units.per_tile {
                    let p = &scratch[(k * units.tiles + tile) * 2 * LANES..][..2 * LANES];
                    let (low, high) = p.split_at(LANES);
                    if units.rows {
                        sum += low.iter().map(|&v| f64::from(v)).sum::<f64>();
                        sum_x += high.iter().map(|&v| f64::from(v)).sum::<f64>();
                    } else {
                        sum += f64::from(low[lane]);
                        sum_x += f64::from(high[lane]);
                    }
                }
                (dbias[c], dweight[c]) = (sum as f32, (sum_x * f64::from(saved.inv_std[c])) as f32);
            }
        }
    }

    /// A tile's coefficients by lane: `data`'s, 1 where there is none, 0 for lanes that are no channel.
    fn lanes(&self, units: &Units, tile: usize, data: Option<&[f32]>) -> Lanes {
        let channels = self.tile_channels(units.rows, tile);
        if units.rows {
            return [data.map_or(1.0, |d| d[tile]); LANES];
        }
        let mut lanes = [0.0; LANES];
        match data {
            Some(d) => lanes[..channels.len()].copy_from_slice(&d[channels]),
            None => lanes[..channels.len()].fill(1.0),
        }
        lanes
    }

    /// Puts each unit's two results into scratch, in parallel.
    fn partials(&self, units: &Units, scratch: &mut [f32], f: impl Fn(usize) -> [Lanes; 2] + Sync) {
        let scratch = Shared::new(&mut scratch[..self.scratch()]);
        self.over_units(units, |unit| {
            // SAFETY: each unit has its own place.
            let out = unsafe { scratch.part(unit * 2 * LANES..(unit + 1) * 2 * LANES) };
            let [first, second] = f(unit);
            out[..LANES].copy_from_slice(&first);
            out[LANES..].copy_from_slice(&second);
        });
    }

    /// Calls `f` with tile, start and walk for all elements; calls whose extents overlap are made one after another.
    fn over_slabs(&self, units: &Units, f: impl Fn(usize, usize, Walk) + Sync) {
        if self.layout == Layout::Blocked || self.inner != 1 {
            return self.over_units(units, |unit| {
                let (at, walk) = self.unit(unit);
                f(unit % units.tiles, at, walk);
            });
        }
        let c = self.channels;
        parallel_chunks(self.batch, (GRAIN / c.max(1)).max(1), |rows| {
            for tile in 0..units.tiles {
                let walk = Walk::column(rows.len(), c, LANES.min(c - tile * LANES));
                f(tile, rows.start * c + tile * LANES, walk);
            }
        });
    }

    /// Calls `f` for each unit, in parallel.
    fn over_units(&self, units: &Units, f: impl Fn(usize) + Sync) {
        let total = units.tiles * units.per_tile;
        let per_task = (GRAIN * total / self.len().max(1)).max(1);
        parallel_for(total.div_ceil(per_task), |task| {
            (task * per_task..((task + 1) * per_task).min(total)).for_each(&f);
        });
    }
}

/// Number, mean and sum of squared deviations of parts taken together (Chan, Golub and LeVeque, 1979).
fn join(parts: impl Iterator<Item = (usize, f32, f32)>) -> (f64, f64, f64) {
    parts.fold((0.0, 0.0, 0.0), |(n, mean, squares), (m, part_mean, part_squares)| {
        if m == 0 {
            return (n, mean, squares);
        }
        let (m, delta) = (m as f64, f64::from(part_mean) - mean);
        let total = n + m;
        (total, mean + delta * m / total, squares + f64::from(part_squares) + delta * delta * n * m / total)
    })
}
