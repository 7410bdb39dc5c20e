//! Packing of right-hand sides into panels.

use crate::isa::Isa;
use crate::layout::{panels_len, transpose_raw};
use crate::micro::PANEL;
use crate::prefetch::{ROWS_AHEAD, prefetch};
use crate::simd::{Float, Simd, kernel};
use crate::threads::{self, Address};
use std::ops::Range;

/// Panels filled side by side, so that much of a row is read at once.
const GROUP: usize = 4;

kernel! {
    /// Copies `rows` rows of `len` floats, `step` apart, into panels of as many rows, with zeros beyond `len`.
    pub(super) fn pack_rows(from: &[f32], step: usize, rows: usize, len: usize, panels: &mut [f32]) = pack_rows_with;
}

#[inline(always)]
fn pack_rows_with<S: Simd>(s: S, from: &[f32], step: usize, rows: usize, len: usize, panels: &mut [f32]) {
    if rows == 0 {
        return;
    }
    let groups = panels.chunks_mut(GROUP * rows * PANEL);
    for (panels, column) in groups.zip((0..len).step_by(GROUP * PANEL)) {
        let width = (len - column).min(GROUP * PANEL);
        for row in 0..rows {
            prefetch(from.as_ptr().wrapping_add((row + ROWS_AHEAD) * step + column), width);
            let from = &from[row * step + column..][..width];
            let (vectors, tail) = from.as_chunks::<PANEL>();
            for (i, vector) in vectors.iter().enumerate() {
                s.load(vector).store_part(&mut panels[(i * rows + row) * PANEL..][..PANEL]);
            }
            if !tail.is_empty() {
                s.load_tail(tail).store_part(&mut panels[(vectors.len() * rows + row) * PANEL..][..PANEL]);
            }
        }
    }
}

/// A `k × n` right-hand side in memory: row-major with distance `ld`, or the transpose of that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub b: *const f32,
    pub ld: usize,
    pub trans: bool,
    pub k: usize,
    pub n: usize,
}

// SAFETY: only read.
unsafe impl Sync for Source {}

impl Source {
    /// Writes the given panels, each `k` rows of 16 with zeros beyond `n`, to `dst` (the address of panel 0).
    ///
    /// # Safety
    /// The matrix is readable; `dst` is writable at the panels, and nobody else uses them meanwhile.
    pub unsafe fn pack(&self, panels: Range<usize>, dst: *mut f32) {
        let columns = panels.start * PANEL..(panels.end * PANEL).min(self.n);
        if self.k == 0 || columns.is_empty() {
            return;
        }
        let (out, len) = (dst.wrapping_add(columns.start * self.k), panels_len(self.k, columns.len()));
        // SAFETY: the caller's promise.
        let out = unsafe { std::slice::from_raw_parts_mut(out, len) };
        if !self.trans {
            let span = (self.k - 1) * self.ld + columns.len();
            // SAFETY: these columns of the matrix.
            let from = unsafe { std::slice::from_raw_parts(self.b.add(columns.start), span) };
            return pack_rows(Isa::active(), from, self.ld, self.k, columns.len(), out);
        }
        for (out, column) in out.chunks_exact_mut(self.k * PANEL).zip(columns.clone().step_by(PANEL)) {
            let lanes = (columns.end - column).min(PANEL);
            if lanes < PANEL {
                out.fill(0.0);
            }
            // SAFETY: inside the matrix and the panel.
            unsafe {
                transpose_raw(self.b.add(column * self.ld), self.ld, out.as_mut_ptr(), PANEL, lanes, self.k);
            }
        }
    }

    /// Packs panels, in parallel where worth it.
    ///
    /// # Safety
    /// As for [`Self::pack`].
    pub unsafe fn pack_all(&self, panels: Range<usize>, dst: *mut f32) {
        let dst = Address(dst);
        let grain = (1usize << 14).div_ceil(self.k.max(1) * PANEL).max(if self.trans { 1 } else { GROUP });
        threads::parallel_chunks(panels.len(), grain, |part| {
            // SAFETY: parts are disjoint; the caller's promise.
            unsafe { self.pack(panels.start + part.start..panels.start + part.end, dst.get()) }
        });
    }
}
