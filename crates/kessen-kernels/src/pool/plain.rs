//! One plane of the plain layout.
//!
//! Forward, each output row first gathers its window's rows into one (vectors along the row), then its columns; the
//! row in between lives on the stack, framed by what padding counts as. Rows too wide for it are pooled window by
//! window.

use super::geometry::Taps;
use super::{Kind, Pool};
use crate::isa::Isa;
use crate::simd::{Float, LANES, Mask, Simd, kernel};

/// Places of the row between the two steps.
const ROW: usize = 1024;

/// Pools one plane.
pub(super) fn forward(isa: Isa, p: &Pool, x: &[f32], y: &mut [f32]) {
    let width = p.columns.input();
    if p.kind == Kind::Max && p.rows.is_plain(2, 2) && p.columns.is_plain(2, 2) {
        return halves(isa, p, x, y);
    }
    let (kernel, dilation) = p.columns.kernel();
    let stride = p.columns.even_stride();
    let needed = (p.columns.output() - 1) * stride.unwrap_or(0) + (kernel - 1) * dilation + 2 * LANES + 1;
    let pad = if p.kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 };
    match stride {
        Some(stride) if needed.max(width + p.columns.before()) <= ROW && kernel <= 16 => {
            let mut row = [pad; ROW];
            for (oh, y) in y.chunks_exact_mut(p.columns.output()).enumerate() {
                gather_rows(isa, p, oh, x, &mut row[p.columns.before()..p.columns.before() + width]);
                let step = Step { kernel, dilation, stride };
                gather_columns(isa, p.kind == Kind::Max, step, &row, y);
                if p.kind != Kind::Max {
                    scale_by_places(p, oh, y);
                }
            }
        }
        _ => by_window(p, x, y),
    }
}

/// Turns the sums of output row `oh` into means.
fn scale_by_places(p: &Pool, oh: usize, y: &mut [f32]) {
    let (rows, full) = (p.rows.taps(oh), p.columns.full());
    let inside = if p.rows.full().contains(&oh) { full } else { 0..0 };
    for ow in (0..inside.start).chain(inside.end..y.len()) {
        y[ow] *= p.share(rows, p.columns.taps(ow));
    }
    let share = p.full_share();
    y[inside].iter_mut().for_each(|y| *y *= share);
}

/// How windows follow each other along a row.
#[derive(Clone, Copy)]
struct Step {
    kernel: usize,
    dilation: usize,
    stride: usize,
}

kernel! {
    /// The largest (or the sum) of the window's rows, column by column.
    fn gather_rows(p: &Pool, oh: usize, x: &[f32], row: &mut [f32]) = gather_rows_with;
    /// The largest (or the sum) of each window of `row`.
    fn gather_columns(max: bool, step: Step, row: &[f32; ROW], y: &mut [f32]) = gather_columns_with;
    /// The largest of 2×2 windows, 2 apart.
    fn halves(p: &Pool, x: &[f32], y: &mut [f32]) = halves_with;
    /// Backward of 2×2 windows, 2 apart, of two rows of `x`.
    fn halves_backward(x: [&[f32]; 2], y: &[f32], dy: &[f32], dx: [&mut [f32]; 2]) = halves_backward_with;
}

/// The larger one, NaN where either is; or the sum.
#[inline(always)]
fn take<S: Simd>(max: bool, acc: S::F, v: S::F) -> S::F {
    if max { acc.select(acc.is_nan(), acc.max(v)) } else { acc + v }
}

#[inline(always)]
fn gather_rows_with<S: Simd>(s: S, p: &Pool, oh: usize, x: &[f32], row: &mut [f32]) {
    let (taps, width, max) = (p.rows.taps(oh), row.len(), p.kind == Kind::Max);
    let start = s.splat(if max { f32::NEG_INFINITY } else { 0.0 });
    let mut first = 0;
    while first < width {
        let columns = first..(first + LANES).min(width);
        let mut acc = start;
        for r in 0..taps.count {
            let base = (taps.first + r * taps.step) * width;
            acc = take::<S>(max, acc, s.load_part(&x[base + columns.start..base + columns.end]));
        }
        acc.store_part(&mut row[columns.clone()]);
        first = columns.end;
    }
}

#[inline(always)]
fn gather_columns_with<S: Simd>(s: S, max: bool, step: Step, row: &[f32; ROW], y: &mut [f32]) {
    let start = if max { f32::NEG_INFINITY } else { 0.0 };
    for (block, y) in y.chunks_mut(LANES).enumerate() {
        let mut acc = s.splat(start);
        for j in 0..step.kernel {
            let first = block * LANES * step.stride + j * step.dilation;
            let v = match step.stride {
                1 => s.load_part(&row[first..first + LANES]),
                2 => {
                    let (pair, _) = row[first..first + 2 * LANES].as_chunks::<LANES>();
                    s.load(&pair[0]).deinterleave(s.load(&pair[1])).0
                }
                stride => {
                    let mut lanes = [start; LANES];
                    for (i, lane) in lanes[..y.len()].iter_mut().enumerate() {
                        *lane = row[first + i * stride];
                    }
                    s.load(&lanes)
                }
            };
            acc = take::<S>(max, acc, v);
        }
        acc.store_part(y);
    }
}

/// Any window, one at a time.
fn by_window(p: &Pool, x: &[f32], y: &mut [f32]) {
    let max = p.kind == Kind::Max;
    for_each_window(p, |o, window| {
        let mut acc = if max { f32::NEG_INFINITY } else { 0.0 };
        for v in window.places().map(|i| x[i]) {
            acc = match max {
                true if acc > v || acc.is_nan() => acc,
                true => v,
                false => acc + v,
            };
        }
        y[o] = if max { acc } else { acc * p.share(window.rows, window.columns) };
    });
}

/// The gradient of one plane of average pooling, added to `dx`.
pub(super) fn average_backward(p: &Pool, dy: &[f32], dx: &mut [f32]) {
    for_each_window(p, |o, window| {
        let d = dy[o] * p.share(window.rows, window.columns);
        window.places().for_each(|i| dx[i] += d);
    });
}

/// The gradient of one plane of max pooling, added to `dx`, which holds zeros.
pub(super) fn max_backward(isa: Isa, p: &Pool, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
    if p.rows.is_plain(2, 2) && p.columns.is_plain(2, 2) {
        let (width, outputs) = (p.columns.input(), p.columns.output());
        for oh in 0..p.rows.output() {
            let (top, bottom) = dx[2 * oh * width..(2 * oh + 2) * width].split_at_mut(width);
            let x = &x[2 * oh * width..(2 * oh + 2) * width];
            let range = oh * outputs..(oh + 1) * outputs;
            halves_backward(isa, [&x[..width], &x[width..]], &y[range.clone()], &dy[range], [top, bottom]);
        }
        return;
    }
    for_each_window(p, |o, window| {
        let best = y[o];
        let hit = |&i: &usize| x[i] == best || (x[i].is_nan() && best.is_nan());
        if let Some(i) = window.places().find(hit) {
            dx[i] += dy[o];
        }
    });
}

/// One window of a plane `width` places wide.
#[derive(Clone, Copy)]
struct Window {
    rows: Taps,
    columns: Taps,
    width: usize,
}

impl Window {
    /// Its input places in row-major order.
    fn places(self) -> impl Iterator<Item = usize> {
        let Window { rows, columns, width } = self;
        (0..rows.count).flat_map(move |r| {
            let base = (rows.first + r * rows.step) * width + columns.first;
            (0..columns.count).map(move |c| base + c * columns.step)
        })
    }
}

/// Calls `f` with each output place and its window.
fn for_each_window(p: &Pool, mut f: impl FnMut(usize, Window)) {
    let mut o = 0;
    for oh in 0..p.rows.output() {
        let rows = p.rows.taps(oh);
        for ow in 0..p.columns.output() {
            f(o, Window { rows, columns: p.columns.taps(ow), width: p.columns.input() });
            o += 1;
        }
    }
}

#[inline(always)]
fn halves_with<S: Simd>(s: S, p: &Pool, x: &[f32], y: &mut [f32]) {
    let (width, outputs) = (p.columns.input(), p.columns.output());
    for (oh, y) in y.chunks_exact_mut(outputs).enumerate() {
        let (top, bottom) = x[2 * oh * width..(2 * oh + 2) * width].split_at(width);
        let mut first = 0;
        while first < outputs {
            let end = (first + LANES).min(outputs);
            let middle = (2 * first + LANES).min(2 * end);
            let mut acc = s.splat(f32::NEG_INFINITY);
            for row in [top, bottom] {
                let low = s.load_part(&row[2 * first..middle]);
                let (even, odd) = low.deinterleave(s.load_part(&row[middle..2 * end]));
                acc = take::<S>(true, take::<S>(true, acc, even), odd);
            }
            acc.store_part(&mut y[first..end]);
            first = end;
        }
    }
}

#[inline(always)]
fn halves_backward_with<S: Simd>(s: S, x: [&[f32]; 2], y: &[f32], dy: &[f32], dx: [&mut [f32]; 2]) {
    let [top, bottom] = dx;
    let zero = s.splat(0.0);
    let mut first = 0;
    while first < y.len() {
        let outputs = first..(first + LANES).min(y.len());
        let inputs = 2 * outputs.start..2 * outputs.end;
        let middle = (inputs.start + LANES).min(inputs.end);
        let best = s.load_part(&y[outputs.clone()]);
        let mut left = s.load_part(&dy[outputs.clone()]);
        for (x, dx) in x.iter().zip([&mut *top, &mut *bottom]) {
            let low = s.load_part(&x[inputs.start..middle]);
            let (even, odd) = low.deinterleave(s.load_part(&x[middle..inputs.end]));
            let hit = even.eq(best).or(even.is_nan().and(best.is_nan()));
            let d_even = left.select(hit, zero);
            left = zero.select(hit, left);
            let hit = odd.eq(best).or(odd.is_nan().and(best.is_nan()));
            let d_odd = left.select(hit, zero);
            left = zero.select(hit, left);
            let (low, high) = d_even.interleave(d_odd);
            low.store_part(&mut dx[inputs.start..middle]);
            high.store_part(&mut dx[middle..inputs.end]);
        }
        first = outputs.end;
    }
}
