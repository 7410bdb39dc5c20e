//! Fully connected layers and matrix products.

use kessen_graph::ops::linear::MatMul;

use super::array::{Array, broadcast_source};

/// y[n,o] = b[o] + Σ_i w[o,i]·x[n,i], for every row n of x.
pub(super) fn linear(x: &Array, w: &Array, b: Option<&Array>, y: &mut Array) {
    let [rows, inputs] = x.rows();
    let [_, outputs] = y.rows();
    for n in 0..rows {
        for o in 0..outputs {
            let mut sum = b.map_or(0.0, |b| b[[o]]);
            for i in 0..inputs {
                sum += w[[o, i]] * x.data[n * inputs + i];
            }
            y.data[n * outputs + o] = sum;
        }
    }
}

/// y[…,m,n] = Σ_k a[…,m,k]·b[…,k,n], either operand read transposed where the attributes say so; leading dimensions
/// are broadcast.
pub(super) fn matmul(op: &MatMul, a: &Array, b: &Array, y: &mut Array) {
    let split = |shape: &[usize]| {
        let (leading, matrix) = shape.split_at(shape.len() - 2);
        (leading.to_vec(), matrix[0], matrix[1])
    };
    let (leading, rows, columns) = split(&y.shape);
    let (leading_a, rows_a, columns_a) = split(&a.shape);
    let (leading_b, rows_b, columns_b) = split(&b.shape);
    let inner = if op.trans_a { rows_a } else { columns_a };
    for batch in 0..leading.iter().product() {
        let start_a = broadcast_source(batch, &leading, &leading_a) * rows_a * columns_a;
        let start_b = broadcast_source(batch, &leading, &leading_b) * rows_b * columns_b;
        for m in 0..rows {
            for n in 0..columns {
                let mut sum = 0.0;
                for k in 0..inner {
                    let at_a = if op.trans_a { k * columns_a + m } else { m * columns_a + k };
                    let at_b = if op.trans_b { n * columns_b + k } else { k * columns_b + n };
                    sum += a.data[start_a + at_a] * b.data[start_b + at_b];
                }
                y.data[(batch * rows + m) * columns + n] = sum;
            }
        }
    }
}
