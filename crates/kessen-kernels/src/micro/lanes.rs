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
            let neighbours = [run.a, run.c] == [PANEL as isize; 2];
            for rows in crate::split::even_lens(run.count, [$($rows),*].len()) {
                // SAFETY: the caller's promise.
                unsafe {
                    match (rows, neighbours) {
                        $(
                            ($rows, true) => lanewise_tile::<$rows, true>(sum, run, tile),
                            ($rows, false) => lanewise_tile::<$rows, false>(sum, run, tile),
                        )*
                        (rows, _) => unreachable!("no tile of {rows} rows"),
                    }
                }
                *tile = tile.moved(rows as isize * run.a, rows as isize * run.c);
            }
        }

        /// A tile of vectors, whose rows are [`PANEL`] apart if they are `NEIGHBOURS`.
        ///
        /// # Safety
        /// See [`crate::micro::Lanewise`].
        $(#[$feature])?
        unsafe fn lanewise_tile<const MR: usize, const NEIGHBOURS: bool>(
            sum: &Sum,
            run: &crate::micro::Run,
            tile: &Tile,
        ) {
            let (a_row, c_row) = if NEIGHBOURS { (PANEL as isize, PANEL as isize) } else { (run.a, run.c) };
            let mut acc = [[zero(); PV]; MR];
            for r in 0..MR {
                prefetch_write(tile.c.wrapping_offset(r as isize * c_row));
            }
            for_turns!(sum, tile, |_m, _i, depth, a, b| {
                let mut rows = [a; MR];
                for r in 0..MR {
                    rows[r] = a.wrapping_offset(r as isize * a_row);
                }
                let (mut k, mut b) = (0, b);
                for _ in 0..depth {
                    // SAFETY: the caller promises the addresses.
                    acc = unsafe { add_product::<MR, PV, { crate::micro::LANEWISE }>(acc, rows, b, k, 0) };
                    (k, b) = (k + sum.a_col, b.wrapping_offset(sum.b_row));
                }
            });
            store_sums!(MR, PV, acc, |i| i as isize * c_row, &Rows::strided(a_row, c_row), tile);
        }
    };
}

pub(super) use lanewise_kernels;
