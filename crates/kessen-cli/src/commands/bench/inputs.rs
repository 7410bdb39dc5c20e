//! What a measured call computes on.

use anyhow::Result;
use kessen_engine::Data;
use kessen_graph::{Bindings, Graph, Op, ValueId};
use kessen_tensor::{DType, Rng};

/// Values of an input, by its element type.
pub enum Values {
    /// Standard normal numbers.
    Real(Vec<f32>),
    /// Tokens, classes, lengths.
    Whole(Vec<i64>),
}

impl Values {
    /// As an executable takes them.
    pub fn data(&self) -> Data<'_> {
        match self {
            Self::Real(values) => Data::F32(values),
            Self::Whole(values) => Data::I64(values),
        }
    }
}

/// Values for every input of `graph` but the training step's own counters, by the input's number: normal numbers,
/// tokens of the vocabulary, classes below `classes`, whole lengths.
pub fn draw(graph: &Graph, bindings: &Bindings, classes: usize) -> Result<Vec<(usize, Values)>> {
    let shapes = graph.shapes(bindings)?;
    let mut rng = Rng::named(0, "bench");
    let mut inputs = Vec::new();
    for (at, &v) in graph.inputs().iter().enumerate() {
        let (value, count) = (graph.value(v), shapes[v.index()].iter().product::<usize>());
        if value.name.starts_with("train.") {
            continue;
        }
        let mut whole = |below: usize| (0..count).map(|_| rng.below(below.max(1)) as i64).collect();
        let values = match (value.ty.dtype, value.name.as_str()) {
            (DType::I64, "target") => Values::Whole(whole(classes)),
            (DType::I64, "lengths") => {
                let first = graph.inputs().first().and_then(|i| shapes[i.index()].get(1));
                Values::Whole(vec![first.map_or(1, |&steps| steps as i64); count])
            }
            (DType::I64, _) => Values::Whole(whole(vocabulary(graph, v))),
            _ => Values::Real((0..count).map(|_| rng.normal() as f32).collect()),
        };
        inputs.push((at, values));
    }
    Ok(inputs)
}

/// Rows of the smallest table that the input's ids look up; 2 where there is none.
fn vocabulary(graph: &Graph, ids: ValueId) -> usize {
    let lookups = graph.nodes().iter().filter(|n| matches!(n.op, Op::Embedding(_)) && n.inputs[0] == ids);
    let rows = lookups.filter_map(|n| graph.ty(n.inputs[1]).shape.first()?.as_fixed());
    rows.min().unwrap_or(2)
}
