//! The boxes of a drawing, from a graph's nodes.

use super::kind_of;
use crate::diagram::BlockKind;
use kessen_graph::{Graph, Node, Origin, ParamKind, Type, ValueId};
use std::collections::HashMap;

/// A box to be, with all that is written in it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Path of the node, or name of the input or output.
    pub path: String,
    pub kind: BlockKind,
    pub title: String,
    pub details: Vec<String>,
    /// What was fused into it, in its order.
    pub fused: Vec<String>,
    /// Number of learnt numbers.
    pub weights: usize,
    /// Shape of what comes out, without the batch.
    pub shape: String,
    /// Parts that it takes its operands from.
    pub inputs: Vec<usize>,
    /// Whether its path was given and not made from its operator's name.
    pub named: bool,
    /// Path of the numbered block that it belongs to, such as `layer1.0`.
    pub block: Option<String>,
}

/// The parts that the graph's outputs depend on, in an order in which each follows its inputs.
pub(super) fn parts(graph: &Graph, fuse: bool) -> Vec<Part> {
    let mut builder =
        Builder { graph, fuse, parts: vec![], of_value: HashMap::new(), uses: graph.use_counts() };
    let needed = needed(graph);
    for &input in graph.inputs().iter().filter(|v| needed[v.index()]) {
        let value = graph.value(input);
        builder.push(input, Part::new(&value.name, BlockKind::Input, &value.ty));
    }
    for node in graph.nodes().iter().filter(|n| n.outputs.iter().any(|v| needed[v.index()])) {
        builder.node(node);
    }
    for (name, value) in graph.outputs() {
        let inputs = builder.of_value.get(value).copied().into_iter().collect();
        let output = Part { inputs, ..Part::new(name, BlockKind::Output, graph.ty(*value)) };
        builder.parts.push(output);
    }
    builder.parts
}

/// For each value, whether an output depends on it.
fn needed(graph: &Graph) -> Vec<bool> {
    let mut needed = vec![false; graph.values().len()];
    graph.outputs().iter().for_each(|(_, v)| needed[v.index()] = true);
    for node in graph.nodes().iter().rev() {
        if node.outputs.iter().any(|v| needed[v.index()]) {
            node.inputs.iter().for_each(|v| needed[v.index()] = true);
        }
    }
    needed
}

struct Builder<'g> {
    graph: &'g Graph,
    fuse: bool,
    parts: Vec<Part>,
    of_value: HashMap<ValueId, usize>,
    uses: Vec<usize>,
}

impl Builder<'_> {
    fn push(&mut self, value: ValueId, part: Part) {
        self.of_value.insert(value, self.parts.len());
        self.parts.push(part);
    }

    fn node(&mut self, node: &Node) {
        let operator = node.op.operator();
        let kind = kind_of(operator.name());
        let word = word(self.graph, node);
        let own_name = node.path != operator.word() && !numbered(&node.path, operator.word());
        let mut inputs: Vec<usize> =
            node.inputs.iter().filter_map(|v| self.of_value.get(v).copied()).collect();
        inputs.dedup();
        let weights = self.weights(node);
        let Some(&first) = node.outputs.first() else { return };
        // What nobody named belongs to the block of what it is applied to, unless it only moves numbers on.
        let inherits = !own_name && matches!(kind, BlockKind::Join | BlockKind::Activation | BlockKind::Norm);
        let before = inputs.iter().max().and_then(|&latest| self.parts[latest].block.clone());
        let block = numbered_block(&node.path).or(before.filter(|_| inherits));
        let host = self.host(node, kind, &inputs);
        if let Some(target) = host.filter(|&target| self.parts[target].block == block) {
            let part = &mut self.parts[target];
            part.fused.push(word);
            part.weights += weights;
            part.shape = shape(self.graph.ty(first));
            self.of_value.extend(node.outputs.iter().map(|&v| (v, target)));
            return;
        }
        let mut part = Part::new(&node.path, kind, self.graph.ty(first));
        part.details = details(self.graph, node);
        if !own_name {
            part.title = word;
        } else if part.details.is_empty() || !matches!(kind, BlockKind::Conv | BlockKind::Linear) {
            part.details.insert(0, word);
        }
        (part.block, part.named) = (block, own_name);
        (part.weights, part.inputs) = (weights, inputs);
        let index = self.parts.len();
        self.of_value.extend(node.outputs.iter().map(|&v| (v, index)));
        self.parts.push(part);
    }

    /// The part that a node is written into: the one before it, where nothing else uses what that one gives.
    fn host(&self, node: &Node, kind: BlockKind, inputs: &[usize]) -> Option<usize> {
        let &[target] = inputs else { return None };
        let follows = matches!(kind, BlockKind::Norm | BlockKind::Activation | BlockKind::Move);
        let data = node.inputs.iter().filter(|v| self.of_value.contains_key(v));
        let alone = data.clone().count() == 1 && data.clone().all(|v| self.uses[v.index()] == 1);
        let takes = !matches!(self.parts[target].kind, BlockKind::Input | BlockKind::Move);
        (self.fuse && follows && alone && takes).then_some(target)
    }

    fn weights(&self, node: &Node) -> usize {
        let counted = |v: &ValueId| match &self.graph.value(*v).origin {
            Origin::Param(p) if self.graph.param(*p).kind == ParamKind::Weight => {
                self.graph.param(*p).shape.iter().product()
            }
            _ => 0,
        };
        node.inputs.iter().map(counted).sum()
    }
}

impl Part {
    fn new(path: &str, kind: BlockKind, ty: &Type) -> Part {
        Part {
            path: path.to_owned(),
            kind,
            title: path.to_owned(),
            details: vec![],
            fused: vec![],
            weights: 0,
            shape: shape(ty),
            inputs: vec![],
            named: true,
            block: numbered_block(path),
        }
    }
}

/// A node's operation in words; of a reshape, the name that the builder gave it (`flatten`).
fn word(graph: &Graph, node: &Node) -> String {
    let operator = node.op.operator();
    let single = |v: &ValueId| graph.ty(*v).shape.iter().skip(2).all(|d| d.as_fixed() == Some(1));
    match operator.name() {
        "reshape" if node.path.contains("flatten") => "flatten".to_owned(),
        "adaptive_pool" if node.outputs.iter().all(single) => {
            operator.word().replace("adaptive", "global").replace('_', " ")
        }
        _ => operator.word().replace('_', " "),
    }
}

/// Whether `path` is `word_1`, `word_2` …: a name that nobody gave.
fn numbered(path: &str, word: &str) -> bool {
    let rest = path.strip_prefix(word).or_else(|| path.strip_prefix("flatten"));
    rest.is_some_and(|r| {
        r.is_empty() || r.strip_prefix('_').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// The longest proper prefix of a path that ends in a number.
fn numbered_block(path: &str) -> Option<String> {
    let steps: Vec<&str> = path.split('.').collect();
    let number = |s: &&str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let last = steps[..steps.len() - 1].iter().rposition(number)?;
    Some(steps[..=last].join("."))
}

/// A value's shape without its batch: `64×56×56`.
fn shape(ty: &Type) -> String {
    let batch = ty.shape.len() > 1 && ty.shape[0].as_fixed().is_none();
    let dims: Vec<String> = ty.shape[usize::from(batch)..].iter().map(ToString::to_string).collect();
    if dims.is_empty() { "scalar".to_owned() } else { dims.join("×") }
}

/// What distinguishes a node from others of its operator: sizes first, then what is not as usual.
fn details(graph: &Graph, node: &Node) -> Vec<String> {
    let operator = node.op.operator();
    let weight = node.inputs.get(1).map(|&v| graph.ty(v)).filter(|t| t.rank() >= 2);
    let size = |i: usize| weight.and_then(|t| t.shape.get(i)).map(ToString::to_string).unwrap_or_default();
    let attributes = operator.attributes();
    let value = |key: &str| attributes.iter().find(|a| a.key == key).map(|a| a.value.as_str());
    let square =
        |text: &str| if text.contains('x') { text.replace('x', "×") } else { format!("{text}×{text}") };
    let stride = |usual: &str| match value("stride") {
        Some(stride) if stride != usual => format!(" / {}", stride.replace('x', "×")),
        _ => String::new(),
    };
    let mut line = match operator.name() {
        "conv" | "conv_transpose" => format!("{}×{}{} · {} filters", size(2), size(3), stride("1"), size(0)),
        "linear" => format!("{} units", size(0)),
        "embedding" => format!("{} × {}", size(0), size(1)),
        _ => match value("kernel") {
            Some(kernel) => format!("{}{}", square(kernel), stride("")),
            None => String::new(),
        },
    };
    let told = ["kernel", "stride", "padding", "kind", "shape", "ceil_mode"];
    for attribute in
        attributes.iter().filter(|a| !a.is_default && !told.contains(&a.key) && a.value.len() < 24)
    {
        let key = attribute.key.replace('_', " ");
        let text = if attribute.value == "true" { key } else { format!("{key} {}", attribute.value) };
        line = if line.is_empty() { text } else { format!("{line} · {text}") };
    }
    if line.is_empty() { vec![] } else { vec![line] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_by_their_numbers() {
        let cases = [
            ("layer1.0.conv1", Some("layer1.0")),
            ("layer2.0.downsample.0", Some("layer2.0")),
            ("encoder.layers.11.self_attn.out_proj", Some("encoder.layers.11")),
            ("features.0", None),
            ("conv1", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(numbered_block(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn names_that_nobody_gave_are_known() {
        assert!(numbered("relu", "relu") && numbered("relu_12", "relu") && numbered("flatten_1", "reshape"));
        assert!(!numbered("relu1", "relu") && !numbered("last_relu", "relu"));
    }
}
