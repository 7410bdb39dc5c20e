//! Dropout with a mask that is computed, never stored.
//!
//! Random words come from Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
//! 2011), a function of a key and a counter. The key is made of seed and stream (one stream a node), the counter of
//! the step and the element's place, so forward and backward agree, and no bit depends on threads or instruction set.

use crate::isa::Isa;
use crate::simd::{Float, Int, LANES, Simd, kernel};
use crate::threads::{Shared, parallel_chunks};

/// Elements that one vector of counters serves: four words a counter.
const BLOCK: usize = 4 * LANES;
/// Blocks of one task.
const GRAIN: usize = 256;

/// Which elements survive: each with probability `1 − p`, independently.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of dropping an element, 0 to 1.
    pub p: f32,
    /// The run's seed.
    pub seed: u64,
    /// Distinguishes the nodes of a graph.
    pub stream: u64,
    /// The training step.
    pub step: u64,
}

impl Dropout {
    /// `y = x/(1 − p)` where the element survives, else 0. Backward is the same call on the gradient.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply(&self, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len(), "dropout: operand and output must have the same length");
        self.run(y, |range, y| y.copy_from_slice(&x[range]));
    }

    /// As [`Dropout::apply`], in place.
    pub fn apply_in_place(&self, x: &mut [f32]) {
        self.run(x, |_, _| {});
    }

    /// Elements from one block of counters to the next.
    pub(crate) const BLOCK: usize = BLOCK;

    /// Masks and scales a piece whose first element is the first of block `block`.
    pub(crate) fn apply_blocks(&self, isa: Isa, block: u64, y: &mut [f32]) {
        mask(isa, self.plan(), block, y);
    }

    fn plan(&self) -> Plan {
        Plan {
            key: key(self.seed, self.stream),
            step: self.step,
            p: self.p,
            scale: if self.p < 1.0 { 1.0 / (1.0 - self.p) } else { 0.0 },
        }
    }

    fn run(&self, y: &mut [f32], prepare: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync) {
        let (isa, n, out) = (Isa::active(), y.len(), Shared::new(y));
        let plan = self.plan();
        parallel_chunks(n, GRAIN * BLOCK, |range| {
            // SAFETY: chunks are disjoint.
            let y = unsafe { out.part(range.clone()) };
            prepare(range.clone(), y);
            mask(isa, plan, (range.start / BLOCK) as u64, y);
        });
    }
}

/// What the kernel needs of a [`Dropout`].
#[derive(Clone, Copy)]
struct Plan {
    key: [u32; 2],
    step: u64,
    p: f32,
    scale: f32,
}

/// Seed and stream mixed into one 64-bit key (the finaliser of SplitMix64).
fn key(seed: u64, stream: u64) -> [u32; 2] {
    let mut z = seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    [z as u32, (z >> 32) as u32]
}

kernel! {
    /// Masks and scales `y`, whose first element is the first of block `block`.
    fn mask(plan: Plan, block: u64, y: &mut [f32]) = mask_with;
}

#[inline(always)]
fn mask_with<S: Simd>(s: S, plan: Plan, mut block: u64, y: &mut [f32]) {
    for y in y.chunks_mut(BLOCK) {
        let words = philox(s, plan, block);
        for (y, word) in y.chunks_mut(LANES).zip(words) {
            let uniform = word.shr::<8>().to_float() * s.splat(1.0 / 16_777_216.0);
            let kept = s.splat(plan.p).le(uniform);
            let x = s.load_part(y) * s.splat(plan.scale);
            x.select(kept, s.splat(0.0)).store_part(y);
        }
        block += 1;
    }
}

/// The four words of each of the sixteen counters of a block.
#[inline(always)]
fn philox<S: Simd>(s: S, plan: Plan, block: u64) -> [S::I; 4] {
    // The low four bits of the counter are the lane.
    let first = block << 4;
    let mut c = [
        s.splat_i(first as i32) | s.iota(),
        s.splat_i((first >> 32) as i32),
        s.splat_i(plan.step as i32),
        s.splat_i((plan.step >> 32) as i32),
    ];
    let [mut k0, mut k1] = plan.key;
    let mut round = 0;
    while round < 10 {
        let (low0, high0) = c[0].mul_wide(0xD251_1F53);
        let (low1, high1) = c[2].mul_wide(0xCD9E_8D57);
        c = [high1 ^ c[1] ^ s.splat_i(k0 as i32), low1, high0 ^ c[3] ^ s.splat_i(k1 as i32), low0];
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
        round += 1;
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Guarded, everywhere, numbers};

    kernel! { fn words(plan: Plan, block: u64) -> [[u32; 16]; 4] = words_with; }

    #[inline(always)]
    fn words_with<S: Simd>(s: S, plan: Plan, block: u64) -> [[u32; 16]; 4] {
        let [a, b, c, d] = philox(s, plan, block);
        [a, b, c, d].map(|w| w.as_float().array().map(f32::to_bits))
    }

    #[test]
    fn philox_gives_the_published_words() {
        // The authors' known-answer vectors (Random123, kat_vectors): counter, key → result.
        let zero = Plan { key: [0, 0], step: 0, p: 0.0, scale: 1.0 };
        let ones = Plan { key: [u32::MAX; 2], step: u64::MAX, p: 0.0, scale: 1.0 };
        for isa in Isa::available() {
            let w = words(isa, zero, 0);
            assert_eq!(
                [w[0][0], w[1][0], w[2][0], w[3][0]],
                [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]
            );
            let w = words(isa, ones, u64::MAX >> 4);
            let last = [w[0][15], w[1][15], w[2][15], w[3][15]];
            assert_eq!(last, [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD], "{isa}");
        }
    }

    #[test]
    fn the_mask_is_the_same_everywhere_and_survivors_are_scaled() {
        let d = Dropout { p: 0.3, seed: 7, stream: 3, step: 11 };
        let first = std::cell::RefCell::new(None);
        for n in [0, 1, 63, 64, 65, 100_003] {
            let x: Vec<f32> = numbers(1, n).iter().map(|x| x + 2.0).collect();
            let run = || {
                let (mut y, mut z) = (Guarded::new(n), Guarded::of(&x));
                d.apply(&x, y.slice());
                d.apply_in_place(z.slice());
                vec![y.done(), z.done()]
            };
            everywhere(run, |isa, y| {
                assert_eq!(y[0], y[1]);
                let same = first.borrow_mut().get_or_insert_with(|| (n, y[0].clone())).clone();
                assert!(same.0 != n || same.1 == y[0], "{isa}");
                assert!(y[0].iter().zip(&x).all(|(&y, &x)| y == 0.0 || y == x * (1.0 / (1.0 - 0.3f32))));
            });
            first.take();
        }
    }

    #[test]
    fn the_share_of_survivors_is_right_and_masks_differ() {
        let n = 400_000;
        let x = vec![1.0; n];
        let kept = |d: Dropout| {
            let mut y = vec![0.0; n];
            d.apply(&x, &mut y);
            y.iter().map(|&y| y > 0.0).collect::<Vec<_>>()
        };
        let base = Dropout { p: 0.25, seed: 1, stream: 2, step: 3 };
        let reference = kept(base);
        let share = reference.iter().filter(|&&k| k).count() as f64 / n as f64;
        assert!((share - 0.75).abs() < 0.004, "{share}");
        for other in [Dropout { seed: 2, ..base }, Dropout { stream: 3, ..base }, Dropout { step: 4, ..base }]
        {
            let both = kept(other).iter().zip(&reference).filter(|(a, b)| **a && **b).count() as f64;
            assert!((both / n as f64 - 0.5625).abs() < 0.004, "{other:?}");
        }
        assert!(kept(Dropout { p: 0.0, ..base }).iter().all(|&k| k));
        assert!(kept(Dropout { p: 1.0, ..base }).iter().all(|&k| !k));
    }
}
