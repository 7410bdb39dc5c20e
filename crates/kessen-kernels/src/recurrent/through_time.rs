//! The serial part of the backward pass: from the last step to the first.

use super::backward::{Gradients, Kept, Parts};
use super::point;
use super::sequence::{Sequences, Share, Tile as Batch, lanes, panels, tile_rows};
use super::{Cell, Recurrent};
use crate::gemm::{even, prefetch};
use crate::isa::Isa;
use crate::micro::{Family, Finish, MAX_ROWS, PANEL, Rows, Soon, Sum, Tile};
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
        let dgates = Address(parts.dgates.as_mut_ptr());
        let gru = self.cell == Cell::Gru;
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
            gates_row: self.spread(self.columns()),
            sequences,
            kept,
            family,
            isa: Isa::active(),
            transposed: parts.transposed,
            dgates,
            recurrent: if gru { Address(parts.recurrent.as_mut_ptr()) } else { dgates },
            carry: Address(parts.carry.as_mut_ptr()),
            sums: Address(parts.sums.as_mut_ptr()),
        };
        let most = tile_rows(family, self.batch);
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

/// A tile's dh: rows of at most four blocks. Not cleared, since [`Pass::product`] writes what is read.
type Buffer = [MaybeUninit<f32>; MAX_ROWS * 4 * PANEL];

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
    /// The gates' gradients summed over rows, by group of sequences and block.
    sums: Address<f32>,
}

impl Pass<'_> {
    /// Where step `s` keeps the gates' gradients for the product of the step before it, `[B, gates_row]`.
    fn state(&self, s: usize) -> *mut f32 {
        self.states.get().wrapping_add(s % 2 * self.sequences.layer.batch * self.gates_row)
    }

    /// What the step after `s` (the first one for `None`) sends back through W_hh, or the gradient of the last state,
    /// for `wide` blocks; rows of the buffer are `wide` panels.
    fn product(&self, s: Option<usize>, tile: &Batch, block: usize, wide: usize, buffer: &mut Buffer) {
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
            c: buffer.as_mut_ptr().cast(),
            c_panel: PANEL as isize,
            tail: PANEL,
            soon: Soon::NONE,
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
                    let mut buffer: Buffer = [MaybeUninit::uninit(); MAX_ROWS * 4 * PANEL];
                    self.product(None, &tile, block, wide, &mut buffer);
                    for (b, dh) in batch.zip(buffer.chunks_exact(wide * PANEL)) {
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
        let (layer, mut block) = (self.sequences.layer, share.blocks.start);
        while block < share.blocks.end {
            let wide = panels(self.family, most, share.blocks.end - block);
            let place = share.group * layer.sums_len() + block * point::sums(layer.cell) * PANEL;
            let sums = self.sums.get().wrapping_add(place);
            let tile = |tile| self.tile(s, &tile, block, wide, sums);
            self.sequences.for_tiles(s, share.batch.clone(), most, tile);
            block += wide;
        }
    }

    /// Step `s` of the tile's sequences for `wide` blocks from `block` on, whose sums of gradients lie at `sums`.
    fn tile(&self, s: usize, tile: &Batch, block: usize, wide: usize, sums: *mut f32) {
        let mut buffer: Buffer = [MaybeUninit::uninit(); MAX_ROWS * 4 * PANEL];
        self.fetch(s, tile, block, wide);
        self.product(Some(s), tile, block, wide, &mut buffer);
        for k in 0..wide {
            let mut p = self.places(s, tile, block + k, &buffer[k * PANEL..], wide * PANEL);
            debug_assert!(p.width <= self.sequences.layer.hidden);
            p.sums = sums.wrapping_add(k * point::sums(p.cell) * PANEL);
            point::backward(self.isa, &p);
        }
    }

    /// Asks for what the cells will read and write: it arrives while the product is made.
    fn fetch(&self, s: usize, tile: &Batch, block: usize, wide: usize) {
        let (layer, kept) = (self.sequences.layer, self.kept);
        let (unit, len, gates) = (block * PANEL, wide * PANEL, layer.cell.gates());
        for b in tile.iter() {
            let row = self.sequences.row(b, s);
            let extra =
                |s| kept.extra.as_ptr().wrapping_add(self.sequences.row(b, s) * layer.padded() + unit);
            let y = |s| {
                let row = self.sequences.outer_row(b, s) * layer.output_row;
                kept.y.as_ptr().wrapping_add(row + unit)
            };
            if let Some((dy, stride)) = self.dy {
                prefetch(dy.as_ptr().wrapping_add(row * stride + unit), len);
            }
            let before = s.saturating_sub(1);
            match layer.cell {
                Cell::Elman(_) => prefetch(y(s), len),
                Cell::Lstm => prefetch(extra(before), len),
                Cell::Gru => {
                    prefetch(extra(s), len);
                    prefetch(y(before), len);
                }
            }
            if gates > 1 {
                let from = row * self.gates_row + gates * unit;
                prefetch(kept.gates.as_ptr().wrapping_add(from), gates * len);
            }
            for panel in gates * block..gates * (block + wide) {
                prefetch(self.dgates.get().wrapping_add(panel * layer.gradient_panel() + row * PANEL), PANEL);
            }
        }
    }

    /// Where everything lies for one block.
    fn places(
        &self,
        s: usize,
        tile: &Batch,
        block: usize,
        buffer: &[MaybeUninit<f32>],
        row_len: usize,
    ) -> point::Backward {
        let (layer, kept) = (self.sequences.layer, self.kept);
        let (unit, padded) = (block * PANEL, layer.padded());
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
            gate: layer.gradient_panel(),
            dgates: null_mut,
            dgates_recurrent: null_mut,
            state: null_mut,
            sums: std::ptr::null_mut(),
        };
        for (r, b) in tile.iter().enumerate() {
            let row = self.sequences.row(b, s);
            let gates = layer.cell.gates() * block * layer.gradient_panel() + row * PANEL;
            let first =
                |v: Option<&[f32]>| v.map_or(std::ptr::null(), |v| v[b * layer.hidden + unit..].as_ptr());
            let y_at = |s| self.sequences.outer_row(b, s) * layer.output_row + unit;
            let kept_gates = row * self.gates_row + layer.cell.gates() * unit;
            p.gates[r] = kept.gates[kept_gates..].as_ptr();
            p.state[r] = self.state(s).wrapping_add(b * self.gates_row + layer.cell.gates() * unit);
            p.dy[r] = self.dy.map_or(std::ptr::null(), |(d, stride)| d[row * stride + unit..].as_ptr());
            p.dh[r] = buffer[r * row_len..].as_ptr().cast();
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
