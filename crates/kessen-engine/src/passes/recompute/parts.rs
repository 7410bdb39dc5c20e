//! The forward and the backward part of a training graph.

use kessen_graph::{Graph, Node, NodeId, Op, ValueId};

use crate::passes::live_nodes;

/// A training graph with what is known of its forward values.
pub(crate) struct Parts<'g> {
    pub graph: &'g Graph,
    /// Position of the first node of the backward part.
    pub turn: usize,
    /// Per value: whether the backward part reads it.
    pub wanted: Vec<bool>,
    /// Per value: bytes; sizes are fixed.
    pub bytes: Vec<usize>,
    /// Per value: the last node of the forward part that reads it.
    pub last_use: Vec<Option<usize>>,
    /// Per value: whether it is an output of the graph.
    pub output: Vec<bool>,
    companion: fn(&Graph, &Node) -> Option<ValueId>,
}

impl<'g> Parts<'g> {
    /// Looks at a graph of fixed sizes; `None` where it has no gradients. `companion` names a value that the kernel of
    /// a node reads besides its operands.
    pub fn new(graph: &'g Graph, companion: fn(&Graph, &Node) -> Option<ValueId>) -> Option<Self> {
        let turn = graph.nodes().iter().position(|n| is_gradient(&n.op))?;
        let count = graph.values().len();
        let (mut wanted, mut last_use, mut output) =
            (vec![false; count], vec![None; count], vec![false; count]);
        let live = live_nodes(graph);
        for (at, node) in graph.nodes().iter().enumerate().filter(|(at, _)| live[*at]) {
            for v in node.inputs.iter().copied().chain(companion(graph, node)) {
                if at < turn {
                    last_use[v.index()] = Some(at);
                } else {
                    wanted[v.index()] = true;
                }
            }
        }
        graph.outputs().iter().for_each(|(_, v)| output[v.index()] = true);
        let size = |v: ValueId| -> usize {
            let ty = graph.ty(v);
            ty.shape.iter().map(|d| d.as_fixed().unwrap_or(1)).product::<usize>() * ty.dtype.size()
        };
        let bytes = graph.value_ids().map(size).collect();
        Some(Self { graph, turn, wanted, bytes, last_use, output, companion })
    }

    /// The node of the forward part that computes `v`, and which of its results `v` is.
    pub fn forward_producer(&self, v: ValueId) -> Option<(NodeId, usize)> {
        self.graph.producer(v).filter(|(id, _)| id.index() < self.turn)
    }

    /// Whether the node belongs to the backward part.
    pub fn is_backward(&self, node: &Node) -> bool {
        node.outputs.first().is_some_and(|&v| self.forward_producer(v).is_none())
    }

    /// The value that the kernel of a node reads besides its operands.
    pub fn companion(&self, node: &Node) -> Option<ValueId> {
        (self.companion)(self.graph, node)
    }

    /// Whether keeping `v` costs next to nothing beside its node's largest result: statistics of a normalisation.
    pub fn is_small(&self, node: &Node, v: ValueId) -> bool {
        let largest = node.outputs.iter().map(|o| self.bytes[o.index()]).max();
        largest.is_some_and(|largest| self.bytes[v.index()] * 16 <= largest)
    }

    /// Whether a copy of the node gives the same bits. Sums may depend on how their operand lies; it lies alike
    /// forward and backward where a convolution has laid it out, or where there is one layout only. Of an operator
    /// from outside nothing is known.
    pub fn can_repeat(&self, node: &Node) -> bool {
        match &node.op {
            Op::Custom(_) => false,
            Op::BatchNormTrain(_) | Op::AvgPool(_) | Op::AdaptivePool(_) => {
                self.graph.ty(node.inputs[0]).rank() != 4 || self.is_laid_out(node.inputs[0])
            }
            _ => true,
        }
    }

    fn is_laid_out(&self, v: ValueId) -> bool {
        let mut at = v;
        while let Some((id, _)) = self.graph.producer(at) {
            let node = self.graph.node(id);
            match &node.op {
                Op::Conv(_) => return true,
                Op::Unary(_) | Op::Binary(_) | Op::BatchNormTrain(_) | Op::MaxPool(_) | Op::AvgPool(_) => {
                    at = node.inputs[0];
                }
                _ => return false,
            }
        }
        false
    }
}

/// Whether the operator occurs in backward parts only.
fn is_gradient(op: &Op) -> bool {
    match op {
        Op::AdaptivePoolGrad(_)
        | Op::AttentionGrad(_)
        | Op::AvgPoolGrad(_)
        | Op::BatchNormGrad(_)
        | Op::BceWithLogitsGrad(_)
        | Op::ClampGrad(_)
        | Op::ConvGradInput(_)
        | Op::ConvGradWeight(_)
        | Op::CrossEntropyGrad(_)
        | Op::EmbeddingGrad(_)
        | Op::LayerNormGrad(_)
        | Op::MaxPoolGrad(_)
        | Op::RecurrentGrad(_)
        | Op::RegressionLossGrad(_)
        | Op::SoftmaxGrad(_)
        | Op::UnaryGrad(_) => true,
        Op::Custom(op) => op.backward,
        _ => false,
    }
}
