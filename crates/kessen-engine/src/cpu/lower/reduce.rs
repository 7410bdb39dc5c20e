//! Reductions.

use kessen_graph::ops::reduce::ReduceKind;
use kessen_graph::{NodeId, Op, ValueId};
use kessen_kernels::reduce::{Reduce, Reduction};

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};

/// Sum, mean, largest, smallest or product over dimensions.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Reduce(op) = &node.op else { return Ok(()) };
    let x = node.inputs[0];
    let kind = match op.kind {
        ReduceKind::Sum => Reduce::Sum,
        ReduceKind::Mean => Reduce::Mean,
        ReduceKind::Max => Reduce::Max,
        ReduceKind::Min => Reduce::Min,
        ReduceKind::Prod => Reduce::Prod,
    };
    let dims = op.reduced_dims(b.shape(x).len());
    if dims == [0, 2, 3] && kind == Reduce::Sum && b.lies(x, Layout::Blocked) {
        return channel_sums(b, x, node.outputs[0]);
    }
    reduce(b, kind, &dims, x, node.outputs[0])
}

/// The sum down to a shape that broadcasts to the operand's.
pub(crate) fn lower_sum_to(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let (x, y) = (node.inputs[0], node.outputs[0]);
    let (full, small) = (b.shape(x), b.shape(y));
    let missing = full.len() - small.len();
    let dims: Vec<usize> =
        (0..full.len()).filter(|&d| d < missing || (small[d - missing] == 1 && full[d] != 1)).collect();
    reduce(b, Reduce::Sum, &dims, x, y)
}

fn reduce(b: &mut PlanBuilder<'_>, kind: Reduce, dims: &[usize], x: ValueId, y: ValueId) -> Result<()> {
    let reduction =
        Reduction::new(kind, b.shape(x), dims).map_err(|e| super::unsupported(b, y, &e.to_string()))?;
    let reads = [b.plain(x)];
    let (out, scratch) = (b.result(y, Layout::Plain), b.scratch(reduction.run_scratch()));
    b.step("reduce", &reads, &[out, scratch], move |views, _| {
        reduction.run(views.read(0), views.write(0), views.write(1));
        Ok(())
    });
    Ok(())
}

/// Sums of an nChw16c value per channel.
fn channel_sums(b: &mut PlanBuilder<'_>, x: ValueId, y: ValueId) -> Result<()> {
    let [n, c, h, w] = b.image(x);
    let blocks = c.div_ceil(kessen_kernels::layout::PANEL);
    let shape = [n, blocks, h * w, kessen_kernels::layout::PANEL];
    let reduction =
        Reduction::new(Reduce::Sum, &shape, &[0, 2]).map_err(|e| super::unsupported(b, y, &e.to_string()))?;
    let reads = [b.blocked(x)];
    let (out, padded) = (b.result(y, Layout::Plain), b.scratch(reduction.output_len()));
    let scratch = b.scratch(reduction.run_scratch());
    b.step("reduce nChw16c", &reads, &[out, padded, scratch], move |views, _| {
        let padded = views.write(1);
        reduction.run(views.read(0), padded, views.write(2));
        views.write(0).copy_from_slice(&padded[..c]);
        Ok(())
    });
    Ok(())
}
