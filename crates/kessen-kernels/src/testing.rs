//! What the kernels' tests share: numbers, every instruction set, one and two threads, guard zones.

use crate::isa::{self, Isa};
use crate::threads;

/// `n` reproducible numbers in [-1, 1), with a few exact zeros.
pub(crate) fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n)
        .map(|_| {
            let x = 2.0 * next() - 1.0;
            if x.abs() < 0.01 { 0.0 } else { x }
        })
        .collect()
}

/// A buffer between two zones of NaN that must stay as they are.
pub(crate) struct Guarded(Vec<f32>);

const ZONE: usize = 37;
const MARK: u32 = 0x7FC0_DEAD;

impl Guarded {
    /// `n` elements, all NaN, so that one left unwritten shows.
    pub(crate) fn new(n: usize) -> Self {
        Guarded(vec![f32::from_bits(MARK); n + 2 * ZONE])
    }

    /// A copy of `x`.
    pub(crate) fn of(x: &[f32]) -> Self {
        let mut g = Guarded::new(x.len());
        g.slice().copy_from_slice(x);
        g
    }

    /// The buffer itself.
    pub(crate) fn slice(&mut self) -> &mut [f32] {
        let n = self.0.len();
        &mut self.0[ZONE..n - ZONE]
    }

    /// The content, after checking both zones.
    pub(crate) fn done(self) -> Vec<f32> {
        let n = self.0.len();
        let clean = |zone: &[f32]| zone.iter().all(|x| x.to_bits() == MARK);
        assert!(clean(&self.0[..ZONE]), "wrote before the buffer");
        assert!(clean(&self.0[n - ZONE..]), "wrote behind the buffer");
        self.0[ZONE..n - ZONE].to_vec()
    }
}

/// Runs `f`, which returns a list of results, on every instruction set with one and with two threads; checks that
/// threads change no bit; and gives each set's results to `check`.
pub(crate) fn everywhere(f: impl Fn() -> Vec<Vec<f32>>, check: impl Fn(Isa, &[Vec<f32>])) {
    for isa in Isa::available() {
        isa::with(isa, || {
            let one = threads::with_count(1, &f);
            let two = threads::with_count(2, &f);
            for (k, (a, b)) in one.iter().zip(&two).enumerate() {
                let same = a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits());
                assert!(same, "{isa}: result {k} depends on the number of threads");
            }
            check(isa, &one);
        });
    }
}

/// Asserts `|got − want| ≤ absolute + relative·|want|` for each element; NaN and infinities must agree.
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f64], absolute: f64, relative: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let g = f64::from(g);
        let same = g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= absolute + relative * w.abs();
        assert!(same, "{what}: element {i} is {g:e} instead of {w:e}");
    }
}

/// The numbers in double precision.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}
