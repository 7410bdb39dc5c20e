use super::*;
use crate::testing::{Guarded, assert_close, everywhere, numbers, wide};

fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn cdf(x: f64) -> f64 {
    0.5 * (1.0 + erf(x / 2f64.sqrt()))
}

fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Derivative of `f` at `x` by central differences.
fn slope(f: fn(f64) -> f64, x: f64) -> f64 {
    (f(x + 1e-5) - f(x - 1e-5)) / 2e-5
}

#[test]
fn unary_operators_follow_their_formulas() {
    let table: [(Unary, fn(f64) -> f64); 27] = [
        (Unary::Copy, |x| x),
        (Unary::Neg, |x| -x),
        (Unary::Abs, f64::abs),
        (Unary::Sign, |x| if x == 0.0 { 0.0 } else { x.signum() }),
        (Unary::Sqrt, f64::sqrt),
        (Unary::Rsqrt, |x| 1.0 / x.sqrt()),
        (Unary::Reciprocal, f64::recip),
        (Unary::Square, |x| x * x),
        (Unary::Exp, f64::exp),
        (Unary::Log, f64::ln),
        (Unary::Sin, f64::sin),
        (Unary::Cos, f64::cos),
        (Unary::Erf, erf),
        (Unary::Sigmoid, sigmoid),
        (Unary::Tanh, f64::tanh),
        (Unary::Relu, |x| x.max(0.0)),
        (Unary::LeakyRelu { slope: 0.25 }, |x| if x > 0.0 { x } else { 0.25 * x }),
        (Unary::Elu { alpha: 0.5 }, |x| if x > 0.0 { x } else { 0.5 * x.exp_m1() }),
        (Unary::Gelu, |x| x * cdf(x)),
        (Unary::GeluTanh, gelu_tanh),
        (Unary::Silu, |x| x * sigmoid(x)),
        (Unary::Softplus, |x| x.exp().ln_1p()),
        (Unary::Clamp { low: -0.5, high: 1.0 }, |x| x.clamp(-0.5, 1.0)),
        (Unary::Affine { scale: 3.0, shift: -0.5 }, |x| 3.0 * x - 0.5),
        (Unary::PowConst { exponent: 2.5 }, |x| x.powf(2.5)),
        (Unary::Not, |x| f64::from(x == 0.0)),
        (Unary::LeakyRelu { slope: 2.0 }, |x| if x > 0.0 { x } else { 2.0 * x }),
    ];
    for (op, f) in table {
        for n in [0, 1, 15, 16, 17, 1000, 70_001] {
            let x: Vec<f32> = numbers(1, n).iter().map(|x| 3.0 * x).collect();
            let want: Vec<f64> = x.iter().map(|&x| f(f64::from(x))).collect();
            let run = || {
                let (mut y, mut z) = (Guarded::new(n), Guarded::of(&x));
                unary(op, &x, y.slice());
                unary_in_place(op, z.slice());
                vec![y.done(), z.done()]
            };
            everywhere(run, |isa, y| {
                assert_close(&format!("{op:?} on {isa}"), &y[0], &want, 6e-7, 6e-7);
                assert_close(&format!("{op:?} in place on {isa}"), &y[1], &want, 6e-7, 6e-7);
            });
        }
    }
}

#[test]
fn binary_operators_follow_their_formulas() {
    fn truth(x: bool) -> f64 {
        f64::from(x)
    }
    let table: [(Binary, fn(f64, f64) -> f64); 24] = [
        (Binary::Add, |a, b| a + b),
        (Binary::Sub, |a, b| a - b),
        (Binary::Mul, |a, b| a * b),
        (Binary::Div, |a, b| a / b),
        (Binary::Min, f64::min),
        (Binary::Max, f64::max),
        (Binary::Pow, f64::powf),
        (Binary::Lt, |a, b| truth(a < b)),
        (Binary::Le, |a, b| truth(a <= b)),
        (Binary::Gt, |a, b| truth(a > b)),
        (Binary::Ge, |a, b| truth(a >= b)),
        (Binary::Eq, |a, b| truth(a == b)),
        (Binary::Ne, |a, b| truth(a != b)),
        (Binary::AddScaled { scale: -0.5 }, |a, b| a - 0.5 * b),
        (Binary::DRelu, |a, b| if b > 0.0 { a } else { 0.0 }),
        (Binary::DLeakyRelu { slope: 0.25 }, |a, b| if b > 0.0 { a } else { 0.25 * a }),
        (Binary::DElu { alpha: 0.5 }, |a, b| if b > 0.0 { a } else { a * 0.5 * b.exp() }),
        (Binary::DSigmoid, |a, b| a * b * (1.0 - b)),
        (Binary::DTanh, |a, b| a * (1.0 - b * b)),
        (Binary::DGelu, |a, b| a * slope(|x| x * cdf(x), b)),
        (Binary::DGeluTanh, |a, b| a * slope(gelu_tanh, b)),
        (Binary::DSilu, |a, b| a * slope(|x| x * sigmoid(x), b)),
        (Binary::DSoftplus, |a, b| a * slope(|x| x.exp().ln_1p(), b)),
        (Binary::DClamp { low: -0.5, high: 1.0 }, |a, b| if (-0.5..=1.0).contains(&b) { a } else { 0.0 }),
    ];
    for (op, f) in table {
        for n in [1, 16, 37, 1000] {
            let (mut a, b) = (numbers(1, n), numbers(2, n).iter().map(|x| 2.0 * x).collect::<Vec<_>>());
            a[n / 2] = b[n / 2];
            let want: Vec<f64> = (0..n).map(|i| f(a[i].into(), b[i].into())).collect();
            let run = || {
                let (mut y, mut z) = (Guarded::new(n), Guarded::of(&a));
                binary(op, &a, &b, y.slice());
                binary_in_place(op, z.slice(), &b);
                vec![y.done(), z.done()]
            };
            everywhere(run, |isa, y| {
                assert_close(&format!("{op:?} on {isa}"), &y[0], &want, 2e-6, 1e-6);
                assert_eq!(y[0].iter().map(|x| x.to_bits()).collect::<Vec<_>>(), bits(&y[1]), "{op:?}");
            });
        }
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn nan_passes_through_where_it_should() {
    let nan = f32::NAN;
    for op in
        [Unary::Relu, Unary::Clamp { low: 0.0, high: 1.0 }, Unary::Sign, Unary::LeakyRelu { slope: 0.1 }]
    {
        let mut y = [0.0; 3];
        unary(op, &[nan, 1.0, nan], &mut y);
        assert!(y[0].is_nan() && y[1] == 1.0 && y[2].is_nan(), "{op:?}");
    }
    for op in [Binary::Min, Binary::Max, Binary::Add] {
        let mut y = [0.0; 3];
        binary(op, &[nan, 1.0, 2.0], &[1.0, nan, 2.0], &mut y);
        assert!(y[0].is_nan() && y[1].is_nan() && !y[2].is_nan(), "{op:?}");
    }
}

#[test]
fn rows_and_fill() {
    for (rows, columns) in [(1, 1), (3, 17), (64, 10), (5, 40_000), (0, 4)] {
        let (a, b) = (numbers(3, rows * columns), numbers(4, columns));
        let want: Vec<f64> = (0..rows * columns).map(|i| f64::from(a[i] + b[i % columns])).collect();
        let run = || {
            let (mut y, mut z) = (Guarded::new(rows * columns), Guarded::new(columns));
            binary_rows(Binary::Add, &a, &b, y.slice());
            fill(2.5, z.slice());
            vec![y.done(), z.done()]
        };
        everywhere(run, |isa, y| {
            assert_close(&format!("{rows}x{columns} on {isa}"), &y[0], &want, 0.0, 0.0);
            assert!(y[1].iter().all(|&x| x == 2.5));
        });
    }
}

#[test]
fn a_program_reads_every_kind_of_operand() {
    use Instruction as I;
    for (outer, blocks, inner) in [(1, 1, 1), (2, 3, 7), (3, 2, 130), (4, 5, 300)] {
        let n = outer * blocks * inner * 16;
        let (x, z) = (numbers(5, n), numbers(6, n));
        let (channel, row) = (numbers(7, blocks * 16), numbers(8, outer));
        // y0 = relu(x·channel + 0.25)·scalar + old y0; y1 = sigmoid(y0) − row·z
        let steps = [
            I::Constant(0.25),
            I::Ternary(Ternary::MulAdd, 0, 1, 6),
            I::Unary(Unary::Relu, 7),
            I::Ternary(Ternary::MulAdd, 8, 2, 3),
            I::Unary(Unary::Sigmoid, 9),
            I::Binary(Binary::Mul, 4, 5),
            I::Binary(Binary::Sub, 10, 11),
        ];
        let program = Program::new(6, &steps, &[9, 12]).unwrap();
        let old = numbers(9, n);
        let run = || {
            let (mut y0, mut y1) = (Guarded::of(&old), Guarded::new(n));
            let operands = [
                Source::Full(&x),
                Source::Broadcast(&channel, Broadcast::blocked(outer, blocks, inner)),
                Source::Scalar(-1.5),
                Source::Output(0),
                Source::Broadcast(&row, Broadcast::channels(1, outer, n / outer)),
                Source::Full(&z),
            ];
            program.run(&operands, &mut [y0.slice(), y1.slice()]);
            vec![y0.done(), y1.done()]
        };
        let (mut want0, mut want1) = (Vec::new(), Vec::new());
        for i in 0..n {
            let c = channel[i / (16 * inner) % blocks * 16 + i % 16];
            let y = (f64::from(x[i]) * f64::from(c) + 0.25).max(0.0) * -1.5 + f64::from(old[i]);
            want0.push(y);
            want1.push(sigmoid(y) - f64::from(row[i / (n / outer)]) * f64::from(z[i]));
        }
        everywhere(run, |isa, y| {
            assert_close(&format!("first output on {isa}"), &y[0], &want0, 5e-7, 0.0);
            assert_close(&format!("second output on {isa}"), &y[1], &want1, 5e-7, 0.0);
        });
    }
}

#[test]
fn broadcast_follows_its_strides() {
    let cases: [(&[usize], &[usize]); 8] = [
        (&[2, 3, 4], &[0, 1, 0]),
        (&[2, 3, 4], &[4, 0, 1]),
        (&[2, 3, 4], &[1, 2, 6]),
        (&[1, 5, 1], &[9, 1, 9]),
        (&[3, 1, 300], &[1, 0, 0]),
        (&[2, 2, 2, 2, 2, 3], &[0, 1, 0, 2, 0, 4]),
        (&[7], &[0]),
        (&[1], &[1]),
    ];
    for (shape, strides) in cases {
        let b = Broadcast::new(shape, strides).unwrap();
        let n: usize = shape.iter().product();
        let data = numbers(1, b.data_len());
        let mut want = Vec::new();
        for i in 0..n {
            let (mut rest, mut offset) = (i, 0);
            for d in (0..shape.len()).rev() {
                offset += rest % shape[d] * strides[d];
                rest /= shape[d];
            }
            want.push(data[offset]);
        }
        for start in 0..n {
            let mut out = vec![0.0; (n - start).min(50)];
            b.gather(&data, start..start + out.len(), &mut out);
            assert_eq!(out, want[start..start + out.len()], "{shape:?} {strides:?} from {start}");
        }
    }
    assert!(Broadcast::new(&[2, 3], &[1]).is_err());
    assert!(Broadcast::new(&[2; 8], &[0, 1, 0, 1, 0, 1, 0, 1]).is_err());
}

#[test]
fn outputs_may_share_values_and_operands() {
    let x = numbers(1, 600);
    let program =
        Program::new(1, &[Instruction::Constant(3.0), Instruction::Unary(Unary::Neg, 0)], &[2, 2, 1, 0]);
    let run = || {
        let mut y: Vec<Guarded> = (0..4).map(|_| Guarded::new(600)).collect();
        let mut slices: Vec<&mut [f32]> = y.iter_mut().map(Guarded::slice).collect();
        program.as_ref().unwrap().run(&[Source::Full(&x)], &mut slices);
        y.into_iter().map(Guarded::done).collect()
    };
    let negative: Vec<f64> = wide(&x).iter().map(|x| -x).collect();
    everywhere(run, |_, y| {
        assert_close("negative", &y[0], &negative, 0.0, 0.0);
        assert_close("negative again", &y[1], &negative, 0.0, 0.0);
        assert_close("constant", &y[2], &[3.0; 600], 0.0, 0.0);
        assert_close("operand", &y[3], &wide(&x), 0.0, 0.0);
    });
}

#[test]
fn programs_that_cannot_run_are_refused() {
    use Instruction as I;
    let chain: Vec<I> = (0..30).map(I::from_constant).collect();
    let cases: [(usize, &[I], &[usize], &str); 5] = [
        (1, &[I::Unary(Unary::Neg, 1)], &[1], "not defined before"),
        (1, &[I::Unary(Unary::Neg, 0)], &[2], "names value 2"),
        (1, &[], &[], "outputs"),
        (17, &[], &[0], "split it"),
        (0, &chain, &[0], "alive at once"),
    ];
    for (operands, steps, outputs, text) in cases {
        let error = Program::new(operands, steps, outputs).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

impl Instruction {
    fn from_constant(i: usize) -> Self {
        Instruction::Constant(i as f32)
    }
}
