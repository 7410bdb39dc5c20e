//! Operators written outside this house: they compute in f32.

use kessen_graph::{CustomOperator, CustomTensor};

use super::array::{Array, Value};

/// The operator's own forward computation.
pub(super) fn forward(op: &dyn CustomOperator, operands: &[&Array], y: &mut Array) {
    let singles = singles(operands);
    let mut single = vec![0.0; y.data.len()];
    op.forward(&tensors(operands, &singles), &mut single);
    write(&single, y);
}

/// The operator's own backward computation; the last operand is the output's gradient.
pub(super) fn backward(op: &dyn CustomOperator, operands: &[&Array], dinputs: &mut [Value]) {
    let singles = singles(operands);
    let tensors = tensors(operands, &singles);
    let Some((doutput, inputs)) = tensors.split_last() else { return };
    let mut gradients: Vec<Vec<f32>> = inputs.iter().map(|t| vec![0.0; t.data.len()]).collect();
    let mut slices: Vec<&mut [f32]> = gradients.iter_mut().map(Vec::as_mut_slice).collect();
    op.backward(inputs, doutput.data, &mut slices);
    for (gradient, result) in gradients.iter().zip(dinputs) {
        if let Value::Real(dx) = result {
            write(gradient, dx);
        }
    }
}

fn singles(operands: &[&Array]) -> Vec<Vec<f32>> {
    operands.iter().map(|a| a.data.iter().map(|&v| v as f32).collect()).collect()
}

fn tensors<'a>(operands: &'a [&Array], singles: &'a [Vec<f32>]) -> Vec<CustomTensor<'a>> {
    operands.iter().zip(singles).map(|(a, data)| CustomTensor { shape: &a.shape, data }).collect()
}

fn write(single: &[f32], y: &mut Array) {
    for i in 0..single.len() {
        y.data[i] = f64::from(single[i]);
    }
}
