//! One product with arbitrary strides, cut into tiles: the core that all drivers share.
//!
//! Glossary: `m × k` times `k × n` gives `m × n`; a *panel* is 16 columns.

use crate::epilogue::{Bias, Epilogue};
use crate::isa::Isa;
use crate::layout::{Strips, copy_strips};
use crate::micro::{Family, Finish, Loop, MAX_ROWS, PANEL, Rows, Soon, Sum, Tile};
use crate::prefetch::prefetch;
use crate::split::{dividing, even, share};
use crate::threads::{self, Shared};
use std::ops::Range;

/// Most terms summed in registers before the sums go to memory: keeps a tile's rows of `A` and a pair of panels of
/// `B` near the core.
pub(crate) const MAX_DEPTH: usize = 512;
/// Rows handled together, so that their part of `A` stays in the second-level cache.
pub(crate) const MAX_BLOCK_ROWS: usize = 112;
/// Rows (of floats) at a multiple of this distance meet in the caches.
pub(super) const COLLIDING: usize = 512;
/// Distance of the rows of a copied `A`: off the powers of two, so that rows don't collide in the cache.
const COPY_ROW: usize = MAX_DEPTH + PANEL;
/// Panels of one task at most, and how many tasks are enough to share evenly.
pub(crate) const WIDE_TASK: usize = 16;
pub(crate) const ENOUGH_TASKS: usize = 12;
/// Floats needed to copy one block's part of `A`, also in strips.
pub(crate) const COPY_LEN: usize = (MAX_BLOCK_ROWS + MAX_ROWS) * COPY_ROW;

/// How many lines of `A` a copy looks ahead: lines lie on pages of their own, where the hardware does not.
const PREFETCH_LINES: isize = 4;

/// Operands by address and stride (elements).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub n: usize,
    pub k: usize,
    pub a: *const f32,
    pub a_row: isize,
    pub a_col: isize,
    /// Where `A` lies in panels of 16 terms of the sum each, the distance of those; `k` is then a multiple of 16.
    pub a_panel: Option<isize>,
    pub b: *const f32,
    pub b_row: isize,
    pub b_panel: isize,
    pub c: *mut f32,
    pub c_row: isize,
    pub c_panel: isize,
    /// Whether a thread goes on with the rows behind a block, so that these are asked for.
    pub rows_follow: bool,
    pub finish: Finish,
}

// SAFETY: the addresses are used by the unsafe `block` only, whose callers promise disjoint outputs.
unsafe impl Sync for Product {}
// SAFETY: as above.
unsafe impl Send for Product {}

impl Finish {
    /// The epilogue at the product's first row and column.
    pub(crate) fn new(epilogue: &Epilogue) -> Finish {
        let null = std::ptr::null();
        let (bias_column, bias_row) = match epilogue.bias {
            Bias::None => (null, null),
            Bias::PerColumn(bias) => (bias.as_ptr(), null),
            Bias::PerRow(bias) => (null, bias.as_ptr()),
        };
        Finish {
            alpha: epilogue.alpha,
            accumulate: epilogue.accumulate,
            bias_column,
            bias_row,
            residual: epilogue.residual.map_or(null, <[f32]>::as_ptr),
            activation: epilogue.activation,
        }
    }

    /// The same epilogue further down and to the right; `offset` is the distance in `C`.
    pub(crate) fn at(mut self, row: usize, column: usize, offset: isize) -> Finish {
        if !self.bias_column.is_null() {
            self.bias_column = self.bias_column.wrapping_add(column);
        }
        if !self.bias_row.is_null() {
            self.bias_row = self.bias_row.wrapping_add(row);
        }
        if !self.residual.is_null() {
            self.residual = self.residual.wrapping_offset(offset);
        }
        self
    }

    /// What one of several passes over the depth does: all add, the last applies the rest.
    pub(crate) fn pass(self, first: bool, last: bool) -> Finish {
        if first && last {
            return self;
        }
        let accumulate = !first || self.accumulate;
        if last {
            Finish { accumulate, ..self }
        } else {
            Finish { alpha: self.alpha, ..Finish::plain(accumulate) }
        }
    }
}

/// How many of `panels` panels a task takes where the rows make `down` blocks: many share a copy of `A`, but there
/// should be enough tasks.
pub(crate) fn task_panels(down: usize, panels: usize) -> usize {
    let mut across = panels.clamp(1, WIDE_TASK);
    while down * panels.div_ceil(across) < ENOUGH_TASKS && across > 4 {
        across = across.div_ceil(2).next_multiple_of(2);
    }
    across
}

impl Product {
    /// Whether `rows` rows of `A` fall on each other in the cache, so that a copy pays for `panels` panels: their
    /// distance (or that of columns, where rows are neighbours) is a large power of two.
    pub fn collides(&self, rows: usize, panels: usize) -> bool {
        let far = COLLIDING as isize;
        let (step, far, enough) =
            if self.a_row == 1 { (self.a_col, far / 2, 4) } else { (self.a_row, far, 8) };
        step % far == 0 && rows > 14 && panels >= enough
    }

    /// Computes all of `C`, `m` rows, in tasks of blocks, or on this thread; `copies` has [`COPY_LEN`] floats per
    /// thread.
    ///
    /// # Safety
    /// As for [`Self::block`], for all rows and panels.
    pub unsafe fn run(&self, family: &'static Family, m: usize, serial: bool, copies: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe { Product::run_all(&[(*self, m)], family, serial, copies) }
    }

    /// [`Self::run`] for several products with their rows, whose tasks are shared as one step.
    ///
    /// # Safety
    /// As for [`Self::run`], and no two products write the same places.
    pub unsafe fn run_all(
        products: &[(Product, usize)],
        family: &'static Family,
        serial: bool,
        copies: &mut [f32],
    ) {
        let cut = |product: &Product, m: usize| {
            let (panels, down) = (product.n.div_ceil(PANEL), dividing(m.div_ceil(MAX_BLOCK_ROWS)));
            let across = if serial { panels.max(1) } else { task_panels(down, panels) };
            (down, across, down * panels.div_ceil(across))
        };
        let copies = Shared::new(copies);
        let run = |task: usize| {
            let mut index = task;
            for (product, m) in products {
                let (down, across, tasks) = cut(product, *m);
                if index >= tasks {
                    index -= tasks;
                    continue;
                }
                let start = index / down * across;
                let rows = share(*m, down, index % down);
                let panels = start..(start + across).min(product.n.div_ceil(PANEL));
                let at = threads::worker() * COPY_LEN;
                // SAFETY: blocks are disjoint, copies are per worker; the caller's promise.
                return unsafe {
                    let copy = copies.part(at..at + COPY_LEN).as_mut_ptr();
                    let copy = product.collides(rows.len(), panels.len()).then_some(copy);
                    product.block(family, rows, panels, copy)
                };
            }
        };
        let tasks: usize = products.iter().map(|(product, m)| cut(product, *m).2).sum();
        threads::parallel_unless(serial, tasks, run);
    }

    /// Computes the given rows (at most [`MAX_BLOCK_ROWS`]) and panels of `C`. `copy`, where given, has room for
    /// [`COPY_LEN`] floats and receives `A`'s rows, which must be contiguous one way or the other.
    ///
    /// # Safety
    /// `A`, `B` and the epilogue's terms are readable and `C` writable at these rows and panels; nobody else touches
    /// that part of `C` or `copy` meanwhile. The CPU has `family`'s instruction set.
    pub unsafe fn block(
        &self,
        family: &Family,
        rows: Range<usize>,
        panels: Range<usize>,
        copy: Option<*mut f32>,
    ) {
        let passes = self.k.div_ceil(MAX_DEPTH).max(1);
        for pass in 0..passes {
            let depth = self.depth(pass);
            let at = |term: usize, row: usize| {
                let along = match self.a_panel {
                    Some(step) => (term / PANEL) as isize * step,
                    None => term as isize * self.a_col,
                };
                self.a.wrapping_offset(along + row as isize * self.a_row)
            };
            let next = if pass + 1 == passes { at(0, rows.end) } else { at(depth.end, rows.start) };
            let mut part = *self;
            part.a = at(depth.start, rows.start);
            part.b = self.b.wrapping_offset(depth.start as isize * self.b_row);
            part.k = depth.len();
            part.finish = self.finish.pass(pass == 0, pass + 1 == passes);
            let strip = copy.and_then(|copy| {
                // SAFETY: the caller's promise.
                unsafe { part.copy_rows(family, rows.len(), copy) }
            });
            // SAFETY: the caller's promise.
            unsafe { part.pass(family, rows.clone(), panels.clone(), strip, (self, next)) }
        }
    }

    /// The terms of one pass.
    fn depth(&self, pass: usize) -> Range<usize> {
        if self.a_panel.is_none() {
            return even(self.k, MAX_DEPTH, pass);
        }
        let panels = even(self.k / PANEL, MAX_DEPTH / PANEL, pass);
        panels.start * PANEL..panels.end * PANEL
    }

    /// What a pass of this depth sums; tiles are `tall` rows.
    fn sum(&self, tall: usize) -> Sum {
        let Some(step) = self.a_panel else {
            return Sum::product(self.k, self.a_col, self.b_row, self.b_panel);
        };
        let mut sum = Sum::product(PANEL, self.a_col, self.b_row, self.b_panel);
        sum.loops[0] = Loop { count: self.k / PANEL, a: step, b: PANEL as isize * self.b_row };
        sum.ahead = tall as isize * self.a_row;
        sum
    }

    /// Copies `rows` rows of `A` (contiguous along the rows or along the sums) to `copy` and uses them from there. Rows that
    /// are neighbours go to strips of a tile's rows; returned is the distance of those.
    ///
    /// # Safety
    /// The rows are readable and `copy` has room for [`COPY_LEN`] floats.
    unsafe fn copy_rows(&mut self, family: &Family, rows: usize, copy: *mut f32) -> Option<usize> {
        let (from, step) = (self.a, self.a_row.max(self.a_col));
        self.a = copy;
        if self.a_col == 1 {
            for row in 0..rows {
                let from = from.wrapping_offset(row as isize * step);
                prefetch(from.wrapping_offset(PREFETCH_LINES * step), self.k);
                // SAFETY: a row of `A` and the room promised by the caller.
                unsafe { std::ptr::copy_nonoverlapping(from, copy.add(row * COPY_ROW), self.k) }
            }
            self.a_row = COPY_ROW as isize;
            return None;
        }
        let (tall, span) = (family.tall(rows), self.k.saturating_sub(1) * step as usize + rows);
        // SAFETY: the terms of `rows` neighbours, and the room promised by the caller.
        let (from, to) = unsafe {
            (std::slice::from_raw_parts(from, span), std::slice::from_raw_parts_mut(copy, COPY_LEN))
        };
        let strips = Strips { row: step as usize, width: rows, rows: self.k, most: tall };
        copy_strips(Isa::active(), from, strips, to);
        self.a_col = tall as isize;
        Some(strips.distance())
    }

    /// What a tile asks for: the `terms` terms of `A`'s rows from `row` on, counted from `next`.
    fn soon(&self, next: *const f32, row: usize, terms: usize) -> Soon {
        let from = next.wrapping_offset(row as isize * self.a_row);
        match self.rows_follow {
            false => Soon::NONE,
            true if self.a_col == 1 => {
                Soon { from, line: self.a_row, block: PANEL as isize, lines: terms, ..Soon::NONE }
            }
            true => Soon::strided(from, self.a_col, terms),
        }
    }

    /// One pass of [`Self::block`]; `self.a` points at the block's first row, or at strips of a tile's rows. The last panels ask for what is read next:
    /// the rows of the whole product's `A` at the given address.
    ///
    /// # Safety
    /// As for [`Self::block`].
    unsafe fn pass(
        &self,
        family: &Family,
        rows: Range<usize>,
        panels: Range<usize>,
        strip: Option<usize>,
        next: (&Product, *const f32),
    ) {
        let unit = self.a_row == 1;
        let (wide, tall) = (family.panels_for(rows.len()), family.tall(rows.len()));
        let tiles = rows.len().div_ceil(tall);
        let sum = self.sum(tall);
        let places = Rows::strided(self.a_row, self.c_row);
        let last = self.n.div_ceil(PANEL);
        let mut panel = panels.start;
        while panel < panels.end {
            let nv = Family::fitting(wide, panels.end - panel);
            let tail = if panel + nv == last { self.n - (last - 1) * PANEL } else { PANEL };
            for index in 0..tiles {
                let r = even(rows.len(), tall, index);
                let row = rows.start + r.start;
                let offset = row as isize * self.c_row + panel as isize * self.c_panel;
                let tile = Tile {
                    a: match strip {
                        Some(strip) => self.a.wrapping_add(index * strip),
                        None => self.a.wrapping_offset(r.start as isize * self.a_row),
                    },
                    b: self.b.wrapping_offset(panel as isize * self.b_panel),
                    c: self.c.wrapping_offset(offset),
                    c_panel: self.c_panel,
                    tail,
                    soon: if panel + nv == panels.end {
                        next.0.soon(next.1, r.start, self.k)
                    } else {
                        Soon::NONE
                    },
                    finish: self.finish.at(row, panel * PANEL, offset),
                };
                // SAFETY: the tile lies in the block.
                unsafe { family.kernel(r.len(), nv, unit)(&sum, &places, &tile) }
            }
            panel += nv;
        }
    }
}
