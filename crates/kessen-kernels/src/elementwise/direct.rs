//! One operator over whole slices, at the speed of the memory.

use super::op::{Binary, Unary, binary_strip, unary_strip};
use crate::isa::Isa;
use crate::threads::{Shared, parallel_chunks};

/// Elements of one task.
const GRAIN: usize = 32 * 1024;

/// `y = op(x)`.
///
/// # Panics
/// If the lengths differ.
pub fn unary(op: Unary, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "unary: operand and output must have the same length");
    let (isa, out) = (Isa::active(), Shared::new(y));
    parallel_chunks(x.len(), GRAIN, |range| {
        // SAFETY: chunks are disjoint.
        let y = unsafe { out.part(range.clone()) };
        let n = y.len();
        unary_strip(isa, op, x[range].as_ptr(), y.as_mut_ptr(), n);
    });
}

/// `x = op(x)`.
pub fn unary_in_place(op: Unary, x: &mut [f32]) {
    let (isa, n, out) = (Isa::active(), x.len(), Shared::new(x));
    parallel_chunks(n, GRAIN, |range| {
        // SAFETY: chunks are disjoint.
        let x = unsafe { out.part(range) };
        let p = x.as_mut_ptr();
        unary_strip(isa, op, p.cast_const(), p, x.len());
    });
}

/// `y = op(a, b)`.
///
/// # Panics
/// If the lengths differ.
pub fn binary(op: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
    assert!(
        a.len() == y.len() && b.len() == y.len(),
        "binary: operands and output must have the same length"
    );
    let (isa, out) = (Isa::active(), Shared::new(y));
    parallel_chunks(a.len(), GRAIN, |range| {
        // SAFETY: chunks are disjoint.
        let y = unsafe { out.part(range.clone()) };
        let n = y.len();
        binary_strip(isa, op, a[range.clone()].as_ptr(), b[range].as_ptr(), y.as_mut_ptr(), n);
    });
}

/// `a = op(a, b)`.
///
/// # Panics
/// If the lengths differ.
pub fn binary_in_place(op: Binary, a: &mut [f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "binary_in_place: both operands must have the same length");
    let (isa, out) = (Isa::active(), Shared::new(a));
    parallel_chunks(b.len(), GRAIN, |range| {
        // SAFETY: chunks are disjoint.
        let a = unsafe { out.part(range.clone()) };
        let p = a.as_mut_ptr();
        binary_strip(isa, op, p.cast_const(), b[range].as_ptr(), p, a.len());
    });
}

/// `y[r] = op(a[r], b)` for each row `r` of `b.len()` elements: a bias over rows, for instance.
///
/// # Panics
/// If `a` and `y` differ in length or are not a whole number of rows.
pub fn binary_rows(op: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
    assert_eq!(a.len(), y.len(), "binary_rows: operand and output must have the same length");
    assert!(b.is_empty() || a.len().is_multiple_of(b.len()), "binary_rows: not a whole number of rows");
    if b.is_empty() {
        return;
    }
    let columns = b.len();
    let (isa, out) = (Isa::active(), Shared::new(y));
    parallel_chunks(a.len() / columns, (GRAIN / columns).max(1), |rows| {
        for r in rows {
            let row = r * columns..(r + 1) * columns;
            // SAFETY: rows are disjoint.
            let y = unsafe { out.part(row.clone()) };
            binary_strip(isa, op, a[row].as_ptr(), b.as_ptr(), y.as_mut_ptr(), columns);
        }
    });
}

/// `y = value`.
pub fn fill(value: f32, y: &mut [f32]) {
    let (n, out) = (y.len(), Shared::new(y));
    // SAFETY: chunks are disjoint.
    parallel_chunks(n, 4 * GRAIN, |range| unsafe { out.part(range) }.fill(value));
}
