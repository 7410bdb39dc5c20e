//! Normalisations.

use crate::floats;
use crate::suite::{Floats, Suite};
use kessen_kernels::norm::{Affine, BatchNorm, Bounds, Function, Fused, RowKind, RowNorm, Saved, Steps};
use kessen_kernels::pool::Layout;

pub fn layers(suite: &mut Suite) {
    let (rows, n) = (2048, 256);
    let norm = RowNorm { kind: RowKind::Layer, rows, n, eps: 1e-5 };
    let (len, name) = (rows * n, format!("layer norm {rows}x{n}"));
    let lengths = [len, n, n, len, rows, rows];
    suite.group(&name, floats(2 * len)).also_cold().bench(
        "forward",
        lengths,
        |[x, w, b, y, mean, inv_std]| {
            norm.forward(x, Some(w), Some(b), y, mean, inv_std);
        },
    );
    let mut scratch = Floats::scratch([norm.backward_scratch()]);
    let lengths = [len, len, n, rows, rows, len, n, n];
    suite.group(&name, floats(3 * len)).also_cold().bench(
        "backward",
        lengths,
        |[dy, x, w, mean, inv_std, dx, dw, db]| {
            norm.backward(dy, x, Some(w), mean, inv_std, dx, Some(dw), Some(db), scratch.slice());
        },
    );
}

pub fn batches(suite: &mut Suite) {
    for (channels, side) in [(64, 56), (256, 14)] {
        let norm = BatchNorm {
            layout: Layout::Blocked,
            batch: 16,
            channels,
            inner: side * side,
            eps: 1e-5,
            steps: Steps::default(),
        };
        let name = format!("batch norm 16x{channels}x{side}x{side}");
        forward(suite, &name, &norm);
        backward(suite, &name, &norm);
    }
}

fn forward(suite: &mut Suite, name: &str, norm: &BatchNorm) {
    let (n, c) = (norm.len(), norm.channels);
    let mut scratch = Floats::scratch([norm.scratch()]);
    suite.group(name, floats(n)).also_cold().bench("statistics", [n, c, c], |[x, mean, var]| {
        norm.statistics(x, mean, var, scratch.slice());
    });
    let mut group = suite.group(name, floats(3 * n)).also_cold();
    group.bench("residual, relu", [n, n, n, c, c, c, c], |[x, residual, y, mean, inv_std, w, b]| {
        let affine = Affine { weight: Some(w), bias: Some(b) };
        let fused = Fused { residual: Some(residual), bounds: Some(Bounds::Relu) };
        norm.normalise(x, Saved { mean, inv_std }, affine, fused, y);
    });
}

/// The ReLU's mask comes from its result or is computed again from its operand.
fn backward(suite: &mut Suite, name: &str, norm: &BatchNorm) {
    let (n, c) = (norm.len(), norm.channels);
    let mut scratch = Floats::scratch([norm.scratch()]);
    let scratch = scratch.slice();
    let lengths = [n, n, n, n, c, c, c, c, c];
    suite.group(name, floats(7 * n)).also_cold().bench(
        "backward",
        lengths,
        |[dy, x, y, dx, mean, inv_std, w, dw, db]| {
            let saved = Saved { mean, inv_std };
            norm.backward(dy, Function::Relu(y), x, saved, Some(w), dx, None, dw, db, scratch);
        },
    );
    let lengths = [n, n, n, c, c, c, c, c, c];
    suite.group(name, floats(5 * n)).also_cold().bench(
        "backward, relu from its operand",
        lengths,
        |[dy, x, dx, mean, inv_std, w, b, dw, db]| {
            let saved = Saved { mean, inv_std };
            norm.backward(
                dy,
                Function::Behind(b, Bounds::Relu),
                x,
                saved,
                Some(w),
                dx,
                None,
                dw,
                db,
                scratch,
            );
        },
    );
}
