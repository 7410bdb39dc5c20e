//! Winograd's transforms on 16 channels at a time, written once over vector primitives.
//!
//! With an `r × r` kernel `g` and `α = m + r − 1`, an `m × m` block of outputs is `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` of the
//! `α × α` inputs `d` (Lavin and Gray, 2015). Points: 0, ±1, ∞ for `α = 4`; 0, ±3/4, ±3/2, ∞ for `α = 6`. The usual ±1, ±2
//! are six times less accurate: their powers differ more. `Bᵀ` depends on the points alone, and serves `m = 4, r = 3` and
//! `m = 2, r = 5`.

use super::Order;
use crate::isa::Isa;
use crate::micro::Finish;

/// The points ±`A1`, ±`B1` of `α = 6`, their squares, and the product of each point's distances from the others.
const A1: f32 = 0.75;
const B1: f32 = 1.5;
const A2: f32 = A1 * A1;
const B2: f32 = B1 * B1;
const NA: f32 = 2.0 * A2 * (A2 - B2);
const NB: f32 = 2.0 * B2 * (B2 - A2);

/// Part of a block of pixels that exists: rows and columns, half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub rows: [usize; 2],
    pub cols: [usize; 2],
}

/// `dst[p] = (T src Tᵀ)[p]`: reads pixels of a window (others are zero) at `src + row·src_row + col·16`, writes `α²`
/// vectors `dst_step` apart.
pub(super) type Spread =
    unsafe fn(src: *const f32, src_row: usize, w: Window, dst: *mut f32, dst_step: usize);
/// Output transform and epilogue of the window's pixels: reads `α²` vectors `src_step` apart; `c` is the block's first
/// pixel, `row` the distance of rows there.
pub(super) type Gather =
    unsafe fn(src: *const f32, src_step: usize, w: Window, c: *mut f32, row: usize, finish: &Finish);
/// `α²` vectors `dst_step` apart from `r²` taps `src_step` apart, in reverse order where `flip`.
pub(super) type Weight =
    unsafe fn(src: *const f32, src_step: usize, flip: bool, dst: *mut f32, dst_step: usize);
/// `r²` taps `dst_step` apart from `α²` vectors `src_step` apart; adds to what is there where `add`.
pub(super) type WeightBack =
    unsafe fn(src: *const f32, src_step: usize, dst: *mut f32, dst_step: usize, add: bool);

/// The transforms of one order and kernel on one instruction set. Safety of each: the vectors read and written lie in memory the
/// caller owns, and the CPU has the instruction set.
pub(super) struct Transforms {
    /// `Bᵀ d B`.
    pub input: Spread,
    /// `A y Aᵀ`.
    pub output_back: Spread,
    /// `Aᵀ m A`.
    pub output: Gather,
    /// `G g Gᵀ`.
    pub weight: Weight,
    /// `Gᵀ u G`.
    pub weight_back: WeightBack,
}

/// The transforms of the active instruction set for a kernel of `taps × taps` to which the order applies.
pub(super) fn active(order: Order, taps: usize) -> &'static Transforms {
    let [two, four, two_of_five] = match Isa::active() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &avx512::TRANSFORMS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &avx2::TRANSFORMS,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => &neon::TRANSFORMS,
        _ => &scalar::TRANSFORMS,
    };
    match (order, taps) {
        (Order::Two, 5) => two_of_five,
        (Order::Two, _) => two,
        (Order::Four, _) => four,
    }
}

/// Applies the one-dimensional transform `$f` (`[V; $n]` to `[V; $k]`) to columns, then to rows:
/// `$read(row, column)` to `$write(row, column, value)`.
macro_rules! both_ways {
    ($f:ident, $n:literal, $k:literal, |$i:ident, $j:ident| $read:expr, |$r:ident, $c:ident, $v:ident| $write:expr) => {{
        let mut half = [[zero(); $n]; $k];
        for $j in 0..$n {
            let mut column = [zero(); $n];
            for $i in 0..$n {
                column[$i] = $read;
            }
            let column = $f(column);
            for k in 0..$k {
                half[k][$j] = column[k];
            }
        }
        for $r in 0..$k {
            let line = $f(half[$r]);
            for $c in 0..$k {
                let $v = line[$c];
                $write;
            }
        }
    }};
}

/// Expands to the two-dimensional transforms of one order.
macro_rules! order {
    ($(#[$feature:meta])?; $name:ident, $m:literal, $r:literal, $alpha:literal, $bt:ident, $at:ident, $a:ident, $g:ident, $gt:ident) => {
        mod $name {
            use super::*;

            $(#[$feature])?
            pub unsafe fn input(src: *const f32, src_row: usize, w: Window, dst: *mut f32, dst_step: usize) {
                let whole = w == Window { rows: [0, $alpha], cols: [0, $alpha] };
                for part in (0..PANEL).step_by(LANES) {
                    // SAFETY: only pixels of the window are read; see `Transforms`.
                    unsafe {
                        let src = src.wrapping_add(part);
                        if whole {
                            both_ways!($bt, $alpha, $alpha, |i, j| load(src.wrapping_add(i * src_row + j * PANEL)),
                                |r, c, v| store(dst.add((r * $alpha + c) * dst_step + part), v));
                        } else {
                            both_ways!($bt, $alpha, $alpha, |i, j| if w.has(i, j) {
                                load(src.wrapping_add(i * src_row + j * PANEL))
                            } else {
                                zero()
                            }, |r, c, v| store(dst.add((r * $alpha + c) * dst_step + part), v));
                        }
                    }
                }
            }

            $(#[$feature])?
            pub unsafe fn output_back(src: *const f32, src_row: usize, w: Window, dst: *mut f32, dst_step: usize) {
                for part in (0..PANEL).step_by(LANES) {
                    // SAFETY: only pixels of the window are read; see `Transforms`.
                    unsafe {
                        both_ways!($a, $m, $alpha, |i, j| if w.has(i, j) {
                            load(src.wrapping_add(i * src_row + j * PANEL + part))
                        } else {
                            zero()
                        }, |r, c, v| store(dst.add((r * $alpha + c) * dst_step + part), v));
                    }
                }
            }

            $(#[$feature])?
            pub unsafe fn output(src: *const f32, src_step: usize, w: Window, c: *mut f32, row: usize, f: &Finish) {
                for part in (0..PANEL).step_by(LANES) {
                    // SAFETY: only pixels of the window are touched; see `Transforms`.
                    unsafe {
                        let bias = if f.bias_column.is_null() { zero() } else { load(f.bias_column.add(part)) };
                        both_ways!($at, $alpha, $m, |i, j| load(src.add((i * $alpha + j) * src_step + part)),
                            |r, q, v| if w.has(r, q) {
                                let at = r * row + q * PANEL + part;
                                store(c.add(at), finish(v, bias, at, c, f));
                            });
                    }
                }
            }

            $(#[$feature])?
            pub unsafe fn weight(src: *const f32, src_step: usize, flip: bool, dst: *mut f32, dst_step: usize) {
                for part in (0..PANEL).step_by(LANES) {
                    // SAFETY: see `Transforms`.
                    unsafe {
                        both_ways!($g, $r, $alpha, |i, j| {
                            let tap = if flip { $r * $r - 1 - (i * $r + j) } else { i * $r + j };
                            load(src.add(tap * src_step + part))
                        }, |r, c, v| store(dst.add((r * $alpha + c) * dst_step + part), v));
                    }
                }
            }

            $(#[$feature])?
            pub unsafe fn weight_back(src: *const f32, src_step: usize, dst: *mut f32, dst_step: usize, keep: bool) {
                for part in (0..PANEL).step_by(LANES) {
                    // SAFETY: see `Transforms`.
                    unsafe {
                        both_ways!($gt, $alpha, $r, |i, j| load(src.add((i * $alpha + j) * src_step + part)),
                            |r, c, v| {
                                let to = dst.add((r * $r + c) * dst_step + part);
                                store(to, if keep { add(load(to), v) } else { v });
                            });
                    }
                }
            }
        }
    };
}

/// Expands to the transforms of one instruction set; the primitives are those of its micro-kernels.
macro_rules! transforms {
    ($(#[$feature:meta])?; $isa:ident) => {
        mod $isa {
            use super::{A1, A2, B1, B2, NA, NB, Transforms, Window};
            use crate::micro::{Finish, PANEL};
            use crate::micro::$isa::*;

            pub(super) static TRANSFORMS: [Transforms; 3] = [
                Transforms {
                    input: two::input,
                    output_back: two::output_back,
                    output: two::output,
                    weight: two::weight,
                    weight_back: two::weight_back,
                },
                Transforms {
                    input: four::input,
                    output_back: four::output_back,
                    output: four::output,
                    weight: four::weight,
                    weight_back: four::weight_back,
                },
                Transforms {
                    input: two_of_five::input,
                    output_back: two_of_five::output_back,
                    output: two_of_five::output,
                    weight: two_of_five::weight,
                    weight_back: two_of_five::weight_back,
                },
            ];

            /// The epilogue of one vector.
            ///
            /// # Safety
            /// `c` and the residual are readable at `at`.
            $(#[$feature])?
            #[inline]
            unsafe fn finish(v: V, bias: V, at: usize, c: *const f32, f: &Finish) -> V {
                let mut v = fma(splat(f.alpha), v, bias);
                // SAFETY: the caller's promise.
                unsafe {
                    if !f.residual.is_null() {
                        v = add(v, load(f.residual.add(at)));
                    }
                    if f.accumulate {
                        v = add(v, load(c.add(at)));
                    }
                }
                activate(f.activation, v)
            }

            $(#[$feature])?
            #[inline]
            fn bt4(d: [V; 4]) -> [V; 4] {
                [sub(d[0], d[2]), add(d[1], d[2]), sub(d[2], d[1]), sub(d[1], d[3])]
            }

            $(#[$feature])?
            #[inline]
            fn at4(m: [V; 4]) -> [V; 2] {
                [add(add(m[0], m[1]), m[2]), sub(sub(m[1], m[2]), m[3])]
            }

            $(#[$feature])?
            #[inline]
            fn a4(y: [V; 2]) -> [V; 4] {
                [y[0], add(y[0], y[1]), sub(y[0], y[1]), sub(zero(), y[1])]
            }

            $(#[$feature])?
            #[inline]
            fn g4(g: [V; 3]) -> [V; 4] {
                let half = splat(0.5);
                let even = mul(half, add(g[0], g[2]));
                let odd = mul(half, g[1]);
                [g[0], add(even, odd), sub(even, odd), g[2]]
            }

            $(#[$feature])?
            #[inline]
            fn gt4(u: [V; 4]) -> [V; 3] {
                let half = splat(0.5);
                let even = mul(half, add(u[1], u[2]));
                [add(u[0], even), mul(half, sub(u[1], u[2])), add(even, u[3])]
            }

            $(#[$feature])?
            #[inline]
            fn bt6(d: [V; 6]) -> [V; 6] {
                let even_a = fma(splat(-B2), d[2], d[4]);
                let odd_a = fma(splat(A1), d[3], mul(splat(-A1 * B2), d[1]));
                let even_b = fma(splat(-A2), d[2], d[4]);
                let odd_b = fma(splat(B1), d[3], mul(splat(-B1 * A2), d[1]));
                let (product, sum) = (splat(A2 * B2), splat(-A2 - B2));
                [
                    fma(product, d[0], fma(sum, d[2], d[4])),
                    add(even_a, odd_a),
                    sub(even_a, odd_a),
                    add(even_b, odd_b),
                    sub(even_b, odd_b),
                    fma(product, d[1], fma(sum, d[3], d[5])),
                ]
            }

            $(#[$feature])?
            #[inline]
            fn at6(m: [V; 6]) -> [V; 4] {
                let (even_a, odd_a) = (add(m[1], m[2]), sub(m[1], m[2]));
                let (even_b, odd_b) = (add(m[3], m[4]), sub(m[3], m[4]));
                [
                    add(add(m[0], even_a), even_b),
                    fma(splat(B1), odd_b, mul(splat(A1), odd_a)),
                    fma(splat(B2), even_b, mul(splat(A2), even_a)),
                    fma(splat(B1 * B2), odd_b, fma(splat(A1 * A2), odd_a, m[5])),
                ]
            }

            $(#[$feature])?
            #[inline]
            fn a6(y: [V; 4]) -> [V; 6] {
                let (even_a, odd_a) = (fma(splat(A2), y[2], y[0]), fma(splat(A1 * A2), y[3], mul(splat(A1), y[1])));
                let (even_b, odd_b) = (fma(splat(B2), y[2], y[0]), fma(splat(B1 * B2), y[3], mul(splat(B1), y[1])));
                [y[0], add(even_a, odd_a), sub(even_a, odd_a), add(even_b, odd_b), sub(even_b, odd_b), y[3]]
            }

            $(#[$feature])?
            #[inline]
            fn g6(g: [V; 3]) -> [V; 6] {
                let (even_a, odd_a) = (fma(splat(A2 / NA), g[2], mul(splat(1.0 / NA), g[0])), mul(splat(A1 / NA), g[1]));
                let (even_b, odd_b) = (fma(splat(B2 / NB), g[2], mul(splat(1.0 / NB), g[0])), mul(splat(B1 / NB), g[1]));
                [
                    mul(splat(1.0 / (A2 * B2)), g[0]),
                    add(even_a, odd_a),
                    sub(even_a, odd_a),
                    add(even_b, odd_b),
                    sub(even_b, odd_b),
                    g[2],
                ]
            }

            $(#[$feature])?
            #[inline]
            fn gt6(u: [V; 6]) -> [V; 3] {
                let (even_a, odd_a) = (add(u[1], u[2]), sub(u[1], u[2]));
                let (even_b, odd_b) = (add(u[3], u[4]), sub(u[3], u[4]));
                [
                    fma(splat(1.0 / NB), even_b, fma(splat(1.0 / NA), even_a, mul(splat(1.0 / (A2 * B2)), u[0]))),
                    fma(splat(B1 / NB), odd_b, mul(splat(A1 / NA), odd_a)),
                    fma(splat(B2 / NB), even_b, fma(splat(A2 / NA), even_a, u[5])),
                ]
            }

            $(#[$feature])?
            #[inline]
            fn at6_to_2(m: [V; 6]) -> [V; 2] {
                let (a, b) = (add(m[1], m[2]), add(m[3], m[4]));
                let odd = fma(splat(B1), sub(m[3], m[4]), mul(splat(A1), sub(m[1], m[2])));
                [add(add(m[0], a), b), add(odd, m[5])]
            }

            $(#[$feature])?
            #[inline]
            fn a2_to_6(y: [V; 2]) -> [V; 6] {
                let (a, b) = (mul(splat(A1), y[1]), mul(splat(B1), y[1]));
                [y[0], add(y[0], a), sub(y[0], a), add(y[0], b), sub(y[0], b), y[1]]
            }

            $(#[$feature])?
            #[inline]
            fn g5_to_6(g: [V; 5]) -> [V; 6] {
                let pair = |p2: f32, p: f32, scale: f32| {
                    let even = fma(splat(p2 * p2 * scale), g[4], fma(splat(p2 * scale), g[2], mul(splat(scale), g[0])));
                    let odd = fma(splat(p2 * p * scale), g[3], mul(splat(p * scale), g[1]));
                    (add(even, odd), sub(even, odd))
                };
                let ((a, minus_a), (b, minus_b)) = (pair(A2, A1, 1.0 / NA), pair(B2, B1, 1.0 / NB));
                [mul(splat(1.0 / (A2 * B2)), g[0]), a, minus_a, b, minus_b, g[4]]
            }

            $(#[$feature])?
            #[inline]
            fn gt6_to_5(u: [V; 6]) -> [V; 5] {
                let (even_a, odd_a) = (mul(splat(1.0 / NA), add(u[1], u[2])), mul(splat(A1 / NA), sub(u[1], u[2])));
                let (even_b, odd_b) = (mul(splat(1.0 / NB), add(u[3], u[4])), mul(splat(B1 / NB), sub(u[3], u[4])));
                [
                    fma(splat(1.0 / (A2 * B2)), u[0], add(even_a, even_b)),
                    add(odd_a, odd_b),
                    fma(splat(B2), even_b, mul(splat(A2), even_a)),
                    fma(splat(B2), odd_b, mul(splat(A2), odd_a)),
                    fma(splat(B2 * B2), even_b, fma(splat(A2 * A2), even_a, u[5])),
                ]
            }

            order!($(#[$feature])?; two, 2, 3, 4, bt4, at4, a4, g4, gt4);
            order!($(#[$feature])?; four, 4, 3, 6, bt6, at6, a6, g6, gt6);
            order!($(#[$feature])?; two_of_five, 2, 5, 6, bt6, at6_to_2, a2_to_6, g5_to_6, gt6_to_5);
        }
    };
}

impl Window {
    #[inline]
    fn has(&self, row: usize, col: usize) -> bool {
        (self.rows[0]..self.rows[1]).contains(&row) && (self.cols[0]..self.cols[1]).contains(&col)
    }
}

transforms!(; scalar);
#[cfg(target_arch = "x86_64")]
transforms!(#[target_feature(enable = "avx2,fma")]; avx2);
#[cfg(target_arch = "x86_64")]
transforms!(#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]; avx512);
#[cfg(target_arch = "aarch64")]
transforms!(#[target_feature(enable = "neon")]; neon);
