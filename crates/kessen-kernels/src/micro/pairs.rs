//! The kernels on words of two bf16, for every instruction set.
//!
//! A bf16 is the upper half of an f32, so a word becomes two floats by a shift and a mask; with AVX512_BF16 one instruction
//! multiplies and adds both halves, at twice the rate of f32. Sums are f32 everywhere. The instruction takes subnormal
//! numbers as zero; the others don't.
//! Rejected: kernels that round f32 operands as they read them (each operand is read many times), and rounded copies in f32
//! for CPUs without the instruction (a second set of layouts and drivers that only those would run).

/// On AVX-512 with AVX512_BF16.
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512bf16 {
    use crate::micro::avx512::*;
    use crate::micro::body::{add_products, for_each, for_turns, micro_kernels, store_sums};
    use std::arch::x86_64::*;
    use std::mem::transmute;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
    #[inline]
    fn dot(a: V, b: V, sum: V) -> V {
        // SAFETY: both types are 512 bits without invalid patterns.
        unsafe { _mm512_dpbf16_ps(sum, transmute::<V, __m512bh>(a), transmute::<V, __m512bh>(b)) }
    }

    micro_kernels!(
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")];
        product: dot,
        words: 2,
        terms: 1,
        one: [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
        two: [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
        four: [1 2 3 4 5 6],
        unit_one: [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16],
        unit_two: [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
    );
}

/// Kernels that widen words: `first` and `second` make f32 of the halves of a vector of words.
macro_rules! widening_kernels {
    ($(#[$feature:meta])?; first($a:ident): $first:expr, second($b:ident): $second:expr,
     one: [$($one:literal)*], two: [$($two:literal)*]) => {
        use crate::micro::body::{add_products, for_each, for_turns, micro_kernels, store_sums};

        $(#[$feature])?
        #[inline]
        fn first($a: V) -> V {
            $first
        }

        $(#[$feature])?
        #[inline]
        fn second($b: V) -> V {
            $second
        }

        $(#[$feature])?
        #[inline]
        fn dot(a: V, b: V, sum: V) -> V {
            fma(second(a), second(b), fma(first(a), first(b), sum))
        }

        micro_kernels!(
            $(#[$feature])?;
            product: dot,
            words: 2,
            terms: 1,
            one: [$($one)*],
            two: [$($two)*],
            four: [],
            unit_one: [$($one)*],
            unit_two: []
        );
    };
}

/// On AVX-512 without AVX512_BF16.
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    use crate::micro::avx512::*;
    use std::arch::x86_64::*;

    widening_kernels!(
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")];
        first(v): _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(v))),
        second(v): _mm512_and_ps(v, _mm512_castsi512_ps(_mm512_set1_epi32(!0xffff))),
        one: [1 2 3 4 5 6 7 8 9 10 11 12],
        two: [1 2 3 4 5 6 7 8 9 10 11 12]
    );
}

/// On AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
pub(super) mod avx2 {
    use crate::micro::avx2::*;
    use std::arch::x86_64::*;

    widening_kernels!(
        #[target_feature(enable = "avx2,fma")];
        first(v): _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(v))),
        second(v): _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(!0xffff))),
        one: [1 2 3 4],
        two: []
    );
}

/// On NEON.
#[cfg(target_arch = "aarch64")]
pub(super) mod neon {
    use crate::micro::neon::*;
    use std::arch::aarch64::*;

    widening_kernels!(
        #[target_feature(enable = "neon")];
        first(v): vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(v))),
        second(v): vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(!0xffff))),
        one: [1 2 3 4],
        two: []
    );
}

/// In plain Rust.
pub(super) mod scalar {
    use crate::micro::scalar::*;

    widening_kernels!(
        ;
        first(v): v.map(|word| f32::from_bits(word.to_bits() << 16)),
        second(v): v.map(|word| f32::from_bits(word.to_bits() & !0xffff)),
        one: [1 2 3 4],
        two: []
    );
}
