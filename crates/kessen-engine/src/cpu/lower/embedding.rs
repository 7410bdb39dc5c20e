//! Rows of a table, and gradients back to them.

use kessen_graph::{NodeId, Op};
use kessen_kernels::Indices;
use kessen_kernels::embedding::Embedding;
use kessen_kernels::optim::Pieces;

use super::{optimizer, tokens};
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::{Keep, Kind, Views};
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
    if tokens::replaces(b, id) {
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

/// dweight[ids] += dy.
pub(crate) fn lower_grad(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::EmbeddingGrad(op) = &node.op else { return Ok(()) };
    let (dy, ids) = (node.inputs[0], node.inputs[1]);
    let width = b.shape(node.outputs[0])[1];
    let (rows, padding) = (op.rows, op.padding_index);
    let kernel = Embedding { rows, width, padding };
    let reads = [b.plain(ids), b.plain(dy)];
    let out = b.result(node.outputs[0], Layout::Plain);
    let path = node.path.clone();
    b.step("embedding gradient", &reads, &[out], move |views, _| {
        let ids = views.read_ids(0);
        check(&path, "embedding_grad", ids, rows)?;
        kernel.backward(Indices::I64(ids), views.read(1), views.write(0), false).map_err(|e| kernel_error(&e))
    });
    Ok(())
}

/// The gradient of a table and the optimiser's step with it: one step where the optimiser works in place, else two.
pub(crate) fn lower_update(b: &mut PlanBuilder<'_>, group: &[NodeId]) -> Result<()> {
    let (node, step) = (b.graph.node(group[0]), b.graph.node(group[1]));
    let Op::EmbeddingGrad(op) = &node.op else { return Ok(()) };
    let Some(targets) = optimizer::in_place(b, step) else {
        lower_grad(b, group[0])?;
        return optimizer::lower(b, group[1]);
    };
    let (dy, ids) = (node.inputs[0], node.inputs[1]);
    let kernel = Embedding { rows: op.rows, width: b.shape(node.outputs[0])[1], padding: op.padding_index };
    let reads = [b.plain(ids), b.plain(dy)];
    let places = b.buffer(Kind::I64, kernel.update_places(b.len(ids)), Keep::Step);
    let scratch = [places, b.scratch(kernel.update_scratch())];
    let path = node.path.clone();
    let update = move |views: &Views<'_>, pieces: &Pieces<'_>, at: usize| {
        let ids = views.read_ids(0);
        check(&path, "embedding_grad", ids, kernel.rows)?;
        kernel
            .update(Indices::I64(ids), views.read(1), pieces, views.write_ids(at), views.write(at + 1))
            .map_err(|e| kernel_error(&e))
    };
    optimizer::lower_pieces(b, step, "embedding gradient", reads, targets, &scratch, update);
    Ok(())
}
