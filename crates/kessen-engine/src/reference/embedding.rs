//! A learnt vector per token: y[…, :] = weight[ids[…], :].

use kessen_graph::ops::embedding::EmbeddingGrad;

use super::array::Array;
use super::kernel::Operands;
use crate::Result;

/// Rows of `weight`.
pub(super) fn embedding(o: &Operands<'_>, ids: &Array<i64>, weight: &Array, y: &mut Array) -> Result<()> {
    let [rows, features] = weight.dims();
    for (position, &id) in ids.data.iter().enumerate() {
        let id = o.index(id, position, rows)?;
        for d in 0..features {
            y.data[position * features + d] = weight[[id, d]];
        }
    }
    Ok(())
}

/// dweight[v, :] = Σ dy over the places where id v stands; 0 for the padding id.
pub(super) fn embedding_grad(
    op: &EmbeddingGrad,
    o: &Operands<'_>,
    dy: &Array,
    ids: &Array<i64>,
    dweight: &mut Array,
) -> Result<()> {
    let [rows, features] = dweight.dims();
    for (position, &id) in ids.data.iter().enumerate() {
        let id = o.index(id, position, rows)?;
        if Some(id) == op.padding_index {
            continue;
        }
        for d in 0..features {
            dweight[[id, d]] += dy.data[position * features + d];
        }
    }
    Ok(())
}
