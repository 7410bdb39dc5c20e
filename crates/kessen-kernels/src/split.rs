//! How work is cut into parts: nearly equal ones, in numbers that divide well among threads.

use std::ops::Range;

/// What many parts are a multiple of.
const MULTIPLE: usize = 4;

/// Splits `len` into `⌈len/most⌉` nearly equal ranges and returns the `index`-th.
pub(crate) fn even(len: usize, most: usize, index: usize) -> Range<usize> {
    share(len, len.div_ceil(most).max(1), index)
}

/// The lengths of the ranges of [`even`], in turn; none of nothing.
pub(crate) fn even_lens(len: usize, most: usize) -> impl Iterator<Item = usize> {
    even_runs(len, most).into_iter().flat_map(|(parts, len)| std::iter::repeat_n(len, parts))
}

/// How many of the ranges of [`even`] follow each other with one length, and that, twice.
pub(crate) fn even_runs(len: usize, most: usize) -> [(usize, usize); 2] {
    let parts = len.div_ceil(most);
    let (short, longer) = (len / parts.max(1), len % parts.max(1));
    [(longer, short + 1), (parts - longer, short)]
}

/// Splits `len` into `parts` nearly equal ranges and returns the `index`-th.
pub(crate) fn share(len: usize, parts: usize, index: usize) -> Range<usize> {
    let start = |i: usize| len / parts * i + (len % parts).min(i);
    start(index)..start(index + 1)
}

/// At least `parts` parts in a number that divides well among threads: many are a multiple of four.
pub(crate) fn dividing(parts: usize) -> usize {
    if parts > MULTIPLE { parts.next_multiple_of(MULTIPLE) } else { parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_differ_by_one_at_most() {
        for len in [0, 1, 13, 14, 100, 2048] {
            for parts in [1, 2, 3, 7, dividing(19)] {
                let ranges: Vec<_> = (0..parts).map(|index| share(len, parts, index)).collect();
                assert!((ranges[0].start, ranges[parts - 1].end) == (0, len), "{ranges:?}");
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{ranges:?}");
                let lens = ranges.iter().map(|range| range.len());
                assert!(lens.clone().max().unwrap() - lens.min().unwrap() <= 1, "{ranges:?}");
            }
        }
    }

    #[test]
    fn even_parts_have_at_most_so_much() {
        for (len, most) in [(0usize, 14), (1, 14), (14, 14), (15, 14), (1024, 14), (2048, 112)] {
            let parts = len.div_ceil(most);
            assert_eq!((0..parts).map(|index| even(len, most, index).len()).sum::<usize>(), len);
            assert!((0..parts).all(|index| even(len, most, index).len() <= most));
            assert!(even_lens(len, most).eq((0..parts).map(|index| even(len, most, index).len())));
        }
    }

    #[test]
    fn many_parts_divide_well() {
        assert_eq!([0, 1, 3, 4, 5, 19, 20].map(dividing), [0, 1, 3, 4, 8, 20, 20]);
    }
}
