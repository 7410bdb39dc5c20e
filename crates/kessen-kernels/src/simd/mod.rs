//! One small vector language for all instruction sets: sixteen `f32` lanes, whatever the register width.
//!
//! A kernel is an `#[inline(always)]` function generic over a token `S: Simd`; [`kernel!`] instantiates it once per
//! instruction set inside a `#[target_feature]` function and picks one at run time. A token can only be made there,
//! and vectors only come from tokens, so every vector operation is safe to call. Kernels use no closures: those
//! would be compiled without the features.
//!
//! Sixteen lanes everywhere means that the channel block of the blocked layout is one vector, and that a kernel's
//! order of summation is the same for every instruction set. The rejected alternative, native widths, saves a few
//! registers on AVX2 and doubles the number of shapes to test.

mod array;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

pub(crate) use array::Array;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;

use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// Lanes of every vector.
pub(crate) const LANES: usize = 16;

/// Proof that the running CPU has an instruction set, and the source of its vectors.
pub(crate) trait Simd: Copy {
    /// Sixteen `f32`.
    type F: Float<I = Self::I, M = Self::M>;
    /// Sixteen 32-bit integers.
    type I: Int<F = Self::F, M = Self::M>;
    /// Sixteen truth values.
    type M: Mask;
    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// All lanes `x`.
    fn splat_i(self, x: i32) -> Self::I;
    /// Sixteen consecutive elements.
    fn load(self, x: &[f32; LANES]) -> Self::F;
    /// Fewer than sixteen elements; the other lanes are 0.
    fn load_tail(self, x: &[f32]) -> Self::F;
    /// The first sixteen elements; where there are fewer, the other lanes are 0.
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::F {
        match x.first_chunk() {
            Some(x) => self.load(x),
            None => self.load_tail(x),
        }
    }
    /// Sixteen integers.
    fn load_i(self, x: &[i32; LANES]) -> Self::I;
    /// `x · 2ⁿ`, rounded once, for whole numbers `n` from −252 to 254.
    #[inline(always)]
    fn times_power(self, x: Self::F, n: Self::F) -> Self::F {
        // Two factors, so that results below the normal range round once and those above become infinite.
        let n = n.to_int();
        let (half, bias) = (n.sar::<1>(), self.splat_i(127));
        x * (half + bias).shl::<23>().as_float() * (n - half + bias).shl::<23>().as_float()
    }
    /// The lanes' own numbers, 0 to 15.
    #[inline(always)]
    fn iota(self) -> Self::I {
        self.load_i(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    }
}

/// Sixteen `f32` lanes. Comparisons are false where an operand is NaN.
pub(crate) trait Float:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// The integer vector of the same set.
    type I: Int<F = Self, M = Self::M>;
    /// The mask of the same set.
    type M: Mask;
    /// Writes sixteen elements.
    fn store(self, y: &mut [f32; LANES]);
    /// Writes the first `y.len()` (fewer than sixteen) elements.
    fn store_tail(self, y: &mut [f32]);
    /// Writes the first sixteen elements, or all where there are fewer.
    #[inline(always)]
    fn store_part(self, y: &mut [f32]) {
        match y.first_chunk_mut() {
            Some(y) => self.store(y),
            None => self.store_tail(y),
        }
    }
    /// `self · b + c`, with one rounding where the set has it.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `self > b ? self : b`; `b` where either is NaN.
    fn max(self, b: Self) -> Self;
    /// `self < b ? self : b`; `b` where either is NaN.
    fn min(self, b: Self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// Nearest integer, ties to even.
    fn round(self) -> Self;
    /// `self < b`.
    fn lt(self, b: Self) -> Self::M;
    /// `self <= b`.
    fn le(self, b: Self) -> Self::M;
    /// `self == b`.
    fn eq(self, b: Self) -> Self::M;
    /// Where the lane is NaN.
    fn is_nan(self) -> Self::M;
    /// `mask ? self : other`.
    fn select(self, mask: Self::M, other: Self) -> Self;
    /// The bit pattern.
    fn bits(self) -> Self::I;
    /// Of the 32 lanes of `self` and then `b`: the even ones and the odd ones.
    fn deinterleave(self, b: Self) -> (Self, Self);
    /// The inverse of `deinterleave`: `self` in the even and `b` in the odd ones of 32 lanes.
    fn interleave(self, b: Self) -> (Self, Self);
    /// Conversion to the nearest integer; lanes outside i32 are unspecified.
    fn to_int(self) -> Self::I;
    /// The lanes as an array.
    #[inline(always)]
    fn array(self) -> [f32; LANES] {
        let mut a = [0.0; LANES];
        self.store(&mut a);
        a
    }
    /// Sum of the lanes, halving: lane i + lane i+8, then i+4, i+2, i+1.
    #[inline(always)]
    fn sum(self) -> f32 {
        let a = self.array();
        let b: [f32; 8] = std::array::from_fn(|i| a[i] + a[i + 8]);
        let c: [f32; 4] = std::array::from_fn(|i| b[i] + b[i + 4]);
        (c[0] + c[2]) + (c[1] + c[3])
    }
    /// Largest lane; NaN where one is NaN.
    #[inline(always)]
    fn largest(self) -> f32 {
        if self.is_nan().any() { f32::NAN } else { self.largest_number() }
    }
    /// Largest lane where none is NaN.
    #[inline(always)]
    fn largest_number(self) -> f32 {
        self.array().into_iter().fold(f32::NEG_INFINITY, |m, x| if m > x { m } else { x })
    }
    /// Smallest lane; NaN where one is NaN.
    #[inline(always)]
    fn smallest(self) -> f32 {
        -(-self).largest()
    }
}

/// Sixteen 32-bit integers, wrapping.
pub(crate) trait Int:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
{
    /// The float vector of the same set.
    type F;
    /// The mask of the same set.
    type M: Mask;
    /// Shift left by `N` bits.
    fn shl<const N: i32>(self) -> Self;
    /// Shift right by `N` bits, filling with zeros.
    fn shr<const N: i32>(self) -> Self;
    /// Shift right by `N` bits, filling with the sign.
    fn sar<const N: i32>(self) -> Self;
    /// The low and the high half of the unsigned product with `c`.
    fn mul_wide(self, c: u32) -> (Self, Self);
    /// `self == b`.
    fn eq(self, b: Self) -> Self::M;
    /// The lanes as floats, rounded to nearest.
    fn to_float(self) -> Self::F;
    /// The bits as floats.
    fn as_float(self) -> Self::F;
}

/// Sixteen truth values.
pub(crate) trait Mask: Copy {
    /// Both.
    fn and(self, b: Self) -> Self;
    /// Either.
    fn or(self, b: Self) -> Self;
    /// The opposite.
    fn not(self) -> Self;
    /// Bit i is lane i.
    fn bits(self) -> u16;
    /// Whether any lane is true.
    #[inline(always)]
    fn any(self) -> bool {
        self.bits() != 0
    }
}

/// Declares a function that runs a generic kernel with the instruction set given as its first argument.
///
/// `kernel! { pub(crate) fn scale(x: &[f32], a: f32, y: &mut [f32]) = scale_with; }` declares
/// `scale(isa: Isa, x, a, y)` calling `scale_with<S: Simd>(s: S, x, a, y)`, which must be `#[inline(always)]`.
/// Further type parameters stand before the name's arguments: `fn map<O: Op>(…) = map_with;`.
macro_rules! kernel {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($g:ident : $b:path),+>)? ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? = $imp:ident;)*) => {$(
        $(#[$meta])*
        #[inline]
        $vis fn $name $(<$($g: $b),+>)? (isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            fn avx512 $(<$($g: $b),+>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function has the features.
                $imp $(::<$crate::simd::Avx512, $($g),+>)? (unsafe { $crate::simd::Avx512::new() }, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2 $(<$($g: $b),+>)? ($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function has the features.
                $imp $(::<$crate::simd::Avx2, $($g),+>)? (unsafe { $crate::simd::Avx2::new() }, $($arg),*)
            }
            debug_assert!(isa.supported());
            match isa {
                // SAFETY: an `Isa` in force was checked against this CPU.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512 => unsafe { avx512 $(::<$($g),+>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 => unsafe { avx2 $(::<$($g),+>)? ($($arg),*) },
                // NEON is part of the AArch64 baseline: arrays of sixteen compile to it.
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Isa::Neon => $imp $(::<$crate::simd::Array<true>, $($g),+>)? ($crate::simd::Array::<true>, $($arg),*),
                _ => $imp $(::<$crate::simd::Array<false>, $($g),+>)? ($crate::simd::Array::<false>, $($arg),*),
            }
        }
    )*};
}
pub(crate) use kernel;

#[cfg(test)]
mod tests;
