//! Transposes of row-major matrices, in blocks of 8×8 registers where the CPU has them.

use crate::isa::Isa;
use crate::micro::PANEL;

/// Writes the transpose of a `rows × cols` matrix: `dst[c·dst_row + r] = src[r·src_row + c]`.
///
/// # Panics
/// If a slice is too short for its strides, or a row is shorter than its content.
pub fn transpose(src: &[f32], src_row: usize, dst: &mut [f32], dst_row: usize, rows: usize, cols: usize) {
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(src_row >= cols && src.len() >= (rows - 1) * src_row + cols, "transpose: source too short");
    assert!(dst_row >= rows && dst.len() >= (cols - 1) * dst_row + rows, "transpose: destination too short");
    // SAFETY: all addresses lie in the slices by the assertions.
    unsafe { transpose_raw(src.as_ptr(), src_row, dst.as_mut_ptr(), dst_row, rows, cols) }
}

/// Transposes `rows` rows of `len` floats, `step` apart, into panels `[⌈rows/16⌉][len][16]`, with zeros behind the last row.
pub(crate) fn pack_transposed(from: &[f32], step: usize, rows: usize, len: usize, panels: &mut [f32]) {
    if len == 0 {
        return;
    }
    for (to, row) in panels.chunks_exact_mut(len * PANEL).zip((0..rows).step_by(PANEL)) {
        let lanes = PANEL.min(rows - row);
        if lanes < PANEL {
            to.fill(0.0);
        }
        transpose(&from[row * step..], step, to, PANEL, lanes, len);
    }
}

/// [`transpose`] on addresses.
///
/// # Safety
/// `src[r·src_row + c]` is readable and `dst[c·dst_row + r]` writable for all `r < rows`, `c < cols`.
pub(crate) unsafe fn transpose_raw(
    src: *const f32,
    src_row: usize,
    dst: *mut f32,
    dst_row: usize,
    rows: usize,
    cols: usize,
) {
    let blocks = matches!(Isa::active(), Isa::Avx2 | Isa::Avx512);
    let (whole_rows, whole_cols) = if blocks { (rows - rows % 8, cols - cols % 8) } else { (0, 0) };
    #[cfg(target_arch = "x86_64")]
    if blocks {
        for r in (0..whole_rows).step_by(8) {
            for c in (0..whole_cols).step_by(8) {
                // SAFETY: the CPU has AVX2; the block lies inside by the caller's promise.
                unsafe { x86::block(src.add(r * src_row + c), src_row, dst.add(c * dst_row + r), dst_row) }
            }
        }
    }
    for r in 0..rows {
        let from = if r < whole_rows { whole_cols } else { 0 };
        for c in from..cols {
            // SAFETY: inside by the caller's promise.
            unsafe { *dst.add(c * dst_row + r) = *src.add(r * src_row + c) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Transposes 8×8 floats.
    ///
    /// # Safety
    /// The rows and columns of the block are readable and writable.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn block(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
        let mut r = [_mm256_setzero_ps(); 8];
        for i in 0..8 {
            // SAFETY: the caller's promise.
            r[i] = unsafe { _mm256_loadu_ps(src.add(i * src_row)) };
        }
        let mut t = r;
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        for i in [0, 4] {
            r[i] = _mm256_shuffle_ps::<0x44>(t[i], t[i + 2]);
            r[i + 1] = _mm256_shuffle_ps::<0xee>(t[i], t[i + 2]);
            r[i + 2] = _mm256_shuffle_ps::<0x44>(t[i + 1], t[i + 3]);
            r[i + 3] = _mm256_shuffle_ps::<0xee>(t[i + 1], t[i + 3]);
        }
        for i in 0..4 {
            let low = _mm256_permute2f128_ps::<0x20>(r[i], r[i + 4]);
            let high = _mm256_permute2f128_ps::<0x31>(r[i], r[i + 4]);
            // SAFETY: the caller's promise.
            unsafe {
                _mm256_storeu_ps(dst.add(i * dst_row), low);
                _mm256_storeu_ps(dst.add((i + 4) * dst_row), high);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_and_isa() {
        for isa in Isa::available() {
            for (rows, cols) in [(1, 1), (3, 17), (8, 8), (16, 9), (23, 40), (0, 4)] {
                let (src_row, dst_row) = (cols + 3, rows + 2);
                let src: Vec<f32> = (0..rows * src_row).map(|i| i as f32).collect();
                let mut dst = vec![-1.0; cols * dst_row];
                crate::isa::with(isa, || transpose(&src, src_row, &mut dst, dst_row, rows, cols));
                for c in 0..cols {
                    for r in 0..dst_row {
                        let want = if r < rows { src[r * src_row + c] } else { -1.0 };
                        assert_eq!(dst[c * dst_row + r], want, "{isa} {rows}x{cols} at {r},{c}");
                    }
                }
            }
        }
    }
}
