//! Copies of rows that lie apart.

use crate::simd::{Float, LANES, Simd, kernel};

kernel! {
    /// Copies rows of `width` floats, `row` apart, to rows `to_row` apart, as many as `to` has whole ones; zeros fill each up to
    /// a whole vector, for which `to_row` leaves room.
    pub(crate) fn copy_rows(from: &[f32], row: usize, width: usize, to: &mut [f32], to_row: usize) = copy_rows_with;
}

#[inline(always)]
fn copy_rows_with<S: Simd>(s: S, from: &[f32], row: usize, width: usize, to: &mut [f32], to_row: usize) {
    for (r, to) in to.chunks_exact_mut(to_row).enumerate() {
        let (from, tail) = from[r * row..][..width].as_chunks::<LANES>();
        let to = to.as_chunks_mut::<LANES>().0;
        for i in 0..from.len() {
            s.load(&from[i]).store(&mut to[i]);
        }
        if !tail.is_empty() {
            s.load_tail(tail).store(&mut to[from.len()]);
        }
    }
}
