//! AVX2 with FMA: two registers a vector.

use super::{Float, Int, LANES, Mask, Simd};
use crate::micro::avx2::load_part;
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// Proof of AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token.
    ///
    /// # Safety
    /// The CPU must have AVX2 and FMA.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Avx2(())
    }
}

/// Sixteen floats, low half first.
#[derive(Clone, Copy)]
pub(crate) struct F(__m256, __m256);

/// Sixteen integers.
#[derive(Clone, Copy)]
pub(crate) struct I(__m256i, __m256i);

/// Sixteen truth values: all bits of a lane set or none.
#[derive(Clone, Copy)]
pub(crate) struct M(__m256, __m256);

macro_rules! methods {
    ($(fn $f:ident($s:ident $(, $a:ident: $t:ty)*) $(-> $r:ty)? { $e:expr })*) => {$(
        #[inline(always)]
        fn $f($s $(, $a: $t)*) $(-> $r)? {
            // SAFETY: the token, or a vector made from one, proves the ISA; array references cover 64 bytes.
            unsafe { $e }
        }
    )*};
}

macro_rules! operators {
    ($v:ident: $($op:ident $f:ident = $intrinsic:ident;)*) => {$(
        impl $op for $v {
            type Output = Self;
            #[inline(always)]
            fn $f(self, b: Self) -> Self {
                // SAFETY: a vector exists only where the ISA does.
                unsafe { $v($intrinsic(self.0, b.0), $intrinsic(self.1, b.1)) }
            }
        }
    )*};
}
operators! { F: Add add = _mm256_add_ps; Sub sub = _mm256_sub_ps; Mul mul = _mm256_mul_ps; Div div = _mm256_div_ps; }
operators! { I: Add add = _mm256_add_epi32; Sub sub = _mm256_sub_epi32; BitAnd bitand = _mm256_and_si256;
BitOr bitor = _mm256_or_si256; BitXor bitxor = _mm256_xor_si256; }

impl Neg for F {
    type Output = Self;
    methods! { fn neg(self) -> Self {{
        let sign = _mm256_set1_ps(-0.0);
        F(_mm256_xor_ps(self.0, sign), _mm256_xor_ps(self.1, sign))
    }} }
}

impl Simd for Avx2 {
    type F = F;
    type I = I;
    type M = M;
    methods! {
        fn splat(self, x: f32) -> F { F(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        fn splat_i(self, x: i32) -> I { I(_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
        fn load(self, x: &[f32; LANES]) -> F { F(_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))) }
        fn load_i(self, x: &[i32; LANES]) -> I {
            I(_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().add(8).cast()))
        }
    }
    #[inline(always)]
    fn load_tail(self, x: &[f32]) -> F {
        let n = x.len().min(LANES);
        // SAFETY: the token proves the ISA; the halves' lanes that are read are elements of `x`.
        unsafe {
            F(load_part(x.as_ptr(), n.min(8)), load_part(x.as_ptr().wrapping_add(8), n.saturating_sub(8)))
        }
    }
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// The sum of eight lanes, halving.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn sum8(v: __m256) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
    }
}

/// The even (`0x88`) or odd (`0xDD`) ones of sixteen lanes.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn even<const PICK: i32>(a: __m256, b: __m256) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        let mixed = _mm256_castps_pd(_mm256_shuffle_ps::<PICK>(a, b));
        _mm256_castpd_ps(_mm256_permute4x64_pd::<0xD8>(mixed))
    }
}

impl Float for F {
    type I = I;
    type M = M;
    methods! {
        fn store(self, y: &mut [f32; LANES]) {{
            _mm256_storeu_ps(y.as_mut_ptr(), self.0);
            _mm256_storeu_ps(y.as_mut_ptr().add(8), self.1)
        }}
        fn mul_add(self, b: Self, c: Self) -> Self {
            F(_mm256_fmadd_ps(self.0, b.0, c.0), _mm256_fmadd_ps(self.1, b.1, c.1))
        }
        fn max(self, b: Self) -> Self { F(_mm256_max_ps(self.0, b.0), _mm256_max_ps(self.1, b.1)) }
        fn min(self, b: Self) -> Self { F(_mm256_min_ps(self.0, b.0), _mm256_min_ps(self.1, b.1)) }
        fn abs(self) -> Self {{
            let sign = _mm256_set1_ps(-0.0);
            F(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
        }}
        fn sqrt(self) -> Self { F(_mm256_sqrt_ps(self.0), _mm256_sqrt_ps(self.1)) }
        fn round(self) -> Self { F(_mm256_round_ps::<NEAREST>(self.0), _mm256_round_ps::<NEAREST>(self.1)) }
        fn lt(self, b: Self) -> M {
            M(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, b.0), _mm256_cmp_ps::<_CMP_LT_OQ>(self.1, b.1))
        }
        fn le(self, b: Self) -> M {
            M(_mm256_cmp_ps::<_CMP_LE_OQ>(self.0, b.0), _mm256_cmp_ps::<_CMP_LE_OQ>(self.1, b.1))
        }
        fn eq(self, b: Self) -> M {
            M(_mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, b.0), _mm256_cmp_ps::<_CMP_EQ_OQ>(self.1, b.1))
        }
        fn is_nan(self) -> M {
            M(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0), _mm256_cmp_ps::<_CMP_UNORD_Q>(self.1, self.1))
        }
        fn select(self, m: M, other: Self) -> Self {
            F(_mm256_blendv_ps(other.0, self.0, m.0), _mm256_blendv_ps(other.1, self.1, m.1))
        }
        fn bits(self) -> I { I(_mm256_castps_si256(self.0), _mm256_castps_si256(self.1)) }
        fn deinterleave(self, b: Self) -> (Self, Self) {{
            let (e0, e1) = (even::<0x88>(self.0, self.1), even::<0x88>(b.0, b.1));
            let (o0, o1) = (even::<0xDD>(self.0, self.1), even::<0xDD>(b.0, b.1));
            (F(e0, e1), F(o0, o1))
        }}
        fn interleave(self, b: Self) -> (Self, Self) {{
            let (low0, high0) = (_mm256_unpacklo_ps(self.0, b.0), _mm256_unpackhi_ps(self.0, b.0));
            let (low1, high1) = (_mm256_unpacklo_ps(self.1, b.1), _mm256_unpackhi_ps(self.1, b.1));
            let first = F(_mm256_permute2f128_ps::<0x20>(low0, high0), _mm256_permute2f128_ps::<0x31>(low0, high0));
            let second = F(_mm256_permute2f128_ps::<0x20>(low1, high1), _mm256_permute2f128_ps::<0x31>(low1, high1));
            (first, second)
        }}
        fn sum(self) -> f32 { sum8(_mm256_add_ps(self.0, self.1)) }
        fn largest_number(self) -> f32 {{
            let v = _mm256_max_ps(self.0, self.1);
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
        }}
        fn to_int(self) -> I { I(_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1)) }
    }
    #[inline(always)]
    fn store_tail(self, y: &mut [f32]) {
        y.copy_from_slice(&self.array()[..y.len()]);
    }
}

impl Int for I {
    type F = F;
    type M = M;
    methods! {
        fn eq(self, b: Self) -> M {
            M(_mm256_castsi256_ps(_mm256_cmpeq_epi32(self.0, b.0)), _mm256_castsi256_ps(_mm256_cmpeq_epi32(self.1, b.1)))
        }
        fn to_float(self) -> F { F(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1)) }
        fn as_float(self) -> F { F(_mm256_castsi256_ps(self.0), _mm256_castsi256_ps(self.1)) }
    }
    #[inline(always)]
    fn shl<const N: i32>(self) -> Self {
        // SAFETY: a vector exists only where the ISA does.
        unsafe { I(_mm256_slli_epi32::<N>(self.0), _mm256_slli_epi32::<N>(self.1)) }
    }
    #[inline(always)]
    fn shr<const N: i32>(self) -> Self {
        // SAFETY: as above.
        unsafe { I(_mm256_srli_epi32::<N>(self.0), _mm256_srli_epi32::<N>(self.1)) }
    }
    #[inline(always)]
    fn sar<const N: i32>(self) -> Self {
        // SAFETY: as above.
        unsafe { I(_mm256_srai_epi32::<N>(self.0), _mm256_srai_epi32::<N>(self.1)) }
    }
    #[inline(always)]
    fn mul_wide(self, c: u32) -> (Self, Self) {
        // SAFETY: as above.
        unsafe {
            let c = _mm256_set1_epi32(c as i32);
            let even = (_mm256_mul_epu32(self.0, c), _mm256_mul_epu32(self.1, c));
            let odd = (
                _mm256_mul_epu32(_mm256_srli_epi64::<32>(self.0), c),
                _mm256_mul_epu32(_mm256_srli_epi64::<32>(self.1), c),
            );
            let high = (
                _mm256_blend_epi32::<0xAA>(_mm256_srli_epi64::<32>(even.0), odd.0),
                _mm256_blend_epi32::<0xAA>(_mm256_srli_epi64::<32>(even.1), odd.1),
            );
            (I(_mm256_mullo_epi32(self.0, c), _mm256_mullo_epi32(self.1, c)), I(high.0, high.1))
        }
    }
}

impl Mask for M {
    methods! {
        fn and(self, b: Self) -> Self { M(_mm256_and_ps(self.0, b.0), _mm256_and_ps(self.1, b.1)) }
        fn or(self, b: Self) -> Self { M(_mm256_or_ps(self.0, b.0), _mm256_or_ps(self.1, b.1)) }
        fn not(self) -> Self {{
            let ones = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
            M(_mm256_xor_ps(self.0, ones), _mm256_xor_ps(self.1, ones))
        }}
        fn bits(self) -> u16 { (_mm256_movemask_ps(self.0) | (_mm256_movemask_ps(self.1) << 8)) as u16 }
    }
}
