//! The cells themselves: what happens to the gates of sixteen units of some rows, forward and backward.

use super::{Activation, Cell};
use crate::math::{self, flush};
use crate::micro::{MAX_ROWS, PANEL};
use crate::prefetch::prefetch;
use crate::simd::{Float, LANES, Simd, kernel};
use std::ops::Range;

/// Where the values of a tile's rows lie: at some rows of a matrix, from some column on. Null stands for zeros.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    base: *mut f32,
    step: usize,
    rows: &'a [usize; MAX_ROWS],
}

impl<'a> Place<'a> {
    /// The given rows, `step` apart, of the matrix at `base`.
    pub fn new(base: *mut f32, step: usize, rows: &'a [usize; MAX_ROWS]) -> Self {
        Place { base, step, rows }
    }

    /// [`Place::new`], for reading only.
    pub fn read(base: *const f32, step: usize, rows: &'a [usize; MAX_ROWS]) -> Self {
        Place::new(base.cast_mut(), step, rows)
    }

    /// Zeros.
    pub fn zeros(rows: &'a [usize; MAX_ROWS]) -> Self {
        Place::new(std::ptr::null_mut(), 0, rows)
    }

    /// The same rows from `columns` further on.
    pub fn along(self, columns: usize) -> Self {
        if self.base.is_null() { self } else { Place { base: self.base.wrapping_add(columns), ..self } }
    }

    /// Asks for `len` floats of the first `count` rows.
    pub fn ask(&self, count: usize, len: usize) {
        if !self.base.is_null() {
            (0..count).for_each(|r| prefetch(self.at(r), len));
        }
    }

    /// Where the matrix begins.
    pub fn base(&self) -> *mut f32 {
        self.base
    }

    /// Where row number `r` of the tile begins in the matrix.
    #[inline(always)]
    pub fn offset(&self, r: usize) -> usize {
        self.rows[r] * self.step
    }

    /// Row number `r` of the tile.
    #[inline(always)]
    fn at(&self, r: usize) -> *mut f32 {
        self.base.wrapping_add(self.offset(r))
    }
}

/// Where the values of up to a tile's rows lie, for one block of units. Gates are whole panels, `gate` apart, and so
/// are sums; everything else has `width` lanes.
#[derive(Clone, Copy)]
pub(super) struct Forward<'a> {
    pub cell: Cell,
    pub count: usize,
    pub width: usize,
    /// The gates' sums, or where `source` has those of the inputs, of the states only, `sum` apart.
    pub sums: Place<'a>,
    pub sum: usize,
    /// The inputs' sums, from panel `panel` on.
    pub source: Option<&'a Source>,
    pub panel: usize,
    /// How many gates have sums of the states beside those.
    pub own: usize,
    /// Activated gates (not of an Elman cell), where they are kept.
    pub gates: Place<'a>,
    pub gate: usize,
    /// LSTM: c, written. GRU: W_hn·h′ + b_hn, read.
    pub extra: Place<'a>,
    /// LSTM: the c before. GRU: the h before.
    pub before: Place<'a>,
    pub y: Place<'a>,
    /// h again, for the next step's product; whole panels.
    pub state: Place<'a>,
}

/// As [`Forward`], for the backward pass.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a> {
    pub cell: Cell,
    pub count: usize,
    pub width: usize,
    /// Activated gates on entry (not of an Elman cell), gradients of their sums on return.
    pub gates: Place<'a>,
    pub gate: usize,
    /// LSTM: c. GRU: W_hn·h′ + b_hn. Elman: y.
    pub extra: Place<'a>,
    /// LSTM: the c before. GRU: the h before.
    pub before: Place<'a>,
    pub dy: Place<'a>,
    /// What the later step sends back through the recurrent weights, or the last state's gradient; whole panels.
    pub dh: Place<'a>,
    /// LSTM: dc, replaced by that of the step before. GRU: dh past the weights, replaced likewise. Whole panels.
    pub carry: Place<'a>,
    /// GRU: the gradients that go to the recurrent weights, `gate` apart.
    pub recurrent: Place<'a>,
    /// Those (of other cells, those of the gates' sums) again, as neighbours, for the product of the step before.
    pub state: Place<'a>,
    /// Where the gates' gradients are summed over rows and steps, in [`sums`] whole panels.
    pub sums: *mut f32,
}

/// Panels of sums of a block: of each gate's gradient, and of a GRU's n towards the recurrent bias.
pub(super) fn sums(cell: Cell) -> usize {
    cell.gates() + usize::from(cell == Cell::Gru)
}

/// A tile's rows of panels somewhere else.
pub(super) struct Source {
    pub rows: [*const f32; MAX_ROWS],
    /// Distance of the panels.
    pub panel: usize,
}

impl Source {
    /// `count` rows, which begin where `row` says, in panels `panel` apart.
    pub fn new(count: usize, panel: usize, row: impl Fn(usize) -> *const f32) -> Source {
        let mut rows = [std::ptr::null(); MAX_ROWS];
        rows[..count].iter_mut().enumerate().for_each(|(r, to)| *to = row(r));
        Source { rows, panel }
    }

    /// Asks for some panels of the first `count` rows.
    pub fn ask(&self, count: usize, panels: Range<usize>) {
        for row in &self.rows[..count] {
            panels.clone().for_each(|k| prefetch(row.wrapping_add(k * self.panel), PANEL));
        }
    }
}

kernel! {
    /// One step of the cell. All places must be valid.
    pub(super) fn forward(p: &Forward<'_>) = forward_with;
    /// One step of the cell backward. All places must be valid.
    pub(super) fn backward(p: &Backward<'_>) = backward_with;
}

/// The panel at `p`.
#[inline(always)]
fn panel<S: Simd>(s: S, p: *const f32) -> S::F {
    // SAFETY: the caller of the kernel vouches for whole panels.
    s.load(unsafe { &*p.cast() })
}

/// Stores a panel at `p`.
#[inline(always)]
fn put<F: Float>(v: F, p: *mut f32) {
    // SAFETY: the caller of the kernel vouches for whole panels.
    v.store(unsafe { &mut *p.cast::<[f32; LANES]>() });
}

/// One panel per gate, `gate` apart.
#[inline(always)]
fn gates<S: Simd, const N: usize>(s: S, p: *const f32, gate: usize) -> [S::F; N] {
    std::array::from_fn(|k| panel(s, p.wrapping_add(k * gate)))
}

/// The sums of row `r`'s gates.
#[inline(always)]
fn sums_of<S: Simd, const N: usize>(s: S, p: &Forward<'_>, r: usize) -> [S::F; N] {
    let own = p.sums.at(r);
    let Some(source) = p.source else { return gates(s, own, p.sum) };
    let mut sums = gates(s, source.rows[r].wrapping_add(p.panel * source.panel), source.panel);
    for k in 0..N {
        if k < p.own {
            sums[k] = sums[k] + panel(s, own.wrapping_add(k * p.sum));
        }
    }
    sums
}

/// Stores one panel per gate, `gate` apart, if there is a place.
#[inline(always)]
fn keep_gates<F: Float, const N: usize>(values: [F; N], p: *mut f32, gate: usize) {
    if !p.is_null() {
        put_gates(values, p, gate);
    }
}

/// Stores one panel per gate, `gate` apart.
#[inline(always)]
fn put_gates<F: Float, const N: usize>(values: [F; N], p: *mut f32, gate: usize) {
    for k in 0..N {
        put(values[k], p.wrapping_add(k * gate));
    }
}

/// `width` lanes at `p`, or zeros.
#[inline(always)]
fn part<S: Simd>(s: S, p: *const f32, width: usize) -> S::F {
    if p.is_null() {
        return s.splat(0.0);
    }
    // SAFETY: the caller of the kernel vouches for `width` elements.
    s.load_part(unsafe { std::slice::from_raw_parts(p, width) })
}

#[inline(always)]
fn put_part<S: Simd>(v: S::F, p: *mut f32, width: usize) {
    // SAFETY: as above.
    v.store_part(unsafe { std::slice::from_raw_parts_mut(p, width) });
}

#[inline(always)]
fn forward_with<S: Simd>(s: S, p: &Forward<'_>) {
    for r in 0..p.count {
        let at = p.gates.at(r);
        let h = match p.cell {
            Cell::Elman(f) => {
                let [v] = sums_of(s, p, r);
                match f {
                    Activation::Tanh => math::tanh(s, v),
                    Activation::Relu => s.splat(0.0).max(v),
                    Activation::Sigmoid => math::sigmoid(s, v),
                    Activation::LeakyRelu => v.select(s.splat(0.0).lt(v), s.splat(0.01) * v),
                    Activation::Elu => v.select(s.splat(0.0).lt(v), math::exp(s, v) - s.splat(1.0)),
                    Activation::Softplus => math::softplus(s, v),
                    Activation::Identity => v,
                }
            }
            Cell::Lstm => {
                let [i, f, g, o] = sums_of(s, p, r);
                let (i, f) = (math::sigmoid(s, i), math::sigmoid(s, f));
                let (g, o) = (math::tanh(s, g), math::sigmoid(s, o));
                let c = flush(s, f.mul_add(part(s, p.before.at(r), p.width), i * g));
                keep_gates([i, f, g, o], at, p.gate);
                put_part::<S>(c, p.extra.at(r), p.width);
                o * math::tanh(s, c)
            }
            Cell::Gru => {
                let [reset, z, n] = sums_of(s, p, r);
                let (reset, z) = (math::sigmoid(s, reset), math::sigmoid(s, z));
                let n = math::tanh(s, reset.mul_add(panel(s, p.extra.at(r)), n));
                keep_gates([reset, z, n], at, p.gate);
                z.mul_add(part(s, p.before.at(r), p.width) - n, n)
            }
        };
        let h = flush(s, h);
        put_part::<S>(h, p.y.at(r), p.width);
        put(h, p.state.at(r));
    }
}

#[inline(always)]
fn backward_with<S: Simd>(s: S, p: &Backward<'_>) {
    match p.cell {
        Cell::Elman(f) => {
            let mut sums = [s.splat(0.0); 1];
            for r in 0..p.count {
                add_to(&mut sums, elman_backward(s, p, r, f));
            }
            keep_sums(s, p, sums);
        }
        Cell::Lstm => {
            let mut sums = [s.splat(0.0); 4];
            for r in 0..p.count {
                add_to(&mut sums, lstm_backward(s, p, r));
            }
            keep_sums(s, p, sums);
        }
        Cell::Gru => {
            let mut sums = [s.splat(0.0); 4];
            for r in 0..p.count {
                add_to(&mut sums, gru_backward(s, p, r));
            }
            keep_sums(s, p, sums);
        }
    }
}

#[inline(always)]
fn add_to<F: Float, const N: usize>(sums: &mut [F; N], values: [F; N]) {
    for k in 0..N {
        sums[k] = sums[k] + values[k];
    }
}

/// Adds the sums of a tile's rows to those of all rows.
#[inline(always)]
fn keep_sums<S: Simd, const N: usize>(s: S, p: &Backward<'_>, sums: [S::F; N]) {
    for k in 0..N {
        let at = p.sums.wrapping_add(k * PANEL);
        put(panel(s, at) + sums[k], at);
    }
}

/// The gradient of row `r`'s h.
#[inline(always)]
fn gradient_of_h<S: Simd>(s: S, p: &Backward<'_>, r: usize) -> S::F {
    part(s, p.dy.at(r), p.width) + panel(s, p.dh.at(r))
}

#[inline(always)]
fn elman_backward<S: Simd>(s: S, p: &Backward<'_>, r: usize, f: Activation) -> [S::F; 1] {
    let dh = gradient_of_h(s, p, r);
    let (y, one) = (part(s, p.extra.at(r), p.width), s.splat(1.0));
    let slope = match f {
        Activation::Tanh => (one - y) * (one + y),
        Activation::Relu => one.select(s.splat(0.0).lt(y), s.splat(0.0)),
        Activation::Sigmoid => y * (one - y),
        Activation::LeakyRelu => one.select(s.splat(0.0).lt(y), s.splat(0.01)),
        Activation::Elu => one.select(s.splat(0.0).lt(y), y + one),
        Activation::Softplus => one - math::exp(s, -y),
        Activation::Identity => one,
    };
    let d = flush(s, dh * slope);
    put(d, p.gates.at(r));
    put(d, p.state.at(r));
    [d]
}

#[inline(always)]
fn lstm_backward<S: Simd>(s: S, p: &Backward<'_>, r: usize) -> [S::F; 4] {
    let dh = gradient_of_h(s, p, r);
    let one = s.splat(1.0);
    let [i, f, g, o] = gates(s, p.gates.at(r), p.gate);
    let t = math::tanh(s, part(s, p.extra.at(r), p.width));
    let dc = (dh * o).mul_add((one - t) * (one + t), panel(s, p.carry.at(r)));
    let di = dc * g * i * (one - i);
    let df = dc * part(s, p.before.at(r), p.width) * f * (one - f);
    let dg = dc * i * (one - g) * (one + g);
    let d_o = dh * t * o * (one - o);
    let (di, df, dg, d_o) = (flush(s, di), flush(s, df), flush(s, dg), flush(s, d_o));
    let d = [di, df, dg, d_o];
    put_gates(d, p.gates.at(r), p.gate);
    put_gates(d, p.state.at(r), PANEL);
    put(flush(s, dc * f), p.carry.at(r));
    d
}

#[inline(always)]
fn gru_backward<S: Simd>(s: S, p: &Backward<'_>, r: usize) -> [S::F; 4] {
    let one = s.splat(1.0);
    let [reset, z, n] = gates(s, p.gates.at(r), p.gate);
    let dh = gradient_of_h(s, p, r) + panel(s, p.carry.at(r));
    let dn = flush(s, dh * (one - z) * (one - n) * (one + n));
    let dz = flush(s, dh * (part(s, p.before.at(r), p.width) - n) * z * (one - z));
    let dr = flush(s, dn * panel(s, p.extra.at(r)) * reset * (one - reset));
    let dn_recurrent = flush(s, dn * reset);
    put_gates([dr, dz, dn], p.gates.at(r), p.gate);
    put_gates([dr, dz, dn_recurrent], p.recurrent.at(r), p.gate);
    put_gates([dr, dz, dn_recurrent], p.state.at(r), PANEL);
    put(flush(s, dh * z), p.carry.at(r));
    [dr, dz, dn, dn_recurrent]
}
