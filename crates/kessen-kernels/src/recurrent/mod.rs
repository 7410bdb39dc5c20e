//! Recurrent layers: Elman, LSTM and GRU over whole sequences, forward and back-propagation through time.
//!
//! Glossary: `B` batch, `T` time, `D` inputs, `H` hidden units in `⌈H/16⌉` blocks, `G` gates (Elman 1, GRU 3: r z n,
//! LSTM 4: i f g o), rows = `B·T`. Formulas and gate order are PyTorch's:
//!
//! - Elman: h = f(W_ih·x + b_ih + W_hh·h′ + b_hh)
//! - LSTM: c = f·c′ + i·g, h = o·tanh c, with i, f, o = σ(…) and g = tanh(…)
//! - GRU: n = tanh(W_in·x + b_in + r·(W_hn·h′ + b_hn)), h = (1 − z)·n + z·h′, with r, z = σ(…)
//!
//! The inputs' products of many time steps are one matrix product; only the recursion is serial. Weights live in panels
//! whose order puts a block's gates side by side, `[block][gate][K][16]` (`K` = `D` or `H`), so that a tile of the
//! recursion ends with all gates of sixteen units, and the cell is computed while they are in cache. Where the
//! recurrent weights fit in a core's second-level cache, threads share the batch and never wait for each other; else
//! they share the hidden units and meet after each step. Which one follows from the sizes alone, and no bit depends on
//! it. The rejected alternative, weights in PyTorch's order, needs the gates of all units before any cell.
//!
//! Inside, rows are always `[T, B]`: the sequences' rows of one step are neighbours. With `[B, T]` they would lie a power
//! of two apart for common sizes and throw each other out of the caches; copying the inputs costs far less.

mod backward;
mod forward;
mod lookup;
mod point;
mod products;
mod sequence;
mod through_time;
mod tokens;

pub use backward::{Gradients, Inputs, Kept};
pub use forward::Outputs;
pub use lookup::Lookup;

use crate::micro::PANEL;
use crate::{Error, Indices};

/// The function of an Elman cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// tanh
    Tanh,
    /// max(0, v)
    Relu,
    /// 1/(1 + e⁻ᵛ)
    Sigmoid,
    /// v where positive, else v/100
    LeakyRelu,
    /// v where positive, else eᵛ − 1
    Elu,
    /// ln(1 + eᵛ)
    Softplus,
    /// The value itself.
    Identity,
}

/// The kind of cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// One gate and a function.
    Elman(Activation),
    /// Long short-term memory (Hochreiter and Schmidhuber, 1997).
    Lstm,
    /// Gated recurrent unit (Cho et al., 2014).
    Gru,
}

impl Cell {
    /// Number of gates.
    pub fn gates(self) -> usize {
        match self {
            Cell::Elman(_) => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }
}

/// One direction of one recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrent {
    /// The kind of cell.
    pub cell: Cell,
    /// Number of sequences `B`.
    pub batch: usize,
    /// Number of time steps `T`.
    pub time: usize,
    /// Inputs `D`.
    pub inputs: usize,
    /// Hidden units `H`.
    pub hidden: usize,
    /// Whether rows are `[B, T]` rather than `[T, B]`.
    pub batch_first: bool,
    /// Whether sequences are read from their last valid step to the first.
    pub reverse: bool,
    /// Distance of the rows of `y` and `dy`: `H`, or more where directions lie side by side.
    pub output_row: usize,
}

/// Parameters in kernel layout ([`Recurrent::pack_weight`], [`Recurrent::pack_bias`]).
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// W_ih, [`Recurrent::weight_len`] of `D`.
    pub input: &'a [f32],
    /// W_hh, [`Recurrent::weight_len`] of `H`.
    pub recurrent: &'a [f32],
    /// b_ih, [`Recurrent::columns`].
    pub bias_input: Option<&'a [f32]>,
    /// b_hh, [`Recurrent::columns`].
    pub bias_recurrent: Option<&'a [f32]>,
}

/// States before the first step, `[B, H]` each; absent ones are 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct States<'a> {
    /// h
    pub h: Option<&'a [f32]>,
    /// c (LSTM only)
    pub c: Option<&'a [f32]>,
}

impl Recurrent {
    fn blocks(&self) -> usize {
        self.hidden.div_ceil(PANEL)
    }

    /// Hidden units rounded up to whole blocks.
    fn padded(&self) -> usize {
        self.blocks() * PANEL
    }

    fn rows(&self) -> usize {
        self.batch * self.time
    }

    /// All gates of all units, in whole blocks: the length of a bias in kernel layout.
    pub fn columns(&self) -> usize {
        self.cell.gates() * self.padded()
    }

    /// Length of a weight matrix over `k` values (`D` or `H`) in kernel layout.
    pub fn weight_len(&self, k: usize) -> usize {
        self.columns() * k
    }

    /// Distance of the rows that the recursion walks: an odd number of cache lines, so that the rows of a tile don't
    /// compete for the same places in the caches.
    fn spread(&self, len: usize) -> usize {
        (len.div_ceil(PANEL) | 1) * PANEL
    }

    /// Distance of the panels of gates and of their gradients: an odd number of cache lines.
    fn gate_panel(&self) -> usize {
        (self.rows() | 1) * PANEL
    }

    /// Length of the gates kept for the backward pass, in an order of their own: `[columns/16][B·T][16]`, for the
    /// products over all rows read their gradients so.
    pub fn gates_len(&self) -> usize {
        self.columns() / PANEL * self.gate_panel()
    }

    /// Length of what else is kept: an LSTM's c or a GRU's W_hn·h′ + b_hn, in an order of its own.
    pub fn extra_len(&self) -> usize {
        match self.cell {
            Cell::Elman(_) => 0,
            Cell::Lstm | Cell::Gru => self.rows() * self.padded(),
        }
    }

    /// Where panel number `block·G + gate` of the gates of sequence `b` at time `t` is kept: that gate of the sixteen
    /// units of a block.
    pub fn gate_place(&self, b: usize, t: usize, panel: usize) -> std::ops::Range<usize> {
        let start = panel * self.gate_panel() + (t * self.batch + b) * PANEL;
        start..start + PANEL
    }

    /// Where what else is kept of sequence `b` at time `t` lies: unit by unit.
    pub fn extra_row(&self, b: usize, t: usize) -> std::ops::Range<usize> {
        let start = (t * self.batch + b) * self.padded();
        start..start + self.padded()
    }

    /// Smallest length of `y`.
    pub fn output_len(&self) -> usize {
        match self.rows() {
            0 => 0,
            rows => (rows - 1) * self.output_row + self.hidden,
        }
    }

    /// Brings PyTorch's `[G·H, k]` weights into kernel layout; lanes beyond `H` become 0.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn pack_weight(&self, weight: &[f32], k: usize, packed: &mut [f32]) {
        let (gates, hidden) = (self.cell.gates(), self.hidden);
        assert!(
            weight.len() == gates * hidden * k && packed.len() == self.weight_len(k),
            "recurrent: lengths"
        );
        for (panel, packed) in packed.chunks_exact_mut((k * PANEL).max(1)).enumerate() {
            let (block, gate) = (panel / gates, panel % gates);
            for lane in 0..PANEL {
                let unit = block * PANEL + lane;
                for i in 0..k {
                    packed[i * PANEL + lane] =
                        if unit < hidden { weight[(gate * hidden + unit) * k + i] } else { 0.0 };
                }
            }
        }
    }

    /// The inverse of [`Recurrent::pack_weight`].
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn unpack_weight(&self, packed: &[f32], k: usize, weight: &mut [f32]) {
        let (gates, hidden) = (self.cell.gates(), self.hidden);
        assert!(
            weight.len() == gates * hidden * k && packed.len() == self.weight_len(k),
            "recurrent: lengths"
        );
        for (row, weight) in weight.chunks_exact_mut(k.max(1)).enumerate() {
            let (gate, unit) = (row / hidden, row % hidden);
            let panel = unit / PANEL * gates + gate;
            for (i, w) in weight.iter_mut().enumerate() {
                *w = packed[(panel * k + i) * PANEL + unit % PANEL];
            }
        }
    }

    /// Brings PyTorch's `[G·H]` bias into kernel layout: a weight over one value.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn pack_bias(&self, bias: &[f32], packed: &mut [f32]) {
        self.pack_weight(bias, 1, packed);
    }

    /// The inverse of [`Recurrent::pack_bias`].
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn unpack_bias(&self, packed: &[f32], bias: &mut [f32]) {
        self.unpack_weight(packed, 1, bias);
    }

    /// Checks that each length is at most `T`.
    fn check_lengths(&self, lengths: Option<Indices<'_>>) -> Result<(), Error> {
        let Some(lengths) = lengths else { return Ok(()) };
        assert_eq!(lengths.len(), self.batch, "recurrent: one length a sequence");
        for place in 0..self.batch {
            let n = lengths.get(place);
            if n < 0 || n as usize > self.time {
                let (found, time) = (lengths.show(place), self.time);
                return Err(Error::Descriptor(format!(
                    "the length of sequence {place} is {found}, but there are {time} time steps; give 0 to {time}"
                )));
            }
        }
        Ok(())
    }

    fn check(&self, weights: &Weights<'_>, start: States<'_>) {
        let columns = self.columns();
        let bias = |b: Option<&[f32]>| b.is_none_or(|b| b.len() == columns);
        let state = |s: Option<&[f32]>| s.is_none_or(|s| s.len() == self.batch * self.hidden);
        assert!(weights.input.len() == self.weight_len(self.inputs), "recurrent: input weights");
        assert!(weights.recurrent.len() == self.weight_len(self.hidden), "recurrent: recurrent weights");
        assert!(bias(weights.bias_input) && bias(weights.bias_recurrent), "recurrent: biases");
        assert!(state(start.h) && state(start.c), "recurrent: first states");
        assert!(self.output_row >= self.hidden, "recurrent: rows of the output overlap");
    }
}

#[cfg(test)]
mod tests;
