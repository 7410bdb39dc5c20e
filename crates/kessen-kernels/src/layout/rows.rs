//! Copies of rows that lie apart.

use crate::micro::PANEL;
use crate::prefetch::{ROWS_AHEAD, prefetch};
use crate::simd::{Float, LANES, Simd, kernel};
use crate::split::even_lens;

/// Panels filled side by side, so that much of a row is read at once.
pub(crate) const PACKED_TOGETHER: usize = 4;

kernel! {
    /// Copies `rows` rows of `len` floats, `step` apart, into panels of as many rows, with zeros beyond `len`.
    pub(crate) fn pack_rows(from: &[f32], step: usize, rows: usize, len: usize, panels: &mut [f32]) = pack_rows_with;
    /// Copies rows to strips.
    pub(crate) fn copy_strips(from: &[f32], strips: Strips, to: &mut [f32]) = copy_strips_with;
}

/// Rows of `width` floats, `row` apart, in *strips*: the columns in nearly equal parts of at most `most` (see
/// [`crate::split::even`]), a strip's rows `most` apart; what lies between is undefined.
#[derive(Clone, Copy)]
pub(crate) struct Strips {
    pub row: usize,
    pub width: usize,
    pub rows: usize,
    pub most: usize,
}

impl Strips {
    /// Floats from one strip to the next: its rows, and room for a vector behind, which keeps strips from meeting in the cache.
    pub fn distance(&self) -> usize {
        (self.rows * self.most).next_multiple_of(LANES) + LANES
    }
}

#[inline(always)]
fn pack_rows_with<S: Simd>(s: S, from: &[f32], step: usize, rows: usize, len: usize, panels: &mut [f32]) {
    if rows == 0 {
        return;
    }
    let groups = panels.chunks_mut(PACKED_TOGETHER * rows * PANEL);
    for (panels, column) in groups.zip((0..len).step_by(PACKED_TOGETHER * PANEL)) {
        let width = (len - column).min(PACKED_TOGETHER * PANEL);
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

#[inline(always)]
fn copy_strips_with<S: Simd>(_: S, from: &[f32], strips: Strips, to: &mut [f32]) {
    match strips.most {
        ..=8 => strips_of::<8>(from, strips, to),
        _ => strips_of::<LANES>(from, strips, to),
    }
}

/// As [`copy_strips`], `N` floats at a time, at least `most`: what is too much is overwritten by the next row.
#[inline(always)]
fn strips_of<const N: usize>(from: &[f32], strips: Strips, to: &mut [f32]) {
    let Strips { row, width, rows, most } = strips;
    for r in 0..rows {
        prefetch(from.as_ptr().wrapping_add((r + ROWS_AHEAD) * row), width);
        let mut at = r * row;
        for (to, len) in to.chunks_mut(strips.distance()).zip(even_lens(width, most)) {
            let to = &mut to[r * most..][..N];
            match from[at..].first_chunk::<N>() {
                Some(from) => to.copy_from_slice(from),
                None => to[..len].copy_from_slice(&from[at..at + len]),
            }
            at += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::split::even;

    #[test]
    fn strips_hold_their_columns() {
        for (rows, width, row, most) in
            [(1, 1usize, 1, 6), (7, 13, 13, 6), (5, 96, 100, 6), (9, 29, 40, 14), (3, 16, 16, 16)]
        {
            let from: Vec<f32> = (0..(rows - 1) * row + width).map(|i| i as f32).collect();
            let shape = Strips { row, width, rows, most };
            let (strips, each) = (width.div_ceil(most), shape.distance());
            let mut to = vec![f32::NAN; strips * each];
            copy_strips(Isa::active(), &from, shape, &mut to);
            for strip in 0..strips {
                let columns = even(width, most, strip);
                for r in 0..rows {
                    let expected = &from[r * row..][columns.clone()];
                    assert_eq!(&to[strip * each + r * most..][..columns.len()], expected);
                }
            }
        }
    }
}
