//! Kernels that multiply lane by lane: rows of `A` are vectors of 16 instead of scalars, as depthwise convolutions need. A tile
//! has few products, so these do nothing but those: no clipping, nothing asked for but `C`; and they take rows of any number,
//! which they cut into tiles themselves.

use super::{Sum, Tile, by_isa};

/// Rows at constant distances: how many, and how far they lie from each other in `A` and in `C`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub count: usize,
    pub a: isize,
    pub c: isize,
}

/// A compiled kernel, of one panel. The tile, which is the run's first, moves along the run.
///
/// # Safety
/// As for [`super::Kernel`], with 16 floats at each row of `A`.
pub(crate) type Lanewise = unsafe fn(&Sum, &Run, &mut Tile);

/// The kernel of the active instruction set.
pub(crate) fn lanewise() -> Lanewise {
    *by_isa!(LANEWISE_RUN)
}

/// Expands to the lanewise kernel of the instruction set whose [`super::body::micro_kernels`] are in the same module.
macro_rules! lanewise_kernels {
    ($(#[$feature:meta])?; [$($rows:literal)*]) => {
        /// The lanewise kernel of this instruction set.
        pub(in crate::micro) static LANEWISE_RUN: crate::micro::Lanewise = lanewise_run;

        /// Cuts a run into tiles.
        ///
        /// # Safety
        /// See [`crate::micro::Lanewise`].
        $(#[$feature])?
        unsafe fn lanewise_run(sum: &Sum, run: &crate::micro::Run, tile: &mut Tile) {
            for rows in crate::split::even_lens(run.count, [$($rows),*].len()) {
                // SAFETY: the caller's promise.
                unsafe {
                    match rows {
                        $($rows => lanewise_tile::<$rows>(sum, run, tile),)*
                        rows => unreachable!("no tile of {rows} rows"),
                    }
                }
                let (a, c) = (rows as isize * run.a, rows as isize * run.c);
                (tile.a, tile.c) = (tile.a.wrapping_offset(a), tile.c.wrapping_offset(c));
                tile.finish = tile.finish.at(0, 0, c);
            }
        }

        /// A tile of vectors.
        ///
        /// # Safety
        /// See [`crate::micro::Lanewise`].
        $(#[$feature])?
        unsafe fn lanewise_tile<const MR: usize>(sum: &Sum, run: &crate::micro::Run, tile: &Tile) {
            let mut acc = [[zero(); PV]; MR];
            let mut starts = [tile.a; MR];
            for r in 0..MR {
                prefetch_write(tile.c.wrapping_offset(r as isize * run.c));
                starts[r] = tile.a.wrapping_offset(r as isize * run.a);
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
            store_sums!(MR, PV, acc, |i| i as isize * run.c, &Rows::strided(run.a, run.c), tile);
        }
    };
}

pub(super) use lanewise_kernels;
