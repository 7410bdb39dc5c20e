//! Softmax and its logarithm.

use kessen_graph::{NodeId, Op, ValueId};
use kessen_kernels::softmax;

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};

/// Sizes before, of and behind a dimension.
pub(crate) fn around(shape: &[usize], dim: usize) -> [usize; 3] {
    [shape[..dim].iter().product(), shape[dim], shape[dim + 1..].iter().product()]
}

/// Softmax along a dimension.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Softmax(op) = &node.op else { return Ok(()) };
    let (x, y): (ValueId, ValueId) = (node.inputs[0], node.outputs[0]);
    let (shape, log) = (around(b.shape(x), op.dim), op.log);
    let reads = [b.plain(x)];
    let out = b.result(y, Layout::Plain);
    b.step(node.op.operator().word(), &reads, &[out], move |views, _| {
        let run = if log { softmax::log_softmax } else { softmax::softmax };
        run(views.read(0), shape, views.write(0));
        Ok(())
    });
    Ok(())
}

/// The gradient from the result.
pub(crate) fn lower_grad(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::SoftmaxGrad(op) = &node.op else { return Ok(()) };
    let (dy, y, dx) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let (shape, log) = (around(b.shape(y), op.dim), op.log);
    let reads = [b.plain(y), b.plain(dy)];
    let out = b.result(dx, Layout::Plain);
    b.step("softmax gradient", &reads, &[out], move |views, _| {
        let run = if log { softmax::log_softmax_backward } else { softmax::softmax_backward };
        run(views.read(0), views.read(1), shape, views.write(0));
        Ok(())
    });
    Ok(())
}
