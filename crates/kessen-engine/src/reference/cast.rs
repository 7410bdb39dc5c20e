//! Another element type.

use kessen_tensor::DType;

use super::array::Value;

/// The elements as another type. Real numbers stay f64 whatever their type is called.
pub(super) fn cast(to: DType, x: &Value, y: &mut Value) {
    match (x, y) {
        (Value::Real(x), Value::Real(y)) => y.data.copy_from_slice(&x.data),
        (Value::Real(x), Value::Ids(y)) => {
            for i in 0..x.data.len() {
                y.data[i] = if to == DType::Bool { i64::from(x.data[i] != 0.0) } else { x.data[i] as i64 };
                y.data[i] = within(to, y.data[i]);
            }
        }
        (Value::Ids(x), Value::Real(y)) => {
            for i in 0..x.data.len() {
                y.data[i] = x.data[i] as f64;
            }
        }
        (Value::Ids(x), Value::Ids(y)) => {
            for i in 0..x.data.len() {
                y.data[i] = within(to, x.data[i]);
            }
        }
    }
}

/// The whole number as its type can hold it: saturated, or whether it is not 0.
fn within(to: DType, v: i64) -> i64 {
    match to {
        DType::I32 => v.clamp(i64::from(i32::MIN), i64::from(i32::MAX)),
        DType::U8 => v.clamp(0, 255),
        DType::Bool => i64::from(v != 0),
        DType::I64 | DType::F32 | DType::F64 | DType::F16 | DType::Bf16 => v,
    }
}
