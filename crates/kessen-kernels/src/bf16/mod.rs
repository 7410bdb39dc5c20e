//! bf16 as the products' operand type: f32 in memory, rounded on the way in, summed in f32.
//!
//! A bf16 is the upper half of an f32: 8 bits of exponent and 8 of significand, rounded with a relative
//! error of at most 2⁻⁸. Two of them make a *word*, the unit that the kernels of [`crate::gemm::bf16`] and [`crate::conv::bf16`] count in; words
//! are kept in `f32` slices, whose bits they are. Operands are rounded to nearest, ties to even; weights, activations,
//! gradients and sums stay f32.
//!
//! Results follow from the rounded operands alone, so that every CPU computes the same up to the order of summation:
//! AVX512_BF16 multiplies words directly, other instruction sets widen them to f32 again. The environment variable
//! `KESSEN_BF16=native|emulated` forces one of the two for the process, [`with_emulation`] the second for a closure.
//! Numbers below the normal range of f32 may count as zero.
//!
//! Rejected: activations kept in bf16. That would halve their memory traffic, but every kernel (normalisation, pooling,
//! element-wise programs) would need a twin, and sums of residuals would lose bits at each layer.

mod convert;

pub(crate) use convert::{across, along, pixels};

use crate::{Error, isa::Isa};
use std::cell::Cell;
use std::sync::OnceLock;

thread_local! {
    static EMULATE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this CPU multiplies bf16.
pub fn supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Isa::Avx512.supported() && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Reads `KESSEN_BF16` and returns whether the CPU's own products are used with AVX-512. Later calls return the first one's
/// answer.
///
/// # Errors
/// `KESSEN_BF16` is neither `native` nor `emulated`, or asks for what this CPU lacks.
pub fn init() -> Result<bool, Error> {
    static CHOSEN: OnceLock<Result<bool, Error>> = OnceLock::new();
    CHOSEN
        .get_or_init(|| match std::env::var("KESSEN_BF16") {
            Ok(word) if !word.is_empty() => parse(&word),
            _ => Ok(supported()),
        })
        .clone()
}

fn parse(word: &str) -> Result<bool, Error> {
    match word {
        "emulated" => Ok(false),
        "native" if supported() => Ok(true),
        "native" => Err(Error::MissingBf16),
        _ => Err(Error::UnknownBf16 { found: word.into() }),
    }
}

/// Whether kernels called from this thread multiply words directly.
///
/// # Panics
/// If `KESSEN_BF16` is wrong; a program that calls [`crate::isa::init`] at its start gets that as an error instead.
pub fn is_native() -> bool {
    let wanted = init().unwrap_or_else(|error| panic!("{error}"));
    wanted && !EMULATE.get() && Isa::active() == Isa::Avx512
}

/// Runs `f` with words widened to f32 before they are multiplied, as on a CPU without AVX512_BF16.
pub fn with_emulation<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            EMULATE.set(self.0);
        }
    }
    let _restore = Restore(EMULATE.replace(true));
    f()
}

/// The nearest bf16, ties to even, as an f32; NaN stays NaN.
pub fn round(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & !0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even() {
        let unit = 2.0f32.powi(-8);
        for (x, want) in [
            (0.0, 0.0),
            (-1.0, -1.0),
            (1.0 + unit, 1.0),
            (1.0 + 3.0 * unit, 1.0 + 4.0 * unit),
            (1.0 + 1.01 * unit, 1.0 + 2.0 * unit),
            (-1.0 - 0.99 * unit, -1.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(round(x), want, "{x}");
        }
        assert!(round(f32::from_bits(0x7fff_ffff)).is_nan());
    }

    #[test]
    fn modes_are_named_and_others_refused() {
        assert_eq!(parse("emulated"), Ok(false));
        assert_eq!(parse("native").is_ok(), supported());
        let text = parse("fast").unwrap_err().to_string();
        assert!(text.contains("fast") && text.contains("emulated"), "{text}");
    }

    #[test]
    fn emulation_ends_with_its_closure() {
        let before = is_native();
        with_emulation(|| assert!(!is_native()));
        assert_eq!(is_native(), before);
        assert!(!crate::isa::with(Isa::Scalar, is_native));
    }
}
