//! Kernels that multiply lane by lane: rows of `A` are vectors of 16 instead of scalars, as depthwise convolutions need. A tile
//! has few products, so these do nothing but those: no clipping, nothing asked for but `C`.

use super::{Kernel, by_isa};

/// The kernels of the active instruction set, of one panel, by rows: `kernels[r - 1]`.
pub(crate) fn lane_kernels() -> &'static [Kernel] {
    by_isa!(LANEWISE_TILES)
}

/// Expands to the lanewise kernels of the instruction set whose [`super::body::micro_kernels`] are in the same module.
macro_rules! lanewise_kernels {
    ($(#[$feature:meta])?; [$($rows:literal)*]) => {
        /// The lanewise kernels of this instruction set.
        pub(in crate::micro) static LANEWISE_TILES: &[crate::micro::Kernel] = &[$(lanewise_tile::<$rows>),*];

        /// A tile of vectors; its rows are not clipped.
        ///
        /// # Safety
        /// See [`super::Kernel`].
        $(#[$feature])?
        unsafe fn lanewise_tile<const MR: usize>(sum: &Sum, rows: &Rows, tile: &Tile) {
            let mut acc = [[zero(); PV]; MR];
            let mut starts = [tile.a; MR];
            for r in 0..MR {
                prefetch_write(tile.c.wrapping_offset(rows.c[r]));
                starts[r] = tile.a.wrapping_offset(rows.a[r]);
            }
            for_turns!(sum, tile, |_m, _i, depth, a, b| {
                let mut k = (a.addr().wrapping_sub(tile.a.addr()) as isize) / size_of::<f32>() as isize;
                let mut b = b;
                for _ in 0..depth {
                    // SAFETY: the caller promises the addresses.
                    acc = unsafe { add_product::<MR, PV, { crate::micro::LANEWISE }>(acc, starts, b, k, 0) };
                    (k, b) = (k + sum.a_col, b.wrapping_offset(sum.b_row));
                }
            });
            store_sums!(MR, PV, acc, |i| rows.c[i], rows, tile);
        }
    };
}

pub(super) use lanewise_kernels;
