//! Two-dimensional convolution.
//!
//! Dimensions: `N` batch, `C` input channels, `K` output channels, `J`×`L` input, `P`×`Q` output, `R`×`S` kernel,
//! `G` groups.
//!
//! y[n,k,p,q] = b[k] + Σ_c Σ_r Σ_s w[k,c,r,s] · x[n, c, p·stride + r·dilation − padding, …], zeros outside. Its
//! gradients are the same sum read the other way: each product w·x in y sends dy·w to x and dy·x to w.

use kessen_graph::Padding;
use kessen_graph::ops::conv::{Conv, ConvGradInput, ConvGradWeight};

use super::array::Array;

/// Where an output position and a kernel element meet the input along one axis; `None` in the padding.
pub(super) fn input_position(
    output: usize,
    kernel: usize,
    [stride, padding, dilation]: [usize; 3],
    size: usize,
) -> Option<usize> {
    (output * stride + kernel * dilation).checked_sub(padding).filter(|&i| i < size)
}

/// Calls `f([n, k, p, q], [k, c within its group, r, s], [n, c, i, j])` for every product w·x of the convolution.
fn for_each_product(
    (stride, padding, dilation, groups): ([usize; 2], Padding, [usize; 2], usize),
    [y_shape, w_shape, x_shape]: [[usize; 4]; 3],
    mut f: impl FnMut([usize; 4], [usize; 4], [usize; 4]),
) {
    let [n_count, k_count, p_count, q_count] = y_shape;
    let [_, c_per_group, r_count, s_count] = w_shape;
    let [_, _, height, width] = x_shape;
    let axis = [0, 1].map(|a| [stride[a], padding.before[a], dilation[a]]);
    for n in 0..n_count {
        for k in 0..k_count {
            let group = k / (k_count / groups);
            for p in 0..p_count {
                for q in 0..q_count {
                    for c in 0..c_per_group {
                        for r in 0..r_count {
                            for s in 0..s_count {
                                let i = input_position(p, r, axis[0], height);
                                let j = input_position(q, s, axis[1], width);
                                if let (Some(i), Some(j)) = (i, j) {
                                    f([n, k, p, q], [k, c, r, s], [n, group * c_per_group + c, i, j]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// y = w ∗ x + b.
pub(super) fn conv(op: &Conv, x: &Array, w: &Array, b: Option<&Array>, y: &mut Array) {
    let [n_count, k_count, p_count, q_count] = y.dims();
    if let Some(b) = b {
        for n in 0..n_count {
            for k in 0..k_count {
                for p in 0..p_count {
                    for q in 0..q_count {
                        y[[n, k, p, q]] = b[[k]];
                    }
                }
            }
        }
    }
    let attributes = (op.stride, op.padding, op.dilation, op.groups);
    for_each_product(attributes, [y.dims(), w.dims(), x.dims()], |at_y, at_w, at_x| {
        y[at_y] += w[at_w] * x[at_x];
    });
}

/// dx[n,c,i,j] = Σ dy·w over the outputs that saw x[n,c,i,j].
pub(super) fn conv_grad_input(op: &ConvGradInput, dy: &Array, w: &Array, dx: &mut Array) {
    let attributes = (op.stride, op.padding, op.dilation, op.groups);
    for_each_product(attributes, [dy.dims(), w.dims(), dx.dims()], |at_y, at_w, at_x| {
        dx[at_x] += dy[at_y] * w[at_w];
    });
}

/// dw[k,c,r,s] = Σ dy·x over the places where the kernel element lay.
pub(super) fn conv_grad_weight(op: &ConvGradWeight, x: &Array, dy: &Array, dw: &mut Array) {
    let attributes = (op.stride, op.padding, op.dilation, op.groups);
    for_each_product(attributes, [dy.dims(), dw.dims(), x.dims()], |at_y, at_w, at_x| {
        dw[at_w] += dy[at_y] * x[at_x];
    });
}
