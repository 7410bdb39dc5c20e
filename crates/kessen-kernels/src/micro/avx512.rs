//! AVX-512 primitives and kernels: 32 registers of 16 lanes; tiles of 14×32.

use super::body::float_kernels;
use std::arch::x86_64::*;

pub(crate) type V = __m512;
pub(crate) const LANES: usize = 16;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn zero() -> V {
    _mm512_setzero_ps()
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn splat(value: f32) -> V {
    _mm512_set1_ps(value)
}

/// Asks for the line at `p`, which need not be readable.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn prefetch(p: *const f32) {
    _mm_prefetch::<_MM_HINT_T0>(p.cast());
}

/// Asks the second-level cache for the line at `p`, which need not be readable.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn prefetch_far(p: *const f32) {
    _mm_prefetch::<_MM_HINT_T1>(p.cast());
}

/// Asks for the line at `p`, which need not be writable, in order to write to it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn prefetch_write(p: *mut f32) {
    _mm_prefetch::<_MM_HINT_ET0>(p.cast_const().cast());
}

/// # Safety
/// 16 floats at `p` are readable.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) unsafe fn load(p: *const f32) -> V {
    // SAFETY: the caller's promise.
    unsafe { _mm512_loadu_ps(p) }
}

/// # Safety
/// 16 floats at `p` are writable.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) unsafe fn store(p: *mut f32, v: V) {
    // SAFETY: the caller's promise.
    unsafe { _mm512_storeu_ps(p, v) }
}

/// The first `n` lanes, zeros behind.
///
/// # Safety
/// `n` floats at `p` are readable.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) unsafe fn load_part(p: *const f32, n: usize) -> V {
    // SAFETY: masked lanes are not touched; the others are the caller's promise.
    unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, p) }
}

/// Stores the first `n` lanes.
///
/// # Safety
/// `n` floats at `p` are writable.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) unsafe fn store_part(p: *mut f32, v: V, n: usize) {
    // SAFETY: masked lanes are not touched; the others are the caller's promise.
    unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as u16, v) }
}

/// `a·b + c`, rounded once.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn fma(a: V, b: V, c: V) -> V {
    _mm512_fmadd_ps(a, b, c)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn add(a: V, b: V) -> V {
    _mm512_add_ps(a, b)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn sub(a: V, b: V) -> V {
    _mm512_sub_ps(a, b)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn mul(a: V, b: V) -> V {
    _mm512_mul_ps(a, b)
}

/// The larger; `b` where either is NaN.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn max(a: V, b: V) -> V {
    _mm512_max_ps(a, b)
}

/// The smaller; `b` where either is NaN.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline]
pub(crate) fn min(a: V, b: V) -> V {
    _mm512_min_ps(a, b)
}

float_kernels!(
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")];
    terms: 4,
    one: [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
    two: [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
    four: [1 2 3 4 5 6],
    unit_one: [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16],
    unit_two: [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
);
