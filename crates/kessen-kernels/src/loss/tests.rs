use super::*;
use crate::Indices;
use crate::softmax::Shape;
use crate::testing::{Guarded, assert_close, everywhere, numbers};

/// Cross-entropy of one place in f64, straight from the module's formula, without its weight in the mean.
fn place(loss: &CrossEntropy<'_>, x: &[f64], t: usize) -> f64 {
    let k = x.len();
    let log_sum = x.iter().map(|x| x.exp()).sum::<f64>().ln();
    let w = |j: usize| loss.weight.map_or(1.0, |w| f64::from(w[j]));
    let smooth: f64 = (0..k).map(|j| w(j) * (log_sum - x[j])).sum();
    let e = f64::from(loss.smoothing);
    (1.0 - e) * w(t) * (log_sum - x[t]) + e / k as f64 * smooth
}

/// The reduced loss and its gradient (by central differences) in f64.
fn reference(
    loss: &CrossEntropy<'_>,
    x: &[f32],
    [n, k, inner]: Shape,
    t: &[i64],
) -> (f64, Vec<f64>, Vec<f64>) {
    let (mut losses, mut d, mut weight) = (vec![0.0; n * inner], vec![0.0; x.len()], 0.0);
    for p in 0..n * inner {
        if Some(t[p]) == loss.ignore {
            continue;
        }
        let class = t[p] as usize;
        weight += loss.weight.map_or(1.0, |w| f64::from(w[class]));
        let at = |j: usize| (p / inner * k + j) * inner + p % inner;
        let mut row: Vec<f64> = (0..k).map(|j| f64::from(x[at(j)])).collect();
        losses[p] = place(loss, &row, class);
        for j in 0..k {
            let keep = row[j];
            row[j] = keep + 1e-5;
            let up = place(loss, &row, class);
            row[j] = keep - 1e-5;
            d[at(j)] = (up - place(loss, &row, class)) / 2e-5;
            row[j] = keep;
        }
    }
    let share = match loss.reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean => 1.0 / weight,
    };
    (losses.iter().sum::<f64>() * share, losses, d.iter().map(|d| d * share).collect())
}

#[test]
fn cross_entropy_follows_its_formula() {
    let shapes: [Shape; 11] = [
        [1, 2, 1],
        [5, 10, 1],
        [64, 17, 1],
        [37, 64, 1],
        [1500, 17, 1],
        [3, 65, 1],
        [3, 16, 1],
        [4, 1000, 1],
        [2, 5, 7],
        [3, 4, 16],
        [2, 3, 40],
    ];
    for shape @ [n, k, inner] in shapes {
        let x: Vec<f32> = numbers(1, n * k * inner).iter().map(|x| 4.0 * x).collect();
        let weight: Vec<f32> = numbers(2, k).iter().map(|x| x + 1.5).collect();
        let mut t: Vec<i64> = (0..n * inner).map(|p| (p * 7 % k) as i64).collect();
        if t.len() > 1 {
            t[1] = -100;
        }
        let floats: Vec<f32> = t.iter().map(|&t| t as f32).collect();
        for weight in [None, Some(&weight[..])] {
            for (smoothing, reduction) in
                [(0.0, Reduction::Mean), (0.1, Reduction::Mean), (0.3, Reduction::Sum)]
            {
                let loss = CrossEntropy { weight, smoothing, reduction, ..Default::default() };
                let (want, want_losses, want_d) = reference(&loss, &x, shape, &t);
                let run = || {
                    let (mut a, mut b) = (Guarded::new(n * inner), Guarded::new(n * inner));
                    let mut d = Guarded::new(x.len());
                    let l = loss.forward(&x, shape, Indices::I64(&t), a.slice()).unwrap();
                    let classes = Indices::F32(&floats);
                    let m = loss.forward_backward(&x, shape, classes, 2.0, b.slice(), d.slice()).unwrap();
                    vec![vec![l, m], a.done(), b.done(), d.done()]
                };
                let want_d: Vec<f64> = want_d.iter().map(|d| 2.0 * d).collect();
                everywhere(run, |isa, y| {
                    let what = format!("{loss:?} {shape:?} {isa}");
                    assert_close(&what, &y[0], &[want, want], 1e-6, 1e-6);
                    assert_close(&what, &y[1], &want_losses, 3e-6, 2e-6);
                    assert_close(&what, &y[2], &want_losses, 3e-6, 2e-6);
                    assert_close(&what, &y[3], &want_d, 1e-6, 2e-6);
                });
            }
        }
    }
}

#[test]
fn classes_out_of_range_are_named_and_ignored_ones_count_nothing() {
    let (x, mut losses, mut d) = ([0.5; 6], [9.0; 2], [9.0; 6]);
    let loss = CrossEntropy::default();
    for (classes, found) in [(Indices::I64(&[0, 3]), "3"), (Indices::I64(&[0, -1]), "-1")] {
        let error = loss.forward(&x, [2, 3, 1], classes, &mut losses).unwrap_err().to_string();
        assert!(error.contains(found) && error.contains("place 1") && error.contains("0 to 2"), "{error}");
    }
    let fractions = loss.forward(&x, [2, 3, 1], Indices::F32(&[0.0, 1.5]), &mut losses);
    assert!(fractions.unwrap_err().to_string().contains("1.5"));
    let classes = Indices::I64(&[-100, -100]);
    let l = loss.forward_backward(&x, [2, 3, 1], classes, 1.0, &mut losses, &mut d).unwrap();
    assert_eq!((l, losses, d), (0.0, [0.0; 2], [0.0; 6]));
}

#[test]
fn ignored_places_have_no_gradient_whatever_their_logits_are() {
    let loss = CrossEntropy::default();
    for shape @ [n, k, inner] in [[2, 5, 1], [2, 100, 1], [1, 5, 2]] {
        let mut x = numbers(1, n * k * inner);
        let second = |at: usize| if inner == 1 { at / k == 1 } else { at % inner == 1 };
        (0..x.len()).filter(|&at| second(at)).for_each(|at| x[at] = f32::NEG_INFINITY);
        let run = || {
            let (mut losses, mut d) = (Guarded::new(2), Guarded::new(x.len()));
            let classes = Indices::I64(&[1, -100]);
            let l = loss.forward_backward(&x, shape, classes, 1.0, losses.slice(), d.slice()).unwrap();
            vec![vec![l], losses.done(), d.done()]
        };
        everywhere(run, |isa, y| {
            assert!(y[0][0] > 0.0 && y[1] == [y[0][0], 0.0], "{shape:?} {isa}: {:?}", y[1]);
            for (at, &d) in y[2].iter().enumerate() {
                assert!(d.is_finite() && (d == 0.0) == second(at), "{shape:?} {isa}: {d} at {at}");
            }
        });
    }
}

fn element(kind: Pointwise, x: f64, t: f64) -> f64 {
    let d = (x - t).abs();
    match kind {
        Pointwise::Mse => d * d,
        Pointwise::Mae => d,
        Pointwise::Huber { delta } => {
            let delta = f64::from(delta);
            if d <= delta { 0.5 * d * d } else { delta * (d - 0.5 * delta) }
        }
        Pointwise::SmoothL1 { beta } => {
            let beta = f64::from(beta);
            if d < beta { 0.5 * d * d / beta } else { d - 0.5 * beta }
        }
        Pointwise::BceWithLogits { pos_weight } => {
            let p = 1.0 / (1.0 + (-x).exp());
            -(f64::from(pos_weight) * t * p.ln() + (1.0 - t) * (1.0 - p).ln())
        }
    }
}

#[test]
fn pointwise_losses_follow_their_formulas() {
    let kinds = [
        Pointwise::Mse,
        Pointwise::Mae,
        Pointwise::Huber { delta: 0.7 },
        Pointwise::SmoothL1 { beta: 0.4 },
        Pointwise::BceWithLogits { pos_weight: 1.0 },
        Pointwise::BceWithLogits { pos_weight: 2.5 },
    ];
    for kind in kinds {
        for n in [1, 16, 33, 5000, 40_000] {
            let x: Vec<f32> = numbers(1, n).iter().map(|x| 3.0 * x).collect();
            let t: Vec<f32> = numbers(2, n).iter().map(|x| x.abs()).collect();
            let pair = |i: usize| (f64::from(x[i]), f64::from(t[i]));
            let sum: f64 = (0..n).map(|i| element(kind, pair(i).0, pair(i).1)).sum();
            let slope = |i: usize, h: f64| element(kind, pair(i).0 + h, pair(i).1);
            let d: Vec<f64> = (0..n).map(|i| 1.5 * (slope(i, 1e-6) - slope(i, -1e-6)) / 2e-6).collect();
            for (reduction, share) in [(Reduction::Sum, 1.0), (Reduction::Mean, 1.0 / n as f64)] {
                let run = || {
                    let (mut dx, mut scratch) = (Guarded::new(n), Guarded::new(pointwise_scratch(n)));
                    let a = pointwise(kind, reduction, &x, &t, 1.5, Some(dx.slice()), scratch.slice());
                    let b = pointwise(kind, reduction, &x, &t, 1.5, None, scratch.slice());
                    scratch.done();
                    vec![vec![a, b], dx.done()]
                };
                let want_d: Vec<f64> = d.iter().map(|d| d * share).collect();
                everywhere(run, |isa, y| {
                    assert_close(&format!("{kind:?} {n} {isa}"), &y[0], &[sum * share; 2], 0.0, 2e-6);
                    assert_close(&format!("d{kind:?} {n} {isa}"), &y[1], &want_d, 1e-5 * share, 1e-5);
                });
            }
        }
    }
}
