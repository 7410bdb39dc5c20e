//! Another element type. Real numbers are single precision here whatever their declared width.

use kessen_graph::{NodeId, Op, ValueId};
use kessen_tensor::DType;

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};

/// The elements as another type.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Cast(op) = &node.op else { return Ok(()) };
    let (x, y): (ValueId, ValueId) = (node.inputs[0], node.outputs[0]);
    let (from, to) = (b.graph.ty(x).dtype, op.to);
    if from == to || (from.is_float() && matches!(to, DType::F32 | DType::F64)) {
        return super::shape::lower_alias(b, id);
    }
    let reads = [b.plain(x)];
    let out = b.result(y, Layout::Plain);
    b.step(&format!("cast to {to}"), &reads, &[out], move |views, _| {
        match (from, to) {
            (DType::I64, DType::I64) => views.write_ids(0).copy_from_slice(views.read_ids(0)),
            (DType::I64, _) => {
                let pairs = views.write(0).iter_mut().zip(views.read_ids(0));
                pairs.for_each(|(y, &x)| *y = narrow(x as f32, to));
            }
            (_, DType::I64) => {
                let pairs = views.write_ids(0).iter_mut().zip(views.read(0));
                pairs.for_each(|(y, &x)| *y = x as i64);
            }
            _ => {
                let pairs = views.write(0).iter_mut().zip(views.read(0));
                pairs.for_each(|(y, &x)| *y = narrow(x, to));
            }
        }
        Ok(())
    });
    Ok(())
}

/// The nearest number of the type, kept as single precision.
fn narrow(x: f32, to: DType) -> f32 {
    match to {
        DType::I32 => x as i32 as f32,
        DType::U8 => f32::from(x as u8),
        DType::Bool => f32::from(u8::from(x != 0.0)),
        // Rounds to nearest even at the 16th bit; NaN stays NaN.
        DType::Bf16 if !x.is_nan() => {
            let bits = x.to_bits();
            f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
        }
        DType::F16 => half(x),
        _ => x,
    }
}

/// The nearest half-precision number, ties to even.
fn half(x: f32) -> f32 {
    let magnitude = x.abs();
    if magnitude >= 65520.0 {
        return f32::INFINITY.copysign(x);
    }
    // Adding and taking away 2¹³ times the unit in the last place of single precision rounds to 10 bits; below
    // 2⁻¹⁴ the spacing is fixed.
    let exponent = (magnitude.to_bits() >> 23) as i32 - 127;
    let unit = 2f32.powi(exponent.max(-14) - 10);
    (f64::from(x) / f64::from(unit)).round_ties_even() as f32 * unit
}
