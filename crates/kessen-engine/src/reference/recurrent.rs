//! What Elman networks, LSTMs and GRUs share: operands by name, and the order of the steps.
//!
//! `n` sequence, `t` time step, `i` input feature, `j` hidden unit. Each file below has the forward formulas and
//! back-propagation through time next to each other.

use kessen_graph::ops::recurrent::{Recurrent, RecurrentGrad, RecurrentKind};

use super::array::{Array, Value};
use super::kernel::Operands;
use super::{elman, gru, lstm};
use crate::Result;

/// The operands of the forward formulas.
pub(super) struct Sequences<'a> {
    /// x `[B, T, I]`.
    pub x: &'a Array,
    /// W^(in) `[G·H, I]`.
    pub w_in: &'a Array,
    /// W `[G·H, H]`.
    pub w: &'a Array,
    /// b and b′ `[G·H]`.
    pub bias: Option<[&'a Array; 2]>,
    /// h0 `[B, H]`.
    pub h0: Option<&'a Array>,
    /// c0 `[B, H]`.
    pub c0: Option<&'a Array>,
    lengths: Vec<usize>,
    reverse: bool,
}

impl Sequences<'_> {
    /// H.
    pub fn hidden_size(&self) -> usize {
        self.w.shape[1]
    }

    /// The time steps of sequence n in the order in which they are computed.
    pub fn steps(&self, n: usize) -> Vec<usize> {
        let forward = 0..self.lengths[n];
        if self.reverse { forward.rev().collect() } else { forward.collect() }
    }

    /// Row `row` of W^(in)·x^t + b.
    pub fn input_sum(&self, n: usize, t: usize, row: usize) -> f64 {
        let bias = self.bias.map_or(0.0, |[b, _]| b[[row]]);
        bias + (0..self.w_in.shape[1]).map(|i| self.w_in[[row, i]] * self.x[[n, t, i]]).sum::<f64>()
    }

    /// Row `row` of W·h + b′, h the hidden units of the step before.
    pub fn state_sum(&self, h: &[f64], row: usize) -> f64 {
        let bias = self.bias.map_or(0.0, |[_, b]| b[[row]]);
        bias + h.iter().enumerate().map(|(j, h)| self.w[[row, j]] * h).sum::<f64>()
    }
}

/// Row n of a state `[B, H]`; zeros where there is none.
pub(super) fn state(all: Option<&Array>, n: usize, hidden_size: usize) -> Vec<f64> {
    all.map_or_else(|| vec![0.0; hidden_size], |a| a.data[n * hidden_size..][..hidden_size].to_vec())
}

/// The operands of back-propagation through time besides those of the forward formulas.
pub(super) struct Backward<'a> {
    pub forward: Sequences<'a>,
    /// ∂L/∂y^t `[B, T, H]`.
    pub dy: Option<&'a Array>,
    /// ∂L/∂h^T `[B, H]`.
    pub dh: Option<&'a Array>,
    /// ∂L/∂c^T `[B, H]`.
    pub dc: Option<&'a Array>,
    /// The hidden units `[B, T, H]`.
    pub y: &'a Array,
    /// What was kept of each unit `[B, T, 4·H]`.
    pub gates: Option<&'a Array>,
    /// c^t `[B, T, H]`.
    pub cells: Option<&'a Array>,
}

impl Backward<'_> {
    /// ∂L/∂y_j^t from outside the layer.
    pub fn dy(&self, n: usize, t: usize, j: usize) -> f64 {
        self.dy.map_or(0.0, |dy| dy[[n, t, j]])
    }

    /// The hidden units before the `k`-th of `steps`.
    pub fn hidden_before(&self, n: usize, steps: &[usize], k: usize) -> Vec<f64> {
        before(self.y, self.forward.h0, n, steps, k)
    }

    /// The cells before the `k`-th of `steps`.
    pub fn cells_before(&self, cells: &Array, n: usize, steps: &[usize], k: usize) -> Vec<f64> {
        before(cells, self.forward.c0, n, steps, k)
    }
}

fn before(all: &Array, initial: Option<&Array>, n: usize, steps: &[usize], k: usize) -> Vec<f64> {
    let hidden_size = all.shape[2];
    match k.checked_sub(1) {
        None => state(initial, n, hidden_size),
        Some(k) => (0..hidden_size).map(|j| all[[n, steps[k], j]]).collect(),
    }
}

/// The gradients of the parameters and of x, which grow step by step.
pub(super) struct Gradients<'r> {
    pub dx: &'r mut Array,
    pub dw_in: &'r mut Array,
    pub dw: &'r mut Array,
    pub dbias: Option<[&'r mut Array; 2]>,
    pub dh0: Option<&'r mut Array>,
    pub dc0: Option<&'r mut Array>,
}

impl Gradients<'_> {
    /// Adds step t's share of ∂L/∂W^(in) = Σ_t δ^t·(x^t)ᵀ and ∂L/∂b = Σ_t δ^t, and gives ∂L/∂x^t = (W^(in))ᵀ·δ^t.
    pub fn add_input(&mut self, s: &Sequences<'_>, n: usize, t: usize, delta: &[f64]) {
        for (row, d) in delta.iter().enumerate() {
            for i in 0..s.w_in.shape[1] {
                self.dw_in[[row, i]] += d * s.x[[n, t, i]];
                self.dx[[n, t, i]] += s.w_in[[row, i]] * d;
            }
            if let Some([b, _]) = &mut self.dbias {
                b[[row]] += d;
            }
        }
    }

    /// Adds step t's share of ∂L/∂W = Σ_t δ^t·(h^{t−1})ᵀ and ∂L/∂b′ = Σ_t δ^t, and returns Wᵀ·δ^t.
    pub fn add_state(&mut self, s: &Sequences<'_>, before: &[f64], delta: &[f64]) -> Vec<f64> {
        let mut carried = vec![0.0; before.len()];
        for (row, d) in delta.iter().enumerate() {
            for (j, h) in before.iter().enumerate() {
                self.dw[[row, j]] += d * h;
                carried[j] += s.w[[row, j]] * d;
            }
            if let Some([_, b]) = &mut self.dbias {
                b[[row]] += d;
            }
        }
        carried
    }
}

/// Writes row n of a state `[B, H]`, where it is asked for.
pub(super) fn set_state(all: Option<&mut Array>, n: usize, values: &[f64]) {
    if let Some(all) = all {
        all.data[n * values.len()..][..values.len()].copy_from_slice(values);
    }
}

/// Steps of each sequence, checked to be at most T.
fn lengths(o: &Operands<'_>, at: Option<usize>, x: &Array) -> Result<Vec<usize>> {
    let [batch, time, _] = x.dims();
    match at {
        None => Ok(vec![time; batch]),
        Some(at) => {
            o.ids(at)?.data.iter().enumerate().map(|(n, &length)| o.index(length, n, time + 1)).collect()
        }
    }
}

/// y, the last states, and what back-propagation reads.
pub(super) fn recurrent(op: &Recurrent, o: &Operands<'_>, results: &mut [Value]) -> Result<()> {
    let places = op.places();
    let at = |i: Option<usize>| i.map(|i| o.real(i)).transpose();
    let s = Sequences {
        x: o.real(0)?,
        w_in: o.real(1)?,
        w: o.real(2)?,
        bias: places.bias.map(|b| o.reals(b)).transpose()?,
        h0: at(places.hidden)?,
        c0: at(places.cell)?,
        lengths: lengths(o, places.lengths, o.real(0)?)?,
        reverse: op.reverse,
    };
    match op.kind {
        RecurrentKind::Elman => elman::forward(op.activation, &s, o.results(results)?),
        RecurrentKind::Lstm => lstm::forward(&s, o.results(results)?),
        RecurrentKind::Gru => gru::forward(&s, o.results(results)?),
    }
    Ok(())
}

/// The gradients of all operands.
pub(super) fn recurrent_grad(op: &RecurrentGrad, o: &Operands<'_>, results: &mut [Value]) -> Result<()> {
    let places = op.places();
    let at = |i: Option<usize>| i.map(|i| o.real(i)).transpose();
    let forward = Sequences {
        x: o.real(places.x)?,
        w_in: o.real(places.x + 1)?,
        w: o.real(places.x + 2)?,
        bias: None,
        h0: at(places.hidden)?,
        c0: at(places.cell)?,
        lengths: lengths(o, places.lengths, o.real(places.x)?)?,
        reverse: op.reverse,
    };
    let backward = Backward {
        forward,
        dy: at(places.dy)?,
        dh: at(places.dh)?,
        dc: at(places.dc)?,
        y: o.real(places.y)?,
        gates: at(places.gates)?,
        cells: at(places.cells)?,
    };
    let mut results = o.all_results(results)?.into_iter();
    let mut next = |there: bool| if there { results.next() } else { None };
    let (Some(dx), Some(dw_in), Some(dw)) = (next(true), next(true), next(true)) else { return Ok(()) };
    let dbias = next(op.bias).zip(next(op.bias)).map(|(a, b)| [a, b]);
    let (dh0, dc0) = (next(places.dhidden.is_some()), next(places.dcell.is_some()));
    let d = Gradients { dx, dw_in, dw, dbias, dh0, dc0 };
    match op.kind {
        RecurrentKind::Elman => elman::backward(op.activation, &backward, d),
        RecurrentKind::Lstm => lstm::backward(&backward, d),
        RecurrentKind::Gru => gru::backward(&backward, d),
    }
    Ok(())
}
