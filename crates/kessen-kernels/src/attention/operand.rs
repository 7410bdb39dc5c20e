//! Operands as products read them best: keys in panels, rows off the powers of two.

use crate::gemm::Product;
use crate::isa::Isa;
use crate::layout::{self, transpose_raw};
use crate::micro::{Family, Finish, PANEL};

/// Distance of rows of `width` elements in a copy: whole panels, an odd number of them, so that the rows spread over the
/// cache's sets.
pub(super) fn copied_row(width: usize) -> usize {
    (width.div_ceil(PANEL) | 1) * PANEL
}

/// Copies rows of `width` elements that lie `row` apart to rows [`copied_row`] apart, as many as `to` has; zeros fill
/// them up to whole panels.
pub(super) fn copy_rows(isa: Isa, from: &[f32], row: usize, width: usize, to: &mut [f32]) {
    layout::copy_rows(isa, from, row, width, to, copied_row(width));
}

/// Transposes `count` rows into panels `[⌈count/16⌉][width][16]`, lanes behind the last row 0.
pub(super) fn transpose_rows(from: &[f32], row: usize, [count, width]: [usize; 2], panels: &mut [f32]) {
    for (panel, to) in panels.chunks_exact_mut((width * PANEL).max(1)).enumerate() {
        let rows = PANEL.min(count - panel * PANEL);
        if rows < PANEL {
            to.fill(0.0);
        }
        let from = &from[panel * PANEL * row..];
        assert!(from.len() >= (rows - 1) * row + width, "attention: rows");
        // SAFETY: `rows` rows by the assertion, and one whole panel.
        unsafe { transpose_raw(from.as_ptr(), row, to.as_mut_ptr(), PANEL, rows, width) }
    }
}

/// A product's operands: addresses with two distances each (elements).
#[derive(Clone, Copy)]
pub(super) struct Operands {
    /// Rows and columns.
    pub a: (*const f32, [usize; 2]),
    /// Rows and panels.
    pub b: (*const f32, [usize; 2]),
    /// Rows; columns are neighbours.
    pub c: (*mut f32, usize),
}

impl Operands {
    /// C = factor·A·B (`m × k` times `k × n`), or C += that.
    ///
    /// # Safety
    /// The addresses hold the matrices, B in whole panels, and nobody else uses C. The CPU has `family`'s instruction set.
    pub unsafe fn multiply(self, family: &Family, [m, n, k]: [usize; 3], factor: f32, accumulate: bool) {
        let product = Product {
            n,
            k,
            a: self.a.0,
            a_row: self.a.1[0] as isize,
            a_col: self.a.1[1] as isize,
            a_panel: None,
            b: self.b.0,
            b_row: self.b.1[0] as isize,
            b_panel: self.b.1[1] as isize,
            c: self.c.0,
            c_row: self.c.1 as isize,
            c_panel: PANEL as isize,
            rows_follow: false,
            finish: Finish { alpha: factor, ..Finish::plain(accumulate) },
        };
        // SAFETY: the caller's promise.
        unsafe { product.block(family, 0..m, 0..n.div_ceil(PANEL), None) }
    }
}
