//! Recurrent layers: stacked, in both directions, with lengths and initial states.

use crate::graph::{Node, ValueId};
use crate::ops::Op;
use crate::ops::recurrent::{Recurrent, RecurrentActivation, RecurrentPlaces};
use crate::ops::recurrent_layer::{RecurrentInputs, RecurrentSpec, elman, gru, lstm};
use crate::{Graph, Result, Wire};

use super::{Arguments, Description, Layer, View};

/// Layers on top of each other at most.
const MAX_LAYERS: usize = 1000;

macro_rules! recurrent {
    ($word:literal, $spec:ident, $usage:literal, $keys:expr, $values:expr) => {
        Layer {
            words: &[$word],
            usage: $usage,
            positional: &["hidden_size"],
            keys: $keys,
            values: $values,
            flags: &["bidirectional", "nobias"],
            operator: || None,
            build: |x, path, a| build(x, path, $spec(a.size("hidden_size")?), a),
            describe: |view| describe($word, view),
        }
    };
}

pub(super) const ELMAN: Layer = recurrent!(
    "elman",
    elman,
    "elman PATH HIDDEN_SIZE [layers L] [bidirectional] [nobias] [activation F] [dropout P] [lengths V] [hidden V]",
    &["layers", "activation", "dropout"],
    &["lengths", "hidden"]
);
pub(super) const LSTM: Layer = recurrent!(
    "lstm",
    lstm,
    "lstm PATH HIDDEN_SIZE [layers L] [bidirectional] [nobias] [dropout P] [lengths V] [hidden V] [cell V]",
    &["layers", "dropout"],
    &["lengths", "hidden", "cell"]
);
pub(super) const GRU: Layer = recurrent!(
    "gru",
    gru,
    "gru PATH HIDDEN_SIZE [layers L] [bidirectional] [nobias] [dropout P] [lengths V] [hidden V]",
    &["layers", "dropout"],
    &["lengths", "hidden"]
);

fn build(x: &Wire, path: &str, mut spec: RecurrentSpec, a: &Arguments<'_>) -> Result<Wire> {
    if a.has("layers") {
        let layers = a.size("layers")?;
        if !(1..=MAX_LAYERS).contains(&layers) {
            return Err(a.wrong("layers", &format!("1 to {MAX_LAYERS}")));
        }
        spec = spec.layers(layers);
    }
    if a.flag("bidirectional") {
        spec = spec.bidirectional();
    }
    if a.flag("nobias") {
        spec = spec.no_bias();
    }
    if let Some(activation) = a.get::<RecurrentActivation>("activation")? {
        spec = spec.activation(activation);
    }
    if let Some(p) = a.get("dropout")? {
        spec = spec.dropout(p);
    }
    let inputs = RecurrentInputs {
        lengths: a.wires("lengths").first().cloned(),
        hidden: a.wires("hidden").to_vec(),
        cell: a.wires("cell").to_vec(),
    };
    Ok(x.recurrent_with(path, spec, inputs).output)
}

fn describe(word: &str, view: &View<'_>) -> Option<Description> {
    let op = recurrent(view.node).filter(|op| op.kind.word() == word)?;
    let (first, recurrent_weight) = (view.params.first()?, view.params.get(1)?);
    let path = first.path.strip_suffix(".weight_ih_l0")?.to_owned();
    let names =
        view.graph.params().iter().filter_map(|p| p.path.strip_prefix(&format!("{path}.weight_ih_l")));
    let suffixes: Vec<&str> = names.collect();
    let bidirectional = suffixes.iter().any(|s| s.ends_with("_reverse"));
    let layers = suffixes.len() / if bidirectional { 2 } else { 1 };

    let mut behind = String::new();
    if layers > 1 {
        behind.push_str(&format!(" layers {layers}"));
    }
    for (said, flag) in [(bidirectional, " bidirectional"), (!op.bias, " nobias")] {
        if said {
            behind.push_str(flag);
        }
    }
    if op.activation != RecurrentActivation::Tanh {
        behind.push_str(&format!(" activation {}", op.activation.word()));
    }
    if let Some(p) = dropout(view.graph, &path) {
        behind.push_str(&format!(" dropout {p}"));
    }
    let values = values(view, &path, op);
    let before = recurrent_weight.shape.get(1)?.to_string();
    let operand = *view.node.inputs.first()?;
    Some(Description { path, before, behind, values, operand, automatic_names: false })
}

fn recurrent(node: &Node) -> Option<&Recurrent> {
    match &node.op {
        Op::Recurrent(op) => Some(op),
        _ => None,
    }
}

fn dropout(graph: &Graph, path: &str) -> Option<f64> {
    let path = format!("{path}.dropout_l0");
    graph.nodes().iter().find(|n| n.path == path).and_then(|n| match &n.op {
        Op::Dropout(op) => Some(op.p),
        _ => None,
    })
}

/// Lengths and initial states, of every layer and direction in order.
fn values(view: &View<'_>, path: &str, op: &Recurrent) -> Vec<(&'static str, Vec<ValueId>)> {
    let places = op.places();
    let stacked = format!("{path}.l");
    let belongs = |n: &&Node| n.path == *path || n.path.starts_with(&stacked);
    let nodes: Vec<&Node> =
        view.graph.nodes().iter().filter(belongs).filter(|n| recurrent(n).is_some()).collect();
    let all = |place: fn(&RecurrentPlaces) -> Option<usize>| -> Vec<ValueId> {
        place(&places)
            .map_or_else(Vec::new, |i| nodes.iter().filter_map(|n| n.inputs.get(i).copied()).collect())
    };
    let lengths = all(|p| p.lengths).into_iter().take(1).collect();
    [("lengths", lengths), ("hidden", all(|p| p.hidden)), ("cell", all(|p| p.cell))]
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .collect()
}
