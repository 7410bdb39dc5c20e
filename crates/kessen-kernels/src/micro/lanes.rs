//! Kernels that multiply lane by lane: rows of `A` are vectors of 16 instead of scalars, as depthwise convolutions need. A tile
//! has few products, so these do nothing but those: no clipping, nothing asked for but `C`; and they take patches of rows, which
//! they cut into tiles themselves.

use super::{Run, Sum, Tile, by_isa};

/// Where a tile's operands begin.
pub(super) struct Operands {
    pub a: *const f32,
    pub b: *const f32,
}

/// A compiled kernel, of one panel: runs of rows, the first of which begins with the tile. The first [`Run`] says how many and
/// where, the second how long they are.
///
/// # Safety
/// As for [`super::Kernel`], with 16 floats at each row of `A`.
pub(crate) type Lanewise = unsafe fn(&Sum, &[Run; 2], &Tile);

/// The kernel of the active instruction set.
pub(crate) fn lanewise() -> Lanewise {
    *by_isa!(LANEWISE_RUNS)
}

/// Expands to the lanewise kernel of the instruction set whose [`super::body::micro_kernels`] are in the same module.
macro_rules! lanewise_kernels {
    ($(#[$feature:meta])?; [$($rows:literal)*]) => {
        use crate::micro::lanes::Operands;

        /// The lanewise kernel of this instruction set.
        pub(in crate::micro) static LANEWISE_RUNS: crate::micro::Lanewise = lanewise_runs;

        /// Cuts runs into tiles.
        ///
        /// # Safety
        /// See [`crate::micro::Lanewise`].
        $(#[$feature])?
        unsafe fn lanewise_runs(sum: &Sum, patch: &[Run; 2], tile: &Tile) {
            let [across, run] = *patch;
            let step = if run.c == PANEL as isize { run.a / PANEL as isize } else { 0 };
            let cut = crate::split::even_runs(run.count, [$($rows),*].len());
            for number in 0..across.count as isize {
                let mut at = [number * across.a, number * across.c];
                for (count, rows) in cut {
                    if count == 0 {
                        continue;
                    }
                    let tiles = Run { count, a: rows as isize * run.a, c: rows as isize * run.c };
                    // SAFETY: the caller's promise.
                    at = unsafe {
                        match (rows, step) {
                            $(
                                ($rows, 1) => lanewise_tiles::<$rows, 1>(sum, &tiles, &run, tile, at),
                                ($rows, 2) => lanewise_tiles::<$rows, 2>(sum, &tiles, &run, tile, at),
                                ($rows, _) => lanewise_tiles::<$rows, 0>(sum, &tiles, &run, tile, at),
                            )*
                            (rows, _) => unreachable!("no tile of {rows} rows"),
                        }
                    };
                }
            }
        }

        /// Tiles one behind the other, the first so far behind `tile` in `A` and in `C`; the result is where the next one would be.
        /// Rows are `STEP` panels apart in `A` and one in `C`, or, where that is 0, as `rows` says.
        ///
        /// # Safety
        /// See [`crate::micro::Lanewise`].
        $(#[$feature])?
        unsafe fn lanewise_tiles<const MR: usize, const STEP: usize>(
            sum: &Sum,
            tiles: &Run,
            rows: &Run,
            tile: &Tile,
            [mut a_at, mut c_at]: [isize; 2],
        ) -> [isize; 2] {
            let (a_row, c_row) = match STEP {
                0 => (rows.a, rows.c),
                _ => ((STEP * PANEL) as isize, PANEL as isize),
            };
            for _ in 0..tiles.count {
                let mut acc = [[zero(); PV]; MR];
                for r in 0..MR {
                    prefetch_write(tile.c.wrapping_offset(c_at + r as isize * c_row));
                }
                let operands = Operands { a: tile.a.wrapping_offset(a_at), b: tile.b };
                for_turns!(sum, operands, |_m, _i, depth, a, b| {
                    let mut starts = [a; MR];
                    for r in 0..MR {
                        starts[r] = a.wrapping_offset(r as isize * a_row);
                    }
                    let (mut k, mut b) = (0, b);
                    for _ in 0..depth {
                        // SAFETY: the caller promises the addresses.
                        acc = unsafe { add_product::<MR, PV, LANEWISE>(acc, starts, b, k, 0) };
                        (k, b) = (k + sum.a_col, b.wrapping_offset(sum.b_row));
                    }
                });
                store_sums!(MR, PV, acc, |i| i as isize * c_row, &Rows::strided(a_row, c_row), tile, further: c_at);
                (a_at, c_at) = (a_at + tiles.a, c_at + tiles.c);
            }
            [a_at, c_at]
        }
    };
}

pub(super) use lanewise_kernels;
