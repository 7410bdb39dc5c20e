//! Attention layers with their masks.

use crate::graph::{Node, ValueId};
use crate::ops::Op;
use crate::ops::attention::Attention;
use crate::ops::attention_layer::{AttentionMasks, AttentionSpec, attention};
use crate::{Graph, Result};

use super::{Arguments, Description, Layer, View};

pub(super) const SELF_ATTENTION: Layer = Layer {
    words: &["self_attention"],
    usage: "self_attention PATH HEADS [causal] [nobias] [dropout P] [lengths V] [key_mask V] [bias V]",
    positional: &["heads"],
    keys: &["dropout"],
    values: &["lengths", "key_mask", "bias"],
    flags: &["causal", "nobias"],
    operator: || None,
    build: |x, path, a| Ok(x.self_attention(path, spec(a)?)),
    describe: |view| describe(view, true),
};

pub(super) const CROSS_ATTENTION: Layer = Layer {
    words: &["cross_attention"],
    usage: "cross_attention PATH HEADS memory V [causal] [nobias] [dropout P] [lengths V] [key_mask V] [bias V]",
    positional: &["heads"],
    keys: &["dropout"],
    values: &["memory", "lengths", "key_mask", "bias"],
    flags: &["causal", "nobias"],
    operator: || None,
    build: |x, path, a| match a.wires("memory") {
        [memory] => Ok(x.cross_attention(path, memory, spec(a)?)),
        _ => Err(a.missing("memory")),
    },
    describe: |view| describe(view, false),
};

fn spec(a: &Arguments<'_>) -> Result<AttentionSpec> {
    let mut spec = attention(a.size("heads")?);
    if a.flag("causal") {
        spec = spec.causal();
    }
    if a.flag("nobias") {
        spec = spec.no_bias();
    }
    if let Some(p) = a.get("dropout")? {
        spec = spec.dropout(p);
    }
    let value = |key: &str| a.wires(key).first().cloned();
    let (lengths, keys, bias) = (value("lengths"), value("key_mask"), value("bias"));
    Ok(spec.masks(AttentionMasks { lengths, keys, bias }))
}

fn describe(view: &View<'_>, packed: bool) -> Option<Description> {
    let path = view.params.first()?.path.strip_suffix(".in_proj_weight")?.to_owned();
    let (node, op) = attended(view.graph, &path).filter(|(_, op)| op.packed == packed)?;
    let mut behind = String::new();
    for (said, flag) in [(op.causal, " causal"), (view.params.len() == 1, " nobias")] {
        if said {
            behind.push_str(flag);
        }
    }
    if op.dropout != 0.0 {
        behind.push_str(&format!(" dropout {}", op.dropout));
    }
    let mut values: Vec<(&'static str, Vec<ValueId>)> = Vec::new();
    if !packed {
        values.push(("memory", vec![*node_at(view.graph, &format!("{path}.k_proj"))?.inputs.first()?]));
    }
    let places = op.places();
    for (key, place) in [("lengths", places.lengths), ("key_mask", places.key_mask), ("bias", places.bias)] {
        if let Some(at) = place {
            values.push((key, vec![*node.inputs.get(at)?]));
        }
    }
    let x = if packed { view.node } else { node_at(view.graph, &format!("{path}.q_proj"))? };
    let operand = *x.inputs.first()?;
    Some(Description {
        path,
        before: op.heads.to_string(),
        behind,
        values,
        operand,
        automatic_names: !packed,
    })
}

fn node_at<'g>(graph: &'g Graph, path: &str) -> Option<&'g Node> {
    graph.nodes().iter().find(|n| n.path == path)
}

fn attended<'g>(graph: &'g Graph, path: &str) -> Option<(&'g Node, &'g Attention)> {
    let node = node_at(graph, path)?;
    match &node.op {
        Op::Attention(op) => Some((node, op)),
        _ => None,
    }
}
