//! Recurrent layers right behind an embedding whose table changes, as in training: layer and gradient compute for each row
//! of the table that occurs, not for each place where it does.
//!
//! The embedding's result is never made. In its place stands the kernel's record of which rows are looked up, from the
//! embedding's step to that of the table's gradient.

use kessen_graph::{Graph, Node, NodeId, Op, Origin, ValueId};
use kessen_kernels::Indices;
use kessen_kernels::recurrent::Recurrent;

use super::{embedding, recurrent as layer, tokens};
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::{Buf, Keep, Kind};

/// The table that the kernel of a recurrent layer, or of its gradient, may read in place of the embedding's result.
pub(crate) fn table(graph: &Graph, node: &Node) -> Option<ValueId> {
    let x = match &node.op {
        Op::Recurrent(_) => node.inputs[0],
        Op::RecurrentGrad(op) => node.inputs[op.places().x],
        _ => return None,
    };
    let node = graph.node(graph.producer(x)?.0);
    let table = *node.inputs.get(1)?;
    let is_param = matches!(graph.value(table).origin, Origin::Param(_));
    (matches!(node.op, Op::Embedding(_)) && is_param).then_some(table)
}

/// The embedding that makes `x` and the layer for which its rows are looked up, where all that reads `x` are recurrent
/// layers that go through it in one direction, and their gradients, and all that reads a gradient of `x` is that of the
/// embedding.
fn embedding<'g>(b: &PlanBuilder<'g>, x: ValueId) -> Option<(&'g Node, Recurrent)> {
    let graph = b.graph;
    let (id, _) = graph.producer(x)?;
    let node = graph.node(id);
    if !matches!(node.op, Op::Embedding(_)) || !b.fuses() || b.is_static(x) || tokens::replaces(b, id) {
        return None;
    }
    let readers = || graph.nodes().iter().filter(|n| n.inputs.contains(&x));
    let desc = layer_of(b, readers().next()?, x)?;
    let goes_back = |dx: ValueId| {
        let takes = |n: &Node| matches!(n.op, Op::EmbeddingGrad(_)) && n.inputs == [dx, node.inputs[0]];
        !is_result(graph, dx) && graph.nodes().iter().filter(|n| n.inputs.contains(&dx)).all(takes)
    };
    let fits = |n: &Node| {
        layer_of(b, n, x).is_some_and(|l| l.reverse == desc.reverse)
            && table(graph, n) == Some(node.inputs[1])
            && (!matches!(n.op, Op::RecurrentGrad(_)) || goes_back(n.outputs[0]))
    };
    (!is_result(graph, x) && readers().all(fits)).then_some((node, desc))
}

/// The layer that a node is, or is the gradient of, where it reads `x` as its inputs and as nothing else.
fn layer_of(b: &PlanBuilder<'_>, node: &Node, x: ValueId) -> Option<Recurrent> {
    let (op, at) = match &node.op {
        Op::Recurrent(op) => (op.clone(), 0),
        Op::RecurrentGrad(op) => (op.forward(), op.places().x),
        _ => return None,
    };
    let alone = node.inputs[at] == x && node.inputs.iter().filter(|&&v| v == x).count() == 1;
    if alone { layer::describe(&op, b.shape(x), b.shape(node.inputs[at + 2])) } else { None }
}

/// Whether the graph gives a value to the outside.
fn is_result(graph: &Graph, v: ValueId) -> bool {
    graph.outputs().iter().any(|&(_, o)| o == v) || graph.updates().iter().any(|&(_, u)| u == v)
}

/// Lowers an embedding whose rows themselves nothing reads: makes the record that stands for its result. Tells whether the
/// embedding is one.
pub(super) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> bool {
    let x = b.graph.node(id).outputs[0];
    let Some((node, desc)) = embedding(b, x) else { return false };
    let (ids, rows) = (b.plain(node.inputs[0]), b.shape(node.inputs[1])[0]);
    let [record, seen] = [desc.record_len(), rows].map(|len| b.buffer(Kind::I64, len, Keep::Step));
    b.bind(x, Layout::Kernel, record);
    let path = node.path.clone();
    b.step("look up", &[ids], &[record, seen], move |views, _| {
        let ids = views.read_ids(0);
        embedding::check(&path, "embedding", ids, rows)?;
        let (record, seen) = (views.write_ids(0), views.write_ids(1));
        desc.look_up(Indices::I64(ids), rows, record, seen).map_err(|e| layer::kernel_error(&e))
    });
    true
}

/// The record that stands for `x`, and the table.
pub(super) fn of(b: &mut PlanBuilder<'_>, x: ValueId) -> Option<[Buf; 2]> {
    let (node, _) = embedding(b, x)?;
    let record = b.buffer_of(x, Layout::Kernel)?;
    Some([record, b.plain(node.inputs[1])])
}

/// The record of what was looked up, and the layer whose gradient gives `dx` for the rows in the record alone.
pub(super) fn gradient(b: &PlanBuilder<'_>, dx: ValueId) -> Option<(Buf, Recurrent)> {
    let node = b.graph.node(b.graph.producer(dx)?.0);
    let Op::RecurrentGrad(op) = &node.op else { return None };
    let x = node.inputs[op.places().x];
    let (_, desc) = embedding(b, x)?;
    Some((b.buffer_of(x, Layout::Kernel)?, desc))
}
