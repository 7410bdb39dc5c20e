//! The forward pass.

use super::point::{self, Place, Source};
use super::products::SERIAL_WORK;
use super::sequence::{Buffer, ROWS, Sequences, TILES, Tile as Batch, lanes, panels};
use super::{Cell, Recurrent, States, Weights};
use crate::epilogue::Epilogue;
use crate::gemm::Product;
use crate::isa::Isa;
use crate::micro::{Family, Finish, PANEL, Soon, Sum, Tile};
use crate::split::even;
use crate::threads::Address;
use crate::{Error, Indices};
use arrayvec::ArrayVec;
use std::ops::Range;

/// What the forward pass writes.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// h of each step: rows of `H` at [`Recurrent::output_row`], 0 behind a sequence's end.
    pub y: &'a mut [f32],
    /// [`Recurrent::gates_len`]: kept for the backward pass, or scratch. [`Recurrent::forward_tokens`] needs no scratch:
    /// where nothing is kept, it may be empty there.
    pub gates: &'a mut [f32],
    /// [`Recurrent::extra_len`]: kept for the backward pass, or scratch.
    pub extra: &'a mut [f32],
    /// h after each sequence's last step, `[B, H]`.
    pub h: Option<&'a mut [f32]>,
    /// c after each sequence's last step, `[B, H]` (LSTM only).
    pub c: Option<&'a mut [f32]>,
}

/// Where the gates' sums of the inputs lie when their step comes.
#[derive(Clone, Copy)]
pub(super) enum Sums<'a> {
    /// Where the gates will lie.
    Own,
    /// At another row of the gates, whose step has not come yet; given for each of the layer's rows.
    Places(&'a [i64]),
    /// In the rows of a dense table; their numbers are in the caller's order.
    Table(&'a [f32], Indices<'a>),
}

impl Recurrent {
    /// The gates' sums of the inputs and biases: x·W_ihᵀ + bias for some rows, `x` being theirs.
    pub(super) fn input_sums(
        &self,
        x: &[f32],
        rows: Range<usize>,
        weights: &[f32],
        bias: &[f32],
        gates: &mut [f32],
        copies: &mut [f32],
    ) {
        let (inputs, columns, count) = (self.inputs, self.columns(), rows.len());
        assert!(x.len() >= count * inputs && rows.end <= self.rows(), "recurrent: rows of inputs");
        let product = Product {
            n: columns,
            k: inputs,
            a: x.as_ptr(),
            a_row: inputs as isize,
            a_col: 1,
            a_panel: None,
            b: weights.as_ptr(),
            b_row: PANEL as isize,
            b_panel: (inputs * PANEL) as isize,
            c: gates.as_mut_ptr().wrapping_add(rows.start * PANEL),
            c_row: PANEL as isize,
            c_panel: self.gate_panel() as isize,
            rows_follow: true,
            finish: Finish::new(&Epilogue::store().bias(bias)),
        };
        let serial = count * columns * inputs <= SERIAL_WORK;
        // SAFETY: inputs, weights, biases and gates have the layer's lengths.
        unsafe { product.run(Family::active(), count, serial, copies) }
    }

    /// Length of a dense copy of rows of `width` in the kernels' own order, which only `[B, T]` needs.
    pub(super) fn copy_len(&self, width: usize) -> usize {
        if self.batch_first { self.rows() * width } else { 0 }
    }

    /// Lengths of the parts of scratch: biases, a GRU's b_hn, two steps' h, the product's, the inputs' copy.
    fn forward_parts(&self) -> [usize; 5] {
        let states = 2 * self.batch * self.spread(self.hidden);
        [self.columns(), self.padded(), states, self.products_scratch(), self.copy_len(self.inputs)]
    }

    /// Number of elements of scratch that [`Recurrent::forward`] needs.
    pub fn forward_scratch(&self) -> usize {
        self.forward_parts().iter().sum()
    }

    /// Runs the layer over `x`, `[rows, D]`. Inputs behind a sequence's end are not used, but must be finite where the
    /// backward pass follows.
    ///
    /// # Errors
    /// A length is larger than `T`.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    pub fn forward(
        &self,
        x: &[f32],
        weights: &Weights<'_>,
        start: States<'_>,
        lengths: Option<Indices<'_>>,
        out: &mut Outputs<'_>,
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        assert!(x.len() == self.rows() * self.inputs, "recurrent: inputs");
        let inputs = self.inputs;
        let own = Sums::Own;
        self.run(
            weights,
            start,
            lengths,
            own,
            out,
            scratch,
            |sequences, times, bias, copy, scratch, gates| {
                let x = if self.batch_first {
                    sequences.bring_in(x, inputs, inputs, copy, inputs, times.clone());
                    &*copy
                } else {
                    x
                };
                let rows = times.start * self.batch..times.end * self.batch;
                self.input_sums(&x[rows.start * inputs..], rows, weights.input, bias, gates, scratch);
            },
        )
    }

    /// All of the forward pass, given where it finds its sums; `begin` makes the gates' sums of the inputs and biases at some
    /// times, given the merged biases, room for a copy of the inputs, and scratch for their product.
    pub(super) fn run(
        &self,
        weights: &Weights<'_>,
        start: States<'_>,
        lengths: Option<Indices<'_>>,
        sums: Sums<'_>,
        out: &mut Outputs<'_>,
        scratch: &mut [f32],
        begin: impl Fn(Sequences<'_>, Range<usize>, &[f32], &mut [f32], &mut [f32], &mut [f32]),
    ) -> Result<(), Error> {
        self.check_lengths(lengths)?;
        self.check(weights, start);
        assert!(out.y.len() >= self.output_len(), "recurrent: outputs");
        let keeps = out.gates.len() == self.gates_len();
        let needs_none = matches!(sums, Sums::Table(..)) && out.gates.is_empty();
        assert!((keeps || needs_none) && out.extra.len() == self.extra_len(), "recurrent: gates");
        let [a, b, c, d, _] = self.forward_parts();
        let (bias, scratch) = scratch.split_at_mut(a);
        let (bias_n, scratch) = scratch.split_at_mut(b);
        let (states, scratch) = scratch.split_at_mut(c);
        let (scratch, copy) = scratch.split_at_mut(d);
        self.merge_biases(weights, bias, bias_n);
        let sequences = Sequences { layer: self, lengths };
        sequences.for_padding(|b, t| {
            out.y[sequences.outer_row_at(b, t) * self.output_row..][..self.hidden].fill(0.0);
        });
        let family = Family::active();
        let (steps, at_once) = (sequences.steps(), sequences.steps_at_once());
        for part in 0..steps.div_ceil(at_once) {
            let steps = even(steps, at_once, part);
            begin(sequences, sequences.times(steps.clone()), bias, copy, scratch, out.gates);
            let pass = Pass {
                sequences,
                family,
                isa: Isa::active(),
                most: family.tall(self.batch),
                state_row: self.spread(self.hidden),
                weights: weights.recurrent,
                start,
                bias_n,
                sums,
                keeps: keeps && !matches!(self.cell, Cell::Elman(_)),
                y: Address(out.y.as_mut_ptr()),
                states: Address(states.as_mut_ptr()),
                gates: Address(out.gates.as_mut_ptr()),
                extra: Address(out.extra.as_mut_ptr()),
            };
            pass.run(steps);
        }
        self.final_states(sequences, start, out);
        Ok(())
    }

    /// b_ih + b_hh, except for a GRU's n: there b_hh goes to `bias_n`.
    pub(super) fn merge_biases(&self, weights: &Weights<'_>, bias: &mut [f32], bias_n: &mut [f32]) {
        bias.fill(0.0);
        bias_n.fill(0.0);
        for b in [weights.bias_input, weights.bias_recurrent].into_iter().flatten() {
            bias.iter_mut().zip(b).for_each(|(sum, &b)| *sum += b);
        }
        if self.cell == Cell::Gru {
            for block in 0..self.blocks() {
                let n = (3 * block + 2) * PANEL..(3 * block + 3) * PANEL;
                match weights.bias_input {
                    Some(b) => bias[n.clone()].copy_from_slice(&b[n.clone()]),
                    None => bias[n.clone()].fill(0.0),
                }
                if let Some(b) = weights.bias_recurrent {
                    bias_n[block * PANEL..(block + 1) * PANEL].copy_from_slice(&b[n]);
                }
            }
        }
    }

    /// Copies each sequence's last h and c.
    fn final_states(&self, sequences: Sequences<'_>, start: States<'_>, out: &mut Outputs<'_>) {
        let width = self.hidden;
        let copy = |to: &mut [f32], from: &[f32], outer: bool, first: Option<&[f32]>| {
            for b in 0..self.batch {
                let to = &mut to[b * width..(b + 1) * width];
                match (sequences.len(b), first) {
                    (0, None) => to.fill(0.0),
                    (0, Some(first)) => to.copy_from_slice(&first[b * width..(b + 1) * width]),
                    (n, _) => {
                        let at = match outer {
                            true => sequences.outer_row(b, n - 1) * self.output_row,
                            false => sequences.row(b, n - 1) * self.padded(),
                        };
                        to.copy_from_slice(&from[at..at + width]);
                    }
                }
            }
        };
        if let Some(h) = out.h.as_deref_mut() {
            copy(h, out.y, true, start.h);
        }
        if let (Some(c), Cell::Lstm) = (out.c.as_deref_mut(), self.cell) {
            copy(c, out.extra, false, start.c);
        }
    }
}

/// The recursion's operands.
struct Pass<'a> {
    sequences: Sequences<'a>,
    family: &'static Family,
    isa: Isa,
    /// Most rows of a tile.
    most: usize,
    state_row: usize,
    weights: &'a [f32],
    start: States<'a>,
    bias_n: &'a [f32],
    sums: Sums<'a>,
    /// Whether gates are wanted where they lie.
    keeps: bool,
    y: Address<f32>,
    /// h of even and of odd steps.
    states: Address<f32>,
    gates: Address<f32>,
    extra: Address<f32>,
}

impl Pass<'_> {
    /// Some steps.
    fn run(&self, steps: Range<usize>) {
        self.sequences.drive(steps, false, |s, share| {
            self.sequences.for_tiles(s, share.batch.clone(), self.most, |tiles| {
                let mut sources = ArrayVec::<_, TILES>::new();
                tiles.iter().filter_map(|tile| self.source(tile)).for_each(|source| sources.push(source));
                let mut block = share.blocks.start;
                while block < share.blocks.end {
                    let wide = self.blocks_at_once(share.blocks.end - block);
                    for (k, tile) in tiles.iter().enumerate() {
                        self.tile(s, tile, sources.get(k), block..block + wide);
                    }
                    block += wide;
                }
            });
        });
    }

    /// How many blocks a tile covers: several only where a block is one panel.
    fn blocks_at_once(&self, left: usize) -> usize {
        match self.sequences.layer.cell {
            Cell::Elman(_) => panels(self.family, self.most, left),
            _ => 1,
        }
    }

    /// Where step `s` keeps h, `[B, state_row]`.
    fn state(&self, s: usize) -> *mut f32 {
        self.states.get().wrapping_add(s % 2 * self.sequences.layer.batch * self.state_row)
    }

    /// Step `s` of the tile's sequences for some blocks, whose sums come from `source`.
    fn tile(&self, s: usize, tile: &Batch, source: Option<&Source>, blocks: Range<usize>) {
        let (layer, block, wide) = (self.sequences.layer, blocks.start, blocks.len());
        let mut places = self.places(s, tile, block);
        let (gates, mut buffer) = (layer.cell.gates(), Buffer::new());
        let mut soon = Soon::NONE;
        if let Some(source) = source {
            places.sums = Place::new(buffer.base(), wide * gates * PANEL, &ROWS);
            (places.sum, places.source) = (PANEL, Some(source));
            source.ask(tile.count, block * gates..blocks.end * gates);
            if self.keeps {
                soon = layer.soon(self.gates, tile, block, wide);
            }
        }
        // What the cells will write arrives while the product is made.
        places.y.ask(tile.count, wide * PANEL);
        places.extra.ask(tile.count, wide * PANEL);
        places.own = self.product(s, tile, block, wide, soon, &places);
        for k in 0..wide {
            let (unit, width) = (k * PANEL, lanes(layer, block + k));
            point::forward(
                self.isa,
                &point::Forward {
                    width,
                    sums: places.sums.along(k * gates * places.sum),
                    panel: (block + k) * gates,
                    gates: places.gates.along(k * gates * places.gate),
                    extra: places.extra.along(unit),
                    before: places.before.along(unit),
                    y: places.y.along(unit),
                    state: places.state.along(unit),
                    ..places
                },
            );
        }
    }

    /// Where everything lies from one block on.
    fn places<'t>(&self, s: usize, tile: &'t Batch, block: usize) -> point::Forward<'t> {
        let (layer, sequences) = (self.sequences.layer, &self.sequences);
        let (padded, unit, hidden) = (layer.padded(), block * PANEL, layer.hidden);
        let zeros = Place::zeros(&tile.sequences);
        let first =
            |v: Option<&[f32]>| v.map_or(zeros, |v| Place::read(v[unit..].as_ptr(), hidden, &tile.sequences));
        let extra = self.extra.get().wrapping_add(unit);
        let gates = self.gates.get().wrapping_add(layer.cell.gates() * block * layer.gate_panel());
        let gates = Place::new(gates, PANEL, &tile.rows);
        let before = match (layer.cell, s) {
            (Cell::Elman(_), _) => zeros,
            (Cell::Lstm, 0) => first(self.start.c),
            (Cell::Gru, 0) => first(self.start.h),
            (Cell::Lstm, _) => {
                let back = sequences.row_before() * padded as isize;
                Place::new(extra.wrapping_offset(back), padded, &tile.rows)
            }
            (Cell::Gru, _) => {
                Place::new(self.state(s - 1).wrapping_add(unit), self.state_row, &tile.sequences)
            }
        };
        point::Forward {
            cell: layer.cell,
            count: tile.count,
            width: lanes(layer, block),
            sums: gates,
            sum: layer.gate_panel(),
            source: None,
            panel: 0,
            own: 0,
            gates: if self.keeps { gates } else { zeros },
            gate: layer.gate_panel(),
            extra: match layer.cell {
                Cell::Elman(_) => zeros,
                Cell::Lstm | Cell::Gru => Place::new(extra, padded, &tile.rows),
            },
            before,
            y: Place::new(self.y.get().wrapping_add(unit), layer.output_row, &tile.outer),
            state: Place::new(self.state(s).wrapping_add(unit), self.state_row, &tile.sequences),
        }
    }

    /// Where a tile finds its sums, if not in its gates' place.
    fn source(&self, tile: &Batch) -> Option<Source> {
        let layer = self.sequences.layer;
        match self.sums {
            Sums::Own => None,
            Sums::Places(places) => Some(Source::new(tile.count, layer.gate_panel(), |r| {
                self.gates.get().wrapping_add(places[tile.rows[r]] as usize * PANEL)
            })),
            Sums::Table(table, ids) => Some(Source::new(tile.count, PANEL, |r| {
                table[ids.get(tile.outer[r]) as usize * layer.columns()..].as_ptr()
            })),
        }
    }

    /// W_hh·h′, added to the inputs' sums where those lie in the gates' place (a GRU's third gate gets a place of its
    /// own); the result is the number of panels. What is `soon` written arrives meanwhile.
    fn product(
        &self,
        s: usize,
        tile: &Batch,
        block: usize,
        wide: usize,
        soon: Soon,
        places: &point::Forward<'_>,
    ) -> usize {
        let layer = self.sequences.layer;
        let gates = layer.cell.gates();
        let own = if layer.cell == Cell::Gru { 2 } else { gates * wide };
        let a_row = if s == 0 { layer.hidden } else { self.state_row };
        let rows = tile.product_rows(a_row, &places.sums);
        let a = match (s, self.start.h) {
            (0, None) => {
                if layer.cell == Cell::Gru {
                    self.bias_only(tile, block);
                }
                return 0;
            }
            (0, Some(h)) => h.as_ptr(),
            _ => self.state(s - 1).cast_const(),
        };
        let panel_len = layer.hidden * PANEL;
        let sum = Sum::product(layer.hidden, 1, PANEL as isize, panel_len as isize);
        let mut done = 0;
        while done < own {
            let n = panels(self.family, tile.count, own - done);
            let panel = block * gates + done;
            let t = Tile {
                a,
                b: self.weights[panel * panel_len..].as_ptr(),
                c: places.sums.base().wrapping_add(done * places.sum),
                c_panel: places.sum as isize,
                tail: PANEL,
                soon: if done == 0 { soon } else { Soon::NONE },
                finish: Finish::plain(places.source.is_none()),
            };
            // SAFETY: rows and panels lie in the slices whose lengths were checked or in the tile's buffer; tasks write
            // disjoint tiles, and what they read was written by earlier steps.
            unsafe { self.family.kernel(tile.count, n, false)(&sum, &rows, &t) }
            done += n;
        }
        if layer.cell == Cell::Gru {
            let bias_column = self.bias_n[block * PANEL..].as_ptr();
            let t = Tile {
                a,
                b: self.weights[(block * gates + 2) * panel_len..].as_ptr(),
                c: places.extra.base(),
                c_panel: 0,
                tail: PANEL,
                soon: Soon::NONE,
                finish: Finish { bias_column, ..Finish::plain(false) },
            };
            let rows = tile.product_rows(a_row, &places.extra);
            // SAFETY: as above.
            unsafe { self.family.kernel(tile.count, 1, false)(&sum, &rows, &t) }
        }
        own
    }

    /// W_hn·h′ + b_hn where h′ is 0.
    fn bias_only(&self, tile: &Batch, block: usize) {
        let (bias, padded) =
            (&self.bias_n[block * PANEL..(block + 1) * PANEL], self.sequences.layer.padded());
        for row in &tile.rows[..tile.count] {
            let to = self.extra.get().wrapping_add(row * padded + block * PANEL);
            // SAFETY: a whole block of the row, written by this task alone.
            unsafe { to.copy_from_nonoverlapping(bias.as_ptr(), PANEL) }
        }
    }
}
