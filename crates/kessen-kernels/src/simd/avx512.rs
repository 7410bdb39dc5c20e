//! AVX-512: one register a vector.

use super::{Float, Int, LANES, Mask, Simd};
use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// Proof of AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The token.
    ///
    /// # Safety
    /// The CPU must have AVX-512 F, BW, DQ, VL, AVX2 and FMA.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Avx512(())
    }
}

/// Sixteen floats.
#[derive(Clone, Copy)]
pub(crate) struct F(__m512);

/// Sixteen integers.
#[derive(Clone, Copy)]
pub(crate) struct I(__m512i);

/// Sixteen truth values.
#[derive(Clone, Copy)]
pub(crate) struct M(__mmask16);

/// Bits for the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    debug_assert!(n <= LANES);
    ((1u32 << n) - 1) as __mmask16
}

macro_rules! methods {
    ($(fn $f:ident($s:ident $(, $a:ident: $t:ty)*) $(-> $r:ty)? { $e:expr })*) => {$(
        #[inline(always)]
        fn $f($s $(, $a: $t)*) $(-> $r)? {
            // SAFETY: the token, or a vector made from one, proves the ISA; array references cover 64 bytes, and
            // masked accesses touch only the slice's elements.
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
                $v(unsafe { $intrinsic(self.0, b.0) })
            }
        }
    )*};
}
operators! { F: Add add = _mm512_add_ps; Sub sub = _mm512_sub_ps; Mul mul = _mm512_mul_ps; Div div = _mm512_div_ps; }
operators! { I: Add add = _mm512_add_epi32; Sub sub = _mm512_sub_epi32; BitAnd bitand = _mm512_and_si512;
BitOr bitor = _mm512_or_si512; BitXor bitxor = _mm512_xor_si512; }

impl Neg for F {
    type Output = Self;
    methods! { fn neg(self) -> Self { F(_mm512_xor_ps(self.0, _mm512_set1_ps(-0.0))) } }
}

impl Simd for Avx512 {
    type F = F;
    type I = I;
    type M = M;
    methods! {
        fn splat(self, x: f32) -> F { F(_mm512_set1_ps(x)) }
        fn splat_i(self, x: i32) -> I { I(_mm512_set1_epi32(x)) }
        fn load(self, x: &[f32; LANES]) -> F { F(_mm512_loadu_ps(x.as_ptr())) }
        fn load_tail(self, x: &[f32]) -> F { F(_mm512_maskz_loadu_ps(first(x.len().min(LANES)), x.as_ptr())) }
        fn load_i(self, x: &[i32; LANES]) -> I { I(_mm512_loadu_si512(x.as_ptr().cast())) }
        fn times_power(self, x: F, n: F) -> F { F(_mm512_scalef_ps(x.0, n.0)) }
    }
}

impl Float for F {
    type I = I;
    type M = M;
    methods! {
        fn store(self, y: &mut [f32; LANES]) { _mm512_storeu_ps(y.as_mut_ptr(), self.0) }
        fn store_tail(self, y: &mut [f32]) { _mm512_mask_storeu_ps(y.as_mut_ptr(), first(y.len().min(LANES)), self.0) }
        fn mul_add(self, b: Self, c: Self) -> Self { F(_mm512_fmadd_ps(self.0, b.0, c.0)) }
        fn max(self, b: Self) -> Self { F(_mm512_max_ps(self.0, b.0)) }
        fn min(self, b: Self) -> Self { F(_mm512_min_ps(self.0, b.0)) }
        fn abs(self) -> Self { F(_mm512_abs_ps(self.0)) }
        fn sqrt(self) -> Self { F(_mm512_sqrt_ps(self.0)) }
        fn round(self) -> Self { F(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)) }
        fn lt(self, b: Self) -> M { M(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0)) }
        fn le(self, b: Self) -> M { M(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, b.0)) }
        fn eq(self, b: Self) -> M { M(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, b.0)) }
        fn is_nan(self) -> M { M(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0)) }
        fn select(self, m: M, other: Self) -> Self { F(_mm512_mask_blend_ps(m.0, other.0, self.0)) }
        fn bits(self) -> I { I(_mm512_castps_si512(self.0)) }
        fn deinterleave(self, b: Self) -> (Self, Self) {{
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
            (F(_mm512_permutex2var_ps(self.0, even, b.0)), F(_mm512_permutex2var_ps(self.0, odd, b.0)))
        }}
        fn interleave(self, b: Self) -> (Self, Self) {{
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            (F(_mm512_permutex2var_ps(self.0, low, b.0)), F(_mm512_permutex2var_ps(self.0, high, b.0)))
        }}
        fn sum(self) -> f32 {{
            let upper = _mm512_extractf32x8_ps::<1>(self.0);
            super::avx2::sum8(_mm256_add_ps(_mm512_castps512_ps256(self.0), upper))
        }}
        fn largest_number(self) -> f32 { _mm512_reduce_max_ps(self.0) }
        fn to_int(self) -> I { I(_mm512_cvtps_epi32(self.0)) }
    }
}

impl Int for I {
    type F = F;
    type M = M;
    methods! {
        fn eq(self, b: Self) -> M { M(_mm512_cmpeq_epi32_mask(self.0, b.0)) }
        fn to_float(self) -> F { F(_mm512_cvtepi32_ps(self.0)) }
        fn as_float(self) -> F { F(_mm512_castsi512_ps(self.0)) }
    }
    #[inline(always)]
    fn shl<const N: i32>(self) -> Self {
        // SAFETY: a vector exists only where the ISA does.
        I(unsafe { _mm512_sll_epi32(self.0, _mm_cvtsi32_si128(N)) })
    }
    #[inline(always)]
    fn shr<const N: i32>(self) -> Self {
        // SAFETY: as above.
        I(unsafe { _mm512_srl_epi32(self.0, _mm_cvtsi32_si128(N)) })
    }
    #[inline(always)]
    fn sar<const N: i32>(self) -> Self {
        // SAFETY: as above.
        I(unsafe { _mm512_sra_epi32(self.0, _mm_cvtsi32_si128(N)) })
    }
    #[inline(always)]
    fn mul_wide(self, c: u32) -> (Self, Self) {
        // SAFETY: as above.
        unsafe {
            let c = _mm512_set1_epi32(c as i32);
            let even = _mm512_mul_epu32(self.0, c);
            let odd = _mm512_mul_epu32(_mm512_srli_epi64::<32>(self.0), c);
            let high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64::<32>(even), odd);
            (I(_mm512_mullo_epi32(self.0, c)), I(high))
        }
    }
}

impl Mask for M {
    #[inline(always)]
    fn and(self, b: Self) -> Self {
        M(self.0 & b.0)
    }
    #[inline(always)]
    fn or(self, b: Self) -> Self {
        M(self.0 | b.0)
    }
    #[inline(always)]
    fn not(self) -> Self {
        M(!self.0)
    }
    #[inline(always)]
    fn bits(self) -> u16 {
        self.0
    }
}
