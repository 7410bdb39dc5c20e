//! Operators written outside Kessen.

use std::sync::Arc;

use kessen_graph::{CustomTensor, NodeId, Op};

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::Buf;

/// Calls the user's forward or backward computation.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Custom(op) = &node.op else { return Ok(()) };
    let (operator, backward) = (Arc::clone(&op.operator), op.backward);
    let reads: Vec<Buf> = node.inputs.iter().map(|&v| b.plain(v)).collect();
    let shapes: Vec<Vec<usize>> = node.inputs.iter().map(|&v| b.shape(v).to_vec()).collect();
    let outputs: Vec<Buf> = node.outputs.iter().map(|&v| b.result(v, Layout::Plain)).collect();
    let count = outputs.len();
    let kernel = format!("{} {}", node.op.operator().name(), operator.name());
    // One buffer may stand at several places of the operands; a step lists it once.
    let mut distinct = reads.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let at: Vec<usize> = reads.iter().map(|r| distinct.binary_search(r).unwrap_or(0)).collect();
    b.step(&kernel, &distinct, &outputs, move |views, _| {
        let tensors: Vec<CustomTensor<'_>> =
            at.iter().zip(&shapes).map(|(&k, shape)| CustomTensor { shape, data: views.read(k) }).collect();
        if !backward {
            operator.forward(&tensors, views.write(0));
            return Ok(());
        }
        let mut gradients: Vec<&mut [f32]> = (0..count).map(|k| views.write(k)).collect();
        gradients.iter_mut().for_each(|g| g.fill(0.0));
        if let Some((doutput, operands)) = tensors.split_last() {
            operator.backward(operands, doutput.data, &mut gradients);
        }
        Ok(())
    });
    Ok(())
}
