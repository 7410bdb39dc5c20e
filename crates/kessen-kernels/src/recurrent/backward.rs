//! Back-propagation through time.
//!
//! From the last step to the first, a step's dh is what came with `dy`, what the later step sends back through W_hh
//! and what goes past the weights; the cell turns it into the gradients of the gates' sums, kept for all steps
//! (`through_time.rs`). The gradients of the weights and of the inputs are then products over all rows (`products.rs`).

use super::sequence::Sequences;
use super::{Cell, Lookup, Recurrent, States, Weights, point};
use crate::micro::PANEL;
use crate::{Error, Indices};

/// What a layer was run on.
#[derive(Clone, Copy, Debug)]
pub enum Inputs<'a> {
    /// All of it, `[rows, D]`.
    Rows(&'a [f32]),
    /// Rows of a table.
    Lookup(Lookup<'a>),
}

/// What the backward pass writes; all layouts are those of the values.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of the inputs, `[rows, D]`; where those were looked up, of the table's rows
    /// [`Recurrent::recorded`], with zeros behind.
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
    /// [`Recurrent::gates_len`]: what the forward pass has kept there, which an Elman network does not read, and then
    /// the gradients of the gates' sums, or what the products over all rows make of them.
    pub gates: &'a mut [f32],
}

/// What the forward pass was given and has kept, and the gradients of its outputs.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The inputs.
    pub x: Inputs<'a>,
    /// The states before the first step.
    pub start: States<'a>,
    /// The lengths.
    pub lengths: Option<Indices<'a>>,
    /// The outputs.
    pub y: &'a [f32],
    /// What was kept beside the gates.
    pub extra: &'a [f32],
    /// Gradient of `y`, laid out like it; absent where only last states count.
    pub dy: Option<&'a [f32]>,
    /// Gradients of the last states.
    pub dend: States<'a>,
}

/// Scratch, cut up.
pub(super) struct Parts<'a> {
    pub transposed: &'a mut [f32],
    /// A GRU's gradients towards the recurrent weights, in panels like the gates.
    pub recurrent: &'a mut [f32],
    /// h before each row's step at the row, shifted by [`Recurrent::first_output`] rows: so the h of a step is there too,
    /// at the row of the step after it. [`Recurrent::spread`] of `H` apart.
    pub outputs: &'a mut [f32],
    pub carry: &'a mut [f32],
    /// The gates' gradients of two steps.
    pub states: &'a mut [f32],
    /// The gates' gradients summed over all rows, `[group][H/16][sums][16]`, each group of sequences on its own.
    pub sums: &'a mut [f32],
    /// Gradient of the outputs in the kernels' own order.
    pub dy: &'a mut [f32],
    pub rest: &'a mut [f32],
    /// Inputs (and then their gradient) in the kernels' own order.
    pub x: &'a mut [f32],
}

impl Recurrent {
    /// Length of the sums of one group of sequences.
    pub(super) fn sums_len(&self) -> usize {
        point::sums(self.cell) * self.padded()
    }

    /// Lengths of the parts of scratch.
    fn backward_parts(&self) -> [usize; 9] {
        let (padded, columns) = (self.padded(), self.columns());
        let recurrent = if self.cell == Cell::Gru { self.gates_len() } else { 0 };
        let turned = self.inputs.next_multiple_of(PANEL) * columns;
        let groups = Sequences { layer: self, lengths: None }.groups();
        [
            padded * columns,
            recurrent,
            (self.rows() + self.batch) * self.spread(self.hidden),
            self.batch * padded,
            2 * self.batch * self.spread(columns),
            groups * self.sums_len(),
            self.copy_len(self.hidden),
            self.weight_gradients_scratch().max(turned + self.products_scratch()),
            self.copy_len(self.spread(self.inputs)),
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
        if let Inputs::Rows(x) = kept.x {
            assert!(x.len() == self.rows() * self.inputs, "recurrent: inputs");
        }
        self.check(weights, kept.start);
        self.check_kept(kept);
        assert!(out.gates.len() == self.gates_len(), "recurrent: gates");
        let mut parts = self.cut(scratch);
        self.transpose_weights(weights.recurrent, self.hidden, parts.transposed);
        self.first_carry(kept, parts.carry);
        let sequences = Sequences { layer: self, lengths: kept.lengths };
        for gradients in [&mut *out.gates, &mut *parts.recurrent] {
            for panel in gradients.chunks_exact_mut(self.gate_panel()) {
                sequences.for_padding(|b, t| panel[(t * self.batch + b) * PANEL..][..PANEL].fill(0.0));
            }
        }
        parts.sums.fill(0.0);
        self.gather_outputs(sequences, kept, parts.outputs);
        self.recursion(sequences, kept, &mut parts, out);
        self.products(sequences, weights, kept, &mut parts, out);
        let last = self.cell.gates() - 1;
        if let Some(db) = out.bias_input.as_deref_mut() {
            self.bias_gradient(parts.sums, last, db);
        }
        if let Some(db) = out.bias_recurrent.as_deref_mut() {
            self.bias_gradient(parts.sums, point::sums(self.cell) - 1, db);
        }
        Ok(())
    }

    /// Adds up the groups' sums; those of each block's last gate stand at `last`.
    fn bias_gradient(&self, sums: &[f32], last: usize, db: &mut [f32]) {
        let (gates, per_block) = (self.cell.gates(), point::sums(self.cell));
        assert!(db.len() == self.columns(), "recurrent: gradients of biases");
        db.fill(0.0);
        for group in sums.chunks_exact(self.sums_len().max(1)) {
            for (panel, db) in db.chunks_exact_mut(PANEL).enumerate() {
                let (block, gate) = (panel / gates, panel % gates);
                let place = block * per_block + if gate + 1 == gates { last } else { gate };
                let sums = &group[place * PANEL..(place + 1) * PANEL];
                db.iter_mut().zip(sums).for_each(|(db, &sum)| *db += sum);
            }
        }
    }

    fn check_kept(&self, kept: &Kept<'_>) {
        let enough = |v: &[f32]| v.len() >= self.output_len();
        let state = |v: Option<&[f32]>| v.is_none_or(|v| v.len() == self.batch * self.hidden);
        assert!(enough(kept.y) && kept.dy.is_none_or(enough), "recurrent: outputs");
        assert!(kept.extra.len() == self.extra_len(), "recurrent: what was kept beside the gates");
        assert!(state(kept.dend.h) && state(kept.dend.c), "recurrent: gradients of the last states");
    }

    fn cut<'a>(&self, scratch: &'a mut [f32]) -> Parts<'a> {
        let [a, b, c, d, e, f, g, h, _] = self.backward_parts();
        let (transposed, scratch) = scratch.split_at_mut(a);
        let (recurrent, scratch) = scratch.split_at_mut(b);
        let (outputs, scratch) = scratch.split_at_mut(c);
        let (carry, scratch) = scratch.split_at_mut(d);
        let (states, scratch) = scratch.split_at_mut(e);
        let (sums, scratch) = scratch.split_at_mut(f);
        let (dy, scratch) = scratch.split_at_mut(g);
        let (rest, x) = scratch.split_at_mut(h);
        Parts { transposed, recurrent, outputs, carry, states, sums, x, dy, rest }
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
}
