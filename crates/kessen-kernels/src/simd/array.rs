//! Arrays of sixteen: plain Rust for every CPU, and NEON where the target's baseline has it.
//!
//! With `FMA` the compiler may use one fused instruction (AArch64); without, `mul_add` rounds twice, since the
//! library's fused fallback is a slow call.

use super::{Float, Int, LANES, Mask, Simd};
use std::array::from_fn;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// The token.
#[derive(Clone, Copy)]
pub(crate) struct Array<const FMA: bool>;

/// Sixteen floats.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct F<const FMA: bool>([f32; LANES]);

/// Sixteen integers.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct I<const FMA: bool>([i32; LANES]);

/// Sixteen truth values: all bits set or none.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct M([i32; LANES]);

impl<const FMA: bool> Simd for Array<FMA> {
    type F = F<FMA>;
    type I = I<FMA>;
    type M = M;
    #[inline(always)]
    fn splat(self, x: f32) -> F<FMA> {
        F([x; LANES])
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> I<FMA> {
        I([x; LANES])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> F<FMA> {
        F(*x)
    }
    #[inline(always)]
    fn load_tail(self, x: &[f32]) -> F<FMA> {
        let mut a = [0.0; LANES];
        a[..x.len()].copy_from_slice(x);
        F(a)
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> I<FMA> {
        I(*x)
    }
}

macro_rules! operators {
    ($v:ident: $($op:ident $f:ident = |$a:ident, $b:ident| $e:expr;)*) => {$(
        impl<const FMA: bool> $op for $v<FMA> {
            type Output = Self;
            #[inline(always)]
            fn $f(self, other: Self) -> Self {
                $v(from_fn(|i| { let ($a, $b) = (self.0[i], other.0[i]); $e }))
            }
        }
    )*};
}
operators! { F: Add add = |a, b| a + b; Sub sub = |a, b| a - b; Mul mul = |a, b| a * b; Div div = |a, b| a / b; }
operators! { I: Add add = |a, b| a.wrapping_add(b); Sub sub = |a, b| a.wrapping_sub(b); BitAnd bitand = |a, b| a & b;
BitOr bitor = |a, b| a | b; BitXor bitxor = |a, b| a ^ b; }

impl<const FMA: bool> Neg for F<FMA> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        F(self.0.map(|x| -x))
    }
}

/// A mask from a condition on each lane.
#[inline(always)]
fn mask(a: &[f32; LANES], b: &[f32; LANES], test: impl Fn(f32, f32) -> bool) -> M {
    M(from_fn(|i| -(test(a[i], b[i]) as i32)))
}

impl<const FMA: bool> Float for F<FMA> {
    type I = I<FMA>;
    type M = M;
    #[inline(always)]
    fn store(self, y: &mut [f32; LANES]) {
        *y = self.0;
    }
    #[inline(always)]
    fn store_tail(self, y: &mut [f32]) {
        y.copy_from_slice(&self.0[..y.len()]);
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        F(from_fn(|i| if FMA { self.0[i].mul_add(b.0[i], c.0[i]) } else { self.0[i] * b.0[i] + c.0[i] }))
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        F(from_fn(|i| if self.0[i] > b.0[i] { self.0[i] } else { b.0[i] }))
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        F(from_fn(|i| if self.0[i] < b.0[i] { self.0[i] } else { b.0[i] }))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        F(self.0.map(f32::abs))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        F(self.0.map(f32::sqrt))
    }
    #[inline(always)]
    fn round(self) -> Self {
        if FMA {
            return F(self.0.map(f32::round_ties_even));
        }
        // Adding and taking away 1.5·2²³ rounds to an integer without a library call; larger values are integers.
        let magic = 12_582_912.0;
        F(self.0.map(|x| if x.abs() < 4_194_304.0 { ((x + magic) - magic).copysign(x) } else { x }))
    }
    #[inline(always)]
    fn lt(self, b: Self) -> M {
        mask(&self.0, &b.0, |a, b| a < b)
    }
    #[inline(always)]
    fn le(self, b: Self) -> M {
        mask(&self.0, &b.0, |a, b| a <= b)
    }
    #[inline(always)]
    fn eq(self, b: Self) -> M {
        mask(&self.0, &b.0, |a, b| a == b)
    }
    #[inline(always)]
    fn is_nan(self) -> M {
        mask(&self.0, &self.0, |a, _| a.is_nan())
    }
    #[inline(always)]
    fn select(self, m: M, other: Self) -> Self {
        F(from_fn(|i| if m.0[i] != 0 { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    fn bits(self) -> I<FMA> {
        I(self.0.map(|x| x.to_bits() as i32))
    }
    #[inline(always)]
    fn deinterleave(self, b: Self) -> (Self, Self) {
        let at = |i: usize| if i < LANES { self.0[i] } else { b.0[i - LANES] };
        (F(from_fn(|i| at(2 * i))), F(from_fn(|i| at(2 * i + 1))))
    }
    #[inline(always)]
    fn interleave(self, b: Self) -> (Self, Self) {
        let at = |i: usize| if i.is_multiple_of(2) { self.0[i / 2] } else { b.0[i / 2] };
        (F(from_fn(at)), F(from_fn(|i| at(i + LANES))))
    }
    #[inline(always)]
    fn to_int(self) -> I<FMA> {
        I(self.round().0.map(|x| x as i32))
    }
}

impl<const FMA: bool> Int for I<FMA> {
    type F = F<FMA>;
    type M = M;
    #[inline(always)]
    fn shl<const N: i32>(self) -> Self {
        I(self.0.map(|x| x << N))
    }
    #[inline(always)]
    fn shr<const N: i32>(self) -> Self {
        I(self.0.map(|x| (x as u32 >> N) as i32))
    }
    #[inline(always)]
    fn sar<const N: i32>(self) -> Self {
        I(self.0.map(|x| x >> N))
    }
    #[inline(always)]
    fn mul_wide(self, c: u32) -> (Self, Self) {
        let p = self.0.map(|x| u64::from(x as u32) * u64::from(c));
        (I(p.map(|p| p as i32)), I(p.map(|p| (p >> 32) as i32)))
    }
    #[inline(always)]
    fn eq(self, b: Self) -> M {
        M(from_fn(|i| -((self.0[i] == b.0[i]) as i32)))
    }
    #[inline(always)]
    fn to_float(self) -> F<FMA> {
        F(self.0.map(|x| x as f32))
    }
    #[inline(always)]
    fn as_float(self) -> F<FMA> {
        F(self.0.map(|x| f32::from_bits(x as u32)))
    }
}

impl Mask for M {
    #[inline(always)]
    fn and(self, b: Self) -> Self {
        M(from_fn(|i| self.0[i] & b.0[i]))
    }
    #[inline(always)]
    fn or(self, b: Self) -> Self {
        M(from_fn(|i| self.0[i] | b.0[i]))
    }
    #[inline(always)]
    fn not(self) -> Self {
        M(self.0.map(|x| !x))
    }
    #[inline(always)]
    fn bits(self) -> u16 {
        self.0.iter().enumerate().fold(0, |bits, (i, &x)| bits | (((x & 1) as u16) << i))
    }
}
