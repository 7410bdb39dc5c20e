//! Layer normalisation: each row of `D` elements (the trailing dimensions) by its own mean and variance.
//!
//! y = (x − μ)·invstd·weight + bias, invstd = 1/√(σ² + eps), σ² = 1/D·Σ(x − μ)².

use kessen_graph::ops::layer_norm::LayerNorm;

use super::array::Array;

/// Results y, and mean and invstd of each row.
pub(super) fn layer_norm(
    op: &LayerNorm,
    x: &Array,
    weight: Option<&Array>,
    bias: Option<&Array>,
    [y, mean, invstd]: [&mut Array; 3],
) {
    let d_count: usize = x.shape[x.shape.len() - op.dims..].iter().product();
    for row in 0..mean.data.len() {
        let at = |d: usize| row * d_count + d;
        let mu = (0..d_count).map(|d| x.data[at(d)]).sum::<f64>() / d_count as f64;
        let variance = (0..d_count).map(|d| (x.data[at(d)] - mu).powi(2)).sum::<f64>() / d_count as f64;
        mean.data[row] = mu;
        invstd.data[row] = 1.0 / (variance + op.eps).sqrt();
        for d in 0..d_count {
            let (w, b) = (weight.map_or(1.0, |w| w.data[d]), bias.map_or(0.0, |b| b.data[d]));
            y.data[at(d)] = (x.data[at(d)] - mu) * invstd.data[row] * w + b;
        }
    }
}

/// With x̂ = (x − mean)·invstd and g = dy·weight: dx = invstd·(g − mean(g) − x̂·mean(g·x̂)) over each row;
/// dweight = Σ dy·x̂ and dbias = Σ dy over the rows.
pub(super) fn layer_norm_grad(
    [dy, x, mean, invstd]: [&Array; 4],
    weight: Option<&Array>,
    dx: &mut Array,
    affine: Option<[&mut Array; 2]>,
) {
    let rows = mean.data.len();
    let d_count = x.data.len().checked_div(rows).unwrap_or(0);
    let at = |row: usize, d: usize| row * d_count + d;
    let normalised = |row: usize, d: usize| (x.data[at(row, d)] - mean.data[row]) * invstd.data[row];
    let g = |row: usize, d: usize| dy.data[at(row, d)] * weight.map_or(1.0, |w| w.data[d]);
    for row in 0..rows {
        let mean_g = (0..d_count).map(|d| g(row, d)).sum::<f64>() / d_count as f64;
        let mean_gx = (0..d_count).map(|d| g(row, d) * normalised(row, d)).sum::<f64>() / d_count as f64;
        for d in 0..d_count {
            dx.data[at(row, d)] = invstd.data[row] * (g(row, d) - mean_g - normalised(row, d) * mean_gx);
        }
    }
    let Some([dweight, dbias]) = affine else { return };
    for row in 0..rows {
        for d in 0..d_count {
            dweight.data[d] += dy.data[at(row, d)] * normalised(row, d);
            dbias.data[d] += dy.data[at(row, d)];
        }
    }
}
