//! Operators that only name the same elements otherwise, or repeat them.

use kessen_graph::NodeId;
use kessen_kernels::elementwise::{Broadcast, Instruction, Program, Source, Unary};

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};

/// The same elements: the result lies where the operand lies.
pub(crate) fn lower_alias(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let buf = b.plain(node.inputs[0]);
    b.bind(node.outputs[0], Layout::Plain, buf);
    Ok(())
}

/// Repeats an operand to a larger shape.
pub(crate) fn lower_broadcast(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let (x, y) = (node.inputs[0], node.outputs[0]);
    let strides = super::elementwise::broadcast_strides(b.shape(x), b.shape(y).len());
    let fail = |b: &PlanBuilder<'_>, e: kessen_kernels::Error| super::unsupported(b, y, &e.to_string());
    let broadcast = Broadcast::new(b.shape(y), &strides).map_err(|e| fail(b, e))?;
    let copy = Program::new(1, &[Instruction::Unary(Unary::Copy, 0)], &[1]).map_err(|e| fail(b, e))?;
    let reads = [b.plain(x)];
    let out = b.result(y, Layout::Plain);
    b.step("broadcast", &reads, &[out], move |views, _| {
        copy.run(&[Source::Broadcast(views.read(0), broadcast)], &mut [views.write(0)]);
        Ok(())
    });
    Ok(())
}
