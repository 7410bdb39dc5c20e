//! Sums over pixels with pixels in the lanes: the gradient to the weights where both sides are planes.

use crate::isa::Isa;
use crate::simd::{Float, LANES, Simd, kernel};

/// Largest tile: planes of `y` by terms of `x`.
const TALL: usize = 6;
const WIDE: usize = 4;

/// The sums of a tile.
pub(super) type Sums = [[f32; WIDE]; TALL];
pub(super) const NO_SUMS: Sums = [[0.0; WIDE]; TALL];

/// The pixels that are summed over: rows of some images, with the distances of images and rows in both operands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub images: usize,
    pub rows: usize,
    pub columns: usize,
    pub image: [usize; 2],
    pub row: [usize; 2],
}

/// Planes of `y` and terms of `x` that a tile of this instruction set has at most.
pub(super) fn tile(isa: Isa) -> [usize; 2] {
    if isa == Isa::Avx512 { [TALL, WIDE] } else { [3, 2] }
}

kernel! {
    /// `sums[f][t] = Σ y[ys[f] + pixel]·x[xs[t] + pixel]` over the region; `ys` and `xs` are at most [`tile`] places,
    /// `xs` exactly as many.
    pub(super) fn correlate(
        region: &Region,
        y: &[f32],
        ys: &[usize],
        x: &[f32],
        xs: &[usize],
        sums: &mut Sums,
    ) = correlate_with;
}

#[inline(always)]
fn correlate_with<S: Simd>(
    s: S,
    region: &Region,
    y: &[f32],
    ys: &[usize],
    x: &[f32],
    xs: &[usize],
    sums: &mut Sums,
) {
    match (ys.len(), xs.len()) {
        (1, 2) => sized::<S, 1, 2>(s, region, y, ys, x, xs, sums),
        (2, 2) => sized::<S, 2, 2>(s, region, y, ys, x, xs, sums),
        (3, 2) => sized::<S, 3, 2>(s, region, y, ys, x, xs, sums),
        (1, 4) => sized::<S, 1, 4>(s, region, y, ys, x, xs, sums),
        (2, 4) => sized::<S, 2, 4>(s, region, y, ys, x, xs, sums),
        (3, 4) => sized::<S, 3, 4>(s, region, y, ys, x, xs, sums),
        (4, 4) => sized::<S, 4, 4>(s, region, y, ys, x, xs, sums),
        (5, 4) => sized::<S, 5, 4>(s, region, y, ys, x, xs, sums),
        (6, 4) => sized::<S, 6, 4>(s, region, y, ys, x, xs, sums),
        (planes, terms) => unreachable!("no tile of {planes} planes by {terms} terms"),
    }
}

#[inline(always)]
fn sized<S: Simd, const F: usize, const T: usize>(
    s: S,
    region: &Region,
    y: &[f32],
    ys: &[usize],
    x: &[f32],
    xs: &[usize],
    sums: &mut Sums,
) {
    let mut acc = [[s.splat(0.0); T]; F];
    let (empty, rest) = ([].as_slice(), [].as_slice());
    for n in 0..region.images {
        for p in 0..region.rows {
            let at = [0, 1].map(|side| n * region.image[side] + p * region.row[side]);
            let (mut yb, mut yt, mut xb, mut xt) = ([empty; F], [rest; F], [empty; T], [rest; T]);
            for f in 0..F {
                (yb[f], yt[f]) = y[at[1] + ys[f]..][..region.columns].as_chunks::<LANES>();
            }
            for t in 0..T {
                (xb[t], xt[t]) = x[at[0] + xs[t]..][..region.columns].as_chunks::<LANES>();
            }
            for block in 0..region.columns / LANES {
                let mut xv = [s.splat(0.0); T];
                for t in 0..T {
                    xv[t] = s.load(&xb[t][block]);
                }
                for f in 0..F {
                    let yv = s.load(&yb[f][block]);
                    for t in 0..T {
                        acc[f][t] = yv.mul_add(xv[t], acc[f][t]);
                    }
                }
            }
            if !region.columns.is_multiple_of(LANES) {
                let mut xv = [s.splat(0.0); T];
                for t in 0..T {
                    xv[t] = s.load_tail(xt[t]);
                }
                for f in 0..F {
                    let yv = s.load_tail(yt[f]);
                    for t in 0..T {
                        acc[f][t] = yv.mul_add(xv[t], acc[f][t]);
                    }
                }
            }
        }
    }
    for f in 0..F {
        for t in 0..T {
            sums[f][t] = acc[f][t].sum();
        }
    }
}
