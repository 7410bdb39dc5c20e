//! Batch normalisation.
//!
//! `N` batch, `C` channels, `S` positions of one channel (1, length, height·width), m = N·S elements per channel.
//! y = weight·(x − μ)·invstd + bias with invstd = 1/√(σ² + eps).

use kessen_graph::ops::batch_norm::{BatchNorm, BatchNormTrain};

use super::array::Array;

/// Places of the elements of channel `c` in row-major x `[N, C, S]`.
fn channel(x: &Array, c: usize) -> impl Iterator<Item = usize> + use<> {
    let (n_count, c_count) = (x.shape[0], x.shape[1]);
    let s_count: usize = x.shape[2..].iter().product();
    (0..n_count).flat_map(move |n| (0..s_count).map(move |s| (n * c_count + c) * s_count + s))
}

/// By running statistics: μ = running_mean, σ² = running_var.
pub(super) fn batch_norm(op: &BatchNorm, [x, weight, bias, mean, var]: [&Array; 5], y: &mut Array) {
    for c in 0..x.shape[1] {
        let invstd = 1.0 / (var[[c]] + op.eps).sqrt();
        for i in channel(x, c) {
            y.data[i] = weight[[c]] * (x.data[i] - mean[[c]]) * invstd + bias[[c]];
        }
    }
}

/// By the batch's statistics: μ = 1/m·Σ x, σ² = 1/m·Σ (x − μ)²; the running variance takes Σ (x − μ)²/(m − 1).
pub(super) fn batch_norm_train(
    op: &BatchNormTrain,
    [x, weight, bias, running_mean, running_var]: [&Array; 5],
    [y, mean, invstd, new_mean, new_var]: [&mut Array; 5],
) {
    for c in 0..x.shape[1] {
        let m = channel(x, c).count() as f64;
        let mu = channel(x, c).map(|i| x.data[i]).sum::<f64>() / m;
        let squares = channel(x, c).map(|i| (x.data[i] - mu).powi(2)).sum::<f64>();
        mean[[c]] = mu;
        invstd[[c]] = 1.0 / (squares / m + op.eps).sqrt();
        for i in channel(x, c) {
            y.data[i] = weight[[c]] * (x.data[i] - mu) * invstd[[c]] + bias[[c]];
        }
        new_mean[[c]] = (1.0 - op.momentum) * running_mean[[c]] + op.momentum * mu;
        new_var[[c]] = (1.0 - op.momentum) * running_var[[c]] + op.momentum * squares / (m - 1.0);
    }
}

/// With x̂ = (x − mean)·invstd: dbias = Σ dy, dweight = Σ dy·x̂, dx = weight·invstd·(dy − dbias/m − x̂·dweight/m).
pub(super) fn batch_norm_grad(
    [dy, x, weight, mean, invstd]: [&Array; 5],
    [dx, dweight, dbias]: [&mut Array; 3],
) {
    for c in 0..x.shape[1] {
        let m = channel(x, c).count() as f64;
        let normalised = |i: usize| (x.data[i] - mean[[c]]) * invstd[[c]];
        for i in channel(x, c) {
            dbias[[c]] += dy.data[i];
            dweight[[c]] += dy.data[i] * normalised(i);
        }
        for i in channel(x, c) {
            let centred = dy.data[i] - dbias[[c]] / m - normalised(i) * dweight[[c]] / m;
            dx.data[i] = weight[[c]] * invstd[[c]] * centred;
        }
    }
}
