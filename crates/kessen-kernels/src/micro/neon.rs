//! NEON primitives and kernels: 32 registers of 4 lanes; tiles of 6×16.

use super::body::float_kernels;
use std::arch::aarch64::*;

pub(crate) type V = float32x4_t;
pub(crate) const LANES: usize = 4;

#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn zero() -> V {
    vdupq_n_f32(0.0)
}

#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn splat(value: f32) -> V {
    vdupq_n_f32(value)
}

/// Nothing: there is no stable way to ask for a line here.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn prefetch(_: *const f32) {}

/// Nothing: there is no stable way to ask for a line here.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn prefetch_far(_: *const f32) {}

/// Nothing: there is no stable way to ask for a line here.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn prefetch_write(_: *mut f32) {}

/// # Safety
/// 4 floats at `p` are readable.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) unsafe fn load(p: *const f32) -> V {
    // SAFETY: the caller's promise.
    unsafe { vld1q_f32(p) }
}

/// # Safety
/// 4 floats at `p` are writable.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) unsafe fn store(p: *mut f32, v: V) {
    // SAFETY: the caller's promise.
    unsafe { vst1q_f32(p, v) }
}

/// The first `n` lanes, zeros behind.
///
/// # Safety
/// `n` floats at `p` are readable.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) unsafe fn load_part(p: *const f32, n: usize) -> V {
    let mut part = [0.0f32; LANES];
    // SAFETY: `n <= LANES` floats by the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(p, part.as_mut_ptr(), n);
        vld1q_f32(part.as_ptr())
    }
}

/// Stores the first `n` lanes.
///
/// # Safety
/// `n` floats at `p` are writable.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) unsafe fn store_part(p: *mut f32, v: V, n: usize) {
    let mut part = [0.0f32; LANES];
    // SAFETY: `n <= LANES` floats by the caller's promise.
    unsafe {
        vst1q_f32(part.as_mut_ptr(), v);
        std::ptr::copy_nonoverlapping(part.as_ptr(), p, n);
    }
}

/// `a·b + c`, rounded once.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn fma(a: V, b: V, c: V) -> V {
    vfmaq_f32(c, a, b)
}

#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn add(a: V, b: V) -> V {
    vaddq_f32(a, b)
}

#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn sub(a: V, b: V) -> V {
    vsubq_f32(a, b)
}

#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn mul(a: V, b: V) -> V {
    vmulq_f32(a, b)
}

#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn max(a: V, b: V) -> V {
    vmaxq_f32(a, b)
}

#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn min(a: V, b: V) -> V {
    vminq_f32(a, b)
}

float_kernels!(
    #[target_feature(enable = "neon")];
    terms: 1,
    one: [1 2 3 4 5 6],
    two: [1 2 3],
    four: [1],
    unit_one: [1 2 3 4 5 6],
    unit_two: []
);
