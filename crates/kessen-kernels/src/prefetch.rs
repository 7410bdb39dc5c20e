//! Asking memory for what is read soon.

/// How many rows a copy looks ahead where rows lie on pages of their own, so that the hardware does not.
pub(crate) const ROWS_AHEAD: usize = 12;

/// Asks for `len` floats at `p`, which need not be readable.
pub(crate) fn prefetch(p: *const f32, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..len).step_by(crate::micro::PANEL) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(at).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (p, len);
}
