//! Products with a single row or column whose matrix is stored along the sums: dot products.

use super::item::Item;
use crate::epilogue::Activation;
use crate::micro::Finish;
use std::ops::Range;

/// Whether the vector is a column: `B`, contiguous, behind a matrix stored with its sums contiguous.
fn is_column(item: &Item) -> bool {
    let g = item.gemm;
    g.n == 1 && !g.trans_a && (g.trans_b || g.ldb == 1)
}

/// Whether a product is a matrix (stored with its sums contiguous) times a vector (contiguous too).
pub(super) fn applies(item: &Item) -> bool {
    let g = item.gemm;
    let row = g.m == 1 && g.trans_b && (!g.trans_a || g.lda == 1);
    !item.packed && (is_column(item) || row)
}

/// Computes the given outputs of a product to which this [`applies`].
///
/// # Safety
/// The operands fit the shape.
pub(super) unsafe fn run(item: &Item, outputs: Range<usize>) {
    let (g, column) = (item.gemm, is_column(item));
    let (matrix, ld, vector, c_step) =
        if column { (item.a, g.lda, item.b, g.ldc) } else { (item.b, g.ldb, item.a, 1) };
    let mut at = outputs.start;
    while at < outputs.end {
        let n = (outputs.end - at).min(4);
        let rows = std::array::from_fn(|r| matrix.wrapping_add((at + r.min(n - 1)) * ld));
        // SAFETY: the caller's promise.
        unsafe {
            let sums = (item.family.dots)(rows, vector, g.k);
            for r in 0..n {
                let place = (at + r) * c_step;
                let (row, col) = if column { (at + r, 0) } else { (0, at + r) };
                finish(&item.finish, item.c, [row, col, place], sums[r]);
            }
        }
        at += n;
    }
}

/// Stores one output after the epilogue: the `sum` for a row and a column of `C`, which lies at a distance in it.
///
/// # Safety
/// The epilogue's terms and `C` fit the shape, and nobody else uses that place.
pub(super) unsafe fn finish(f: &Finish, c: *mut f32, [row, col, place]: [usize; 3], sum: f32) {
    let mut v = f.alpha * sum;
    // SAFETY: the caller's promise.
    unsafe {
        if !f.bias_column.is_null() {
            v += *f.bias_column.add(col);
        }
        if !f.bias_row.is_null() {
            v += *f.bias_row.add(row);
        }
        if !f.residual.is_null() {
            v += *f.residual.add(place);
        }
        if f.accumulate {
            v += *c.add(place);
        }
    }
    let v = activate(f.activation, v);
    // SAFETY: as above.
    unsafe { *c.add(place) = v }
}

/// The epilogue's function.
fn activate(activation: Activation, v: f32) -> f32 {
    match activation {
        Activation::Identity => v,
        Activation::Relu => {
            if v < 0.0 {
                0.0
            } else {
                v
            }
        }
        Activation::LeakyRelu(slope) => {
            if v < 0.0 {
                slope * v
            } else {
                v
            }
        }
        Activation::Clamp(low, high) => {
            if v < low {
                low
            } else if v > high {
                high
            } else {
                v
            }
        }
    }
}
