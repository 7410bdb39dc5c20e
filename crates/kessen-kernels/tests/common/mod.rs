//! What the kernels' tests share: noise, guarded buffers, error bounds, and the ways a kernel is run.
#![allow(dead_code)]

use kessen_kernels::{isa, isa::Isa, threads};

/// Reproducible values in (-0.5, 0.5).
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        })
        .collect()
}

const GUARD: usize = 64;

/// A buffer between two zones of NaN that nothing may write to or use.
pub struct Guarded {
    data: Vec<f32>,
    len: usize,
}

impl Guarded {
    pub fn new(content: &[f32]) -> Guarded {
        let mut data = vec![f32::NAN; content.len() + 2 * GUARD];
        data[GUARD..GUARD + content.len()].copy_from_slice(content);
        Guarded { data, len: content.len() }
    }

    pub fn nan(len: usize) -> Guarded {
        Guarded { data: vec![f32::NAN; len + 2 * GUARD], len }
    }

    pub fn get(&self) -> &[f32] {
        &self.data[GUARD..GUARD + self.len]
    }

    pub fn get_mut(&mut self) -> &mut [f32] {
        &mut self.data[GUARD..GUARD + self.len]
    }

    #[track_caller]
    pub fn check(&self, what: &str) {
        let (before, after) = (&self.data[..GUARD], &self.data[GUARD + self.len..]);
        assert!(before.iter().chain(after).all(|v| v.is_nan()), "{what}: wrote outside its output");
    }
}

/// A sum in f64 with the sum of its terms' magnitudes.
#[derive(Clone, Copy, Default)]
pub struct Exact {
    pub value: f64,
    pub magnitude: f64,
}

impl Exact {
    pub fn add(&mut self, term: f64) {
        self.value += term;
        self.magnitude += term.abs();
    }

    pub fn product(&mut self, a: f32, b: f32) {
        self.add(a as f64 * b as f64);
    }
}

/// Asserts `|got - want| ≤ c·√terms·ε·Σ|a||b|` for every element.
#[track_caller]
pub fn assert_close(got: &[f32], want: &[Exact], terms: usize, c: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&g, w)) in got.iter().zip(want).enumerate() {
        let bound = c * (terms.max(1) as f64).sqrt() * f32::EPSILON as f64 * w.magnitude + 1e-30;
        let off = (g as f64 - w.value).abs();
        assert!(off <= bound, "{what}: element {i} is {g}, want {} ± {bound:.1e} (off {off:.1e})", w.value);
    }
}

/// Runs `f` with every instruction set of this CPU and with 1 and 2 threads; results must be the same bits for any
/// number of threads. Returns nothing; `f` checks against the reference itself.
pub fn everywhere(what: &str, f: impl Fn(&str) -> Vec<f32>) {
    for isa in Isa::available() {
        let name = format!("{what} [{isa}]");
        let one = isa::with(isa, || threads::with_count(1, || f(&name)));
        let two = isa::with(isa, || threads::with_count(2, || f(&name)));
        let same = one.iter().zip(&two).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && one.len() == two.len(), "{name}: 1 and 2 threads differ");
    }
}
