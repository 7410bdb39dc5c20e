//! What happens to a strip of queries' products with a tile of keys, one kernel call for all its rows.
//!
//! Products come scaled by log₂ e, so that exponentials are powers of two.

use super::product::STRIP;
use crate::dropout::Dropout;
use crate::isa::Isa;
use crate::math;
use crate::prefetch::prefetch;
use crate::simd::{Float, Int, LANES, Simd, kernel};
use std::f32::consts::{LN_2, LOG2_E};

/// What the queries of a strip see of a tile of keys.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    /// Keys of the tile.
    pub keys: usize,
    /// Keys that the first query sees, counted from the tile's first; each further query sees one more. `None`: all
    /// see all.
    pub causal: Option<isize>,
    /// 0 hides a key; begins at the tile's first key.
    pub mask: Option<&'a [f32]>,
    /// Added to the products: begins at the first query's value for the tile's first key, with the distance of rows.
    pub bias: Option<(&'a [f32], usize)>,
}

impl Sight<'_> {
    /// How many of the keys row `r` sees.
    #[inline(always)]
    pub fn seen(&self, r: usize) -> usize {
        self.causal.map_or(self.keys, |first| (first + r as isize).clamp(0, self.keys as isize) as usize)
    }

    /// The first row that sees a key.
    pub fn first_row(&self, key: usize) -> usize {
        self.causal.map_or(0, |first| (key as isize + 1 - first).max(0) as usize)
    }
}

/// Where the softmax of a strip's rows stands after some tiles of keys.
pub(super) struct Running {
    /// Largest exponent.
    pub largest: [f32; STRIP],
    /// Sum of 2^(s − largest).
    pub total: [f32; STRIP],
    /// Factor for what was summed before the last tile.
    pub factor: [f32; STRIP],
}

impl Running {
    /// Before the first tile.
    pub fn new() -> Self {
        Running { largest: [f32::NEG_INFINITY; STRIP], total: [0.0; STRIP], factor: [0.0; STRIP] }
    }
}

/// Rows of a strip's matrix in panels: 16 columns of a row are neighbours, and the row's next ones `distance` rows further.
pub(super) struct Panels<'a> {
    vectors: &'a mut [[f32; LANES]],
    distance: usize,
}

impl<'a> Panels<'a> {
    /// Rows whose panels lie `distance` rows apart, from the first of `x` on.
    pub fn new(x: &'a mut [f32], distance: usize) -> Self {
        Panels { vectors: x.as_chunks_mut().0, distance }
    }

    #[inline(always)]
    fn at(&mut self, row: usize, panel: usize) -> &mut [f32; LANES] {
        &mut self.vectors[panel * self.distance + row]
    }

    /// Applies dropout to the first `len` columns of a row, whose counters begin at `block`.
    pub fn drop(&mut self, isa: Isa, dropout: &Dropout, row: usize, len: usize, block: u64) {
        let mut together = [[0.0; LANES]; Dropout::BLOCK / LANES];
        for (i, first) in (0..len.div_ceil(LANES)).step_by(together.len()).enumerate() {
            let panels = first..len.div_ceil(LANES).min(first + together.len());
            for (panel, x) in panels.clone().zip(&mut together) {
                *x = *self.at(row, panel);
            }
            dropout.apply_blocks(isa, block + i as u64, together[..panels.len()].as_flattened_mut());
            for (panel, x) in panels.zip(&together) {
                *self.at(row, panel) = *x;
            }
        }
    }
}

/// Rows in memory that are this value's alone.
pub(super) struct Rows {
    at: *mut f32,
    distance: usize,
    width: usize,
}

impl Rows {
    /// Rows of `width` elements from `at` on.
    ///
    /// # Safety
    /// The rows that are used while this lives are writable, and nobody else refers to them.
    pub unsafe fn new(at: *mut f32, distance: usize, width: usize) -> Self {
        Rows { at, distance, width }
    }

    /// Row `r`.
    #[inline(always)]
    pub fn get(&mut self, r: usize) -> &mut [f32] {
        // SAFETY: promised when this was made.
        unsafe { std::slice::from_raw_parts_mut(self.at.wrapping_add(r * self.distance), self.width) }
    }
}

kernel! {
    /// Turns the products of `rows` rows into 2^(s − m), m being a row's largest so far; 0 where hidden.
    pub(super) fn softmax(x: &mut Panels<'_>, rows: usize, sight: &Sight<'_>, state: &mut Running) = softmax_with;
    /// Turns products s and dP of as many rows as there are sums into P = 2^(s − log₂ e·sum) and dS = P·(dP − delta), 0 where hidden.
    pub(super) fn gradient(p: &mut Panels<'_>, ds: &mut Panels<'_>, sight: &Sight<'_>, sums: &[f32], delta: &[f32]) = gradient_with;
    /// Multiplies the rows by a factor each; writes zeros where that is 0.
    pub(super) fn scale(x: &mut Panels<'_>, width: usize, factors: &[f32]) = scale_with;
    /// Writes the rows, multiplied by a factor each, to rows in memory; zeros where that is 0.
    pub(super) fn write(x: &mut Panels<'_>, factors: &[f32], to: &mut Rows) = write_with;
    /// 1/total, and largest/log₂ e + ln total; 0 and +∞ for rows that have seen nothing.
    pub(super) fn close(state: &Running, factors: &mut [f32], sums: &mut [f32]) = close_with;
    /// factor·Σ a·b of rows of `width` elements, as many as `y` has, each operand with its distance of rows; asks for the rows of `b`
    /// that lie so many further, unless that is 0.
    pub(super) fn dots(a: (&[f32], usize), b: (&[f32], usize), width: usize, ahead: usize, factor: f32, y: &mut [f32]) = dots_with;
}

/// The lanes in front of `count`.
#[inline(always)]
fn lanes_below<S: Simd>(s: S, count: usize) -> S::M {
    s.iota().to_float().lt(s.splat(count as f32))
}

/// The vector `x` of row `r` from key `at` on with its bias; −∞ where hidden or behind the `seen` keys.
#[inline(always)]
fn masked<S: Simd>(s: S, x: &[f32; LANES], sight: &Sight<'_>, r: usize, at: usize, seen: usize) -> S::F {
    let end = seen.min(at + LANES);
    let hide = s.splat(f32::NEG_INFINITY);
    let mut v = s.load(x);
    if let Some((bias, row)) = sight.bias {
        v = s.load_part(&bias[r * row + at..r * row + end]).mul_add(s.splat(LOG2_E), v);
    }
    if let Some(mask) = sight.mask {
        v = hide.select(s.load_part(&mask[at..end]).eq(s.splat(0.0)), v);
    }
    if end < at + LANES { v.select(lanes_below(s, end - at), hide) } else { v }
}

/// Masks the rows and returns each one's largest, with what it was before.
#[inline(always)]
fn largest<S: Simd>(
    s: S,
    x: &mut Panels<'_>,
    rows: usize,
    sight: &Sight<'_>,
    before: &[f32; STRIP],
) -> [f32; STRIP] {
    let plain = sight.mask.is_none() && sight.bias.is_none();
    let mut all = *before;
    for r in 0..rows {
        let seen = sight.seen(r);
        let mut largest = s.splat(f32::NEG_INFINITY);
        for panel in 0..seen.div_ceil(LANES) {
            let x = x.at(r, panel);
            let v = masked(s, x, sight, r, panel * LANES, seen);
            if !plain || (panel + 1) * LANES > seen {
                v.store(x);
            }
            largest = v.max(largest);
        }
        for panel in seen.div_ceil(LANES)..sight.keys.div_ceil(LANES) {
            s.splat(0.0).store(x.at(r, panel));
        }
        all[r] = all[r].max(largest.largest_number());
    }
    all
}

#[inline(always)]
fn softmax_with<S: Simd>(s: S, x: &mut Panels<'_>, rows: usize, sight: &Sight<'_>, state: &mut Running) {
    // All rows' largest first: one row's would have to be waited for.
    let largest = largest(s, x, rows, sight, &state.largest);
    for r in 0..rows {
        // Where nothing was seen yet, all powers are 0.
        let m = s.splat(if largest[r] == f32::NEG_INFINITY { 0.0 } else { largest[r] });
        let mut sum = s.splat(0.0);
        for panel in 0..sight.seen(r).div_ceil(LANES) {
            let x = x.at(r, panel);
            let e = math::exp2(s, s.load(x) - m);
            e.store(x);
            sum = sum + e;
        }
        let factor = math::exp2(s, s.splat(state.largest[r]) - m).array()[0];
        state.total[r] = state.total[r] * factor + sum.sum();
        state.factor[r] = factor;
    }
    state.largest = largest;
}

#[inline(always)]
fn gradient_with<S: Simd>(
    s: S,
    p: &mut Panels<'_>,
    ds: &mut Panels<'_>,
    sight: &Sight<'_>,
    sums: &[f32],
    delta: &[f32],
) {
    for r in 0..sums.len() {
        let seen = sight.seen(r);
        let (sum, delta) = (s.splat(sums[r] * LOG2_E), s.splat(delta[r]));
        for panel in 0..seen.div_ceil(LANES) {
            let (p, ds) = (p.at(r, panel), ds.at(r, panel));
            let power = math::exp2(s, masked(s, p, sight, r, panel * LANES, seen) - sum);
            let mut d = s.load(ds) - delta;
            if (panel + 1) * LANES > seen {
                d = d.select(lanes_below(s, seen - panel * LANES), s.splat(0.0));
            }
            power.store(p);
            (power * d).store(ds);
        }
        for panel in seen.div_ceil(LANES)..sight.keys.div_ceil(LANES) {
            s.splat(0.0).store(p.at(r, panel));
            s.splat(0.0).store(ds.at(r, panel));
        }
    }
}

#[inline(always)]
fn scale_with<S: Simd>(s: S, x: &mut Panels<'_>, width: usize, factors: &[f32]) {
    for panel in 0..width.div_ceil(LANES) {
        for (r, &factor) in factors.iter().enumerate() {
            let x = x.at(r, panel);
            let scaled = if factor == 0.0 { s.splat(0.0) } else { s.load(x) * s.splat(factor) };
            scaled.store(x);
        }
    }
}

#[inline(always)]
fn write_with<S: Simd>(s: S, x: &mut Panels<'_>, factors: &[f32], to: &mut Rows) {
    for (r, &factor) in factors.iter().enumerate() {
        for (panel, to) in to.get(r).chunks_mut(LANES).enumerate() {
            let scaled = if factor == 0.0 { s.splat(0.0) } else { s.load(x.at(r, panel)) * s.splat(factor) };
            scaled.store_part(to);
        }
    }
}

#[inline(always)]
fn close_with<S: Simd>(s: S, state: &Running, factors: &mut [f32], sums: &mut [f32]) {
    let rows = sums.len();
    let parts = factors[..rows].chunks_mut(LANES).zip(sums.chunks_mut(LANES));
    for (i, (factor, sum)) in parts.enumerate() {
        let at = i * LANES..rows.min((i + 1) * LANES);
        let (largest, total) = (s.load_part(&state.largest[at.clone()]), s.load_part(&state.total[at]));
        let none = total.eq(s.splat(0.0));
        s.splat(0.0).select(none, s.splat(1.0) / total).store_part(factor);
        let log = largest.mul_add(s.splat(LN_2), math::log(s, total));
        s.splat(f32::INFINITY).select(none, log).store_part(sum);
    }
}

#[inline(always)]
fn dots_with<S: Simd>(
    s: S,
    a: (&[f32], usize),
    b: (&[f32], usize),
    width: usize,
    ahead: usize,
    factor: f32,
    y: &mut [f32],
) {
    for (r, y) in y.iter_mut().enumerate() {
        if ahead > 0 {
            prefetch(b.0.as_ptr().wrapping_add((r + ahead) * b.1), width);
        }
        let (a, a_tail) = a.0[r * a.1..][..width].as_chunks::<LANES>();
        let (b, b_tail) = b.0[r * b.1..][..width].as_chunks::<LANES>();
        let mut sum = s.load_tail(a_tail) * s.load_tail(b_tail);
        for i in 0..a.len() {
            sum = s.load(&a[i]).mul_add(s.load(&b[i]), sum);
        }
        *y = factor * sum.sum();
    }
}
