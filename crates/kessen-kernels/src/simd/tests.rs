//! Every operation of every instruction set against plain arithmetic.

use super::*;
use crate::isa::Isa;

const A: [f32; 16] = [
    0.0,
    -0.0,
    1.5,
    -2.5,
    3.5,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    1e-40,
    -1e30,
    7.25,
    0.5,
    -0.5,
    2.5,
    100.0,
    -1.0,
];
const B: [f32; 16] =
    [1.0, 0.0, -1.5, -2.5, 4.0, 1.0, 2.0, 3.0, 1e-40, 1e30, f32::NAN, -7.0, 0.25, 2.5, 1.0, 9.0];

kernel! { fn floats(out: &mut Vec<[f32; 16]>) = floats_with; fn ints(out: &mut Vec<[i32; 16]>) = ints_with;
fn masks(out: &mut Vec<u16>) = masks_with; fn parts(n: usize) -> [f32; 16] = parts_with;
fn sums(x: &[f32; 16]) -> [f32; 3] = sums_with; }

#[inline(always)]
fn floats_with<S: Simd>(s: S, out: &mut Vec<[f32; 16]>) {
    let (a, b) = (s.load(&A), s.load(&B));
    out.extend(
        [a + b, a - b, a * b, a / b, -a, a.max(b), a.min(b), a.abs(), a.sqrt(), a.round()].map(Float::array),
    );
    out.extend(
        [a.select(a.lt(b), b), a.bits().as_float(), s.iota().to_float(), s.splat(2.0)].map(Float::array),
    );
}

fn floats_plain() -> Vec<[f32; 16]> {
    let zip = |f: fn(f32, f32) -> f32| -> [f32; 16] { std::array::from_fn(|i| f(A[i], B[i])) };
    vec![
        zip(|a, b| a + b),
        zip(|a, b| a - b),
        zip(|a, b| a * b),
        zip(|a, b| a / b),
        zip(|a, _| -a),
        zip(|a, b| if a > b { a } else { b }),
        zip(|a, b| if a < b { a } else { b }),
        zip(|a, _| a.abs()),
        zip(|a, _| a.sqrt()),
        zip(|a, _| a.round_ties_even()),
        zip(|a, b| if a < b { a } else { b }),
        A,
        std::array::from_fn(|i| i as f32),
        [2.0; 16],
        std::array::from_fn(|i| if i < 8 { A[2 * i] } else { B[2 * i - 16] }),
        std::array::from_fn(|i| if i < 8 { A[2 * i + 1] } else { B[2 * i - 15] }),
        A,
        B,
    ]
}

fn int_array<S: Simd>(v: S::I) -> [i32; 16] {
    v.as_float().array().map(|x| x.to_bits() as i32)
}

#[inline(always)]
fn ints_with<S: Simd>(s: S, out: &mut Vec<[i32; 16]>) {
    let a = s.iota().mul_wide(0x9E37_79B9).0;
    let b = s.splat_i(0x1234_5678);
    let (low, high) = a.mul_wide(0xD251_1F53);
    let list = [a + b, a - b, a & b, a | b, a ^ b, a.shl::<5>(), a.shr::<7>(), a.sar::<9>(), low, high];
    for v in list {
        out.push(int_array::<S>(v));
    }
    out.push(int_array::<S>(s.load(&[2.5; 16]).to_int()));
}

fn ints_plain() -> Vec<[i32; 16]> {
    let (c, b) = (0xD251_1F53_u64, 0x1234_5678_i32);
    let a: [i32; 16] = std::array::from_fn(|i| (i as u32).wrapping_mul(0x9E37_79B9) as i32);
    let each = |f: &dyn Fn(i32) -> i32| a.map(f);
    vec![
        each(&|a| a.wrapping_add(b)),
        each(&|a| a.wrapping_sub(b)),
        each(&|a| a & b),
        each(&|a| a | b),
        each(&|a| a ^ b),
        each(&|a| a << 5),
        each(&|a| (a as u32 >> 7) as i32),
        each(&|a| a >> 9),
        each(&|a| (u64::from(a as u32) * c) as i32),
        each(&|a| ((u64::from(a as u32) * c) >> 32) as i32),
        [2; 16],
    ]
}

#[inline(always)]
fn masks_with<S: Simd>(s: S, out: &mut Vec<u16>) {
    let (a, b) = (s.load(&A), s.load(&B));
    let (lt, nan) = (a.lt(b), a.is_nan());
    for m in [lt, a.le(b), a.eq(b), nan, lt.and(nan), lt.or(nan), lt.not(), s.iota().eq(s.splat_i(3))] {
        out.push(m.bits());
    }
    assert!(nan.any() && !lt.and(lt.not()).any());
}

fn masks_plain() -> Vec<u16> {
    let bits = |f: fn(f32, f32) -> bool| (0..16).fold(0, |m, i| m | (u16::from(f(A[i], B[i])) << i));
    let (lt, nan) = (bits(|a, b| a < b), bits(|a, _| a.is_nan()));
    vec![lt, bits(|a, b| a <= b), bits(|a, b| a == b), nan, lt & nan, lt | nan, !lt, 8]
}

#[inline(always)]
fn parts_with<S: Simd>(s: S, n: usize) -> [f32; 16] {
    let source: [f32; 16] = std::array::from_fn(|i| i as f32 + 1.0);
    let mut out = [-1.0; 16];
    let loaded = s.load_part(&source[..n]);
    assert!(loaded.array()[n..].iter().all(|&x| x == 0.0));
    loaded.store_part(&mut out[..n]);
    out
}

#[inline(always)]
fn sums_with<S: Simd>(s: S, x: &[f32; 16]) -> [f32; 3] {
    let x = s.load(x);
    [x.sum(), x.largest(), x.smallest()]
}

#[test]
fn operations_agree_with_plain_arithmetic() {
    for isa in Isa::available() {
        let mut out = Vec::new();
        floats(isa, &mut out);
        for (op, (got, want)) in out.iter().zip(floats_plain()).enumerate() {
            for i in 0..16 {
                let same = got[i].to_bits() == want[i].to_bits() || (got[i].is_nan() && want[i].is_nan());
                assert!(same, "{isa} float operation {op} lane {i}: {} instead of {}", got[i], want[i]);
            }
        }
        let mut out = Vec::new();
        ints(isa, &mut out);
        assert_eq!(out, ints_plain(), "{isa}");
        let mut out = Vec::new();
        masks(isa, &mut out);
        assert_eq!(out, masks_plain(), "{isa}");
    }
}

#[test]
fn parts_touch_only_their_elements_and_sums_have_one_order() {
    for isa in Isa::available() {
        for n in 0..=16 {
            let out = parts(isa, n);
            for (i, &x) in out.iter().enumerate() {
                assert_eq!(x, if i < n { i as f32 + 1.0 } else { -1.0 }, "{isa} {n}");
            }
        }
        let x = std::array::from_fn(|i| 0.1 * i as f32 - 0.3);
        assert_eq!(sums(isa, &x), sums(Isa::Scalar, &x), "{isa}");
        assert!(sums(isa, &B)[1].is_nan() && sums(isa, &B)[2].is_nan());
    }
}
