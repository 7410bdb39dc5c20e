use super::*;
use crate::testing::{Guarded, assert_close, everywhere, numbers};

fn reference(op: Reduce, x: &[f32], shape: &[usize], axes: &[usize]) -> Vec<f64> {
    let kept: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).collect();
    let outputs = kept.iter().map(|&d| shape[d]).product();
    let mut lists = vec![Vec::new(); outputs];
    for (i, &x) in x.iter().enumerate() {
        let (mut index, mut rest) = (vec![0; shape.len()], i);
        for d in (0..shape.len()).rev() {
            index[d] = rest % shape[d];
            rest /= shape[d];
        }
        lists[kept.iter().fold(0, |o, &d| o * shape[d] + index[d])].push(f64::from(x));
    }
    let n = x.len() / outputs;
    let fold = |list: &Vec<f64>| match op {
        Reduce::Sum => list.iter().sum(),
        Reduce::Mean => list.iter().sum::<f64>() / n as f64,
        Reduce::Max => list.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Reduce::Min => list.iter().copied().fold(f64::INFINITY, f64::min),
        Reduce::Prod => list.iter().product(),
        Reduce::SumSquares => list.iter().map(|x| x * x).sum(),
    };
    lists.iter().map(fold).collect()
}

#[test]
fn any_axes_any_operator() {
    let cases: [(&[usize], &[usize]); 16] = [
        (&[1], &[0]),
        (&[5], &[]),
        (&[37], &[0]),
        (&[200_001], &[0]),
        (&[6, 17], &[1]),
        (&[6, 17], &[0]),
        (&[3, 130], &[0]),
        (&[9000, 10], &[0]),
        (&[3000, 70], &[0]),
        (&[4, 5, 49], &[0, 2]),
        (&[4, 5, 49], &[1]),
        (&[2, 3, 4, 5], &[1, 3]),
        (&[2, 3, 4, 5], &[0, 2]),
        (&[3, 1, 70, 2, 9], &[0, 2, 4]),
        (&[2, 2, 40_000], &[2]),
        (&[40, 3, 5000], &[0, 2]),
    ];
    let ops = [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min, Reduce::Prod, Reduce::SumSquares];
    for (shape, axes) in cases {
        let n: usize = shape.iter().product();
        for op in ops {
            // Factors near 1 keep products in range.
            let x: Vec<f32> = match op {
                Reduce::Prod => numbers(1, n).iter().map(|x| 1.0 + 1e-3 * x).collect(),
                _ => numbers(1, n),
            };
            let reduction = Reduction::new(op, shape, axes).unwrap();
            let want = reference(op, &x, shape, axes);
            assert_eq!(reduction.output_len(), want.len());
            let run = || {
                let mut y = Guarded::new(want.len());
                let mut scratch = Guarded::new(reduction.run_scratch());
                reduction.run(&x, y.slice(), scratch.slice());
                scratch.done();
                vec![y.done()]
            };
            let absolute = 5e-7 * (reduction.reduced_len() as f64).sqrt();
            // A product rounds once a factor, whatever the order.
            let n = reduction.reduced_len() as f64;
            let relative = if op == Reduce::Prod { 3e-7 * n.sqrt() + 1e-6 } else { 3e-6 };
            everywhere(run, |isa, y| {
                assert_close(
                    &format!("{op:?} of {shape:?} over {axes:?} on {isa}"),
                    &y[0],
                    &want,
                    absolute,
                    relative,
                );
            });
        }
    }
    assert!(Reduction::new(Reduce::Sum, &[2, 3], &[2]).is_err());
    assert!(Reduction::new(Reduce::Sum, &[2; 10], &[0, 2, 4, 6, 8]).is_err());
}

#[test]
fn max_and_argmax_see_nan() {
    for n in [3, 16, 40, 100] {
        for at in [0, 1, n / 2, n - 1] {
            let mut x = numbers(1, n);
            x[at] = f32::NAN;
            let max = Reduction::new(Reduce::Max, &[n], &[0]).unwrap();
            everywhere(
                || {
                    let (mut y, mut index) = ([0.0], [0]);
                    max.run(&x, &mut y, &mut []);
                    argmax(&x, [1, n, 1], &mut index);
                    vec![y.to_vec(), vec![index[0] as f32]]
                },
                |isa, y| assert!(y[0][0].is_nan() && y[1][0] == at as f32, "{isa} {n} {at}"),
            );
        }
    }
}

#[test]
fn argmax_names_the_first_largest() {
    for shape @ [outer, n, inner] in [[1, 1, 1], [7, 10, 1], [3, 100, 1], [4, 5, 6], [300, 1000, 1]] {
        // Few distinct values, so that there are ties.
        let x: Vec<f32> = numbers(1, outer * n * inner).iter().map(|x| (x * 8.0).round()).collect();
        let at = |o: usize, k: usize, i: usize| x[(o * n + k) * inner + i];
        let mut want = Vec::new();
        for o in 0..outer {
            for i in 0..inner {
                let largest = (0..n).map(|k| at(o, k, i)).fold(f32::MIN, f32::max);
                want.push((0..n).position(|k| at(o, k, i) == largest).unwrap() as f64);
            }
        }
        let run = || {
            let mut y = vec![-1; outer * inner];
            argmax(&x, shape, &mut y);
            vec![y.iter().map(|&k| k as f32).collect()]
        };
        everywhere(run, |isa, y| assert_close(&format!("{shape:?} on {isa}"), &y[0], &want, 0.0, 0.0));
    }
}

#[test]
fn norm_of_many_slices_and_the_first_bad_number() {
    let (a, b, c) = (numbers(1, 100_003), numbers(2, 5), numbers(3, 40_000));
    let slices: [&[f32]; 4] = [&a, &b, &[], &c];
    let want: f64 = slices.iter().flat_map(|x| x.iter()).map(|&x| f64::from(x).powi(2)).sum();
    let run = || {
        let mut scratch = Guarded::new(sum_of_squares_scratch(&slices));
        let sum = sum_of_squares(&slices, scratch.slice());
        scratch.done();
        vec![vec![sum as f32]]
    };
    everywhere(run, |isa, y| assert_close(&format!("norm on {isa}"), &y[0], &[want], 0.0, 3e-7));
    for n in [1, 15, 300_000] {
        for at in [0, n / 3, n - 1] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = vec![f32::MAX; n];
                assert_eq!(first_non_finite(&x), None);
                (x[at], x[n - 1]) = (bad, bad);
                assert_eq!(first_non_finite(&x), Some(at));
            }
        }
    }
}
