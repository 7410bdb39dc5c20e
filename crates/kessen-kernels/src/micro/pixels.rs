//! Kernels of tiles whose rows are neighbouring pixels: one register says where they lie.

use super::{Family, Run, Sum, Tile};

/// A compiled kernel of dense sums; rows are [`Family::pixel`] apart in `A` and [`super::PANEL`] apart in `C`.
///
/// # Safety
/// As for [`super::Kernel`].
pub(crate) type Pixels = unsafe fn(&Sum, &Tile);

/// The same for a run of tiles, of which the first is given. The sum's outermost loop is its only one: such sums often have few
/// terms, and take hardly longer than finding a tile.
///
/// # Safety
/// As for [`super::Kernel`], for all of the tiles.
pub(crate) type PixelRun = unsafe fn(&Sum, &Run, &Tile);

impl Family {
    /// The kernel for `rows` neighbouring pixels and one or two panels.
    pub fn pixels(&self, rows: usize, panels: usize) -> Pixels {
        if panels == 1 { self.pixels_one[rows - 1] } else { self.pixels_two[rows - 1] }
    }

    /// The kernel for tiles of `rows` pixels each.
    pub fn pixel_run(&self, rows: usize, panels: usize) -> PixelRun {
        if panels == 1 { self.runs_one[rows - 1] } else { self.runs_two[rows - 1] }
    }

    /// [`Self::pixel_run`], asking for another `B` meanwhile.
    pub fn asking(&self, rows: usize, panels: usize) -> PixelRun {
        if panels == 1 { self.asking_one[rows - 1] } else { self.asking_two[rows - 1] }
    }
}

/// Expands to the kernels of the instruction set whose [`super::body::micro_kernels`] are in the same module.
macro_rules! pixel_kernels {
    ($(#[$feature:meta])?) => {
        /// A tile of neighbouring pixels. The rows of `C` are asked for evenly along the turns of the loops.
        ///
        /// # Safety
        /// See [`crate::micro::Pixels`].
        $(#[$feature])?
        unsafe fn pixel_tile<const MR: usize, const R: usize>(sum: &Sum, tile: &Tile) {
            let mut acc = [[zero(); R]; MR];
            let each = MR.div_ceil(sum.turns().max(1));
            let mut row = 0;
            for_turns!(sum, tile, |m, i, depth, a, b| {
                let end = (row + each).min(MR);
                while row < end {
                    ask_for_row::<R>(tile, (row * PANEL) as isize);
                    row += 1;
                }
                if sum.ahead != 0 && m == 0 && i == 0 {
                    for r in 0..MR {
                        prefetch_far(a.wrapping_offset(sum.ahead + (r * PIXEL) as isize));
                    }
                }
                add_products!(MR, R, PIXELS, acc, [a; MR], b, 0..depth, sum, Soon::NONE);
            });
            store_sums!(MR, R, acc, |i| (i * PANEL) as isize, &pixel_rows(), tile);
        }

        /// Tiles of neighbouring pixels. The rows of `C` are asked for evenly along the sum, and where it `ASKS`, [`Soon::b`] too.
        ///
        /// # Safety
        /// See [`crate::micro::PixelRun`].
        $(#[$feature])?
        unsafe fn pixel_run<const MR: usize, const R: usize, const ASKS: bool>(sum: &Sum, run: &Run, tile: &Tile) {
            let turns = sum.loops[0];
            let each = MR.div_ceil(turns.count.max(1));
            let (mut first, mut along) = (tile.a, 0);
            for number in 0..run.count {
                let (mut a, mut b, mut left) = (first, tile.b, tile.soon.tile + number);
                let mut acc = [[zero(); R]; MR];
                let mut row = 0;
                for turn in 0..turns.count {
                    let depth = if turn + 1 == turns.count { sum.depth_last } else { sum.depth };
                    if ASKS {
                        left = ask_for_b::<R>(&tile.soon, sum, b, depth, left);
                    }
                    let end = (row + each).min(MR);
                    while row < end {
                        ask_for_row::<R>(tile, along + (row * PANEL) as isize);
                        row += 1;
                    }
                    if sum.ahead != 0 {
                        for r in 0..MR {
                            prefetch_far(a.wrapping_offset(sum.ahead + (r * PIXEL) as isize));
                        }
                    }
                    add_products!(MR, R, PIXELS, acc, [a; MR], b, 0..depth, sum, Soon::NONE);
                    (a, b) = (a.wrapping_offset(turns.a), b.wrapping_offset(turns.b));
                }
                store_sums!(MR, R, acc, |i| (i * PANEL) as isize, &pixel_rows(), tile, further: along);
                (first, along) = (first.wrapping_offset(run.a), along + run.c);
            }
        }

        /// The rows of a tile of neighbouring pixels.
        fn pixel_rows() -> Rows {
            Rows::strided(PIXEL as isize, PANEL as isize)
        }

        /// Asks for the part of another `B` that belongs to a turn which reads `depth` rows at `b`, if `turn`, the number of turns
        /// left to other tiles, is 0. Returns what is left at the next turn.
        $(#[$feature])?
        #[inline]
        fn ask_for_b<const R: usize>(soon: &Soon, sum: &Sum, b: *const f32, depth: usize, turn: usize) -> usize {
            if soon.b == 0 {
                return turn;
            }
            if turn > 0 {
                return turn - 1;
            }
            for r in (0..R).step_by(PV) {
                let b = b.wrapping_offset(soon.b + place(r, sum.b_panel));
                for k in 0..depth {
                    prefetch_far(b.wrapping_offset(k as isize * sum.b_row));
                }
            }
            soon.tiles - 1
        }
    };
}

pub(super) use pixel_kernels;
