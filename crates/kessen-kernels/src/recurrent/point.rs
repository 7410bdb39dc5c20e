//! The cells themselves: what happens to the gates of sixteen units of some rows, forward and backward.

use super::{Activation, Cell};
use crate::gemm::prefetch;
use crate::math::{self, flush};
use crate::micro::{MAX_ROWS, PANEL};
use crate::simd::{Float, LANES, Simd, kernel};

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

    /// Row number `r` of the tile.
    #[inline(always)]
    fn at(&self, r: usize) -> *mut f32 {
        self.base.wrapping_add(self.rows[r] * self.step)
    }
}

/// Where the values of up to a tile's rows lie, for one block of units. Gates are whole panels; everything else has
/// `width` lanes.
#[derive(Clone, Copy)]
pub(super) struct Forward<'a> {
    pub cell: Cell,
    pub count: usize,
    pub width: usize,
    /// Sums on entry, activated gates on return.
    pub gates: Place<'a>,
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
    /// Activated gates.
    pub gates: Place<'a>,
    /// LSTM: c. GRU: W_hn·h′ + b_hn. Elman: y.
    pub extra: Place<'a>,
    /// LSTM: the c before. GRU: the h before.
    pub before: Place<'a>,
    pub dy: Place<'a>,
    /// What the later step sends back through the recurrent weights, or the last state's gradient; whole panels.
    pub dh: Place<'a>,
    /// LSTM: dc, replaced by that of the step before. GRU: dh past the weights, replaced likewise. Whole panels.
    pub carry: Place<'a>,
    /// Distance of the gates in `dgates` and `dgates_recurrent`; elsewhere they are neighbours.
    pub gate: usize,
    /// Gradients of the gates' sums.
    pub dgates: Place<'a>,
    /// GRU: those that go to the recurrent weights.
    pub dgates_recurrent: Place<'a>,
    /// Those again, for the product of the step before.
    pub state: Place<'a>,
    /// Where the gates' gradients are summed over rows and steps, in [`sums`] whole panels.
    pub sums: *mut f32,
}

/// Panels of sums of a block: of each gate's gradient, and of a GRU's n towards the recurrent bias.
pub(super) fn sums(cell: Cell) -> usize {
    cell.gates() + usize::from(cell == Cell::Gru)
}

kernel! {
    /// One step of the cell. All places must be valid.
    pub(super) fn forward(p: &Forward<'_>) = forward_with;
    /// One step of the cell backward. All places must be valid.
    pub(super) fn backward(p: &Backward<'_>) = backward_with;
}

/// Panel number `k` behind `p`.
#[inline(always)]
fn panel<S: Simd>(s: S, p: *const f32, k: usize) -> S::F {
    // SAFETY: the caller of the kernel vouches for whole panels.
    s.load(unsafe { &*p.add(k * PANEL).cast() })
}

#[inline(always)]
fn put_panel<S: Simd>(v: S::F, p: *mut f32, k: usize) {
    put(v, p.wrapping_add(k * PANEL));
}

/// Stores a panel at `p`.
#[inline(always)]
fn put<F: Float>(v: F, p: *mut f32) {
    // SAFETY: the caller of the kernel vouches for whole panels.
    v.store(unsafe { &mut *p.cast::<[f32; LANES]>() });
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
        let gates = p.gates.at(r);
        let h = match p.cell {
            Cell::Elman(f) => {
                let v = panel(s, gates, 0);
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
                let i = math::sigmoid(s, panel(s, gates, 0));
                let f = math::sigmoid(s, panel(s, gates, 1));
                let g = math::tanh(s, panel(s, gates, 2));
                let o = math::sigmoid(s, panel(s, gates, 3));
                let c = flush(s, f.mul_add(part(s, p.before.at(r), p.width), i * g));
                put_panel::<S>(i, gates, 0);
                put_panel::<S>(f, gates, 1);
                put_panel::<S>(g, gates, 2);
                put_panel::<S>(o, gates, 3);
                put_part::<S>(c, p.extra.at(r), p.width);
                o * math::tanh(s, c)
            }
            Cell::Gru => {
                let reset = math::sigmoid(s, panel(s, gates, 0));
                let z = math::sigmoid(s, panel(s, gates, 1));
                let n = math::tanh(s, reset.mul_add(panel(s, p.extra.at(r), 0), panel(s, gates, 2)));
                put_panel::<S>(reset, gates, 0);
                put_panel::<S>(z, gates, 1);
                put_panel::<S>(n, gates, 2);
                z.mul_add(part(s, p.before.at(r), p.width) - n, n)
            }
        };
        let h = flush(s, h);
        put_part::<S>(h, p.y.at(r), p.width);
        put_panel::<S>(h, p.state.at(r), 0);
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
        put_panel::<S>(panel(s, p.sums, k) + sums[k], p.sums, k);
    }
}

/// The gradient of row `r`'s h.
#[inline(always)]
fn gradient_of_h<S: Simd>(s: S, p: &Backward<'_>, r: usize) -> S::F {
    part(s, p.dy.at(r), p.width) + panel(s, p.dh.at(r), 0)
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
    put_panel::<S>(d, p.dgates.at(r), 0);
    put_panel::<S>(d, p.state.at(r), 0);
    [d]
}

#[inline(always)]
fn lstm_backward<S: Simd>(s: S, p: &Backward<'_>, r: usize) -> [S::F; 4] {
    let dh = gradient_of_h(s, p, r);
    let one = s.splat(1.0);
    let (i, f) = (panel(s, p.gates.at(r), 0), panel(s, p.gates.at(r), 1));
    let (g, o) = (panel(s, p.gates.at(r), 2), panel(s, p.gates.at(r), 3));
    let t = math::tanh(s, part(s, p.extra.at(r), p.width));
    let dc = (dh * o).mul_add((one - t) * (one + t), panel(s, p.carry.at(r), 0));
    let di = dc * g * i * (one - i);
    let df = dc * part(s, p.before.at(r), p.width) * f * (one - f);
    let dg = dc * i * (one - g) * (one + g);
    let d_o = dh * t * o * (one - o);
    let (di, df, dg, d_o) = (flush(s, di), flush(s, df), flush(s, dg), flush(s, d_o));
    let d = [di, df, dg, d_o];
    put_gates(d, p.dgates.at(r), p.gate);
    put_gates(d, p.state.at(r), PANEL);
    put_panel::<S>(flush(s, dc * f), p.carry.at(r), 0);
    d
}

#[inline(always)]
fn gru_backward<S: Simd>(s: S, p: &Backward<'_>, r: usize) -> [S::F; 4] {
    let one = s.splat(1.0);
    let (reset, z, n) = (panel(s, p.gates.at(r), 0), panel(s, p.gates.at(r), 1), panel(s, p.gates.at(r), 2));
    let dh = gradient_of_h(s, p, r) + panel(s, p.carry.at(r), 0);
    let dn = flush(s, dh * (one - z) * (one - n) * (one + n));
    let dz = flush(s, dh * (part(s, p.before.at(r), p.width) - n) * z * (one - z));
    let dr = flush(s, dn * panel(s, p.extra.at(r), 0) * reset * (one - reset));
    let dn_recurrent = flush(s, dn * reset);
    put_gates([dr, dz, dn], p.dgates.at(r), p.gate);
    put_gates([dr, dz, dn_recurrent], p.dgates_recurrent.at(r), p.gate);
    put_gates([dr, dz, dn_recurrent], p.state.at(r), PANEL);
    put_panel::<S>(flush(s, dh * z), p.carry.at(r), 0);
    [dr, dz, dn, dn_recurrent]
}
