//! One product of a batch: how its operands are brought into shape, and how it is cut into tasks.

use super::product::{COPY_LEN, MAX_BLOCK_ROWS, Product};
use super::{Gemm, SERIAL_WORK, TASK_WORK, pack::Source, vector};
use crate::layout::panels_len;
use crate::micro::{Family, Finish, PANEL};
use crate::split::{dividing, even};
use crate::threads::{self, Address, Shared};
use std::ops::Range;

/// Rows up to which `B` is read where it is: packing pays only when many rows use it.
const DIRECT_ROWS: usize = 28;
/// Columns of one task at most.
const TASK_COLUMNS: usize = 1024;
/// Rows whose multiply-adds take the time of reading `B`: fewer take no less.
const READING_ROWS: usize = 4;

/// Operands of one product by address.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub gemm: &'a Gemm,
    pub family: &'static Family,
    pub a: *const f32,
    pub b: *const f32,
    pub packed: bool,
    pub c: *mut f32,
    pub finish: Finish,
}

// SAFETY: only unsafe methods use the addresses; their callers promise disjoint outputs.
unsafe impl Sync for Item<'_> {}

/// The multiply-adds that an `m × k` by `k × n` product takes the time of.
fn work(m: usize, n: usize, k: usize) -> usize {
    m.max(READING_ROWS) * n * k
}

/// Rows and panels of one task of an `m × k` by `k × n` product: blocks that suit the cache, smaller where there would be
/// few.
pub(super) fn cut(m: usize, n: usize, k: usize) -> (usize, usize) {
    let (mut rows, mut panels) = (m.min(MAX_BLOCK_ROWS), n.div_ceil(PANEL).min(TASK_COLUMNS / PANEL));
    let wanted = (work(m, n, k) / TASK_WORK).min(16);
    // Fewer rows first: columns that share a block of `A` share its copy. The fewest rows have tiles of four panels.
    while m.div_ceil(rows) * n.div_ceil(PANEL * panels) < wanted {
        if rows > 56 {
            rows = rows.div_ceil(2);
        } else if panels > 4 || (panels > 2 && rows > READING_ROWS && rows <= 28) {
            panels = panels.div_ceil(2).next_multiple_of(2);
        } else if rows > 28 {
            rows = rows.div_ceil(2);
        } else {
            break;
        }
    }
    (m.div_ceil(dividing(m.div_ceil(rows))), panels)
}

impl Item<'_> {
    /// The `index`-th product of the batch, `self` being the first.
    pub fn at(&self, index: usize) -> Self {
        let g = self.gemm;
        Item {
            a: self.a.wrapping_add(index * g.stride_a),
            b: self.b.wrapping_add(index * g.stride_b),
            c: self.c.wrapping_add(index * g.stride_c),
            finish: self.finish.at(0, 0, (index * g.stride_c) as isize),
            ..*self
        }
    }

    /// Computes the product on this thread.
    ///
    /// # Safety
    /// The operands fit the shape; `scratch` has [`Self::room`] and [`COPY_LEN`] floats.
    pub unsafe fn run_whole(&self, scratch: &mut [f32]) {
        let (b, copy) = scratch.split_at_mut(self.room());
        // SAFETY: the caller's promise.
        unsafe {
            if vector::applies(self) {
                return vector::run(self, 0..self.gemm.m * self.gemm.n);
            }
            if self.packs() {
                self.source().pack(self.pack_range(), b.as_mut_ptr());
            }
            let panels = self.gemm.n.div_ceil(PANEL);
            for index in 0..self.gemm.m.div_ceil(MAX_BLOCK_ROWS) {
                let rows = even(self.gemm.m, MAX_BLOCK_ROWS, index);
                self.block(b.as_ptr(), rows, 0..panels, copy.as_mut_ptr());
            }
        }
    }

    /// Computes the product in parallel tasks.
    ///
    /// # Safety
    /// The operands fit the shape; `scratch` has [`Self::room`] and [`COPY_LEN`] floats per thread.
    pub unsafe fn run_cut(&self, scratch: &mut [f32]) {
        let g = self.gemm;
        let is_vector = vector::applies(self);
        // A vector meets each number of the matrix once; a panel takes the time of all its columns.
        let (rows, columns) = if is_vector { (1, g.m * g.n) } else { (g.m, g.n.next_multiple_of(PANEL)) };
        let work = work(rows, columns, g.k);
        if work < SERIAL_WORK {
            // SAFETY: the caller's promise.
            return unsafe { self.run_whole(scratch) };
        }
        if is_vector {
            let parts = work.div_ceil(TASK_WORK);
            threads::parallel_for(parts, |part| {
                let outputs = even(columns, columns.div_ceil(parts), part);
                // SAFETY: outputs are disjoint; the caller's promise.
                unsafe { vector::run(self, outputs) }
            });
            return;
        }
        let (b, copies) = scratch.split_at_mut(self.room());
        if self.packs() {
            // SAFETY: the caller's promise.
            unsafe { self.source().pack_all(self.pack_range(), b.as_mut_ptr()) }
        }
        let (block_rows, block_panels) = cut(g.m, g.n, g.k);
        let down = g.m.div_ceil(block_rows);
        let panels = g.n.div_ceil(PANEL);
        let across = panels.div_ceil(block_panels);
        let (b, copies) = (Address(b.as_mut_ptr()), Shared::new(copies));
        threads::parallel_for(down * across, |task| {
            let rows = even(g.m, block_rows, task % down);
            let start = task / down * block_panels;
            let copy = threads::worker() * COPY_LEN;
            // SAFETY: tasks' outputs are disjoint, copies are per worker; the caller's promise.
            unsafe {
                let copy = copies.part(copy..copy + COPY_LEN).as_mut_ptr();
                self.block(b.get(), rows, start..(start + block_panels).min(panels), copy)
            }
        });
    }

    fn source(&self) -> Source {
        let g = self.gemm;
        Source { b: self.b, ld: g.ldb, trans: g.trans_b, k: g.k, n: g.n }
    }

    /// Whether `B`'s full panels are read where they are.
    fn direct(&self) -> bool {
        !self.packed && !self.gemm.trans_b && self.gemm.m <= DIRECT_ROWS
    }

    /// Scratch kept for the packed `B`.
    fn room(&self) -> usize {
        if self.packed { 0 } else { self.gemm.packed_len() }
    }

    fn packs(&self) -> bool {
        !self.packed && !self.pack_range().is_empty()
    }

    /// The panels to pack: all, or the one that is not full.
    fn pack_range(&self) -> Range<usize> {
        let panels = self.gemm.n.div_ceil(PANEL);
        if self.direct() { self.gemm.n / PANEL..panels } else { 0..panels }
    }

    /// Computes some rows (at most [`MAX_BLOCK_ROWS`]) and panels; `b` is the packed `B` where it had to be packed.
    ///
    /// # Safety
    /// As for [`Product::block`].
    unsafe fn block(&self, b: *const f32, rows: Range<usize>, panels: Range<usize>, copy: *mut f32) {
        let g = self.gemm;
        let (a_row, a_col) = if g.trans_a { (1, g.lda) } else { (g.lda, 1) };
        let product = Product {
            n: g.n,
            k: g.k,
            a: self.a,
            a_row: a_row as isize,
            a_col: a_col as isize,
            a_panel: None,
            b: if self.packed { self.b } else { b },
            b_row: PANEL as isize,
            b_panel: panels_len(g.k, PANEL) as isize,
            c: self.c,
            c_row: g.ldc as isize,
            c_panel: PANEL as isize,
            rows_follow: !g.per_item() && g.m * g.n * g.k > SERIAL_WORK,
            finish: self.finish,
        };
        let copy = product.collides(rows.len(), panels.len()).then_some(copy);
        // SAFETY: the caller's promise.
        unsafe {
            if self.direct() {
                let full = g.n / PANEL;
                let direct = Product { b: self.b, b_row: g.ldb as isize, b_panel: PANEL as isize, ..product };
                direct.block(self.family, rows.clone(), panels.start..panels.end.min(full), copy);
                product.block(self.family, rows, panels.start.max(full)..panels.end, copy);
            } else {
                product.block(self.family, rows, panels, copy);
            }
        }
    }
}
