//! Rows of a table, and gradients back to them.

use kessen_graph::{Node, NodeId, Op};
use kessen_kernels::Indices;
use kessen_kernels::embedding::Embedding;
use kessen_kernels::optim::Pieces;
use kessen_kernels::recurrent::Recurrent;

use super::{lookup, optimizer, tokens};
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::{Buf, Keep, Kind, Views};
use crate::{Error, Result};

/// Refuses an id that is no row of the table.
pub(super) fn check(path: &str, operator: &str, ids: &[i64], rows: usize) -> Result<()> {
    let bad = |&id: &i64| usize::try_from(id).map_or(true, |id| id >= rows);
    match ids.iter().position(bad) {
        None => Ok(()),
        Some(position) => Err(Error::Index {
            path: path.to_owned(),
            operator: operator.to_owned(),
            index: ids[position],
            position,
            limit: rows,
        }),
    }
}

fn kernel_error(error: &kessen_kernels::Error) -> Error {
    kessen_graph::Error::Inconsistent(error.to_string()).into()
}

/// y = weight[ids].
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Embedding(op) = &node.op else { return Ok(()) };
    if tokens::replaces(b, id) || lookup::lower(b, id) {
        return Ok(());
    }
    let (ids, table) = (node.inputs[0], node.inputs[1]);
    let (rows, width) = (b.shape(table)[0], b.shape(table)[1]);
    let kernel = Embedding { rows, width, padding: op.padding_index };
    let reads = [b.plain(ids), b.plain(table)];
    let out = b.result(node.outputs[0], Layout::Plain);
    let path = node.path.clone();
    b.step("embedding", &reads, &[out], move |views, _| {
        let ids = views.read_ids(0);
        check(&path, "embedding", ids, rows)?;
        kernel.forward(views.read(1), Indices::I64(ids), views.write(0)).map_err(|e| kernel_error(&e))
    });
    Ok(())
}

/// The ids and rows that are added to a table's gradient: operands of its step.
struct Terms {
    reads: [Buf; 2],
    /// The layer that gives only rows that it has recorded; the record stands for the ids.
    layer: Option<Recurrent>,
    path: String,
    table: Embedding,
}

impl Terms {
    fn of(b: &mut PlanBuilder<'_>, node: &Node) -> Option<Self> {
        let Op::EmbeddingGrad(op) = &node.op else { return None };
        let table =
            Embedding { rows: op.rows, width: b.shape(node.outputs[0])[1], padding: op.padding_index };
        let (ids, layer) = match lookup::gradient(b, node.inputs[0]) {
            Some((record, layer)) => (record, Some(layer)),
            None => (b.plain(node.inputs[1]), None),
        };
        Some(Self { reads: [ids, b.plain(node.inputs[0])], layer, path: node.path.clone(), table })
    }

    /// The ids, which are rows of the table, with a row for each.
    fn read<'v>(&self, views: &Views<'v>) -> Result<(Indices<'v>, &'v [f32])> {
        let (ids, dy) = (views.read_ids(0), views.read(1));
        if let Some(layer) = &self.layer {
            let ids = layer.recorded(ids);
            return Ok((Indices::I64(ids), &dy[..ids.len() * self.table.width]));
        }
        check(&self.path, "embedding_grad", ids, self.table.rows)?;
        Ok((Indices::I64(ids), dy))
    }
}

/// dweight[ids] += dy.
pub(crate) fn lower_grad(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Some(terms) = Terms::of(b, node) else { return Ok(()) };
    let reads = terms.reads;
    let out = b.result(node.outputs[0], Layout::Plain);
    b.step("embedding gradient", &reads, &[out], move |views, _| {
        let (ids, dy) = terms.read(views)?;
        terms.table.backward(ids, dy, views.write(0), false).map_err(|e| kernel_error(&e))
    });
    Ok(())
}

/// The gradient of a table and the optimiser's step with it: one step where the optimiser works in place, else two.
pub(crate) fn lower_update(b: &mut PlanBuilder<'_>, group: &[NodeId]) -> Result<()> {
    let (node, step) = (b.graph.node(group[0]), b.graph.node(group[1]));
    let Some(targets) = optimizer::in_place(b, step) else {
        lower_grad(b, group[0])?;
        return optimizer::lower(b, group[1]);
    };
    let Some(terms) = Terms::of(b, node) else { return Ok(()) };
    let (reads, places) = (terms.reads, terms.table.update_places(b.len(node.inputs[1])));
    let scratch = [b.buffer(Kind::I64, places, Keep::Step), b.scratch(terms.table.update_scratch())];
    let update = move |views: &Views<'_>, pieces: &Pieces<'_>, at: usize| {
        let ((ids, dy), places) = (terms.read(views)?, views.write_ids(at));
        terms.table.update(ids, dy, pieces, places, views.write(at + 1)).map_err(|e| kernel_error(&e))
    };
    optimizer::lower_pieces(b, step, "embedding gradient", reads, targets, &scratch, update);
    Ok(())
}
