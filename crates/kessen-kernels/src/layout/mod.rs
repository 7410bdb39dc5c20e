//! Reorders between the layouts tensors have outside and the layouts kernels want.
//!
//! - **Panels**: a `k × n` matrix as `[⌈n/16⌉][k][16]`, columns beyond `n` zero. Right-hand sides of products; in attention both.
//! - **nChw16c**: an `N × C × H × W` tensor as `[N][⌈C/16⌉][H][W][16]`, channels beyond `C` zero.

mod image;
mod rows;
mod transpose;

pub use image::{blocked_len, copy_images, from_blocked, slice_len, to_blocked};
pub(crate) use rows::{PACKED_TOGETHER, Strips, copy_strips, pack_rows};
pub use transpose::transpose;
pub(crate) use transpose::{pack_transposed, transpose_raw};

pub use crate::micro::PANEL;

/// Length of the panels of a `k × n` matrix.
pub const fn panels_len(k: usize, n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL * k
}
