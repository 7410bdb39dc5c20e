//! AVX2 and FMA primitives and kernels: 16 registers of 8 lanes; tiles of 6×16.

use super::body::float_kernels;
use std::arch::x86_64::*;

pub(crate) type V = __m256;
pub(crate) const LANES: usize = 8;

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn zero() -> V {
    _mm256_setzero_ps()
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn splat(value: f32) -> V {
    _mm256_set1_ps(value)
}

/// Asks for the line at `p`, which need not be readable.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn prefetch(p: *const f32) {
    _mm_prefetch::<_MM_HINT_T0>(p.cast());
}

/// Asks the second-level cache for the line at `p`, which need not be readable.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn prefetch_far(p: *const f32) {
    _mm_prefetch::<_MM_HINT_T1>(p.cast());
}

/// Asks for the line at `p`, which need not be writable, in order to write to it.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn prefetch_write(p: *mut f32) {
    _mm_prefetch::<_MM_HINT_ET0>(p.cast_const().cast());
}

/// # Safety
/// 8 floats at `p` are readable.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) unsafe fn load(p: *const f32) -> V {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_ps(p) }
}

/// # Safety
/// 8 floats at `p` are writable.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) unsafe fn store(p: *mut f32, v: V) {
    // SAFETY: the caller's promise.
    unsafe { _mm256_storeu_ps(p, v) }
}

/// All bits set in the first `n` lanes.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn lanes_below(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

/// The first `n` lanes, zeros behind.
///
/// # Safety
/// `n` floats at `p` are readable.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) unsafe fn load_part(p: *const f32, n: usize) -> V {
    // SAFETY: masked lanes are not touched; the others are the caller's promise.
    unsafe { _mm256_maskload_ps(p, lanes_below(n)) }
}

/// Stores the first `n` lanes.
///
/// # Safety
/// `n` floats at `p` are writable.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) unsafe fn store_part(p: *mut f32, v: V, n: usize) {
    // SAFETY: masked lanes are not touched; the others are the caller's promise.
    unsafe { _mm256_maskstore_ps(p, lanes_below(n), v) }
}

/// `a·b + c`, rounded once.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn fma(a: V, b: V, c: V) -> V {
    _mm256_fmadd_ps(a, b, c)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn add(a: V, b: V) -> V {
    _mm256_add_ps(a, b)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn sub(a: V, b: V) -> V {
    _mm256_sub_ps(a, b)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn mul(a: V, b: V) -> V {
    _mm256_mul_ps(a, b)
}

/// The larger; `b` where either is NaN.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn max(a: V, b: V) -> V {
    _mm256_max_ps(a, b)
}

/// The smaller; `b` where either is NaN.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn min(a: V, b: V) -> V {
    _mm256_min_ps(a, b)
}

float_kernels!(
    #[target_feature(enable = "avx2,fma")];
    terms: 4,
    one: [1 2 3 4 5 6],
    two: [1 2 3],
    four: [1],
    unit_one: [1 2 3 4 5 6],
    unit_two: []
);
