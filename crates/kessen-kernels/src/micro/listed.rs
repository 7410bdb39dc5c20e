//! Kernels of sums whose terms are listed one by one: the taps of a kernel in a plain image, where runs of neighbouring terms
//! are as short as a kernel's rows. A nest of loops would spend as much on its turns as on the products.

use super::{Kernel, by_isa};

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
            let (turns, list) = (sum.loops[0], sum.list);
            let (mut a, mut b, mut moved) = (tile.a, tile.b, 0);
            for _ in 0..turns.count {
                // Neighbours are all found from one register, which moves; other rows stay, and the terms move.
                let (p, k) = if MODE == UNIT { ([a; MR], 0) } else { (starts, moved) };
                let mut at = 0;
                // SAFETY: the caller promises the addresses.
                unsafe {
                    while at + TERMS <= list.len {
                        for t in 0..TERMS {
                            let term = *list.terms.add(at + t);
                            let b = b.wrapping_offset(term.b as isize);
                            acc = add_product::<MR, R, MODE>(acc, p, b, k + term.a as isize, sum.b_panel);
                        }
                        at += TERMS;
                    }
                    while TERMS > 1 && at < list.len {
                        let term = *list.terms.add(at);
                        let b = b.wrapping_offset(term.b as isize);
                        acc = add_product::<MR, R, MODE>(acc, p, b, k + term.a as isize, sum.b_panel);
                        at += 1;
                    }
                }
                (a, b, moved) = (a.wrapping_offset(turns.a), b.wrapping_offset(turns.b), moved + turns.a);
            }
            store_sums!(MR, R, acc, |i| rows.c[i], rows, tile);
        }
    };
}

pub(super) use listed_kernels;
