//! Element-wise functions of two values.

use kessen_graph::ops::binary::{Binary, BinaryKind};

use super::array::{Array, broadcast_source};

/// y = f(a, b), each operand broadcast to y's shape.
pub(super) fn binary(op: &Binary, a: &Array, b: &Array, y: &mut Array) {
    for i in 0..y.data.len() {
        let a = a.data[broadcast_source(i, &y.shape, &a.shape)];
        let b = b.data[broadcast_source(i, &y.shape, &b.shape)];
        y.data[i] = apply(op.kind, a, b);
    }
}

fn apply(kind: BinaryKind, a: f64, b: f64) -> f64 {
    match kind {
        BinaryKind::Add => a + b,
        BinaryKind::Sub => a - b,
        BinaryKind::Mul => a * b,
        BinaryKind::Div => a / b,
        // A comparison with NaN is false, so a NaN in either operand comes through.
        BinaryKind::Max if a.is_nan() || b.is_nan() => f64::NAN,
        BinaryKind::Min if a.is_nan() || b.is_nan() => f64::NAN,
        BinaryKind::Max => a.max(b),
        BinaryKind::Min => a.min(b),
        BinaryKind::Pow => a.powf(b),
        BinaryKind::Greater if a == b => 0.5,
        BinaryKind::Greater => f64::from(u8::from(a > b)),
    }
}
