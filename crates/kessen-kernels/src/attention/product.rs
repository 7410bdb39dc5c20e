//! Products of matrices in panels: their columns in panels of 16, a panel's rows one after the other, as an image's channels
//! and pixels lie. All rows that a tile reads or writes are then neighbours.

use super::row::Sight;
use crate::micro::{Family, Finish, Loop, PANEL, Rows, Run, Soon, Sum, Tile};
use crate::split::{even_lens, even_runs};
use std::ops::Range;

/// Rows of the tiles that share a strip at most.
pub(super) const STRIP: usize = 32;

/// Where a right-hand side or a result lies: the address, the distance of rows, and that of panels.
#[derive(Clone, Copy)]
pub(super) struct Place<P> {
    pub at: P,
    pub row: usize,
    pub panel: usize,
}

impl<P> Place<P> {
    /// A matrix in panels of `rows` rows.
    pub fn panels(at: P, rows: usize) -> Self {
        Place { at, row: PANEL, panel: rows * PANEL }
    }

    /// Rows in memory, `row` apart.
    pub fn rows(at: P, row: usize) -> Self {
        Place { at, row, panel: PANEL }
    }
}

/// What one product multiplies: `A` in panels of so many rows, and `B`.
pub(super) struct Product {
    pub family: &'static Family,
    pub a: (*const f32, usize),
    pub b: Place<*const f32>,
    pub c: Place<*mut f32>,
    /// Columns of `C` that are written.
    pub n: usize,
    pub factor: f32,
    pub accumulate: bool,
}

impl Product {
    /// `C = factor·A·B`, or adds that to `C`: rows `rows` of the panels `panels`, sums over the first `terms` columns of `A`.
    ///
    /// # Safety
    /// `A` and `B` are readable at these rows, panels and terms, `C` is writable there and nobody else uses it. The CPU has the
    /// family's instruction set.
    pub unsafe fn rows(&self, rows: Range<usize>, panels: Range<usize>, terms: usize) {
        // A single row's panels are neighbours.
        let depth = if self.a.1 == 1 { terms.max(1) } else { PANEL };
        let blocks = terms.div_ceil(depth);
        let step = (self.a.1 * depth) as isize;
        let mut sum = Sum::product(depth, 1, self.b.row as isize, self.b.panel as isize);
        sum.loops[0] = Loop { count: blocks, a: step, b: (depth * self.b.row) as isize };
        sum.depth_last = terms - blocks.saturating_sub(1) * depth;
        let a = self.a.0.wrapping_add(rows.start * PANEL);
        // SAFETY: the caller's promise.
        unsafe { self.tiles(&sum, (a, PANEL), rows, panels, self.b.at) }
    }

    /// `C = factor·Aᵀ·B`, or adds that to `C`: the first `columns` columns of `A`'s panel at `self.a` are the rows of `C`, all panels
    /// of which are made; sums over the rows `terms`.
    ///
    /// # Safety
    /// As for [`Product::rows`].
    pub unsafe fn columns(&self, columns: usize, terms: Range<usize>) {
        let sum = Sum::product(terms.len(), PANEL as isize, self.b.row as isize, self.b.panel as isize);
        let a = self.a.0.wrapping_add(terms.start * PANEL);
        let b = self.b.at.wrapping_add(terms.start * self.b.row);
        // SAFETY: the caller's promise.
        unsafe { self.tiles(&sum, (a, 1), 0..columns, 0..self.n.div_ceil(PANEL), b) }
    }

    /// [`Product::rows`] of the first `rows` queries and the keys they see, these being the columns of `C`: others are left out by
    /// panels.
    ///
    /// # Safety
    /// As for [`Product::rows`].
    pub unsafe fn seen_columns(&self, rows: usize, sight: &Sight<'_>, terms: usize) {
        let shared = sight.seen(0).div_ceil(PANEL);
        // SAFETY: the caller's promise.
        unsafe { self.rows(0..rows, 0..shared, terms) }
        for panel in shared..sight.keys.div_ceil(PANEL) {
            // SAFETY: the caller's promise.
            unsafe { self.rows(sight.first_row(panel * PANEL)..rows, panel..panel + 1, terms) }
        }
    }

    /// [`Product::rows`] of the first `rows` queries, summed over the keys they see, these being the columns of `A`: others are left
    /// out by tiles.
    ///
    /// # Safety
    /// As for [`Product::rows`].
    pub unsafe fn seen_terms(&self, rows: usize, sight: &Sight<'_>) {
        let panels = 0..self.n.div_ceil(PANEL);
        let most = if sight.seen(0) == sight.keys { rows.max(1) } else { self.family.tall(STRIP) };
        let mut row = 0;
        for count in even_lens(rows, most) {
            // SAFETY: the caller's promise.
            unsafe { self.rows(row..row + count, panels.clone(), sight.seen(row + count - 1)) }
            row += count;
        }
    }

    /// The tiles of these rows and panels of `C`, whose rows of `A` follow each other at the given address and distance.
    ///
    /// # Safety
    /// As for [`Product::rows`].
    unsafe fn tiles(
        &self,
        sum: &Sum,
        (a, a_row): (*const f32, usize),
        rows: Range<usize>,
        panels: Range<usize>,
        b: *const f32,
    ) {
        let (family, c) = (self.family, self.c);
        let wide = family.panels_for(rows.len());
        let most = family.tall(rows.len());
        let places = Rows::strided(a_row as isize, c.row as isize);
        let neighbours = a_row == PANEL && c.row == PANEL && self.b.row == PANEL && family.pixel == PANEL;
        let mut panel = panels.start;
        while panel < panels.end {
            let nv = Family::fitting(wide, panels.end - panel);
            let together = neighbours && nv <= 2;
            let tail = (self.n - panel * PANEL).min(nv * PANEL) - (nv - 1) * PANEL;
            let mut tile = Tile {
                a,
                b: b.wrapping_add(panel * self.b.panel),
                c: c.at.wrapping_add(rows.start * c.row + panel * c.panel),
                c_panel: c.panel as isize,
                tail,
                soon: Soon::NONE,
                finish: Finish { alpha: self.factor, ..Finish::plain(self.accumulate) },
            };
            for (mut tiles, count) in even_runs(rows.len(), most) {
                while tiles > 0 {
                    let done = if together { tiles } else { 1 };
                    let [a, c] = [a_row, c.row].map(|row| (count * row) as isize);
                    let run = Run { count: done, a, c };
                    // SAFETY: the caller's promise; tiles don't overlap.
                    unsafe {
                        match together {
                            true => family.pixel_run(count, nv)(sum, &run, &tile),
                            false => family.kernel(count, nv, a_row == 1)(sum, &places, &tile),
                        }
                    }
                    tile = tile.moved(done as isize * a, done as isize * c);
                    tiles -= done;
                }
            }
            panel += nv;
        }
    }
}
