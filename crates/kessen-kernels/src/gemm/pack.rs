//! Packing of right-hand sides into panels.

use crate::isa::Isa;
use crate::layout::{PACKED_TOGETHER, pack_rows, pack_transposed, panels_len};
use crate::micro::PANEL;
use crate::threads::{self, Address};
use std::ops::Range;

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
        let (start, rows, len) = match self.trans {
            false => (columns.start, self.k, columns.len()),
            true => (columns.start * self.ld, columns.len(), self.k),
        };
        // SAFETY: these columns of the matrix.
        let from = unsafe { std::slice::from_raw_parts(self.b.add(start), (rows - 1) * self.ld + len) };
        match self.trans {
            false => pack_rows(Isa::active(), from, self.ld, rows, len, out),
            true => pack_transposed(from, self.ld, rows, len, out),
        }
    }

    /// Packs panels, in parallel where worth it.
    ///
    /// # Safety
    /// As for [`Self::pack`].
    pub unsafe fn pack_all(&self, panels: Range<usize>, dst: *mut f32) {
        let dst = Address(dst);
        let grain =
            (1usize << 14).div_ceil(self.k.max(1) * PANEL).max(if self.trans { 1 } else { PACKED_TOGETHER });
        threads::parallel_chunks(panels.len(), grain, |part| {
            // SAFETY: parts are disjoint; the caller's promise.
            unsafe { self.pack(panels.start + part.start..panels.start + part.end, dst.get()) }
        });
    }
}
