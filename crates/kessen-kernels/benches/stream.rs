//! Prints how fast the memory-bound kernels are, in GB/s of what they must read and write.
//!
//! ```text
//! cargo bench -p kessen-kernels --bench stream [-- FILTER]
//! ```

use kessen_kernels::copy::StridedCopy;
use kessen_kernels::dropout::Dropout;
use kessen_kernels::elementwise::{Binary, Broadcast, Instruction, Program, Source, Ternary, Unary};
use kessen_kernels::loss::{CrossEntropy, Pointwise, Reduction as Share, pointwise, pointwise_scratch};
use kessen_kernels::norm::{Affine, BatchNorm, Fused, Relu, RowKind, RowNorm, Saved, Steps};
use kessen_kernels::optim::{Adam, Common, Sgd};
use kessen_kernels::pool::{Axis, Kind, Layout, Pool};
use kessen_kernels::reduce::{Reduce, Reduction};
use kessen_kernels::{Indices, elementwise, reduce, softmax};
use std::time::Instant;

/// Best seconds per call over some 0.1 s.
fn seconds(mut f: impl FnMut()) -> f64 {
    f();
    let start = Instant::now();
    f();
    let calls = (0.01 / start.elapsed().as_secs_f64().max(1e-9)).ceil().min(1e6) as usize;
    (0..8)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| f());
            start.elapsed().as_secs_f64() / calls as f64
        })
        .fold(f64::INFINITY, f64::min)
}

/// Prints one line: `floats` are those read and written by one call.
fn row(filter: &str, name: &str, floats: usize, f: impl FnMut()) {
    if name.contains(filter) {
        let s = seconds(f);
        println!("{name:<44} {:9.1} µs {:7.1} GB/s", s * 1e6, floats as f64 * 4e-9 / s);
    }
}

/// Numbers around 0.
fn data(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect()
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    for (size, n) in [("256 KB", 1 << 16), ("16 MB", 1 << 22)] {
        maps(&filter, size, n);
        updates(&filter, size, n);
    }
    reductions(&filter);
    rows(&filter);
    planes(&filter);
    copies(&filter);
}

fn maps(filter: &str, size: &str, n: usize) {
    let (a, b, mut y) = (data(n), data(n), vec![0.0; n]);
    row(filter, &format!("memory copy {size}"), 2 * n, || y.copy_from_slice(&a));
    for op in [Unary::Relu, Unary::Exp, Unary::Tanh, Unary::Sigmoid, Unary::Gelu, Unary::Sin] {
        row(filter, &format!("{op:?} {size}"), 2 * n, || elementwise::unary(op, &a, &mut y));
    }
    row(filter, &format!("add {size}"), 3 * n, || elementwise::binary(Binary::Add, &a, &b, &mut y));
    row(filter, &format!("relu backward {size}"), 3 * n, || {
        elementwise::binary(Binary::DRelu, &a, &b, &mut y);
    });
    row(filter, &format!("bias over rows of 256 {size}"), 2 * n, || {
        elementwise::binary_rows(Binary::Add, &a, &b[..256], &mut y);
    });
    let steps = [
        Instruction::Ternary(Ternary::MulAdd, 0, 1, 2),
        Instruction::Unary(Unary::Relu, 3),
        Instruction::Binary(Binary::Add, 4, 2),
    ];
    if let Ok(program) = Program::new(3, &steps, &[5]) {
        let per_channel = Broadcast::blocked(1, 4, n / 64);
        row(filter, &format!("program relu(x·c + z) + z {size}"), 3 * n, || {
            let operands = [Source::Full(&a), Source::Broadcast(&b[..64], per_channel), Source::Full(&b)];
            program.run(&operands, &mut [&mut y]);
        });
    }
    let dropout = Dropout { p: 0.1, seed: 1, stream: 2, step: 3 };
    row(filter, &format!("dropout {size}"), 2 * n, || dropout.apply(&a, &mut y));
}

fn updates(filter: &str, size: &str, n: usize) {
    let (g, mut p, mut m, mut v) = (data(n), data(n), vec![0.1; n], vec![0.1; n]);
    let sgd =
        Sgd { lr: 1e-6, momentum: 0.9, dampening: 0.0, weight_decay: 1e-4, nesterov: false, first: false };
    row(filter, &format!("sgd with momentum {size}"), 5 * n, || {
        sgd.step(&mut p, &g, &mut m, Common::default());
    });
    let adam =
        Adam { lr: 1e-6, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false, step: 10 };
    row(filter, &format!("adam {size}"), 7 * n, || {
        adam.step(&mut p, &g, &mut m, &mut v, Common::default());
    });
}

fn reductions(filter: &str) {
    let x = data(1 << 22);
    let shapes: [(&str, &[usize], &[usize]); 4] = [
        ("sum of all", &[1 << 22], &[0]),
        ("sum of rows 4096×1024", &[4096, 1024], &[1]),
        ("sum of columns 2048×2048", &[2048, 2048], &[0]),
        ("sum of NCHW over N, H, W 16×64×4096", &[16, 64, 4096], &[0, 2]),
    ];
    for (name, shape, axes) in shapes {
        if let Ok(r) = Reduction::new(Reduce::Sum, shape, axes) {
            let (mut y, mut scratch) = (vec![0.0; r.output_len()], vec![0.0; r.run_scratch()]);
            row(filter, name, x.len(), || r.run(&x, &mut y, &mut scratch));
        }
    }
    let mut scratch = vec![0.0; reduce::sum_of_squares_scratch(&[&x])];
    row(filter, "sum of squares", x.len(), || {
        reduce::sum_of_squares(&[&x], &mut scratch);
    });
    row(filter, "first non-finite", x.len(), || {
        reduce::first_non_finite(&x);
    });
}

fn rows(filter: &str) {
    for (n, k) in [(2048, 17), (128, 10), (2048, 256), (16, 1000)] {
        let (x, mut y) = (data(n * k), vec![0.0; n * k]);
        row(filter, &format!("softmax {n}×{k}"), 2 * n * k, || softmax::softmax(&x, [n, k, 1], &mut y));
        let classes: Vec<i64> = (0..n).map(|i| (i % k) as i64).collect();
        let mut losses = vec![0.0; n];
        row(filter, &format!("cross-entropy with gradient {n}×{k}"), 2 * n * k, || {
            let loss = CrossEntropy::default();
            let _ = loss.forward_backward(&x, [n, k, 1], Indices::I64(&classes), 1.0, &mut losses, &mut y);
        });
    }
    let n = 1 << 16;
    let (x, t, mut d, mut scratch) = (data(n), data(n), vec![0.0; n], vec![0.0; pointwise_scratch(n)]);
    row(filter, "squared error with gradient 64 K", 3 * n, || {
        pointwise(Pointwise::Mse, Share::Mean, &x, &t, 1.0, Some(&mut d), &mut scratch);
    });
    let norm = RowNorm { kind: RowKind::Layer, rows: 2048, n: 256, eps: 1e-5 };
    let len = norm.rows * norm.n;
    let (x, w, mut y, mut dx) = (data(len), data(256), vec![0.0; len], vec![0.0; len]);
    let (mut mean, mut inv_std, mut dw, mut db) =
        (vec![0.0; 2048], vec![1.0; 2048], vec![0.0; 256], vec![0.0; 256]);
    row(filter, "layer norm 2048×256", 2 * len, || {
        norm.forward(&x, Some(&w), Some(&w), &mut y, &mut mean, &mut inv_std);
    });
    let mut scratch = vec![0.0; norm.backward_scratch()];
    row(filter, "layer norm backward 2048×256", 3 * len, || {
        let (dw, db) = (Some(&mut dw[..]), Some(&mut db[..]));
        norm.backward(&x, &x, Some(&w), &mean, &inv_std, &mut dx, dw, db, &mut scratch);
    });
}

fn planes(filter: &str) {
    for (c, side) in [(64, 56), (256, 14)] {
        let norm = BatchNorm {
            layout: Layout::Blocked,
            batch: 16,
            channels: c,
            inner: side * side,
            eps: 1e-5,
            steps: Steps::default(),
        };
        let n = norm.len();
        let (x, w, mut y, mut dx) = (data(n), data(c), vec![0.0; n], vec![0.0; n]);
        let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
        let (mut dw, mut db, mut scratch) = (vec![0.0; c], vec![0.0; c], vec![0.0; norm.scratch()]);
        row(filter, &format!("batch norm statistics {c}×{side}²"), n, || {
            norm.statistics(&x, &mut mean, &mut var, &mut scratch);
        });
        norm.invert(&mut var);
        let saved = Saved { mean: &mean, inv_std: &var };
        row(filter, &format!("batch norm, residual, relu {c}×{side}²"), 3 * n, || {
            let affine = Affine { weight: Some(&w), bias: Some(&w) };
            norm.normalise(&x, saved, affine, Fused { residual: Some(&x), relu: true }, &mut y);
        });
        for (name, relu, passes) in
            [("", Relu::Output(&y), 7), (", relu from its operand", Relu::Bias(&w), 5)]
        {
            row(filter, &format!("batch norm backward {c}×{side}²{name}"), passes * n, || {
                norm.backward(&x, relu, &x, saved, Some(&w), &mut dx, None, &mut dw, &mut db, &mut scratch);
            });
        }
    }
    let cases = [
        ("3×3/2 of 112²", Layout::Blocked, 64, 112, 3, 2, 1),
        ("2×2/2 of 56²", Layout::Blocked, 64, 56, 2, 2, 0),
        ("3×3/1 of 28²", Layout::Blocked, 64, 28, 3, 1, 1),
        ("2×2/2 of 28² plain", Layout::Plain, 384, 28, 2, 2, 0),
        ("3×3/2 of 56² plain", Layout::Plain, 384, 56, 3, 2, 1),
    ];
    for (name, layout, planes, side, kernel, stride, padding) in cases {
        let Ok(axis) = Axis::new(side, kernel, stride, [padding; 2], 1, false) else { continue };
        for kind in [Kind::Max, Kind::Average] {
            let p = Pool { kind, layout, planes, rows: axis, columns: axis, slices: None };
            let (x, mut y) = (data(p.input_len()), vec![0.0; p.output_len()]);
            let mut dx = vec![0.0; x.len()];
            row(filter, &format!("{kind:?} pool {name}"), x.len() + y.len(), || p.forward(&x, &mut y));
            let dy = data(y.len());
            let read = if kind == Kind::Max { 2 * (x.len() + y.len()) } else { x.len() + y.len() };
            row(filter, &format!("{kind:?} pool backward {name}"), read, || {
                p.backward(&x, &y, &dy, &mut dx);
            });
        }
    }
}

fn copies(filter: &str) {
    let cases: [(&str, &[usize], &[usize]); 5] = [
        ("transpose 256×256", &[256, 256], &[1, 0]),
        ("transpose 2048×2048", &[2048, 2048], &[1, 0]),
        ("heads [16, 128, 4, 64] → [16, 4, 128, 64]", &[16, 128, 4, 64], &[0, 2, 1, 3]),
        ("NCHW → NHWC 16×64×56²", &[16, 64, 3136], &[0, 2, 1]),
        ("NCHW → NHWC 16×3×224²", &[16, 3, 50_176], &[0, 2, 1]),
    ];
    for (name, shape, order) in cases {
        let n = shape.iter().product();
        if let Ok(copy) = StridedCopy::transpose(shape, order) {
            let (x, mut y) = (data(n), vec![0.0; n]);
            row(filter, name, 2 * n, || copy.run(&x, &mut y));
        }
    }
}
