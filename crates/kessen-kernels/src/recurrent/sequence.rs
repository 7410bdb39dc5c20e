//! Which rows belong to which step, and how the recursion's work is shared.

use super::Recurrent;
use super::backward::Kept;
use super::point::Place;
use crate::Indices;
use crate::micro::{Family, MAX_ROWS, PANEL, Rows, Soon};
use crate::split::even;
use crate::threads::{Address, Shared, parallel_chunks, parallel_for};
use arrayvec::ArrayVec;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Bytes of recurrent weights up to which a core keeps them in its own cache.
const CACHED: usize = 512 * 1024;
/// Elements of gates that a third-level cache keeps beside the weights; few in tests, so that those cut everywhere.
const GATES: usize = if cfg!(test) { 256 } else { 1024 * 1024 };
/// Elements of one task of a copy.
const GRAIN: usize = 16 * 1024;
/// Most sequences of a task where threads share the batch.
const GROUP: usize = 8;
/// Fewest sequences that threads share.
const SHARED: usize = 8;
/// Multiply-adds of a step below which threads don't share it.
const STEP_WORK: usize = 40 * 1024;

/// Most rows of a step that go through all blocks of hidden units together, so that each block's weights are fetched once
/// for all of them.
const ROWS_AT_ONCE: usize = 56;
/// Most tiles that do so.
pub(super) const TILES: usize = 9;

/// A tile's own rows of up to four panels, none across two cache lines. Not cleared: what is read has been written.
#[repr(align(64))]
pub(super) struct Buffer(pub [MaybeUninit<f32>; MAX_ROWS * 4 * PANEL]);

impl Buffer {
    /// With nothing written.
    #[inline(always)]
    pub fn new() -> Self {
        Buffer([MaybeUninit::uninit(); MAX_ROWS * 4 * PANEL])
    }

    /// Where the first row begins.
    pub fn base(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

/// The rows of a tile's own buffer.
pub(super) const ROWS: [usize; MAX_ROWS] = {
    let mut rows = [0; MAX_ROWS];
    let mut r = 0;
    while r < MAX_ROWS {
        rows[r] = r;
        r += 1;
    }
    rows
};

/// Up to a tile's rows: sequences that have the step at hand, and where that lies.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub sequences: [usize; MAX_ROWS],
    /// [`Sequences::row`] of each.
    pub rows: [usize; MAX_ROWS],
    /// [`Sequences::outer_row`] of each.
    pub outer: [usize; MAX_ROWS],
    pub count: usize,
}

impl Tile {
    const EMPTY: Tile =
        Tile { sequences: [0; MAX_ROWS], rows: [0; MAX_ROWS], outer: [0; MAX_ROWS], count: 0 };

    /// All of `batch`, at most a tile's rows, at no step.
    pub fn of(batch: Range<usize>) -> Self {
        let mut tile = Tile { count: batch.len(), ..Tile::EMPTY };
        tile.sequences.iter_mut().zip(batch).for_each(|(s, b)| *s = b);
        tile
    }

    /// The sequences.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.sequences[..self.count].iter().copied()
    }

    /// The rows of a product: `A`'s lie `a_row` apart sequence by sequence, `C`'s where `c` says.
    pub fn product_rows(&self, a_row: usize, c: &Place<'_>) -> Rows {
        let mut rows = Rows::strided(0, 0);
        for r in 0..self.count {
            rows.a[r] = (self.sequences[r] * a_row) as isize;
            rows.c[r] = c.offset(r) as isize;
        }
        rows
    }
}

/// What a thread does of a step: some sequences (the group's number among all) and blocks of hidden units.
pub(super) struct Share {
    pub group: usize,
    pub batch: Range<usize>,
    pub blocks: Range<usize>,
}

/// A layer with the lengths of its sequences.
#[derive(Clone, Copy)]
pub(super) struct Sequences<'a> {
    pub layer: &'a Recurrent,
    pub lengths: Option<Indices<'a>>,
}

impl Sequences<'_> {
    /// Number of valid steps of sequence `b`.
    pub fn len(&self, b: usize) -> usize {
        self.lengths.map_or(self.layer.time, |l| l.get(b) as usize)
    }

    /// The time of sequence `b`'s step number `s`.
    fn time(&self, b: usize, s: usize) -> usize {
        if self.layer.reverse { self.len(b) - 1 - s } else { s }
    }

    /// The row of sequence `b`'s step number `s` in the kernels' own order, `[T, B]`.
    pub fn row(&self, b: usize, s: usize) -> usize {
        self.time(b, s) * self.layer.batch + b
    }

    /// The row of time `t` of sequence `b` in the caller's order.
    pub fn outer_row_at(&self, b: usize, t: usize) -> usize {
        match self.layer.batch_first {
            true => b * self.layer.time + t,
            false => t * self.layer.batch + b,
        }
    }

    /// The row of sequence `b`'s step number `s` in the caller's order.
    pub fn outer_row(&self, b: usize, s: usize) -> usize {
        self.outer_row_at(b, self.time(b, s))
    }

    /// Number of steps of the longest sequence.
    pub fn steps(&self) -> usize {
        (0..self.layer.batch).map(|b| self.len(b)).max().unwrap_or(0)
    }

    /// Calls `f` with sequence and time of the rows behind each sequence's end.
    pub fn for_padding(&self, mut f: impl FnMut(usize, usize)) {
        for b in 0..self.layer.batch {
            (self.len(b)..self.layer.time).for_each(|t| f(b, t));
        }
    }

    /// Copies the `times` of rows of `width` elements, `stride` apart in the caller's order, into `to` in the kernels' own,
    /// where rows are `to_row` elements apart.
    pub fn bring_in(
        &self,
        rows: &[f32],
        stride: usize,
        width: usize,
        to: &mut [f32],
        to_row: usize,
        times: Range<usize>,
    ) {
        let batch = self.layer.batch;
        let out = Shared::new(to);
        parallel_chunks(times.len(), (GRAIN / (batch * width).max(1)).max(1), |part| {
            let part = part.start + times.start..part.end + times.start;
            for (t, b) in part.flat_map(|t| (0..batch).map(move |b| (t, b))) {
                let from = self.outer_row_at(b, t) * stride;
                let at = (t * batch + b) * to_row;
                // SAFETY: rows are disjoint.
                unsafe { out.part(at..at + width) }.copy_from_slice(&rows[from..from + width]);
            }
        });
    }

    /// Copies (or adds) dense rows of `width` elements in the kernels' own order to dense ones in the caller's.
    pub fn bring_out(&self, rows: &[f32], width: usize, to: &mut [f32], add: bool) {
        let time = self.layer.time;
        let out = Shared::new(to);
        parallel_chunks(self.layer.batch, (GRAIN / (time * width).max(1)).max(1), |batch| {
            for (b, t) in batch.flat_map(|b| (0..time).map(move |t| (b, t))) {
                let (at, row) = (self.outer_row_at(b, t), t * self.layer.batch + b);
                let from = &rows[row * width..(row + 1) * width];
                // SAFETY: rows are disjoint.
                let to = unsafe { out.part(at * width..(at + 1) * width) };
                match add {
                    true => to.iter_mut().zip(from).for_each(|(t, &f)| *t += f),
                    false => to.copy_from_slice(from),
                }
            }
        });
    }

    /// How far the row of the step before a row's lies from it.
    pub fn row_before(&self) -> isize {
        let rows = self.layer.batch as isize;
        if self.layer.reverse { rows } else { -rows }
    }

    /// Calls `f` with tiles of the sequences among `range` that are longer than `s`, a few at a time; a tile has at most
    /// `most` rows.
    pub fn for_tiles(&self, s: usize, range: Range<usize>, most: usize, mut f: impl FnMut(&[Tile])) {
        let (parts, at_once) = (range.len().div_ceil(most), (ROWS_AT_ONCE / most).clamp(1, TILES));
        for first in (0..parts).step_by(at_once) {
            // Filled where it lies: it is large beside a step of one sequence.
            let mut tiles = ArrayVec::<_, TILES>::new();
            for part in first..parts.min(first + at_once) {
                let batch = even(range.len(), most, part);
                tiles.push(self.tile(s, range.start + batch.start..range.start + batch.end));
            }
            tiles.retain(|tile| tile.count > 0);
            f(&tiles);
        }
    }

    /// The sequences among `batch`, at most a tile's rows, that are longer than `s`.
    fn tile(&self, s: usize, batch: Range<usize>) -> Tile {
        let mut tile = Tile::EMPTY;
        for b in batch.filter(|&b| s < self.len(b)) {
            let time = self.time(b, s);
            tile.sequences[tile.count] = b;
            tile.rows[tile.count] = time * self.layer.batch + b;
            tile.outer[tile.count] = self.outer_row_at(b, time);
            tile.count += 1;
        }
        tile
    }

    /// Recurrent weights.
    fn weights(&self) -> usize {
        self.layer.weight_len(self.layer.hidden)
    }

    /// Whether steps are too small for threads to share.
    fn is_small(&self) -> bool {
        self.layer.batch * self.weights() < STEP_WORK && self.layer.batch < 2 * GROUP
    }

    /// Whether threads share the batch and go through all steps without waiting for each other.
    pub fn shares_batch(&self) -> bool {
        self.weights() * size_of::<f32>() <= CACHED && self.layer.batch >= SHARED && !self.is_small()
    }

    /// Most sequences of a task where threads share the batch: there are two tasks at least.
    fn group(&self) -> usize {
        GROUP.min(self.layer.batch.div_ceil(2))
    }

    /// How many steps at a time the forward pass makes the gates' sums for, so that those are still in the cache when
    /// their steps come.
    pub fn steps_at_once(&self) -> usize {
        let ends_differ = self.layer.reverse && self.lengths.is_some();
        if ends_differ || self.shares_batch() {
            return self.layer.time.max(1);
        }
        (GATES / (self.layer.batch * self.layer.columns()).max(1)).max(1)
    }

    /// The times of some steps; where sequences are read backwards and their lengths differ, all times.
    pub fn times(&self, steps: Range<usize>) -> Range<usize> {
        let time = self.layer.time;
        match (self.layer.reverse, self.lengths) {
            (false, _) => steps,
            (true, None) => time - steps.end..time - steps.start,
            (true, Some(_)) => 0..time,
        }
    }

    /// Number of groups of sequences that [`Self::drive`] makes.
    pub fn groups(&self) -> usize {
        if self.shares_batch() { self.layer.batch.div_ceil(self.group()) } else { 1 }
    }

    /// Calls `f` with step and share for everything to be done, `steps` in order, or the last one first where
    /// `backward`.
    pub fn drive(&self, steps: Range<usize>, backward: bool, f: impl Fn(usize, &Share) + Sync) {
        let (count, batch, blocks) = (steps.len(), self.layer.batch, self.layer.blocks());
        let at = |i: usize| if backward { steps.end - 1 - i } else { steps.start + i };
        if self.is_small() {
            let all = Share { group: 0, batch: 0..batch, blocks: 0..blocks };
            return (0..count).for_each(|i| f(at(i), &all));
        }
        if self.shares_batch() {
            return parallel_for(self.groups(), |group| {
                let share = Share { group, batch: even(batch, self.group(), group), blocks: 0..blocks };
                (0..count).for_each(|i| f(at(i), &share));
            });
        }
        // Pairs of blocks keep two-panel tiles whole.
        let per_task = blocks.div_ceil(16).next_multiple_of(2);
        for i in 0..count {
            parallel_for(blocks.div_ceil(per_task), |task| {
                let blocks = task * per_task..((task + 1) * per_task).min(blocks);
                f(at(i), &Share { group: 0, batch: 0..batch, blocks });
            });
        }
    }
}

impl Recurrent {
    /// How many rows the outputs that [`Recurrent::gather_outputs`] brings together begin in front of the first row.
    pub(super) fn first_output(&self) -> usize {
        if self.reverse { self.batch } else { 0 }
    }

    /// The gates of a tile, whose rows are neighbours unless sequences that are read backwards end at different times.
    pub(super) fn soon(&self, gates: Address<f32>, tile: &Tile, block: usize, wide: usize) -> Soon {
        let first = self.cell.gates() * block * self.gate_panel() + tile.rows[0] * PANEL;
        Soon {
            from: gates.get().wrapping_add(first),
            line: PANEL as isize,
            block: self.gate_panel() as isize,
            lines: self.cell.gates() * wide * PANEL,
            ..Soon::NONE
        }
    }

    /// Brings the h before and after each step together in the kernels' own order, see `Parts::outputs`; 0 where there is
    /// no step next to a row. In the caller's order, sequences would throw each other's rows out of the caches.
    pub(super) fn gather_outputs(&self, sequences: Sequences<'_>, kept: &Kept<'_>, outputs: &mut [f32]) {
        let (hidden, stride) = (self.hidden, self.spread(self.hidden));
        let out = Shared::new(outputs);
        parallel_chunks(self.batch, 4, |batch| {
            for b in batch {
                let n = sequences.len(b);
                for s in 0..=self.time {
                    let time = if self.reverse && s <= n { n - s } else { s };
                    let row = time * self.batch + b;
                    // SAFETY: each sequence has its own rows.
                    let to = unsafe { out.part(row * stride..row * stride + hidden) };
                    match (s, kept.start.h) {
                        (0, Some(h)) => to.copy_from_slice(&h[b * hidden..(b + 1) * hidden]),
                        (0, None) => to.fill(0.0),
                        _ if s > n => to.fill(0.0),
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

/// Most panels (1, 2 or 4, at most `left`) that a kernel takes with `rows` rows.
pub(super) fn panels(family: &Family, rows: usize, left: usize) -> usize {
    [4, 2].into_iter().find(|&n| n <= left && rows <= family.rows(n)).unwrap_or(1)
}

/// Lanes of block `block` that are hidden units.
pub(super) fn lanes(layer: &Recurrent, block: usize) -> usize {
    PANEL.min(layer.hidden - block * PANEL)
}
