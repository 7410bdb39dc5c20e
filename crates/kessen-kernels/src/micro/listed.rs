//! Kernels of sums whose terms are listed one by one: the taps of a kernel in a plain image, where runs of neighbouring terms
//! are as short as a kernel's rows. A nest of loops would spend as much on its turns as on the products.

use super::{Kernel, PixelRun, by_isa};

/// Where one term of a sum lies, behind a tile's `A` and `B`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub a: i32,
    pub b: i32,
}

impl Term {
    /// At these distances, which 31 bits have to hold.
    pub fn new(a: usize, b: usize) -> Term {
        let near = |at: usize| i32::try_from(at).expect("terms of a sum lie less than 2³¹ elements apart");
        Term { a: near(a), b: near(b) }
    }
}

/// The terms of a sum for each turn of its outermost loop, which is the only one. Need not be readable until a kernel runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    pub terms: *const Term,
    pub len: usize,
}

impl List {
    /// For sums that have no list.
    pub const NONE: List = List { terms: std::ptr::null(), len: 0 };

    /// Floats of scratch that `terms` terms take.
    pub const fn scratch(terms: usize) -> usize {
        2 * terms
    }

    /// Writes terms into scratch.
    pub fn new(scratch: &mut [f32], terms: impl ExactSizeIterator<Item = Term>) -> List {
        let len = terms.len();
        let scratch = &mut scratch[..List::scratch(len)];
        let list = scratch.as_mut_ptr().cast::<Term>();
        // SAFETY: two floats have the size of a term and its alignment; any bits are both.
        unsafe { std::slice::from_raw_parts_mut(list, len) }
            .iter_mut()
            .zip(terms)
            .for_each(|(to, term)| *to = term);
        List { terms: list, len }
    }

    /// Some of the terms.
    pub fn part(&self, terms: std::ops::Range<usize>) -> List {
        List { terms: self.terms.wrapping_add(terms.start), len: terms.len() }
    }
}

/// The kernels of one instruction set, by panels and rows as in [`super::Family`].
pub(crate) struct Listed {
    pub(super) one: &'static [Kernel],
    pub(super) two: &'static [Kernel],
    /// The same for rows of `A` that are neighbours (`a[i] = i`).
    pub(super) unit_one: &'static [Kernel],
    pub(super) unit_two: &'static [Kernel],
    pub(super) unit_four: &'static [Kernel],
    /// The same for tiles one behind the other, whose rows are [`super::PANEL`] apart in `C`.
    pub(super) runs_one: &'static [PixelRun],
    pub(super) runs_two: &'static [PixelRun],
}

impl Listed {
    /// The kernels of the active instruction set.
    pub fn active() -> &'static Listed {
        by_isa!(LISTED)
    }

    /// The kernel for `rows` rows and one or two panels.
    pub fn kernel(&self, rows: usize, panels: usize) -> Kernel {
        if panels == 1 { self.one[rows - 1] } else { self.two[rows - 1] }
    }

    /// The kernel for `rows` neighbouring rows and one, two or four panels.
    pub fn unit(&self, rows: usize, panels: usize) -> Kernel {
        match panels {
            1 => self.unit_one[rows - 1],
            2 => self.unit_two[rows - 1],
            _ => self.unit_four[rows - 1],
        }
    }

    /// The kernel for tiles of `rows` neighbouring pixels each, and one or two panels.
    pub fn pixel_run(&self, rows: usize, panels: usize) -> PixelRun {
        if panels == 1 { self.runs_one[rows - 1] } else { self.runs_two[rows - 1] }
    }
}

/// Expands to the listed kernels of the instruction set whose [`super::body::micro_kernels`] are in the same module.
macro_rules! listed_kernels {
    ($(#[$feature:meta])?; one: [$($one:literal)*], two: [$($two:literal)*], four: [$($four:literal)*]) => {
        /// The listed kernels of this instruction set.
        pub(in crate::micro) static LISTED: crate::micro::listed::Listed = crate::micro::listed::Listed {
            one: &[$(listed_tile::<$one, { PV }, ROWS>),*],
            two: &[$(listed_tile::<$two, { 2 * PV }, ROWS>),*],
            unit_one: &[$(listed_tile::<$one, { PV }, UNIT>),*],
            unit_two: &[$(listed_tile::<$two, { 2 * PV }, UNIT>),*],
            unit_four: &[$(listed_tile::<$four, { 4 * PV }, UNIT>),*],
            runs_one: &[$(listed_run::<$one, { PV }>),*],
            runs_two: &[$(listed_run::<$two, { 2 * PV }>),*],
        };

        /// A tile whose terms are those of [`Sum::list`], for each turn of the outermost loop.
        ///
        /// # Safety
        /// See [`super::Kernel`]; the list is readable.
        $(#[$feature])?
        unsafe fn listed_tile<const MR: usize, const R: usize, const MODE: u8>(sum: &Sum, rows: &Rows, tile: &Tile) {
            let mut acc = [[zero(); R]; MR];
            let mut starts = [tile.a; MR];
            for r in 0..MR {
                ask_for_row::<R>(tile, rows.c[r]);
                starts[r] = tile.a.wrapping_offset(rows.a[r]);
            }
            add_listed!(MR, R, MODE, acc, starts, tile.a, tile.b, sum);
            store_sums!(MR, R, acc, |i| rows.c[i], rows, tile);
        }

        /// Tiles of neighbouring pixels.
        ///
        /// # Safety
        /// See [`crate::micro::PixelRun`]; pixels are neighbours, and the list is readable.
        $(#[$feature])?
        unsafe fn listed_run<const MR: usize, const R: usize>(sum: &Sum, run: &Run, tile: &Tile) {
            let (mut first, mut along) = (tile.a, 0);
            for _ in 0..run.count {
                let mut acc = [[zero(); R]; MR];
                for r in 0..MR {
                    ask_for_row::<R>(tile, along + (r * PANEL) as isize);
                }
                add_listed!(MR, R, UNIT, acc, [first; MR], first, tile.b, sum);
                store_sums!(MR, R, acc, |i| (i * PANEL) as isize, &Rows::strided(1, PANEL as isize), tile, further: along);
                (first, along) = (first.wrapping_offset(run.a), along + run.c);
            }
        }
    };
}

/// Adds the listed terms for each turn of the outermost loop, whose first terms lie at `$starts` by row (at `$a` where rows
/// are neighbours) and at `$b`. A macro, since the sums should stay in their registers.
macro_rules! add_listed {
    ($mr:expr, $r:expr, $mode:expr, $acc:ident, $starts:expr, $a:expr, $b:expr, $sum:ident) => {
        let (turns, list) = ($sum.loops[0], $sum.list);
        let (mut a, mut b, mut moved) = ($a, $b, 0);
        for _ in 0..turns.count {
            // Neighbours are all found from one register, which moves; other rows stay, and the terms move.
            let (p, k) = if $mode == UNIT { ([a; $mr], 0) } else { ($starts, moved) };
            let mut at = 0;
            // SAFETY: the caller of the kernel promises the addresses.
            unsafe {
                while at + TERMS <= list.len {
                    for t in 0..TERMS {
                        let term = *list.terms.add(at + t);
                        let b = b.wrapping_offset(term.b as isize);
                        $acc = add_product::<$mr, $r, $mode>($acc, p, b, k + term.a as isize, $sum.b_panel);
                    }
                    at += TERMS;
                }
                while TERMS > 1 && at < list.len {
                    let term = *list.terms.add(at);
                    let b = b.wrapping_offset(term.b as isize);
                    $acc = add_product::<$mr, $r, $mode>($acc, p, b, k + term.a as isize, $sum.b_panel);
                    at += 1;
                }
            }
            (a, b, moved) = (a.wrapping_offset(turns.a), b.wrapping_offset(turns.b), moved + turns.a);
        }
    };
}

pub(super) use {add_listed, listed_kernels};
