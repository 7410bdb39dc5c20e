//! Back-propagation through time.
//!
//! From the last step to the first, a step's dh is what came with `dy`, what the later step sends back through W_hh
//! and what goes past the weights; the cell turns it into the gradients of the gates' sums, kept for all steps
//! (`through_time.rs`). The gradients of the weights and of the inputs are then products over all rows.

use super::sequence::Sequences;
use super::{Cell, Recurrent, States, Weights};
use crate::elementwise::fill;
use crate::epilogue::Epilogue;
use crate::gemm::{Gemm, Linear};
use crate::layout::transpose_raw;
use crate::micro::PANEL;
use crate::reduce::{Reduce, Reduction};
use crate::threads::{Shared, parallel_chunks, parallel_for};
use crate::{Error, Indices};

/// What the backward pass writes; all layouts are those of the values.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of the inputs, `[rows, D]`.
    pub x: Option<&'a mut [f32]>,
    /// Whether `x` is added to what is there (the other direction's).
    pub accumulate_x: bool,
    /// Of W_ih.
    pub input: &'a mut [f32],
    /// Of W_hh.
    pub recurrent: &'a mut [f32],
    /// Of b_ih.
    pub bias_input: Option<&'a mut [f32]>,
    /// Of b_hh.
    pub bias_recurrent: Option<&'a mut [f32]>,
    /// Of the first h, `[B, H]`.
    pub h: Option<&'a mut [f32]>,
    /// Of the first c, `[B, H]` (LSTM only).
    pub c: Option<&'a mut [f32]>,
}

/// What the forward pass was given and has kept, and the gradients of its outputs.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The inputs.
    pub x: &'a [f32],
    /// The states before the first step.
    pub start: States<'a>,
    /// The lengths.
    pub lengths: Option<Indices<'a>>,
    /// The outputs.
    pub y: &'a [f32],
    /// The gates.
    pub gates: &'a [f32],
    /// What else was kept.
    pub extra: &'a [f32],
    /// Gradient of `y`, laid out like it; absent where only last states count.
    pub dy: Option<&'a [f32]>,
    /// Gradients of the last states.
    pub dend: States<'a>,
}

/// Scratch, cut up.
pub(super) struct Parts<'a> {
    pub transposed: &'a mut [f32],
    pub dgates: &'a mut [f32],
    /// A GRU's gradients towards the recurrent weights.
    pub recurrent: &'a mut [f32],
    /// What both weights are multiplied with: h before each step and, but for a GRU, x beside it.
    pub before: &'a mut [f32],
    /// The gradient of both weights, which [`Recurrent::split_gradient`] splits; nothing for a GRU.
    pub joined: &'a mut [f32],
    pub carry: &'a mut [f32],
    /// The gates' gradients of two steps.
    pub states: &'a mut [f32],
    /// Inputs (and then their gradient) in the kernels' own order.
    pub x: &'a mut [f32],
    /// Gradient of the outputs in the kernels' own order.
    pub dy: &'a mut [f32],
    pub rest: &'a mut [f32],
}

impl Recurrent {
    fn input_layer(&self) -> Linear {
        Linear { batch: self.rows(), inputs: self.inputs, outputs: self.columns() }
    }

    /// dx = dgates·W_ih
    fn input_gradient(&self) -> Gemm {
        Gemm::new(self.rows(), self.inputs, self.columns())
    }

    fn recurrent_layer(&self) -> Linear {
        Linear { batch: self.rows(), inputs: self.hidden, outputs: self.columns() }
    }

    /// Both products of a cell whose gates' gradients are the same for both.
    fn joined_layer(&self) -> Linear {
        Linear { batch: self.rows(), inputs: self.hidden + self.inputs, outputs: self.columns() }
    }

    /// Length of the rows that weights are multiplied with: h, or h and x.
    fn factor_row(&self) -> usize {
        if self.cell == Cell::Gru { self.hidden } else { self.hidden + self.inputs }
    }

    fn bias_sum(&self) -> Result<Reduction, Error> {
        Reduction::new(Reduce::Sum, &[self.rows(), self.columns()], &[0])
    }

    /// Lengths of the parts of scratch.
    fn backward_parts(&self) -> [usize; 10] {
        let gates = self.rows() * self.columns();
        let recurrent = if self.cell == Cell::Gru { gates } else { 0 };
        let products = [
            self.input_layer().grad_weight_scratch(),
            self.inputs.next_multiple_of(PANEL) * self.columns() + self.input_gradient().packed_scratch(),
            self.recurrent_layer().grad_weight_scratch(),
            self.joined_layer().grad_weight_scratch(),
            self.bias_sum().map_or(0, |r| r.run_scratch()),
        ];
        let rest = products.into_iter().max().unwrap_or(0);
        let (padded, columns) = (self.padded(), self.columns());
        let states = 2 * self.batch * self.spread(columns);
        let (x, dy) = (self.copy_len(self.inputs), self.copy_len(self.hidden));
        let joined = if self.cell == Cell::Gru { 0 } else { columns * self.factor_row() };
        [
            padded * columns,
            gates,
            recurrent,
            self.rows() * self.factor_row(),
            joined,
            self.batch * padded,
            states,
            x,
            dy,
            rest,
        ]
    }

    /// Number of elements of scratch that [`Recurrent::backward`] needs.
    pub fn backward_scratch(&self) -> usize {
        self.backward_parts().iter().sum()
    }

    /// The gradients of everything from those of the outputs.
    ///
    /// # Errors
    /// A length is larger than `T`.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    pub fn backward(
        &self,
        weights: &Weights<'_>,
        kept: &Kept<'_>,
        out: &mut Gradients<'_>,
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        self.check_lengths(kept.lengths)?;
        assert!(kept.x.len() == self.rows() * self.inputs, "recurrent: inputs");
        self.check(weights, kept.start);
        self.check_kept(kept);
        let mut parts = self.cut(scratch);
        self.transpose_weights(weights.recurrent, self.hidden, parts.transposed);
        self.first_carry(kept, parts.carry);
        let sequences = Sequences { layer: self, lengths: kept.lengths };
        let columns = self.columns();
        sequences.for_padding(|b, t| {
            let row = t * self.batch + b;
            parts.dgates[row * columns..(row + 1) * columns].fill(0.0);
            if self.cell == Cell::Gru {
                parts.recurrent[row * columns..(row + 1) * columns].fill(0.0);
            }
        });
        self.recursion(sequences, kept, &mut parts, out);
        self.products(sequences, weights, kept, &mut parts, out);
        let sum = self.bias_sum()?;
        if let Some(db) = out.bias_input.as_deref_mut() {
            sum.run(parts.dgates, db, parts.rest);
        }
        if let Some(db) = out.bias_recurrent.as_deref_mut() {
            let gru = self.cell == Cell::Gru;
            sum.run(if gru { parts.recurrent } else { parts.dgates }, db, parts.rest);
        }
        Ok(())
    }

    fn check_kept(&self, kept: &Kept<'_>) {
        let enough = |v: &[f32]| v.len() >= self.output_len();
        let state = |v: Option<&[f32]>| v.is_none_or(|v| v.len() == self.batch * self.hidden);
        let gates = kept.gates.len() == self.gates_len() && kept.extra.len() == self.extra_len();
        assert!(enough(kept.y) && kept.dy.is_none_or(enough), "recurrent: outputs");
        assert!(gates, "recurrent: gates");
        assert!(state(kept.dend.h) && state(kept.dend.c), "recurrent: gradients of the last states");
    }

    /// The gradients that are one product over all rows each: of both weights and of the inputs.
    fn products(
        &self,
        sequences: Sequences<'_>,
        weights: &Weights<'_>,
        kept: &Kept<'_>,
        parts: &mut Parts<'_>,
        out: &mut Gradients<'_>,
    ) {
        self.previous_outputs(sequences, kept, parts.before);
        let inputs = self.inputs;
        if self.cell == Cell::Gru {
            let layer = self.recurrent_layer();
            layer.grad_weight(parts.before, parts.recurrent, out.recurrent, false, parts.rest);
            let x = if self.batch_first {
                sequences.bring_in(kept.x, inputs, inputs, parts.x, inputs, 0);
                &*parts.x
            } else {
                kept.x
            };
            self.input_layer().grad_weight(x, parts.dgates, out.input, false, parts.rest);
        } else {
            sequences.bring_in(kept.x, inputs, inputs, parts.before, self.factor_row(), self.hidden);
            self.joined_layer().grad_weight(parts.before, parts.dgates, parts.joined, false, parts.rest);
            self.split_gradient(parts.joined, out);
        }
        let Some(dx) = out.x.as_deref_mut() else { return };
        let product = self.input_gradient();
        let (transposed, rest) = parts.rest.split_at_mut(product.packed_len());
        self.transpose_weights(weights.input, self.inputs, transposed);
        if self.batch_first {
            product.run_packed(parts.dgates, transposed, parts.x, &Epilogue::store(), rest);
            sequences.bring_out(parts.x, self.inputs, dx, out.accumulate_x);
        } else {
            let how = if out.accumulate_x { Epilogue::accumulate() } else { Epilogue::store() };
            product.run_packed(parts.dgates, transposed, dx, &how, rest);
        }
    }

    /// Splits the gradient of both weights, panel by panel.
    fn split_gradient(&self, joined: &[f32], out: &mut Gradients<'_>) {
        let (h, d) = (self.hidden * PANEL, self.inputs * PANEL);
        for (panel, joined) in joined.chunks_exact((h + d).max(1)).enumerate() {
            out.recurrent[panel * h..(panel + 1) * h].copy_from_slice(&joined[..h]);
            out.input[panel * d..(panel + 1) * d].copy_from_slice(&joined[h..]);
        }
    }

    fn cut<'a>(&self, scratch: &'a mut [f32]) -> Parts<'a> {
        let [a, b, c, d, e, f, g, h, i, _] = self.backward_parts();
        let (transposed, scratch) = scratch.split_at_mut(a);
        let (dgates, scratch) = scratch.split_at_mut(b);
        let (recurrent, scratch) = scratch.split_at_mut(c);
        let (before, scratch) = scratch.split_at_mut(d);
        let (joined, scratch) = scratch.split_at_mut(e);
        let (carry, scratch) = scratch.split_at_mut(f);
        let (states, scratch) = scratch.split_at_mut(g);
        let (x, scratch) = scratch.split_at_mut(h);
        let (dy, rest) = scratch.split_at_mut(i);
        Parts { transposed, dgates, recurrent, before, joined, carry, states, x, dy, rest }
    }

    /// The transpose of weights over `k` values in panels of those, `[⌈k/16⌉][columns][16]`.
    fn transpose_weights(&self, weights: &[f32], k: usize, transposed: &mut [f32]) {
        let columns = self.columns();
        fill(0.0, transposed);
        let out = Shared::new(transposed);
        parallel_for(k.div_ceil(PANEL), |block| {
            // SAFETY: each block has its own panel.
            let to = unsafe { out.part(block * columns * PANEL..(block + 1) * columns * PANEL) };
            for panel in 0..columns / PANEL {
                let from = weights[(panel * k + block * PANEL) * PANEL..].as_ptr();
                let to = to[panel * PANEL * PANEL..].as_mut_ptr();
                let values = PANEL.min(k - block * PANEL);
                // SAFETY: the block's values of the panel, and sixteen rows of the target's panel.
                unsafe { transpose_raw(from, PANEL, to, PANEL, values, PANEL) }
            }
        });
    }

    /// An LSTM's dc behind the last step, else zeros.
    fn first_carry(&self, kept: &Kept<'_>, carry: &mut [f32]) {
        carry.fill(0.0);
        if let (Cell::Lstm, Some(dc)) = (self.cell, kept.dend.c) {
            for b in 0..self.batch {
                let from = &dc[b * self.hidden..(b + 1) * self.hidden];
                carry[b * self.padded()..][..self.hidden].copy_from_slice(from);
            }
        }
    }

    /// The h before each row's step, 0 behind a sequence's end.
    fn previous_outputs(&self, sequences: Sequences<'_>, kept: &Kept<'_>, before: &mut [f32]) {
        let (hidden, stride) = (self.hidden, self.factor_row());
        let out = Shared::new(before);
        parallel_chunks(self.batch, 4, |batch| {
            for b in batch {
                let n = sequences.len(b);
                for s in 0..self.time {
                    let row = if s < n { sequences.row(b, s) } else { s * self.batch + b };
                    // SAFETY: each sequence has its own rows.
                    let to = unsafe { out.part(row * stride..row * stride + hidden) };
                    match (s, kept.start.h) {
                        _ if s >= n => to.fill(0.0),
                        (0, None) => to.fill(0.0),
                        (0, Some(h)) => to.copy_from_slice(&h[b * hidden..(b + 1) * hidden]),
                        _ => {
                            let from = sequences.outer_row(b, s - 1) * self.output_row;
                            to.copy_from_slice(&kept.y[from..from + hidden]);
                        }
                    }
                }
            }
        });
    }
}
