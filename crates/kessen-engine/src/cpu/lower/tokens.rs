//! Recurrent layers right behind an embedding, in inference: the input weights' product is made once for the whole
//! table, and what a layer reads are ids.

use kessen_graph::{Node, NodeId, Op, ValueId};
use kessen_kernels::recurrent::{Recurrent, Weights};

use super::recurrent;
use crate::cpu::builder::PlanBuilder;
use crate::cpu::memory::Buf;

/// Runs within which the product of the table has to pay for itself.
const RUNS: usize = 16;
/// Most bytes that the product may take.
const MOST_BYTES: usize = 256 << 20;

/// What a layer reads instead of its inputs.
pub(super) struct Tokens {
    pub ids: Buf,
    /// [`Recurrent::project`] of the table.
    pub projected: Buf,
}

/// The embedding that makes `x`, where every reader of `x` is a recurrent layer that can take ids instead: table and
/// parameters never change, and the product of the table costs no more than that of the rows looked up in a few runs.
fn embedding<'g>(b: &PlanBuilder<'g>, x: ValueId) -> Option<&'g Node> {
    let graph = b.graph;
    let (id, _) = graph.producer(x)?;
    let node = graph.node(id);
    if !matches!(node.op, Op::Embedding(_)) || !b.fuses() || !b.is_static(node.inputs[1]) {
        return None;
    }
    let rows = b.shape(node.inputs[1])[0];
    let mut readers = graph.nodes().iter().filter(|n| n.inputs.contains(&x)).peekable();
    readers.peek()?;
    let takes = |reader: &Node| {
        let Some(desc) = recurrent::describe_reader(b, reader, x) else { return false };
        let params = recurrent::params_of(graph, reader);
        params.iter().all(|&(v, _)| b.is_static(v))
            && rows <= RUNS * desc.batch * desc.time
            && desc.projected_len(rows) * size_of::<f32>() <= MOST_BYTES
    };
    let is_output = graph.outputs().iter().any(|&(_, v)| v == x);
    (!is_output && readers.all(takes)).then_some(node)
}

/// Whether nothing reads the embedding's rows themselves.
pub(super) fn replaces(b: &PlanBuilder<'_>, id: NodeId) -> bool {
    embedding(b, b.graph.node(id).outputs[0]).is_some()
}

/// The ids that stand for the inputs `x` of a layer, with the product of the table; `weights` are the buffers of
/// weight_ih and weight_hh, `bias` those of both biases, if any.
pub(super) fn of(
    b: &mut PlanBuilder<'_>,
    x: ValueId,
    desc: Recurrent,
    weights: [Buf; 2],
    bias: Option<[Buf; 2]>,
) -> Option<Tokens> {
    let node = embedding(b, x)?;
    let rows = b.shape(node.inputs[1])[0];
    let (ids, table) = (b.plain(node.inputs[0]), b.plain(node.inputs[1]));
    let reads: Vec<Buf> = [table].into_iter().chain(weights).chain(bias.into_iter().flatten()).collect();
    let lens = [desc.projected_len(rows), desc.project_scratch(rows)];
    let projected = b.once("product of the table", &reads, lens, move |views| {
        let weights = Weights {
            input: views.read(1),
            recurrent: views.read(2),
            bias_input: views.maybe_read(3),
            bias_recurrent: views.maybe_read(4),
        };
        desc.project(views.read(0), rows, &weights, views.write(0), views.write(1));
    });
    Some(Tokens { ids, projected })
}
