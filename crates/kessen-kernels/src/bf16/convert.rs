//! From f32 to words of two bf16.

use crate::simd::{Float, Int, LANES, Simd, kernel};

kernel! {
    /// Rounds neighbours: `words[j] = (src[2j], src[2j + 1])`; a last element without a neighbour gets a zero.
    pub(crate) fn along(src: &[f32], words: &mut [f32]) = along_with;
    /// Rounds two rows: `words[j] = (first[j], second[j])`; beyond the end of a row there are zeros.
    pub(crate) fn across(first: &[f32], second: &[f32], words: &mut [f32]) = across_with;
    /// Rounds pairs of pixels of 16 channels: `words[j][c] = (src[start + 2j·step][c], src[start + (2j + 1)·step][c])`;
    /// pixels outside `src` are zero.
    pub(crate) fn pixels(src: &[f32], start: isize, step: usize, words: &mut [f32]) = pixels_with;
}

/// Rounded numbers in the upper halves; what the lower halves hold is left over.
#[inline(always)]
fn round<S: Simd>(s: S, x: S::F) -> S::I {
    let bits = x.bits();
    let up = bits + s.splat_i(0x7fff) + (bits.shr::<16>() & s.splat_i(1));
    s.splat(f32::NAN).select(x.is_nan(), up.as_float()).bits()
}

/// Words of the numbers `first` and `second`.
#[inline(always)]
fn pair<S: Simd>(s: S, first: S::F, second: S::F) -> S::F {
    (round(s, first).shr::<16>() | (round(s, second) & s.splat_i(!0xffff))).as_float()
}

#[inline(always)]
fn along_with<S: Simd>(s: S, src: &[f32], words: &mut [f32]) {
    let words = &mut words[..src.len().div_ceil(2)];
    for (src, words) in src.chunks(2 * LANES).zip(words.chunks_mut(LANES)) {
        let (low, high) = src.split_at(src.len().min(LANES));
        let (even, odd) = s.load_part(low).deinterleave(s.load_part(high));
        pair(s, even, odd).store_part(words);
    }
}

#[inline(always)]
fn across_with<S: Simd>(s: S, first: &[f32], second: &[f32], words: &mut [f32]) {
    for (part, words) in words.chunks_mut(LANES).enumerate() {
        let [a, b] = [first, second].map(|row| row.get(part * LANES..).unwrap_or_default());
        pair(s, s.load_part(a), s.load_part(b)).store_part(words);
    }
}

#[inline(always)]
fn pixels_with<S: Simd>(s: S, src: &[f32], start: isize, step: usize, words: &mut [f32]) {
    let mut at = start;
    for words in words.chunks_exact_mut(LANES) {
        let first = pixel(s, src, at);
        let second = pixel(s, src, at + step as isize);
        pair(s, first, second).store_part(words);
        at += 2 * step as isize;
    }
}

/// Pixel number `at`, or zeros where there is none.
#[inline(always)]
fn pixel<S: Simd>(s: S, src: &[f32], at: isize) -> S::F {
    let from = (at.max(-1) as usize).wrapping_mul(LANES);
    match src.get(from..).and_then(|rest| rest.first_chunk()) {
        Some(pixel) => s.load(pixel),
        None => s.splat(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::round;
    use crate::isa::Isa;
    use crate::testing::numbers;

    fn halves(word: f32) -> [f32; 2] {
        [f32::from_bits(word.to_bits() << 16), f32::from_bits(word.to_bits() & !0xffff)]
    }

    #[track_caller]
    fn same(words: &[f32], want: impl Fn(usize) -> [f32; 2], what: &str) {
        for (j, &word) in words.iter().enumerate() {
            let want = want(j).map(|v| round(v).to_bits());
            assert_eq!(halves(word).map(f32::to_bits), want, "{what}: word {j}");
        }
    }

    #[test]
    fn words_hold_the_rounded_numbers() {
        for isa in Isa::available() {
            for n in [0, 1, 2, 15, 16, 31, 32, 33, 70] {
                let (a, b) = (numbers(1, n), numbers(2, n / 2));
                let get = |row: &[f32], j: usize| row.get(j).copied().unwrap_or(0.0);
                let mut words = vec![f32::NAN; n.div_ceil(2)];
                along(isa, &a, &mut words);
                same(&words, |j| [get(&a, 2 * j), get(&a, 2 * j + 1)], &format!("{isa} along {n}"));
                let mut words = vec![f32::NAN; n];
                across(isa, &a, &b, &mut words);
                same(&words, |j| [get(&a, j), get(&b, j)], &format!("{isa} across {n}"));
            }
        }
    }

    #[test]
    fn pixels_outside_are_zero() {
        let row = numbers(3, 7 * 16);
        for isa in Isa::available() {
            for (start, step) in [(0, 1), (-3, 1), (1, 2), (-2, 3)] {
                let mut words = vec![f32::NAN; 6 * 16];
                pixels(isa, &row, start, step, &mut words);
                let get = |at: isize, lane: usize| {
                    if (0..7).contains(&at) { row[at as usize * 16 + lane] } else { 0.0 }
                };
                let at = |j: usize, half: usize| start + ((2 * (j / 16) + half) * step) as isize;
                let want = |j: usize| [0, 1].map(|half| get(at(j, half), j % 16));
                same(&words, want, &format!("{isa} from {start} by {step}"));
            }
        }
    }

    #[test]
    fn numbers_at_the_edges() {
        let edges = [
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            -0.0,
            f32::MIN_POSITIVE,
            1.0 + 1.0 / 256.0,
            f32::from_bits(0x7f80_0001),
            f32::from_bits(0x7fff_ffff),
        ];
        for isa in Isa::available() {
            let mut words = [0.0; 4];
            along(isa, &edges, &mut words);
            for (j, v) in words.into_iter().flat_map(halves).enumerate() {
                let want = round(edges[j]);
                assert!(
                    v.to_bits() == want.to_bits() || (v.is_nan() && want.is_nan()),
                    "{isa}: {v} of {}",
                    edges[j]
                );
            }
        }
    }
}
