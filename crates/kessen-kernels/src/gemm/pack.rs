//! Packing of right-hand sides into panels.

use crate::layout::panels_len;
use crate::layout::transpose_raw;
use crate::micro::PANEL;
use crate::simd::{Float, Simd, kernel};
use crate::threads::{self, Address};
use std::ops::Range;

kernel! {
    /// Copies `rows` rows of `len` floats, `step` apart, into panels of as many rows, with zeros beyond `len`.
    pub(super) fn pack_rows(from: &[f32], step: usize, rows: usize, len: usize, panels: &mut [f32]) = pack_rows_with;
}

#[inline(always)]
fn pack_rows_with<S: Simd>(s: S, from: &[f32], step: usize, rows: usize, len: usize, panels: &mut [f32]) {
    let mut parts = panels.chunks_exact_mut(rows * PANEL);
    let mut column = 0;
    while column < len {
        let pair = [parts.next(), if column + PANEL < len { parts.next() } else { None }];
        let width = (len - column).min(2 * PANEL);
        match pair {
            [Some(first), Some(second)] => {
                let to = first.chunks_exact_mut(PANEL).zip(second.chunks_exact_mut(PANEL));
                for (row, (first, second)) in to.enumerate() {
                    let from = &from[row * step + column..][..width];
                    s.load_part(from).store_part(first);
                    s.load_part(&from[PANEL..]).store_part(second);
                }
            }
            [Some(first), None] => {
                for (row, first) in first.chunks_exact_mut(PANEL).enumerate() {
                    s.load_part(&from[row * step + column..][..width]).store_part(first);
                }
            }
            _ => {}
        }
        column += width;
    }
}

/// Panels filled side by side.
const GROUP: usize = 8;

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
        let full = panels.start..panels.end.min(self.n / PANEL).max(panels.start);
        if !self.trans {
            // Row by row over several panels, so that reading is contiguous.
            for group in full.clone().step_by(GROUP) {
                for k in 0..self.k {
                    for panel in group..(group + GROUP).min(full.end) {
                        // SAFETY: inside the matrix and the panel.
                        unsafe {
                            let row = self.b.add(k * self.ld + panel * PANEL).cast::<[f32; PANEL]>();
                            let out = dst.add(panels_len(self.k, panel * PANEL) + k * PANEL);
                            out.cast::<[f32; PANEL]>().write_unaligned(row.read_unaligned());
                        }
                    }
                }
            }
        }
        for panel in if self.trans { panels } else { full.end..panels.end } {
            let column = panel * PANEL;
            let lanes = (self.n - column).min(PANEL);
            // SAFETY: inside the matrix and the panel.
            unsafe {
                let out = dst.add(panels_len(self.k, column));
                if lanes < PANEL {
                    std::ptr::write_bytes(out, 0, self.k * PANEL);
                }
                if self.trans {
                    transpose_raw(self.b.add(column * self.ld), self.ld, out, PANEL, lanes, self.k);
                } else {
                    for k in 0..self.k {
                        std::ptr::copy_nonoverlapping(
                            self.b.add(k * self.ld + column),
                            out.add(k * PANEL),
                            lanes,
                        );
                    }
                }
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
