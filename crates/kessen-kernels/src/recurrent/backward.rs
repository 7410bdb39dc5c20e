//! Back-propagation through time.
//!
//! From the last step to the first, a step's dh is what came with `dy`, what the later step sends back through W_hh
//! and what goes past the weights; the cell turns it into the gradients of the gates' sums, kept for all steps. The
//! gradients of the weights and of the inputs are then one product each over all rows.

use super::point;
use super::sequence::{Sequences, Tile as Batch, lanes, panels, tile_rows};
use super::{Cell, Recurrent, States, Weights};
use crate::elementwise::fill;
use crate::epilogue::Epilogue;
use crate::gemm::{Gemm, Linear, even};
use crate::isa::Isa;
use crate::layout::transpose_raw;
use crate::micro::{Family, Finish, MAX_ROWS, PANEL, Rows, Sum, Tile};
use crate::reduce::{Reduce, Reduction};
use crate::threads::{Address, Shared, parallel_chunks, parallel_for};
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
struct Parts<'a> {
    transposed: &'a mut [f32],
    dgates: &'a mut [f32],
    /// A GRU's gradients towards the recurrent weights.
    recurrent: &'a mut [f32],
    before: &'a mut [f32],
    carry: &'a mut [f32],
    /// The gates' gradients of two steps.
    states: &'a mut [f32],
    /// Inputs (and then their gradient) in the kernels' own order.
    x: &'a mut [f32],
    /// Gradient of the outputs in the kernels' own order.
    dy: &'a mut [f32],
    rest: &'a mut [f32],
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

    fn bias_sum(&self) -> Result<Reduction, Error> {
        Reduction::new(Reduce::Sum, &[self.rows(), self.columns()], &[0])
    }

    /// Lengths of the parts of scratch.
    fn backward_parts(&self) -> [usize; 9] {
        let gates = self.rows() * self.columns();
        let recurrent = if self.cell == Cell::Gru { gates } else { 0 };
        let products = [
            self.input_layer().grad_weight_scratch(),
            self.inputs.next_multiple_of(PANEL) * self.columns() + self.input_gradient().packed_scratch(),
            self.recurrent_layer().grad_weight_scratch(),
            self.bias_sum().map_or(0, |r| r.run_scratch()),
        ];
        let rest = products.into_iter().max().unwrap_or(0);
        let (padded, columns) = (self.padded(), self.columns());
        let states = 2 * self.batch * self.spread(columns);
        let (x, dy) = (self.copy_len(self.inputs), self.copy_len(self.hidden));
        [
            padded * columns,
            gates,
            recurrent,
            self.rows() * self.hidden,
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
        self.check(weights, kept.x, kept.start);
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
        let dgates_recurrent = if self.cell == Cell::Gru { &*parts.recurrent } else { &*parts.dgates };
        let layer = self.recurrent_layer();
        layer.grad_weight(parts.before, dgates_recurrent, out.recurrent, false, parts.rest);
        let input = self.input_layer();
        if self.batch_first {
            sequences.bring_in(kept.x, self.inputs, self.inputs, parts.x);
            input.grad_weight(parts.x, parts.dgates, out.input, false, parts.rest);
        } else {
            input.grad_weight(kept.x, parts.dgates, out.input, false, parts.rest);
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

    fn cut<'a>(&self, scratch: &'a mut [f32]) -> Parts<'a> {
        let [a, b, c, d, e, f, g, h, _] = self.backward_parts();
        let (transposed, scratch) = scratch.split_at_mut(a);
        let (dgates, scratch) = scratch.split_at_mut(b);
        let (recurrent, scratch) = scratch.split_at_mut(c);
        let (before, scratch) = scratch.split_at_mut(d);
        let (carry, scratch) = scratch.split_at_mut(e);
        let (states, scratch) = scratch.split_at_mut(f);
        let (x, scratch) = scratch.split_at_mut(g);
        let (dy, rest) = scratch.split_at_mut(h);
        Parts { transposed, dgates, recurrent, before, carry, states, x, dy, rest }
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

    /// The h before each row's step, `[rows, H]`, 0 behind a sequence's end.
    fn previous_outputs(&self, sequences: Sequences<'_>, kept: &Kept<'_>, before: &mut [f32]) {
        let hidden = self.hidden;
        let out = Shared::new(before);
        parallel_chunks(self.batch, 4, |batch| {
            for b in batch {
                let n = sequences.len(b);
                for s in 0..self.time {
                    let row = if s < n { sequences.row(b, s) } else { s * self.batch + b };
                    // SAFETY: each sequence has its own rows.
                    let to = unsafe { out.part(row * hidden..(row + 1) * hidden) };
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

    /// The serial part; also the gradients of the first states.
    fn recursion(
        &self,
        sequences: Sequences<'_>,
        kept: &Kept<'_>,
        parts: &mut Parts<'_>,
        out: &mut Gradients<'_>,
    ) {
        let family = Family::active();
        let dgates = Address(parts.dgates.as_mut_ptr());
        let gru = self.cell == Cell::Gru;
        let dy = match kept.dy {
            Some(dy) if self.batch_first => {
                sequences.bring_in(dy, self.output_row, self.hidden, parts.dy);
                Some((&*parts.dy, self.hidden))
            }
            dy => dy.map(|dy| (dy, self.output_row)),
        };
        let pass = Pass {
            dy,
            states: Address(parts.states.as_mut_ptr()),
            gates_row: self.spread(self.columns()),
            sequences,
            kept,
            family,
            isa: Isa::active(),
            transposed: parts.transposed,
            dgates,
            recurrent: if gru { Address(parts.recurrent.as_mut_ptr()) } else { dgates },
            carry: Address(parts.carry.as_mut_ptr()),
        };
        let most = tile_rows(family, self.batch);
        sequences.drive(true, |s, batch, blocks| {
            let mut block = blocks.start;
            while block < blocks.end {
                let wide = panels(family, most, blocks.end - block);
                sequences.for_tiles(s, batch.clone(), most, |tile| pass.tile(s, &tile, block, wide));
                block += wide;
            }
        });
        if let Some(dh) = out.h.as_deref_mut() {
            pass.first_state(most, dh);
        }
        let first_c = if self.cell == Cell::Lstm { out.c.as_deref_mut() } else { None };
        if let Some(dc) = first_c {
            let rows = parts.carry.chunks_exact(self.padded().max(1));
            for (dc, carry) in dc.chunks_exact_mut(self.hidden.max(1)).zip(rows) {
                dc.copy_from_slice(&carry[..self.hidden]);
            }
        }
    }
}

/// Elements of a tile's dh: rows times at most four blocks.
const BUFFER: usize = MAX_ROWS * 4 * PANEL;

/// The recursion's operands.
struct Pass<'a> {
    sequences: Sequences<'a>,
    kept: &'a Kept<'a>,
    family: &'static Family,
    isa: Isa,
    transposed: &'a [f32],
    /// Gradient of the outputs and the distance of its rows, in the kernels' own order.
    dy: Option<(&'a [f32], usize)>,
    /// The gates' gradients of even and of odd steps.
    states: Address<f32>,
    gates_row: usize,
    dgates: Address<f32>,
    recurrent: Address<f32>,
    carry: Address<f32>,
}

impl Pass<'_> {
    /// Where step `s` keeps the gates' gradients for the product of the step before it, `[B, gates_row]`.
    fn state(&self, s: usize) -> *mut f32 {
        self.states.get().wrapping_add(s % 2 * self.sequences.layer.batch * self.gates_row)
    }

    /// What the step after `s` (the first one for `None`) sends back through W_hh, or the gradient of the last state,
    /// for `wide` blocks; rows of the buffer are `wide` panels.
    fn product(&self, s: Option<usize>, tile: &Batch, block: usize, wide: usize, buffer: &mut [f32; BUFFER]) {
        let layer = self.sequences.layer;
        let (columns, row_len) = (layer.columns(), wide * PANEL);
        let later = s.map_or(0, |s| s + 1);
        let mut rows = Rows::strided(0, 0);
        let mut count = 0;
        for (r, b) in tile.iter().enumerate() {
            if later < self.sequences.len(b) {
                rows.a[count] = (b * self.gates_row) as isize;
                rows.c[count] = (r * row_len) as isize;
                count += 1;
                continue;
            }
            let to = &mut buffer[r * row_len..(r + 1) * row_len];
            to.fill(0.0);
            if let Some(dh) = self.kept.dend.h {
                let (unit, width) = (block * PANEL, row_len.min(layer.hidden - block * PANEL));
                to[..width].copy_from_slice(&dh[b * layer.hidden + unit..][..width]);
            }
        }
        if count == 0 {
            return;
        }
        let sum = Sum::product(columns, 1, PANEL as isize, (columns * PANEL) as isize);
        let t = Tile {
            a: self.state(later).cast_const(),
            b: self.transposed[block * columns * PANEL..].as_ptr(),
            c: buffer.as_mut_ptr(),
            c_panel: PANEL as isize,
            tail: PANEL,
            finish: Finish::plain(false),
        };
        // SAFETY: rows of the gates' gradients that later steps have written, panels of the transposed weights, and
        // this call's own buffer.
        unsafe { self.family.kernel(count, wide, false)(&sum, &rows, &t) }
    }

    /// The gradient of the first h: what the first step sends back through W_hh, and a GRU's past it.
    fn first_state(&self, most: usize, dh: &mut [f32]) {
        let layer = self.sequences.layer;
        let (blocks, hidden, padded) = (layer.blocks(), layer.hidden, layer.padded());
        let at_once = panels(self.family, most, blocks);
        let out = Shared::new(dh);
        parallel_for(blocks.div_ceil(at_once), |task| {
            let mut block = task * at_once;
            let end = (block + at_once).min(blocks);
            while block < end {
                let wide = panels(self.family, most, end - block);
                let (unit, width) = (block * PANEL, (wide * PANEL).min(hidden - block * PANEL));
                for part in 0..layer.batch.div_ceil(most) {
                    let batch = even(layer.batch, most, part);
                    let tile = Batch::of(batch.clone());
                    let mut buffer = [0.0; BUFFER];
                    self.product(None, &tile, block, wide, &mut buffer);
                    for (b, dh) in batch.zip(buffer.chunks_exact(wide * PANEL)) {
                        // SAFETY: each task has its own units; the carries are complete.
                        let (to, carry) = unsafe {
                            let carry = self.carry.get().add(b * padded + unit);
                            let to = out.part(b * hidden + unit..b * hidden + unit + width);
                            (to, std::slice::from_raw_parts(carry, width))
                        };
                        to.copy_from_slice(&dh[..width]);
                        if layer.cell == Cell::Gru {
                            to.iter_mut().zip(carry).for_each(|(d, &c)| *d += c);
                        }
                    }
                }
                block += wide;
            }
        });
    }

    /// Step `s` of the tile's sequences for `wide` blocks from `block` on.
    fn tile(&self, s: usize, tile: &Batch, block: usize, wide: usize) {
        let layer = self.sequences.layer;
        let mut buffer = [0.0; BUFFER];
        self.product(Some(s), tile, block, wide, &mut buffer);
        for k in 0..wide {
            let p = self.places(s, tile, block + k, &buffer[k * PANEL..], wide * PANEL);
            debug_assert!(p.width <= layer.hidden);
            point::backward(self.isa, &p);
        }
    }

    /// Where everything lies for one block.
    fn places(
        &self,
        s: usize,
        tile: &Batch,
        block: usize,
        buffer: &[f32],
        row_len: usize,
    ) -> point::Backward {
        let (layer, kept) = (self.sequences.layer, self.kept);
        let (unit, padded, columns) = (block * PANEL, layer.padded(), layer.columns());
        let (null, null_mut) = ([std::ptr::null(); MAX_ROWS], [std::ptr::null_mut(); MAX_ROWS]);
        let mut p = point::Backward {
            cell: layer.cell,
            count: tile.count,
            width: lanes(layer, block),
            gates: null,
            extra: null,
            before: null,
            dy: null,
            dh: null,
            carry: null_mut,
            dgates: null_mut,
            dgates_recurrent: null_mut,
            state: null_mut,
        };
        for (r, b) in tile.iter().enumerate() {
            let row = self.sequences.row(b, s);
            let gates = row * columns + layer.cell.gates() * unit;
            let first =
                |v: Option<&[f32]>| v.map_or(std::ptr::null(), |v| v[b * layer.hidden + unit..].as_ptr());
            let y_at = |s| self.sequences.outer_row(b, s) * layer.output_row + unit;
            let kept_gates = row * self.gates_row + layer.cell.gates() * unit;
            p.gates[r] = kept.gates[kept_gates..].as_ptr();
            p.state[r] = self.state(s).wrapping_add(b * self.gates_row + layer.cell.gates() * unit);
            p.dy[r] = self.dy.map_or(std::ptr::null(), |(d, stride)| d[row * stride + unit..].as_ptr());
            p.dh[r] = buffer[r * row_len..].as_ptr();
            p.carry[r] = self.carry.get().wrapping_add(b * padded + unit);
            p.dgates[r] = self.dgates.get().wrapping_add(gates);
            p.dgates_recurrent[r] = self.recurrent.get().wrapping_add(gates);
            match layer.cell {
                Cell::Elman(_) => p.extra[r] = kept.y[y_at(s)..].as_ptr(),
                Cell::Lstm => {
                    p.extra[r] = kept.extra[row * padded + unit..].as_ptr();
                    p.before[r] = match s {
                        0 => first(kept.start.c),
                        _ => kept.extra[self.sequences.row(b, s - 1) * padded + unit..].as_ptr(),
                    };
                }
                Cell::Gru => {
                    p.extra[r] = kept.extra[row * padded + unit..].as_ptr();
                    p.before[r] = if s == 0 { first(kept.start.h) } else { kept.y[y_at(s - 1)..].as_ptr() };
                }
            }
        }
        p
    }
}
