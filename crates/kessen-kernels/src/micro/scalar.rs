//! Plain Rust primitives and kernels, for every CPU; a "vector" is an array of 16 floats.

use super::body::float_kernels;

pub(crate) type V = [f32; LANES];
pub(crate) const LANES: usize = 16;

#[inline]
pub(crate) fn zero() -> V {
    [0.0; LANES]
}

#[inline]
pub(crate) fn splat(value: f32) -> V {
    [value; LANES]
}

/// Nothing: there is no stable way to ask for a line here.
#[inline]
pub(crate) fn prefetch(_: *const f32) {}

/// Nothing: there is no stable way to ask for a line here.
#[inline]
pub(crate) fn prefetch_far(_: *const f32) {}

/// Nothing: there is no stable way to ask for a line here.
#[inline]
pub(crate) fn prefetch_write(_: *mut f32) {}

/// # Safety
/// 16 floats at `p` are readable.
#[inline]
pub(crate) unsafe fn load(p: *const f32) -> V {
    // SAFETY: the caller's promise.
    unsafe { p.cast::<V>().read_unaligned() }
}

/// # Safety
/// 16 floats at `p` are writable.
#[inline]
pub(crate) unsafe fn store(p: *mut f32, v: V) {
    // SAFETY: the caller's promise.
    unsafe { p.cast::<V>().write_unaligned(v) }
}

/// The first `n` lanes, zeros behind.
///
/// # Safety
/// `n` floats at `p` are readable.
#[inline]
pub(crate) unsafe fn load_part(p: *const f32, n: usize) -> V {
    let mut v = zero();
    // SAFETY: `n <= LANES` floats by the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(p, v.as_mut_ptr(), n) };
    v
}

/// Stores the first `n` lanes.
///
/// # Safety
/// `n` floats at `p` are writable.
#[inline]
pub(crate) unsafe fn store_part(p: *mut f32, v: V, n: usize) {
    // SAFETY: `n <= LANES` floats by the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, n) };
}

#[inline]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

/// `a·b + c`, rounded twice: a fused product would be a library call without hardware support.
#[inline]
pub(crate) fn fma(a: V, b: V, c: V) -> V {
    std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
}

#[inline]
pub(crate) fn add(a: V, b: V) -> V {
    zip(a, b, |a, b| a + b)
}

#[inline]
pub(crate) fn mul(a: V, b: V) -> V {
    zip(a, b, |a, b| a * b)
}

/// The larger; `b` where either is NaN.
#[inline]
pub(crate) fn max(a: V, b: V) -> V {
    zip(a, b, |a, b| if a > b { a } else { b })
}

/// The smaller; `b` where either is NaN.
#[inline]
pub(crate) fn min(a: V, b: V) -> V {
    zip(a, b, |a, b| if a < b { a } else { b })
}

#[inline]
pub(crate) fn sub(a: V, b: V) -> V {
    zip(a, b, |a, b| a - b)
}

float_kernels!(
    ;
    terms: 1,
    one: [1 2 3 4],
    two: [],
    four: [],
    unit_one: [1 2 3 4],
    unit_two: []
);
