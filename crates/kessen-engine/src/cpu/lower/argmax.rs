//! Position of the largest element.

use kessen_graph::{NodeId, Op};
use kessen_kernels::reduce;

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};

/// The position along a dimension.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::ArgMax(op) = &node.op else { return Ok(()) };
    let shape = super::softmax::around(b.shape(node.inputs[0]), op.dim);
    let reads = [b.plain(node.inputs[0])];
    let out = b.result(node.outputs[0], Layout::Plain);
    b.step("argmax", &reads, &[out], move |views, _| {
        reduce::argmax(views.read(0), shape, views.write_ids(0));
        Ok(())
    });
    Ok(())
}
