use super::*;
use crate::testing::{Guarded, assert_close, everywhere, numbers};

const SHAPES: [Shape; 10] = [
    [1, 1, 1],
    [3, 10, 1],
    [5, 16, 1],
    [4, 17, 1],
    [2, 1000, 1],
    [300, 100, 1],
    [2, 3, 5],
    [3, 7, 16],
    [2, 5, 33],
    [1, 400, 50],
];

/// Softmax in f64 with any scale of logits.
fn reference(x: &[f32], [outer, n, inner]: Shape) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for o in 0..outer {
        for i in 0..inner {
            let at = |k: usize| (o * n + k) * inner + i;
            let max = (0..n).map(|k| x[at(k)]).fold(f32::MIN, f32::max);
            let sum: f64 = (0..n).map(|k| f64::from(x[at(k)] - max).exp()).sum();
            (0..n).for_each(|k| y[at(k)] = f64::from(x[at(k)] - max).exp() / sum);
        }
    }
    y
}

#[test]
fn forward_follows_the_formula() {
    for shape in SHAPES {
        let n = shape.iter().product();
        let x: Vec<f32> = numbers(1, n).iter().map(|x| 9.0 * x + 100.0).collect();
        let want = reference(&x, shape);
        let logs: Vec<f64> = want.iter().map(|p| p.ln()).collect();
        let run = || {
            let (mut y, mut z) = (Guarded::new(n), Guarded::new(n));
            softmax(&x, shape, y.slice());
            log_softmax(&x, shape, z.slice());
            vec![y.done(), z.done()]
        };
        everywhere(run, |isa, y| {
            assert_close(&format!("softmax {shape:?} {isa}"), &y[0], &want, 1e-9, 2e-6);
            assert_close(&format!("log-softmax {shape:?} {isa}"), &y[1], &logs, 1.2e-5, 1e-6);
        });
    }
}

#[test]
fn backward_is_the_adjoint_of_the_jacobian() {
    for shape @ [outer, n, inner] in SHAPES {
        let len = outer * n * inner;
        let (x, dy) = (numbers(1, len), numbers(2, len));
        let p = reference(&x, shape);
        let y: Vec<f32> = p.iter().map(|&p| p as f32).collect();
        let logs: Vec<f32> = p.iter().map(|&p| p.ln() as f32).collect();
        let (mut want, mut want_log) = (vec![0.0; len], vec![0.0; len]);
        for o in 0..outer {
            for i in 0..inner {
                let at = |k: usize| (o * n + k) * inner + i;
                let dot: f64 = (0..n).map(|k| f64::from(dy[at(k)]) * p[at(k)]).sum();
                let sum: f64 = (0..n).map(|k| f64::from(dy[at(k)])).sum();
                for k in (0..n).map(at) {
                    want[k] = p[k] * (f64::from(dy[k]) - dot);
                    want_log[k] = f64::from(dy[k]) - p[k] * sum;
                }
            }
        }
        let run = || {
            let (mut dx, mut dz) = (Guarded::new(len), Guarded::new(len));
            softmax_backward(&y, &dy, shape, dx.slice());
            log_softmax_backward(&logs, &dy, shape, dz.slice());
            vec![dx.done(), dz.done()]
        };
        everywhere(run, |isa, dx| {
            assert_close(&format!("softmax {shape:?} {isa}"), &dx[0], &want, 5e-7, 1e-6);
            assert_close(&format!("log-softmax {shape:?} {isa}"), &dx[1], &want_log, 3e-6, 1e-6);
        });
    }
}

#[test]
fn infinite_logits_are_probabilities_of_zero() {
    let x = [f32::NEG_INFINITY, 1.0, 1.0, f32::NEG_INFINITY];
    for shape in [[1, 4, 1], [1, 4, 1]] {
        let mut y = [9.0; 4];
        softmax(&x, shape, &mut y);
        assert_eq!(y, [0.0, 0.5, 0.5, 0.0]);
    }
}
