//! The serial part of the backward pass: from the last step to the first.

use super::backward::{Gradients, Kept, Parts};
use super::point::{self, Place};
use super::sequence::{Buffer, ROWS, Sequences, Share, Tile as Batch, lanes, panels};
use super::{Cell, Recurrent};
use crate::isa::Isa;
use crate::micro::{Family, Finish, PANEL, Rows, Soon, Sum, Tile};
use crate::split::even;
use crate::threads::{Address, Shared, parallel_for};
use std::mem::MaybeUninit;

impl Recurrent {
    /// The serial part; also the gradients of the first states.
    pub(super) fn recursion(
        &self,
        sequences: Sequences<'_>,
        kept: &Kept<'_>,
        parts: &mut Parts<'_>,
        out: &mut Gradients<'_>,
    ) {
        let family = Family::active();
        let gates = Address(out.gates.as_mut_ptr());
        let dy = match kept.dy {
            Some(dy) if self.batch_first => {
                sequences.bring_in(dy, self.output_row, self.hidden, parts.dy, self.hidden, 0..self.time);
                Some((&*parts.dy, self.hidden))
            }
            dy => dy.map(|dy| (dy, self.output_row)),
        };
        let pass = Pass {
            dy,
            states: Address(parts.states.as_mut_ptr()),
            state_row: self.spread(self.columns()),
            sequences,
            kept,
            outputs: parts.outputs,
            family,
            isa: Isa::active(),
            transposed: parts.transposed,
            gates,
            recurrent: Address(parts.recurrent.as_mut_ptr()),
            carry: Address(parts.carry.as_mut_ptr()),
            sums: Address(parts.sums.as_mut_ptr()),
        };
        let most = family.tall(self.batch);
        sequences.drive(0..sequences.steps(), true, |s, share| pass.step(s, share, most));
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

/// The recursion's operands.
struct Pass<'a> {
    sequences: Sequences<'a>,
    kept: &'a Kept<'a>,
    /// [`Parts::outputs`].
    outputs: &'a [f32],
    family: &'static Family,
    isa: Isa,
    transposed: &'a [f32],
    /// Gradient of the outputs and the distance of its rows, in the kernels' own order.
    dy: Option<(&'a [f32], usize)>,
    /// The gates' gradients of even and of odd steps.
    states: Address<f32>,
    state_row: usize,
    /// The gates, and then their gradients.
    gates: Address<f32>,
    recurrent: Address<f32>,
    carry: Address<f32>,
    /// The gates' gradients summed over rows, by group of sequences and block.
    sums: Address<f32>,
}

impl Pass<'_> {
    /// Where step `s` keeps the gates' gradients for the product of the step before it, `[B, state_row]`.
    fn state(&self, s: usize) -> *mut f32 {
        self.states.get().wrapping_add(s % 2 * self.sequences.layer.batch * self.state_row)
    }

    /// What the step after `s` (the first one for `None`) sends back through W_hh, or the gradient of the last state,
    /// for `wide` blocks: a tile's dh; rows of the buffer are `wide` panels. What is `soon` read arrives meanwhile.
    fn product(
        &self,
        s: Option<usize>,
        tile: &Batch,
        block: usize,
        wide: usize,
        soon: Soon,
        buffer: &mut Buffer,
    ) {
        let layer = self.sequences.layer;
        let (columns, row_len) = (layer.columns(), wide * PANEL);
        let later = s.map_or(0, |s| s + 1);
        let mut rows = Rows::strided(0, 0);
        let mut count = 0;
        for (r, b) in tile.iter().enumerate() {
            if later < self.sequences.len(b) {
                rows.a[count] = (b * self.state_row) as isize;
                rows.c[count] = (r * row_len) as isize;
                count += 1;
                continue;
            }
            let to = &mut buffer.0[r * row_len..(r + 1) * row_len];
            to.fill(MaybeUninit::new(0.0));
            if let Some(dh) = self.kept.dend.h {
                let (unit, width) = (block * PANEL, row_len.min(layer.hidden - block * PANEL));
                let from = &dh[b * layer.hidden + unit..][..width];
                to.iter_mut().zip(from).for_each(|(to, &d)| *to = MaybeUninit::new(d));
            }
        }
        if count == 0 {
            return;
        }
        let sum = Sum::product(columns, 1, PANEL as isize, (columns * PANEL) as isize);
        let t = Tile {
            a: self.state(later).cast_const(),
            b: self.transposed[block * columns * PANEL..].as_ptr(),
            c: buffer.base(),
            c_panel: PANEL as isize,
            tail: PANEL,
            soon,
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
                    let mut buffer = Buffer::new();
                    self.product(None, &tile, block, wide, Soon::NONE, &mut buffer);
                    for (b, dh) in batch.zip(buffer.0.chunks_exact(wide * PANEL)) {
                        // SAFETY: each task has its own units; the carries are complete and so are the tile's rows of dh.
                        let (to, dh, carry) = unsafe {
                            let carry = self.carry.get().add(b * padded + unit);
                            let to = out.part(b * hidden + unit..b * hidden + unit + width);
                            let dh = std::slice::from_raw_parts(dh.as_ptr().cast(), width);
                            (to, dh, std::slice::from_raw_parts(carry, width))
                        };
                        to.copy_from_slice(dh);
                        if layer.cell == Cell::Gru {
                            to.iter_mut().zip(carry).for_each(|(d, &c)| *d += c);
                        }
                    }
                }
                block += wide;
            }
        });
    }

    /// A share of step `s`.
    fn step(&self, s: usize, share: &Share, most: usize) {
        let layer = self.sequences.layer;
        self.sequences.for_tiles(s, share.batch.clone(), most, |tiles| {
            let mut block = share.blocks.start;
            while block < share.blocks.end {
                let wide = panels(self.family, most, share.blocks.end - block);
                let place = share.group * layer.sums_len() + block * point::sums(layer.cell) * PANEL;
                let sums = self.sums.get().wrapping_add(place);
                tiles.iter().for_each(|tile| self.tile(s, tile, block, wide, sums));
                block += wide;
            }
        });
    }

    /// Step `s` of the tile's sequences for `wide` blocks from `block` on, whose sums of gradients lie at `sums`.
    fn tile(&self, s: usize, tile: &Batch, block: usize, wide: usize, sums: *mut f32) {
        let mut buffer = Buffer::new();
        let layer = self.sequences.layer;
        let (panel, gates) = (layer.gate_panel(), layer.cell.gates());
        let places = self.places(s, tile, block, sums);
        Self::ask(&places, wide);
        self.product(Some(s), tile, block, wide, layer.soon(self.gates, tile, block, wide), &mut buffer);
        let dh = Place::new(buffer.base(), wide * PANEL, &ROWS);
        for k in 0..wide {
            let unit = k * PANEL;
            point::backward(
                self.isa,
                &point::Backward {
                    width: lanes(layer, block + k),
                    gates: places.gates.along(k * gates * panel),
                    extra: places.extra.along(unit),
                    before: places.before.along(unit),
                    dy: places.dy.along(unit),
                    dh: dh.along(unit),
                    carry: places.carry.along(unit),
                    recurrent: places.recurrent.along(k * gates * panel),
                    state: places.state.along(gates * unit),
                    sums: sums.wrapping_add(unit * point::sums(layer.cell)),
                    ..places
                },
            );
        }
    }

    /// Asks for what else the cells will read and write: it arrives while the product is made.
    fn ask(places: &point::Backward<'_>, wide: usize) {
        let (count, len, gates) = (places.count, wide * PANEL, places.cell.gates());
        places.dy.ask(count, len);
        places.before.ask(count, len);
        places.extra.ask(count, len);
        places.carry.ask(count, if gates > 1 { len } else { 0 });
        (0..gates * wide).for_each(|k| places.recurrent.along(k * places.gate).ask(count, PANEL));
    }

    /// Where everything but dh lies from one block on.
    fn places<'t>(&self, s: usize, tile: &'t Batch, block: usize, sums: *mut f32) -> point::Backward<'t> {
        let (layer, kept, sequences) = (self.sequences.layer, self.kept, &self.sequences);
        let (unit, padded, gates) = (block * PANEL, layer.padded(), layer.cell.gates());
        let zeros = Place::zeros(&tile.sequences);
        let first = |v: Option<&[f32]>| {
            v.map_or(zeros, |v| Place::read(v[unit..].as_ptr(), layer.hidden, &tile.sequences))
        };
        let output = |back: isize| {
            let (stride, first) = (layer.spread(layer.hidden), layer.first_output());
            let base = self.outputs[first * stride..].as_ptr().wrapping_add(unit);
            Place::read(base.wrapping_offset(back * stride as isize), stride, &tile.rows)
        };
        let cells = |back: isize| {
            let base = kept.extra.as_ptr().wrapping_add(unit).wrapping_offset(back * padded as isize);
            Place::read(base, padded, &tile.rows)
        };
        let (extra, before) = match (layer.cell, s) {
            (Cell::Elman(_), _) => (output(-sequences.row_before()), zeros),
            (Cell::Lstm, 0) => (cells(0), first(kept.start.c)),
            (Cell::Lstm, _) => (cells(0), cells(sequences.row_before())),
            (Cell::Gru, _) => (cells(0), output(0)),
        };
        let panels = gates * block * layer.gate_panel();
        let gradients = |at: &Address<f32>| Place::new(at.get().wrapping_add(panels), PANEL, &tile.rows);
        point::Backward {
            cell: layer.cell,
            count: tile.count,
            width: lanes(layer, block),
            gates: gradients(&self.gates),
            gate: layer.gate_panel(),
            extra,
            before,
            dy: self.dy.map_or(zeros, |(dy, row)| Place::read(dy[unit..].as_ptr(), row, &tile.rows)),
            dh: zeros,
            carry: Place::new(self.carry.get().wrapping_add(unit), padded, &tile.sequences),
            recurrent: if layer.cell == Cell::Gru { gradients(&self.recurrent) } else { zeros },
            state: Place::new(self.state(s).wrapping_add(gates * unit), self.state_row, &tile.sequences),
            sums,
        }
    }
}
