//! What the machine can do at most, measured: the yardsticks that kernels are held against.

use crate::isa::Isa;
use crate::simd::{Float, Simd, kernel};
use crate::threads::{Shared, count, parallel_for};
use std::hint::black_box;
use std::time::Instant;

/// Turns of one measurement of the multiply-add peak.
const TURNS: usize = 100_000;
/// Independent sums of sixteen lanes: many keep wide multipliers busy, few stay in the registers of AVX2.
const SUMS: usize = 16;
const FEW_SUMS: usize = 6;
/// Measurements of which the best counts: enough that all threads are awake in some of them.
const TRIES: usize = 100;

kernel! {
    /// Makes `turns` multiply-adds for each of many or of few sums; their total.
    fn multiply_adds(turns: usize, factor: f32, many: bool) -> f32 = multiply_adds_with;
}

#[inline(always)]
fn multiply_adds_with<S: Simd>(s: S, turns: usize, factor: f32, many: bool) -> f32 {
    if many {
        add_products::<S, SUMS>(s, turns, factor)
    } else {
        add_products::<S, FEW_SUMS>(s, turns, factor)
    }
}

#[inline(always)]
fn add_products<S: Simd, const N: usize>(s: S, turns: usize, factor: f32) -> f32 {
    let (a, b) = (s.splat(factor), s.splat(1.0 - factor));
    let mut sums = [s.splat(1.0); N];
    for _ in 0..turns {
        for v in &mut sums {
            *v = v.mul_add(a, b);
        }
    }
    sums.into_iter().fold(s.splat(0.0), |total, v| total + v).sum()
}

/// Seconds of the fastest of some calls.
fn fastest(mut f: impl FnMut()) -> f64 {
    f();
    let time = |_| {
        let begun = Instant::now();
        f();
        begun.elapsed().as_secs_f64()
    };
    (0..TRIES).map(time).fold(f64::INFINITY, f64::min)
}

/// Most multiply-adds in f32 that all threads together make, as 10⁹ floating-point operations a second: independent
/// sums in registers, with the instruction set in force. Takes some 100 ms.
pub fn peak_gflops() -> f64 {
    let (isa, threads) = (Isa::active(), count());
    let rate = |(many, sums): (bool, usize)| {
        let seconds = fastest(|| {
            parallel_for(threads, |_| {
                black_box(multiply_adds(isa, TURNS, black_box(0.999), many));
            });
        });
        (2 * crate::PANEL * sums * TURNS * threads) as f64 / seconds / 1e9
    };
    [(false, FEW_SUMS), (true, SUMS)].map(rate).into_iter().fold(0.0, f64::max)
}

/// The same for products of bf16 pairs, which count as two multiply-adds; `None` where the CPU has none of its own.
pub fn peak_bf16_gflops() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if crate::bf16::is_native() {
        let threads = count();
        let seconds = fastest(|| {
            parallel_for(threads, |_| {
                // SAFETY: `is_native` says that the CPU has AVX512_BF16.
                black_box(unsafe { dot_products(TURNS, black_box(0.5)) });
            });
        });
        return Some((4 * crate::PANEL * SUMS * TURNS * threads) as f64 / seconds / 1e9);
    }
    None
}

/// Independent dot products of pairs: each sum gains `turns·factor`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn dot_products(turns: usize, factor: f32) -> f32 {
    use std::arch::x86_64::*;
    let (a, b) = (_mm512_set1_ps(factor), _mm512_set1_ps(0.5));
    let (a, b) = (_mm512_cvtne2ps_pbh(a, a), _mm512_cvtne2ps_pbh(b, b));
    let mut sums = [_mm512_set1_ps(0.0); SUMS];
    for _ in 0..turns {
        for v in &mut sums {
            *v = _mm512_dpbf16_ps(*v, a, b);
        }
    }
    sums.iter().map(|&v| _mm512_reduce_add_ps(v)).sum()
}

/// Most memory traffic that all threads together make, in GB/s of bytes read and written: a copy of 64 MB, beyond the
/// caches. Takes some 200 ms and 128 MB.
pub fn copy_gbytes() -> f64 {
    const LEN: usize = 16 << 20;
    let parts = 64;
    let from = vec![1.0f32; LEN];
    let mut to = vec![0.0f32; LEN];
    let seconds = fastest(|| {
        let to = Shared::new(&mut to);
        parallel_for(parts, |part| {
            let range = part * LEN / parts..(part + 1) * LEN / parts;
            // SAFETY: parts are disjoint.
            unsafe { to.part(range.clone()) }.copy_from_slice(&from[range]);
        });
    });
    black_box(&to);
    (2 * 4 * LEN) as f64 / seconds / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yardsticks_are_of_a_plausible_length() {
        let (peak, copy) = (peak_gflops(), copy_gbytes());
        assert!(peak.is_finite() && peak > 0.01, "{peak}");
        assert!(copy.is_finite() && copy > 0.01, "{copy}");
    }

    #[test]
    fn the_probe_makes_the_sums_it_counts() {
        // Every sum stays 1: 1·f + (1 − f).
        for isa in Isa::available() {
            for (many, sums) in [(false, FEW_SUMS), (true, SUMS)] {
                assert_eq!(multiply_adds(isa, 100, 0.5, many), (sums * crate::PANEL) as f32, "{isa}");
            }
        }
        #[cfg(target_arch = "x86_64")]
        if crate::bf16::is_native() {
            // SAFETY: as above.
            assert_eq!(unsafe { dot_products(100, 0.5) }, (SUMS * crate::PANEL * 50) as f32);
        }
    }
}
