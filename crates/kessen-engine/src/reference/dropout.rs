//! Dropout: y = x·mask/(1 − p).
//!
//! Which elements survive follows from seed, node, step and place alone, by Philox4x32-10 (Salmon et al. 2011);
//! the same bits as in the fast kernels. Four words stand in a block; 16 blocks (64 elements) are laid out word by
//! word: element i takes word (i mod 64)/16 of block 16·(i/64) + i mod 16.

use kessen_graph::ops::dropout::Dropout;

use super::array::Array;
use crate::Clock;

/// y = x/(1 − p) where the element survives, else 0; y = x outside of training.
pub(super) fn dropout(op: &Dropout, clock: Clock, x: &Array, y: &mut Array) {
    if !op.training {
        y.data.copy_from_slice(&x.data);
        return;
    }
    let key = mixed_key(clock.seed, op.key);
    for i in 0..x.data.len() {
        if survives(op.p, key, clock.step, i as u64) {
            y.data[i] = x.data[i] / (1.0 - op.p);
        }
    }
}

/// Whether a number uniform in [0, 1), of 24 bits, is at least p.
pub(super) fn survives(p: f64, key: [u32; 2], step: u64, i: u64) -> bool {
    let block = i / 64 * 16 + i % 16;
    let counter = [block as u32, (block >> 32) as u32, step as u32, (step >> 32) as u32];
    let word = philox(counter, key)[(i % 64 / 16) as usize];
    (word >> 8) as f32 / 16_777_216.0 >= p as f32
}

/// Seed and stream as one key (the finaliser of SplitMix64, Steele, Lea, Flood 2014).
pub(super) fn mixed_key(seed: u64, stream: u64) -> [u32; 2] {
    let mut z = seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    [z as u32, (z >> 32) as u32]
}

/// Ten rounds of Philox4x32.
fn philox(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let (a, b) = (u64::from(c[0]) * 0xd251_1f53, u64::from(c[2]) * 0xcd9e_8d57);
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(0x9e37_79b9), k[1].wrapping_add(0xbb67_ae85)];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_elements_survive_as_in_the_kernels() {
        for (n, p, step) in [(1, 0.5, 0), (67, 0.3, 1), (5000, 0.9, 1 << 33), (300, 0.0, 2), (300, 1.0, 2)] {
            let op = Dropout { p, key: 0x1234_5678_9abc_def0, training: true };
            let clock = Clock { seed: 99 << 40, step };
            let x = Array { shape: vec![n], data: vec![1.0; n] };
            let mut y = Array::zeros(&[n]);
            dropout(&op, clock, &x, &mut y);
            let kernel =
                kessen_kernels::dropout::Dropout { p: p as f32, seed: clock.seed, stream: op.key, step };
            let mut fast = vec![0.0f32; n];
            kernel.apply(&vec![1.0; n], &mut fast);
            for i in 0..n {
                assert_eq!(y.data[i] == 0.0, fast[i] == 0.0, "element {i} of {n}, p {p}");
                assert!((y.data[i] - f64::from(fast[i])).abs() <= 1e-6 * y.data[i]);
            }
        }
    }
}
