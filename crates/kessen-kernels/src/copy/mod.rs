//! Copies between strided layouts: transposes of any permutation, slices, concatenation and padding.
//!
//! Dimensions that walk as one on both sides are merged first. Where both sides then have unit stride along the same
//! dimension, runs are copied; where along different ones, 16×16 tiles are transposed in registers; else elements
//! go one by one. A slice is a copy from a sub-slice of the source with its strides, a part of a concatenation or of a
//! padded tensor a copy into a sub-slice of the (filled) target.

mod odometer;

use crate::Error;
use crate::isa::Isa;
use crate::simd::{Float, LANES, Simd, kernel};
use crate::threads::{Shared, parallel_chunks, parallel_for};
use odometer::{Dim, Odometer};

/// Most dimensions after merging.
pub const MAX_RANK: usize = 6;
/// Columns of one piece of a transpose: several cache lines of each row while its page is at hand.
const COLUMNS: usize = 4 * LANES;
/// Elements of one task.
const GRAIN: usize = 16 * 1024;

/// `y = x`, in parallel.
///
/// # Panics
/// If the lengths differ.
pub fn contiguous(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "copy: lengths differ");
    let y = Shared::new(y);
    parallel_chunks(x.len(), GRAIN, |range| {
        // SAFETY: chunks are disjoint.
        unsafe { y.part(range.clone()) }.copy_from_slice(&x[range]);
    });
}

/// A copy of a tensor from one layout into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StridedCopy {
    outer: [Dim; MAX_RANK],
    rank: usize,
    inner: Inner,
    source_len: usize,
    target_len: usize,
}

/// The innermost loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inner {
    /// `len` elements, consecutive on both sides.
    Run { len: usize },
    /// `rows` of the source, consecutive in the target, by `columns` consecutive in the source.
    Transpose { rows: usize, columns: usize, source_stride: usize, target_stride: usize },
    /// `len` elements at strides.
    Steps { len: usize, source_stride: usize, target_stride: usize },
}

impl StridedCopy {
    /// Copies a tensor of `shape`; both lists of strides are in elements.
    ///
    /// # Errors
    /// The lists differ in length, more than [`MAX_RANK`] dimensions remain after merging, or two elements would land
    /// in the same place of the target.
    pub fn new(shape: &[usize], source: &[usize], target: &[usize]) -> Result<Self, Error> {
        let refuse = |why: &str| {
            Err(Error::Descriptor(format!("copy of {shape:?} from strides {source:?} to {target:?}: {why}")))
        };
        if shape.len() != source.len() || shape.len() != target.len() {
            return refuse("give one stride a dimension on both sides");
        }
        let mut dims: Vec<Dim> = (0..shape.len())
            .filter(|&d| shape[d] != 1)
            .map(|d| Dim { size: shape[d], source: source[d], target: target[d] })
            .collect();
        dims.sort_by_key(|d| std::cmp::Reverse(d.target));
        dims.dedup_by(|inner, outer| {
            let one = outer.source == inner.source * inner.size && outer.target == inner.target * inner.size;
            if one {
                *outer = Dim { size: outer.size * inner.size, ..*inner };
            }
            one
        });
        if dims.windows(2).any(|w| w[0].target < w[1].target * w[1].size)
            || dims.last().is_some_and(|d| d.target == 0)
        {
            return refuse("places of the target overlap");
        }
        if dims.len() > MAX_RANK {
            return refuse("too many dimensions remain after merging; copy in two steps");
        }
        let extent = |stride: fn(&Dim) -> usize| match dims.iter().any(|d| d.size == 0) {
            true => 0,
            false => 1 + dims.iter().map(|d| (d.size - 1) * stride(d)).sum::<usize>(),
        };
        let (source_len, target_len) = (extent(|d| d.source), extent(|d| d.target));
        let inner = take_inner(&mut dims);
        let mut outer = [Dim::default(); MAX_RANK];
        outer[..dims.len()].copy_from_slice(&dims);
        Ok(StridedCopy { outer, rank: dims.len(), inner, source_len, target_len })
    }

    /// The copy that permutes the dimensions of a row-major tensor: dimension `d` of the target is dimension
    /// `order[d]` of the source.
    ///
    /// # Errors
    /// `order` is no permutation, or as for [`StridedCopy::new`].
    pub fn transpose(shape: &[usize], order: &[usize]) -> Result<Self, Error> {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..shape.len()) {
            return Err(Error::Descriptor(format!(
                "transpose of {shape:?} by {order:?}: name each dimension once"
            )));
        }
        let strides = row_major(shape);
        let target_shape: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
        let source: Vec<usize> = order.iter().map(|&d| strides[d]).collect();
        StridedCopy::new(&target_shape, &source, &row_major(&target_shape))
    }

    /// Copies. Places of `target` outside the described ones stay as they are.
    ///
    /// # Panics
    /// If a slice is shorter than its strides reach.
    pub fn run(&self, source: &[f32], target: &mut [f32]) {
        assert!(source.len() >= self.source_len, "copy: the source is shorter than its strides reach");
        assert!(target.len() >= self.target_len, "copy: the target is shorter than its strides reach");
        if self.target_len == 0 {
            return;
        }
        let isa = Isa::active();
        let outer = &self.outer[..self.rank];
        let combinations: usize = outer.iter().map(|d| d.size).product();
        let (pieces, work) = self.pieces();
        let total = combinations * pieces;
        let per_task = (GRAIN / work.max(1)).max(1);
        let out = Shared::new(target);
        parallel_for(total.div_ceil(per_task), |task| {
            let units = task * per_task..((task + 1) * per_task).min(total);
            let mut place = Odometer::new(outer, units.start / pieces);
            let mut piece = units.start % pieces;
            for _ in units {
                self.unit(isa, piece, &source[place.source..], &out, place.target);
                piece += 1;
                if piece == pieces {
                    piece = 0;
                    place.advance(outer);
                }
            }
        });
    }

    /// How many pieces the inner loops are cut into, and the elements of one.
    fn pieces(&self) -> (usize, usize) {
        match self.inner {
            Inner::Run { len } => (len.div_ceil(GRAIN), len.min(GRAIN)),
            Inner::Transpose { rows, columns, .. } => {
                (columns.div_ceil(COLUMNS), rows * COLUMNS.min(columns))
            }
            Inner::Steps { len, .. } => (1, len),
        }
    }

    /// One piece of the inner loops.
    fn unit(&self, isa: Isa, piece: usize, source: &[f32], out: &Shared<'_, f32>, at: usize) {
        match self.inner {
            Inner::Run { len } => {
                let range = piece * GRAIN..((piece + 1) * GRAIN).min(len);
                // SAFETY: the places of the target are distinct, so pieces are disjoint.
                let target = unsafe { out.part(at + range.start..at + range.end) };
                target.copy_from_slice(&source[range]);
            }
            Inner::Transpose { rows, columns, source_stride, target_stride } => {
                let end = ((piece + 1) * COLUMNS).min(columns);
                for row in (0..rows).step_by(LANES) {
                    for column in (piece * COLUMNS..end).step_by(LANES) {
                        let columns = LANES.min(end - column);
                        let tile =
                            Tile { rows: LANES.min(rows - row), columns, source_stride, target_stride };
                        let from = &source[column + row * source_stride..];
                        // SAFETY: the places of the target are distinct, so tiles are disjoint.
                        unsafe { tile.transpose(isa, from, out, at + column * target_stride + row) }
                    }
                }
            }
            Inner::Steps { len, source_stride, target_stride } => {
                for i in 0..len {
                    let place = at + i * target_stride;
                    // SAFETY: as above.
                    let target = unsafe { out.part(place..place + 1) };
                    target[0] = source[i * source_stride];
                }
            }
        }
    }
}

/// Takes the innermost loops out of the dimensions, which are sorted by target stride.
fn take_inner(dims: &mut Vec<Dim>) -> Inner {
    let Some(last) = dims.pop() else { return Inner::Run { len: 1 } };
    if last.target == 1 && last.source == 1 {
        return Inner::Run { len: last.size };
    }
    if last.target == 1
        && let Some(d) = dims.iter().position(|d| d.source == 1)
    {
        let across = dims.remove(d);
        return Inner::Transpose {
            rows: last.size,
            columns: across.size,
            source_stride: last.source,
            target_stride: across.target,
        };
    }
    Inner::Steps { len: last.size, source_stride: last.source, target_stride: last.target }
}

/// Strides of a row-major tensor.
pub fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d] * shape[d];
    }
    strides
}

/// Part of a matrix: up to sixteen rows and columns.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    columns: usize,
    source_stride: usize,
    target_stride: usize,
}

impl Tile {
    /// Transposes from `source` to place `at` of the target.
    ///
    /// # Safety
    /// Nobody else refers to the tile's places of the target.
    unsafe fn transpose(self, isa: Isa, source: &[f32], out: &Shared<'_, f32>, at: usize) {
        let mut lines = [[0.0; LANES]; LANES];
        transpose(isa, self, source, &mut lines);
        for (c, line) in lines[..self.columns].iter().enumerate() {
            let start = at + c * self.target_stride;
            // SAFETY: the caller's promise.
            let target = unsafe { out.part(start..start + self.rows) };
            match <&mut [f32; LANES]>::try_from(&mut *target) {
                Ok(target) => *target = *line,
                Err(_) => target.copy_from_slice(&line[..self.rows]),
            }
        }
    }
}

kernel! {
    fn transpose(tile: Tile, source: &[f32], lines: &mut [[f32; LANES]; LANES]) = transpose_with;
}

/// Four rounds of interleaving row i with row i+8 rotate the eight bits of (row, column) by four: a transpose.
#[inline(always)]
fn transpose_with<S: Simd>(s: S, tile: Tile, source: &[f32], lines: &mut [[f32; LANES]; LANES]) {
    let mut v = [s.splat(0.0); LANES];
    for (r, v) in v.iter_mut().enumerate().take(tile.rows) {
        let at = r * tile.source_stride;
        *v = s.load_part(&source[at..at + tile.columns]);
    }
    let mut round = 0;
    while round < 4 {
        let mut next = v;
        let mut i = 0;
        while i < LANES / 2 {
            (next[2 * i], next[2 * i + 1]) = v[i].interleave(v[i + LANES / 2]);
            i += 1;
        }
        v = next;
        round += 1;
    }
    for (v, line) in v.iter().zip(lines) {
        v.store(line);
    }
}

#[cfg(test)]
mod tests;
