use super::*;
use crate::testing::{Guarded, assert_close, everywhere, numbers};

/// Normalisation of a set of elements in f64: mean, 1/deviation.
fn stats(x: &[f64], eps: f64, centre: bool) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = if centre { x.iter().sum::<f64>() / n } else { 0.0 };
    (mean, 1.0 / (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n + eps).sqrt())
}

/// The gradient of the set's elements from g = dy·weight.
fn set_gradient(x: &[f64], g: &[f64], (mean, s): (f64, f64), centre: bool) -> Vec<f64> {
    let n = x.len() as f64;
    let mean_g = if centre { g.iter().sum::<f64>() / n } else { 0.0 };
    let mean_gx = x.iter().zip(g).map(|(x, g)| g * (x - mean) * s).sum::<f64>() / n;
    x.iter().zip(g).map(|(x, g)| s * (g - mean_g - (x - mean) * s * mean_gx)).collect()
}

struct Case {
    norm: BatchNorm,
    /// Memory place of each channel's elements.
    places: Vec<Vec<usize>>,
}

fn case(layout: Layout, [batch, channels, inner]: [usize; 3]) -> Case {
    let norm = BatchNorm { layout, batch, channels, inner, eps: 1e-5, steps: Steps::default() };
    let blocks = channels.div_ceil(16);
    let place = |n: usize, c: usize, i: usize| match layout {
        Layout::Plain => (n * channels + c) * inner + i,
        Layout::Blocked => ((n * blocks + c / 16) * inner + i) * 16 + c % 16,
    };
    let places =
        (0..channels).map(|c| (0..batch * inner).map(|k| place(k / inner, c, k % inner)).collect()).collect();
    Case { norm, places }
}

/// Numbers with a large mean, 0 in padded lanes.
fn input(case: &Case, seed: u64, shift: f32) -> Vec<f32> {
    let random = numbers(seed, case.norm.len());
    let mut x = vec![0.0; random.len()];
    for &i in case.places.iter().flatten() {
        x[i] = random[i] + shift;
    }
    x
}

const SHAPES: [[usize; 3]; 8] =
    [[2, 3, 5], [4, 17, 1], [40, 70, 1], [3, 16, 49], [2, 20, 700], [5, 33, 16], [1, 5, 100], [300, 100, 1]];

#[test]
fn batch_norm_forward_and_backward() {
    for shape in SHAPES {
        for layout in [Layout::Plain, Layout::Blocked] {
            let (relu, clamp) = (Some(Bounds::Relu), Some(Bounds::Clamp(-0.4, 0.3)));
            for (bounds, residual) in [(None, false), (relu, true), (relu, false), (clamp, false)] {
                check_batch(&case(layout, shape), bounds, residual);
            }
        }
    }
}

fn check_batch(case: &Case, bounds: Option<Bounds>, residual: bool) {
    let (norm, c) = (case.norm, case.norm.channels);
    let (x, r, dy) = (input(case, 1, 3.0), input(case, 2, 0.0), input(case, 3, 0.0));
    let (weight, bias) = (numbers(4, c), numbers(5, c));
    let residual = residual.then_some(&r[..]);
    let n = x.len();
    let (mut y, mut dx, mut dr) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let (mut means, mut vars, mut dw, mut db) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (ch, places) in case.places.iter().enumerate() {
        let pick = |v: &[f32]| -> Vec<f64> { places.iter().map(|&i| f64::from(v[i])).collect() };
        let (xs, (w, b)) = (pick(&x), (f64::from(weight[ch]), f64::from(bias[ch])));
        let (mean, s) = stats(&xs, 1e-5, true);
        let mut g = pick(&dy);
        for (k, &i) in places.iter().enumerate() {
            let v = (xs[k] - mean) * s * w + b + residual.map_or(0.0, |r| f64::from(r[i]));
            let (held, passes) = match bounds {
                None => (v, true),
                Some(Bounds::Relu) => (v.max(0.0), v > 0.0),
                Some(Bounds::Clamp(low, high)) => {
                    let held = v.clamp(low.into(), high.into());
                    (held, held == v)
                }
            };
            y[i] = held;
            if !passes {
                g[k] = 0.0;
            }
            dr[i] = g[k];
        }
        dw.push(xs.iter().zip(&g).map(|(x, g)| g * (x - mean) * s).sum());
        db.push(g.iter().sum());
        let weighted: Vec<f64> = g.iter().map(|g| g * w).collect();
        let d = set_gradient(&xs, &weighted, (mean, s), true);
        places.iter().zip(d).for_each(|(&i, d)| dx[i] = d);
        means.push(mean);
        vars.push(1.0 / (s * s) - 1e-5);
    }
    let run = || {
        let (mut mean, mut var) = (Guarded::new(c), Guarded::new(c));
        let mut scratch = Guarded::new(norm.scratch());
        norm.statistics(&x, mean.slice(), var.slice(), scratch.slice());
        let (mean, var) = (mean.done(), var.done());
        let mut inv_std = var.clone();
        norm.invert(&mut inv_std);
        let saved = Saved { mean: &mean, inv_std: &inv_std };
        let affine = Affine { weight: Some(&weight), bias: Some(&bias) };
        let mut out = Guarded::new(n);
        norm.normalise(&x, saved, affine, Fused { residual, bounds }, out.slice());
        let out = out.done();
        let (mut dx, mut dr) = (Guarded::new(n), Guarded::new(n));
        let (mut dw, mut db) = (Guarded::new(c), Guarded::new(c));
        let function = match (bounds, residual) {
            (None, _) => Function::None,
            (Some(_), Some(_)) => Function::Relu(&out),
            (Some(bounds), None) => Function::Behind(&bias, bounds),
        };
        norm.backward(
            &x,
            function,
            &dy,
            saved,
            Some(&weight),
            dx.slice(),
            Some(dr.slice()),
            dw.slice(),
            db.slice(),
            scratch.slice(),
        );
        scratch.done();
        vec![mean, var, out, dx.done(), dr.done(), dw.done(), db.done()]
    };
    let count = (case.places[0].len() as f64).sqrt();
    everywhere(run, |isa, got| {
        let what = |name: &str| format!("{name} {norm:?} {bounds:?} on {isa}");
        assert_close(&what("mean"), &got[0], &means, 0.0, 4e-7);
        assert_close(&what("variance"), &got[1], &vars, 2e-7, 2e-6);
        assert_close(&what("y"), &got[2], &y, 4e-6, 2e-6);
        assert_close(&what("dx"), &got[3], &dx, 2e-5, 1e-5);
        assert_close(&what("dresidual"), &got[4], &dr, 0.0, 0.0);
        assert_close(&what("dweight"), &got[5], &dw, 4e-6 * count, 1e-5);
        assert_close(&what("dbias"), &got[6], &db, 1e-6 * count, 1e-5);
    });
}

#[test]
fn variance_survives_a_mean_a_thousand_times_larger() {
    let case = case(Layout::Plain, [3, 2, 4000]);
    let x = input(&case, 1, 1000.0);
    let (mut mean, mut var, mut scratch) = ([0.0; 2], [0.0; 2], vec![0.0; case.norm.scratch()]);
    case.norm.statistics(&x, &mut mean, &mut var, &mut scratch);
    for (c, places) in case.places.iter().enumerate() {
        let xs: Vec<f64> = places.iter().map(|&i| f64::from(x[i])).collect();
        let (_, s) = stats(&xs, 0.0, true);
        assert!((f64::from(var[c]) * s * s - 1.0).abs() < 1e-5, "{}", var[c]);
    }
}

#[test]
fn running_statistics_use_the_unbiased_variance() {
    let norm = BatchNorm {
        layout: Layout::Plain,
        batch: 2,
        channels: 1,
        inner: 2,
        eps: 0.0,
        steps: Steps::default(),
    };
    let (mut mean, mut var) = ([1.0], [2.0]);
    norm.update_running(0.1, &[5.0], &[3.0], &mut mean, &mut var);
    assert_close("running mean", &mean, &[1.4], 1e-7, 1e-7);
    assert_close("running variance", &var, &[0.9 * 2.0 + 0.1 * 4.0], 1e-7, 1e-7);
}

#[test]
fn row_norms_forward_and_backward() {
    for (rows, n) in [(1, 1), (3, 5), (4, 16), (70, 256), (300, 300), (2, 1000)] {
        for kind in [RowKind::Layer, RowKind::Rms] {
            for affine in [false, true] {
                check_rows(RowNorm { kind, rows, n, eps: 1e-5 }, affine);
            }
        }
    }
}

fn check_rows(norm: RowNorm, affine: bool) {
    let (rows, n, centre) = (norm.rows, norm.n, norm.kind == RowKind::Layer);
    let x: Vec<f32> = numbers(1, rows * n).iter().map(|x| x + 1.0).collect();
    let (dy, w, b) = (numbers(2, rows * n), numbers(3, n), numbers(4, n));
    let (weight, bias) = (affine.then_some(&w[..]), affine.then_some(&b[..]));
    let at = |v: Option<&[f32]>, i: usize, absent: f64| v.map_or(absent, |v| f64::from(v[i]));
    let (mut y, mut dx, mut dw, mut db) = (Vec::new(), Vec::new(), vec![0.0; n], vec![0.0; n]);
    for r in 0..rows {
        let pick = |v: &[f32]| -> Vec<f64> { v[r * n..(r + 1) * n].iter().map(|&v| v.into()).collect() };
        let (xs, d) = (pick(&x), pick(&dy));
        let (mean, s) = stats(&xs, 1e-5, centre);
        y.extend((0..n).map(|i| (xs[i] - mean) * s * at(weight, i, 1.0) + at(bias, i, 0.0)));
        (0..n).for_each(|i| {
            dw[i] += d[i] * (xs[i] - mean) * s;
            db[i] += d[i];
        });
        let g: Vec<f64> = (0..n).map(|i| d[i] * at(weight, i, 1.0)).collect();
        dx.extend(set_gradient(&xs, &g, (mean, s), centre));
    }
    let run = || {
        let (mut out, mut mean, mut s) = (Guarded::new(rows * n), Guarded::new(rows), Guarded::new(rows));
        norm.forward(&x, weight, bias, out.slice(), mean.slice(), s.slice());
        let (mean, s) = (mean.done(), s.done());
        let (mut dx, mut dw, mut db) = (Guarded::new(rows * n), Guarded::new(n), Guarded::new(n));
        let mut scratch = Guarded::new(norm.backward_scratch());
        let grads = (Some(dw.slice()), Some(db.slice()));
        norm.backward(&x, &dy, weight, &mean, &s, dx.slice(), grads.0, grads.1, scratch.slice());
        scratch.done();
        vec![out.done(), dx.done(), dw.done(), db.done()]
    };
    // One element has no deviation, and 1/√ε magnifies its rounding.
    let slack = if n == 1 && centre { 1e-3 } else { 1e-5 };
    everywhere(run, |isa, got| {
        let what = format!("{norm:?} on {isa}");
        assert_close(&what, &got[0], &y, 2e-6, 2e-6);
        assert_close(&what, &got[1], &dx, slack, 1e-5);
        assert_close(&what, &got[2], &dw, 5e-6 * (rows as f64).sqrt(), 1e-5);
        assert_close(&what, &got[3], &db, 1e-6 * (rows as f64).sqrt(), 1e-5);
    });
}

#[test]
fn group_norm_forward_and_backward() {
    let shapes = [([2, 6, 5], 3), ([3, 4, 16], 1), ([2, 4, 9], 4), ([2, 6, 3000], 2), ([3, 8, 1], 2)];
    for ([batch, channels, inner], groups) in shapes {
        let norm = GroupNorm::new([batch, channels, inner], groups, 1e-5).unwrap();
        let len = batch * channels * inner;
        let x: Vec<f32> = numbers(1, len).iter().map(|x| x + 1.0).collect();
        let (dy, w, b) = (numbers(2, len), numbers(3, channels), numbers(4, channels));
        let run = channels / groups * inner;
        let (mut y, mut dx) = (Vec::new(), Vec::new());
        let (mut dw, mut db) = (vec![0.0; channels], vec![0.0; channels]);
        for g in 0..batch * groups {
            let xs: Vec<f64> = x[g * run..(g + 1) * run].iter().map(|&x| x.into()).collect();
            let (mean, s) = stats(&xs, 1e-5, true);
            let channel = |i: usize| (g * run + i) / inner % channels;
            let mut weighted = Vec::new();
            for i in 0..run {
                let (c, d) = (channel(i), f64::from(dy[g * run + i]));
                let normal = (xs[i] - mean) * s;
                y.push(normal * f64::from(w[c]) + f64::from(b[c]));
                dw[c] += d * normal;
                db[c] += d;
                weighted.push(d * f64::from(w[c]));
            }
            dx.extend(set_gradient(&xs, &weighted, (mean, s), true));
        }
        let stats_len = batch * groups;
        let run = || {
            let (mut out, mut mean, mut s) =
                (Guarded::new(len), Guarded::new(stats_len), Guarded::new(stats_len));
            norm.forward(&x, Some(&w), Some(&b), out.slice(), mean.slice(), s.slice());
            let (mean, s) = (mean.done(), s.done());
            let (mut dx, mut dw, mut db) =
                (Guarded::new(len), Guarded::new(channels), Guarded::new(channels));
            let mut scratch = Guarded::new(norm.backward_scratch());
            let grads = (Some(dw.slice()), Some(db.slice()));
            norm.backward(&x, &dy, Some(&w), &mean, &s, dx.slice(), grads.0, grads.1, scratch.slice());
            scratch.done();
            vec![out.done(), dx.done(), dw.done(), db.done()]
        };
        let count = ((batch * inner) as f64).sqrt();
        everywhere(run, |isa, got| {
            let what = format!("{norm:?} on {isa}");
            assert_close(&what, &got[0], &y, 2e-6, 2e-6);
            assert_close(&what, &got[1], &dx, 2e-5, 1e-5);
            assert_close(&what, &got[2], &dw, 4e-6 * count, 1e-5);
            assert_close(&what, &got[3], &db, 1e-6 * count, 1e-5);
        });
    }
    assert!(GroupNorm::new([1, 6, 1], 4, 0.0).is_err());
}

/// The images of a tensor `step` elements apart, with NaN between them.
fn spread(dense: &[f32], images: usize, step: usize) -> Vec<f32> {
    let own = dense.len() / images;
    let mut data = vec![f32::NAN; (images - 1) * step + own];
    for (n, image) in dense.chunks_exact(own).enumerate() {
        data[n * step..][..own].copy_from_slice(image);
    }
    data
}

/// Operands within larger tensors: the same bits, and nothing between the images is read or written.
#[test]
fn batch_norm_on_slices_of_channels() {
    for shape in [[3, 16, 49], [2, 48, 700]] {
        let case = case(Layout::Blocked, shape);
        let (dense, images) = (case.norm, shape[0]);
        let (x, r, dy) = (input(&case, 1, 3.0), input(&case, 2, 0.0), input(&case, 3, 0.0));
        let (own, c) = (x.len() / images, shape[1]);
        let steps = Steps { x: Some(own + 16), y: Some(2 * own), dy: Some(own + 160) };
        let weight = numbers(4, c);
        let pass = |norm: BatchNorm, x: &[f32], dy: &[f32], y_len: usize| {
            let (mut mean, mut var, mut scratch) = (vec![0.0; c], vec![0.0; c], vec![0.0; norm.scratch()]);
            norm.statistics(x, &mut mean, &mut var, &mut scratch);
            norm.invert(&mut var);
            let saved = Saved { mean: &mean, inv_std: &var };
            let affine = Affine { weight: Some(&weight), bias: None };
            let mut y = Guarded::new(y_len);
            norm.normalise(
                x,
                saved,
                affine,
                Fused { residual: Some(&r), bounds: Some(Bounds::Relu) },
                y.slice(),
            );
            let y = y.done();
            let (mut dx, mut dr) = (Guarded::new(r.len()), Guarded::new(r.len()));
            let (mut dw, mut db) = (vec![0.0; c], vec![0.0; c]);
            let out = (dx.slice(), Some(dr.slice()));
            let weight = Some(&weight[..]);
            norm.backward(
                x,
                Function::Relu(&y),
                dy,
                saved,
                weight,
                out.0,
                out.1,
                &mut dw,
                &mut db,
                &mut scratch,
            );
            [y, dx.done(), dr.done(), dw, db, mean, var]
        };
        let (xs, dys) = (spread(&x, images, own + 16), spread(&dy, images, own + 160));
        let run = || {
            let [y, rest @ ..] = pass(dense, &x, &dy, x.len());
            let y_len = (images - 1) * 2 * own + own;
            let [ys, others @ ..] = pass(BatchNorm { steps, ..dense }, &xs, &dys, y_len);
            for (k, (a, b)) in rest.iter().zip(&others).enumerate() {
                assert_eq!(a, b, "result {k}");
            }
            let bits =
                |v: &[f32]| v.iter().map(|v| if v.is_nan() { 0 } else { v.to_bits() }).collect::<Vec<_>>();
            assert_eq!(bits(&ys), bits(&spread(&y, images, 2 * own)));
            vec![y]
        };
        everywhere(run, |_, _| {});
    }
}
