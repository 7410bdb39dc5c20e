//! Reduction over any set of axes of a row-major tensor.
//!
//! Neighbouring axes of a kind are merged first. If the innermost axis is reduced, each output element is a sum of
//! runs of consecutive elements; if it is kept, tiles of 64 columns are summed down the rows.

use crate::Error;
use crate::isa::Isa;
use crate::simd::{Float, LANES, Simd, kernel};
use crate::threads::{Shared, parallel_for};
use std::ops::Range;

/// What is computed from the reduced elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Σ x
    Sum,
    /// Σ x / n
    Mean,
    /// Largest; NaN where one is NaN
    Max,
    /// Smallest; NaN where one is NaN
    Min,
    /// Π x
    Prod,
    /// Σ x²
    SumSquares,
}

/// Most dimensions of a kind after merging.
const MAX_RANK: usize = 4;
/// Elements of one task.
const GRAIN: usize = 32 * 1024;
/// Most parts the reduced elements of an output are split into.
const MAX_PARTS: usize = 64;
/// Columns summed in registers.
const TILE: usize = 4 * LANES;
/// Columns of a task's piece: a whole kilobyte of each row.
const PIECE: usize = 4 * TILE;
/// Elements of a run summed before they are added to the total.
const BLOCK: usize = 1024;
/// Rows summed before they are added to the total.
const ROWS: usize = 32;

/// Sizes and strides of some dimensions, outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dims {
    rank: usize,
    sizes: [usize; MAX_RANK],
    strides: [usize; MAX_RANK],
}

impl Dims {
    fn len(&self) -> usize {
        self.sizes[..self.rank].iter().product()
    }

    /// Offset of the `i`-th combination in row-major order.
    #[inline(always)]
    fn offset(&self, mut i: usize) -> usize {
        let (mut offset, mut d) = (0, self.rank);
        while d > 0 {
            d -= 1;
            offset += i % self.sizes[d] * self.strides[d];
            i /= self.sizes[d];
        }
        offset
    }

    /// Takes away the last dimension: its size and stride, or one element.
    fn pop(&mut self) -> (usize, usize) {
        if self.rank == 0 {
            return (1, 1);
        }
        self.rank -= 1;
        (self.sizes[self.rank], self.strides[self.rank])
    }
}

/// A reduction of a row-major tensor over a set of axes. The output is row-major over the kept axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    op: Reduce,
    kept: Dims,
    reduced: Dims,
    /// Whether the innermost axis is reduced.
    runs: bool,
}

impl Reduction {
    /// Reduces a tensor of `shape` over `axes`.
    ///
    /// # Errors
    /// An axis is out of range, or kept and reduced axes alternate more than four times.
    pub fn new(op: Reduce, shape: &[usize], axes: &[usize]) -> Result<Self, Error> {
        if let Some(axis) = axes.iter().find(|&&a| a >= shape.len()) {
            let rank = shape.len();
            return Err(Error::Descriptor(format!("reduction over axis {axis} of {rank} dimensions")));
        }
        let (mut kept, mut reduced, mut runs) = (Dims::default(), Dims::default(), true);
        let (mut last, mut stride) = (None, 1);
        for (axis, &size) in shape.iter().enumerate().rev() {
            if size == 1 {
                continue;
            }
            let is_reduced = axes.contains(&axis);
            let dims = if is_reduced { &mut reduced } else { &mut kept };
            if last == Some(is_reduced) {
                dims.sizes[dims.rank - 1] *= size;
            } else if dims.rank == MAX_RANK {
                return Err(Error::Descriptor(format!(
                    "reduction of shape {shape:?} over axes {axes:?}: more than {MAX_RANK} groups of axes; \
                     transpose first"
                )));
            } else {
                runs = if last.is_none() { is_reduced } else { runs };
                (dims.sizes[dims.rank], dims.strides[dims.rank]) = (size, stride);
                dims.rank += 1;
            }
            last = Some(is_reduced);
            stride *= size;
        }
        for dims in [&mut kept, &mut reduced] {
            dims.sizes[..dims.rank].reverse();
            dims.strides[..dims.rank].reverse();
        }
        Ok(Reduction { op, kept, reduced, runs })
    }

    /// Number of elements reduced into one.
    pub fn reduced_len(&self) -> usize {
        self.reduced.len()
    }

    /// Number of elements of the output.
    pub fn output_len(&self) -> usize {
        self.kept.len()
    }

    /// How many parts the outermost reduced dimension is split into, where the outputs alone are too few to share.
    fn parts(&self) -> usize {
        let (outputs, reduced) = (self.output_len(), self.reduced_len());
        if self.reduced.rank == 0 || outputs > 4 * 1024 || outputs * reduced <= 2 * GRAIN {
            return 1;
        }
        let groups = if self.runs { outputs } else { outputs.div_ceil(PIECE) };
        if groups >= 16 {
            return 1;
        }
        (outputs * reduced / GRAIN).min(MAX_PARTS).min(self.reduced.sizes[0])
    }

    /// Number of elements of scratch that [`Reduction::run`] needs.
    pub fn run_scratch(&self) -> usize {
        match self.parts() {
            1 => 0,
            parts => parts * self.output_len(),
        }
    }

    /// Reduces `x` into `y`.
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn run(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        let (outputs, reduced) = (self.output_len(), self.reduced_len());
        assert_eq!(x.len(), outputs * reduced, "reduction: operand's length");
        assert_eq!(y.len(), outputs, "reduction: output's length");
        let isa = Isa::active();
        let parts = self.parts();
        if outputs == 0 {
            return;
        }
        if parts == 1 {
            self.part(isa, x, self.reduced, y);
        } else {
            let scratch = &mut scratch[..parts * outputs];
            let out = Shared::new(scratch);
            let size = self.reduced.sizes[0];
            parallel_for(parts, |part| {
                let (low, high) = (part * size / parts, (part + 1) * size / parts);
                let mut reduced = self.reduced;
                reduced.sizes[0] = high - low;
                // SAFETY: each part has its own range.
                let y = unsafe { out.part(part * outputs..(part + 1) * outputs) };
                self.part(isa, &x[low * self.reduced.strides[0]..], reduced, y);
            });
            let (first, rest) = scratch.split_at(outputs);
            y.copy_from_slice(first);
            for part in rest.chunks_exact(outputs) {
                y.iter_mut().zip(part).for_each(|(y, &p)| *y = join(self.op, *y, p));
            }
        }
        if self.op == Reduce::Mean {
            let n = reduced as f32;
            y.iter_mut().for_each(|y| *y /= n);
        }
    }

    /// Reduces over the combinations of `reduced` only.
    fn part(&self, isa: Isa, x: &[f32], reduced: Dims, y: &mut [f32]) {
        let work = reduced.len().max(1);
        let out = Shared::new(y);
        if self.runs {
            let per_task = (GRAIN / work).max(1);
            parallel_for(out.len().div_ceil(per_task), |task| {
                let range = task * per_task..((task + 1) * per_task).min(out.len());
                // SAFETY: tasks have disjoint ranges.
                let y = unsafe { out.part(range.clone()) };
                runs(isa, self.op, x, self.kept, reduced, range.start, y);
            });
        } else {
            let mut outer = self.kept;
            let (columns, _) = outer.pop();
            let tiles = columns.div_ceil(PIECE);
            let total = outer.len() * tiles;
            let per_task = (GRAIN / (work * PIECE)).max(1);
            parallel_for(total.div_ceil(per_task), |task| {
                for tile in task * per_task..((task + 1) * per_task).min(total) {
                    let (row, tile) = (tile / tiles, tile % tiles);
                    let range = tile * PIECE..((tile + 1) * PIECE).min(columns);
                    // SAFETY: each tile has its own outputs.
                    let y = unsafe { out.part(row * columns + range.start..row * columns + range.end) };
                    tile_columns(isa, self.op, &x[outer.offset(row)..], reduced, range, y);
                }
            });
        }
    }
}

/// Two partial results made one.
fn join(op: Reduce, a: f32, b: f32) -> f32 {
    match op {
        Reduce::Sum | Reduce::Mean | Reduce::SumSquares => a + b,
        Reduce::Prod => a * b,
        Reduce::Max => {
            if a > b || a.is_nan() {
                a
            } else {
                b
            }
        }
        Reduce::Min => {
            if a < b || a.is_nan() {
                a
            } else {
                b
            }
        }
    }
}

/// One way of reducing: what an accumulator starts with and how elements and accumulators meet.
trait Fold {
    const OP: Reduce;
    const START: f32;
    fn take<S: Simd>(s: S, acc: S::F, x: S::F) -> S::F;
    fn lanes<S: Simd>(acc: S::F) -> f32;
    #[inline(always)]
    fn element(x: f32) -> f32 {
        x
    }
}

macro_rules! folds {
    ($($name:ident $start:expr, |$s:ident, $acc:ident, $x:ident| $take:expr, $lanes:expr $(, |$e:ident| $element:expr)?;)*) => {$(
        struct $name;
        impl Fold for $name {
            const OP: Reduce = Reduce::$name;
            const START: f32 = $start;
            #[inline(always)]
            fn take<S: Simd>($s: S, $acc: S::F, $x: S::F) -> S::F { $take }
            #[inline(always)]
            fn lanes<S: Simd>($acc: S::F) -> f32 { $lanes }
            $(#[inline(always)] fn element($e: f32) -> f32 { $element })?
        }
    )*};
}
folds! {
    Sum 0.0, |_s, acc, x| acc + x, acc.sum();
    SumSquares 0.0, |_s, acc, x| x.mul_add(x, acc), acc.sum(), |x| x * x;
    Prod 1.0, |_s, acc, x| acc * x, acc.array().into_iter().product();
    Max f32::NEG_INFINITY, |_s, acc, x| acc.select(acc.is_nan(), acc.max(x)), acc.largest();
    Min f32::INFINITY, |_s, acc, x| acc.select(acc.is_nan(), acc.min(x)), acc.smallest();
}

/// Calls `$f::<S, Fold>` for an operator.
macro_rules! by_fold {
    ($s:ident, $op:expr, $f:ident($($a:expr),*)) => {
        match $op {
            Reduce::Sum | Reduce::Mean => $f::<S, Sum>($s, $($a),*),
            Reduce::SumSquares => $f::<S, SumSquares>($s, $($a),*),
            Reduce::Prod => $f::<S, Prod>($s, $($a),*),
            Reduce::Max => $f::<S, Max>($s, $($a),*),
            Reduce::Min => $f::<S, Min>($s, $($a),*),
        }
    };
}

kernel! {
    /// Outputs `first..first + y.len()`, the innermost axis being reduced.
    fn runs(op: Reduce, x: &[f32], kept: Dims, reduced: Dims, first: usize, y: &mut [f32]) = runs_with;
    /// Outputs of the columns `range`, the innermost axis being kept.
    fn tile_columns(op: Reduce, x: &[f32], reduced: Dims, range: Range<usize>, y: &mut [f32]) = columns_with;
}

#[inline(always)]
fn runs_with<S: Simd>(s: S, op: Reduce, x: &[f32], kept: Dims, reduced: Dims, first: usize, y: &mut [f32]) {
    by_fold!(s, op, runs_fold(x, kept, reduced, first, y))
}

#[inline(always)]
fn runs_fold<S: Simd, O: Fold>(s: S, x: &[f32], kept: Dims, mut reduced: Dims, first: usize, y: &mut [f32]) {
    let (run, _) = reduced.pop();
    let combinations = reduced.len();
    for (i, y) in y.iter_mut().enumerate() {
        let base = kept.offset(first + i);
        let mut total = O::START;
        for c in 0..combinations {
            let start = base + reduced.offset(c);
            for block in x[start..start + run].chunks(BLOCK) {
                total = join(O::OP, total, fold_block::<S, O>(s, block));
            }
        }
        *y = total;
    }
}

/// Reduces consecutive elements with four accumulators.
#[inline(always)]
fn fold_block<S: Simd, O: Fold>(s: S, x: &[f32]) -> f32 {
    let (quads, rest) = x.as_chunks::<TILE>();
    let (vectors, tail) = rest.as_chunks::<LANES>();
    let mut total = O::START;
    if x.len() >= LANES {
        let start = s.splat(O::START);
        let (mut a, mut b, mut c, mut d) = (start, start, start, start);
        for q in quads {
            let (q, _) = q.as_chunks::<LANES>();
            a = O::take(s, a, s.load(&q[0]));
            b = O::take(s, b, s.load(&q[1]));
            c = O::take(s, c, s.load(&q[2]));
            d = O::take(s, d, s.load(&q[3]));
        }
        for v in vectors {
            a = O::take(s, a, s.load(v));
        }
        let (a, b, c, d) = (O::lanes::<S>(a), O::lanes::<S>(b), O::lanes::<S>(c), O::lanes::<S>(d));
        total = join(O::OP, join(O::OP, a, b), join(O::OP, c, d));
    }
    for &x in tail {
        total = join(O::OP, total, O::element(x));
    }
    total
}

#[inline(always)]
fn columns_with<S: Simd>(s: S, op: Reduce, x: &[f32], reduced: Dims, range: Range<usize>, y: &mut [f32]) {
    by_fold!(s, op, columns_fold(x, reduced, range, y))
}

#[inline(always)]
fn columns_fold<S: Simd, O: Fold>(s: S, x: &[f32], mut reduced: Dims, range: Range<usize>, y: &mut [f32]) {
    let (rows, stride) = reduced.pop();
    let mut total = [O::START; PIECE];
    let total = &mut total[..range.len()];
    for c in 0..reduced.len() {
        let base = reduced.offset(c) + range.start;
        let mut first = 0;
        while first < rows {
            let block = first..(first + ROWS).min(rows);
            let (tiles, rest) = total.as_chunks_mut::<TILE>();
            let mut at = base;
            for tile in tiles {
                full_tile::<S, O>(s, x, at, stride, block.clone(), tile);
                at += TILE;
            }
            part_tile::<S, O>(s, x, at, stride, block.clone(), rest);
            first = block.end;
        }
    }
    y.copy_from_slice(total);
}

#[inline(always)]
fn full_tile<S: Simd, O: Fold>(
    s: S,
    x: &[f32],
    base: usize,
    stride: usize,
    rows: Range<usize>,
    total: &mut [f32; TILE],
) {
    let start = s.splat(O::START);
    let (mut a, mut b, mut c, mut d) = (start, start, start, start);
    for r in rows {
        let at = base + r * stride;
        let (q, _) = x[at..at + TILE].as_chunks::<LANES>();
        a = O::take(s, a, s.load(&q[0]));
        b = O::take(s, b, s.load(&q[1]));
        c = O::take(s, c, s.load(&q[2]));
        d = O::take(s, d, s.load(&q[3]));
    }
    for (k, v) in [a, b, c, d].into_iter().enumerate() {
        for (lane, x) in v.array().into_iter().enumerate() {
            let t = &mut total[k * LANES + lane];
            *t = join(O::OP, *t, x);
        }
    }
}

/// As `full_tile` for fewer columns, one vector of them at a time.
#[inline(always)]
fn part_tile<S: Simd, O: Fold>(
    s: S,
    x: &[f32],
    base: usize,
    stride: usize,
    rows: Range<usize>,
    total: &mut [f32],
) {
    let mut first = 0;
    while first < total.len() {
        let width = LANES.min(total.len() - first);
        let mut acc = s.splat(O::START);
        for r in rows.clone() {
            let at = base + r * stride + first;
            acc = O::take(s, acc, s.load_part(&x[at..at + width]));
        }
        for (t, x) in total[first..first + width].iter_mut().zip(acc.array()) {
            *t = join(O::OP, *t, x);
        }
        first += width;
    }
}
