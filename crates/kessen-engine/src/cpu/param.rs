//! How parameters lie in memory while a plan runs.
//!
//! In training, a weight lives in its kernel's layout, and so do its gradient, the optimiser's moments and every
//! average of it: all of them form one *class* of values that meet only in element-wise operators. A class gets the
//! kernel's layout where each of its producers and consumers can work on it, else it stays row-major.

use kessen_graph::ops::binary::BinaryKind;
use kessen_graph::ops::unary::UnaryKind;
use kessen_graph::{Dim, Graph, Node, Op, Origin, ValueId};
use kessen_kernels::conv::ConvDesc;
use kessen_kernels::gemm::Linear;
use kessen_kernels::recurrent::Recurrent;

use super::fuse::is_optimizer_step;
use super::lower::conv::{Geometry, forward_input};
use super::lower::recurrent;
use crate::Mode;

/// Layout of one parameter: PyTorch's, or a kernel's for the whole of training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ParamLayout {
    /// Row-major, as in PyTorch.
    Plain,
    /// As the matrix kernels read `[O, I]` weights.
    Linear(Linear),
    /// As the convolution kernels read OIHW weights; sizes of the image are without meaning.
    Conv(ConvDesc),
    /// As the recurrent kernels read weights over `inputs` values, and biases (over one); the rest of the descriptor
    /// is the same for all.
    Recurrent(Recurrent),
    /// What a recurrent layer keeps of its gates.
    Gates(Recurrent),
    /// What an LSTM keeps of its cells.
    Cells(Recurrent),
}

impl ParamLayout {
    /// Number of floats.
    pub fn len(&self, shape: &[usize]) -> usize {
        match self {
            Self::Plain => shape.iter().product(),
            Self::Linear(linear) => linear.weight_len(),
            Self::Conv(desc) => desc.weight_len(),
            Self::Recurrent(desc) => desc.weight_len(desc.inputs),
            Self::Gates(desc) => recurrent::gates_len(desc),
            Self::Cells(desc) => desc.extra_len(),
        }
    }

    /// Brings row-major numbers into the layout; padding becomes zero.
    pub fn pack(&self, plain: &[f32], packed: &mut [f32]) {
        match self {
            Self::Plain => packed.copy_from_slice(plain),
            Self::Linear(linear) => linear.pack_weight(plain, packed),
            Self::Conv(desc) => desc.pack_weight(plain, packed),
            Self::Recurrent(desc) => desc.pack_weight(plain, desc.inputs, packed),
            Self::Gates(desc) => {
                packed.fill(0.0);
                recurrent::for_each_gate(desc, |row, place| packed[place] = plain[row]);
            }
            Self::Cells(desc) => {
                packed.fill(0.0);
                recurrent::for_each_cell(desc, |row, place| packed[place] = plain[row]);
            }
        }
    }

    /// Brings numbers back to row-major.
    pub fn unpack(&self, packed: &[f32], plain: &mut [f32]) {
        match self {
            Self::Plain => plain.copy_from_slice(packed),
            Self::Linear(linear) => linear.unpack_weight(packed, plain),
            Self::Conv(desc) => desc.unpack_weight(packed, plain),
            Self::Recurrent(desc) => desc.unpack_weight(packed, desc.inputs, plain),
            Self::Gates(desc) => recurrent::for_each_gate(desc, |row, place| plain[row] = packed[place]),
            Self::Cells(desc) => recurrent::for_each_cell(desc, |row, place| plain[row] = packed[place]),
        }
    }
}

/// The layout of every value that belongs to a parameter's class and of what recurrent layers keep; `Plain` for all
/// others.
pub(crate) fn choose_layouts(graph: &Graph, mode: Mode) -> Vec<ParamLayout> {
    let mut layouts = class_layouts(graph, mode);
    for (v, layout) in graph.nodes().iter().flat_map(|node| recurrent::kept_of(graph, node)) {
        layouts[v.index()] = layout;
    }
    layouts
}

fn class_layouts(graph: &Graph, mode: Mode) -> Vec<ParamLayout> {
    if mode == Mode::Inference {
        return vec![ParamLayout::Plain; graph.values().len()];
    }
    let mut classes = Classes::new(graph);
    graph.nodes().iter().for_each(|node| classes.unify_node(node));
    graph.updates().iter().for_each(|&(p, v)| classes.unify(graph.param(p).value, v));
    graph.nodes().iter().for_each(|node| classes.judge(node));
    graph.outputs().iter().for_each(|&(_, v)| classes.refuse(v));
    let has_param = classes.with_params(graph);
    graph
        .value_ids()
        .map(|v| {
            let root = classes.root(v);
            match classes.verdict[root] {
                Verdict::Wanted(layout) if has_param[root] => layout,
                _ => ParamLayout::Plain,
            }
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    /// Nobody wants a layout of their own.
    Open,
    Wanted(ParamLayout),
    Refused,
}

/// Union–find over values.
struct Classes<'g> {
    graph: &'g Graph,
    parent: Vec<usize>,
    verdict: Vec<Verdict>,
}

impl<'g> Classes<'g> {
    fn new(graph: &'g Graph) -> Self {
        let n = graph.values().len();
        Self { graph, parent: (0..n).collect(), verdict: vec![Verdict::Open; n] }
    }

    fn root(&self, v: ValueId) -> usize {
        let mut at = v.index();
        while self.parent[at] != at {
            at = self.parent[at];
        }
        at
    }

    fn unify(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a] = b;
    }

    /// Values that an element-wise operator makes lie alike.
    fn unify_node(&mut self, node: &Node) {
        let linked = match &node.op {
            Op::Binary(op) => matches!(op.kind, BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul),
            Op::Unary(op) => op.kind == UnaryKind::Neg,
            op => is_optimizer_step(op),
        };
        if !linked {
            return;
        }
        let full = |v: &&ValueId| self.graph.ty(**v) == self.graph.ty(node.outputs[0]);
        let members: Vec<ValueId> = node.inputs.iter().chain(&node.outputs).filter(full).copied().collect();
        members.windows(2).for_each(|w| self.unify(w[0], w[1]));
    }

    /// What a node thinks of the layouts of its operands and results.
    fn judge(&mut self, node: &Node) {
        let (x, y) = (&node.inputs, &node.outputs);
        match &node.op {
            Op::Binary(op) if matches!(op.kind, BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul) => {
                // A factor that is broadcast over the weight would not fit another layout.
                for &v in x {
                    if self.graph.ty(v).rank() != 0 && self.graph.ty(v) != self.graph.ty(y[0]) {
                        self.refuse(y[0]);
                        self.refuse(v);
                    }
                }
            }
            Op::Unary(op) if op.kind == UnaryKind::Neg => {}
            Op::GlobalNorm(_) => {}
            op if is_optimizer_step(op) => {}
            Op::Linear(_) => {
                self.refuse(x[0]);
                self.want(x[1], linear_layout(self.graph, x[1]));
                x[2..].iter().chain(y).for_each(|&v| self.refuse(v));
            }
            // The gradient to the input of a linear layer: dy·W.
            Op::MatMul(op) if !op.trans_a && !op.trans_b && self.graph.ty(x[1]).rank() == 2 => {
                self.refuse(x[0]);
                self.want_if_param(x[1]);
                self.refuse(y[0]);
            }
            // The gradient to its weight: dyᵀ·x.
            Op::MatMul(op) if op.trans_a && !op.trans_b && self.graph.ty(y[0]).rank() == 2 => {
                x.iter().for_each(|&v| self.refuse(v));
            }
            Op::Conv(_) => {
                self.refuse(x[0]);
                self.want(x[1], conv_layout(self.graph, &node.op, x[0], x[1]));
                x[2..].iter().chain(y).for_each(|&v| self.refuse(v));
            }
            Op::ConvGradInput(_) => {
                let layout = forward_input(self.graph, x[1], y[0])
                    .and_then(|image| conv_layout(self.graph, &node.op, image, x[1]));
                self.refuse(x[0]);
                self.want(x[1], layout);
                self.refuse(y[0]);
            }
            Op::ConvGradWeight(_) => {
                x.iter().for_each(|&v| self.refuse(v));
                self.want(y[0], conv_layout(self.graph, &node.op, x[0], y[0]));
            }
            Op::Recurrent(_) | Op::RecurrentGrad(_) => {
                let params = recurrent::params_of(self.graph, node);
                params.iter().for_each(|&(v, layout)| self.want(v, Some(layout)));
                let others = x.iter().chain(y).filter(|v| params.iter().all(|(p, _)| p != *v));
                others.for_each(|&v| self.refuse(v));
            }
            _ => x.iter().chain(y).for_each(|&v| self.refuse(v)),
        }
    }

    /// dy·W may read W in panels where W is a parameter of a linear layer.
    fn want_if_param(&mut self, v: ValueId) {
        match self.graph.value(v).origin {
            Origin::Param(_) => self.want(v, linear_layout(self.graph, v)),
            _ => self.refuse(v),
        }
    }

    fn want(&mut self, v: ValueId, layout: Option<ParamLayout>) {
        let root = self.root(v);
        self.verdict[root] = match (self.verdict[root], layout) {
            (Verdict::Open, Some(layout)) => Verdict::Wanted(layout),
            (Verdict::Wanted(before), Some(layout)) if before == layout => Verdict::Wanted(before),
            _ => Verdict::Refused,
        };
    }

    fn refuse(&mut self, v: ValueId) {
        let root = self.root(v);
        self.verdict[root] = Verdict::Refused;
    }

    fn with_params(&self, graph: &Graph) -> Vec<bool> {
        let mut found = vec![false; self.parent.len()];
        graph.params().iter().for_each(|p| found[self.root(p.value)] = true);
        found
    }
}

/// Panels for a weight `[O, I]` of fixed size.
fn linear_layout(graph: &Graph, weight: ValueId) -> Option<ParamLayout> {
    match graph.ty(weight).shape.as_slice() {
        [o, i] => {
            let (outputs, inputs) = (o.as_fixed()?, i.as_fixed()?);
            // The layout does not depend on the number of rows.
            Some(ParamLayout::Linear(Linear { batch: 1, inputs, outputs }))
        }
        _ => None,
    }
}

/// The layout of the weight (or its gradient) `w` of the convolution of `image` with that operator's attributes.
fn conv_layout(graph: &Graph, op: &Op, image: ValueId, w: ValueId) -> Option<ParamLayout> {
    let shape: Option<Vec<usize>> = graph.ty(w).shape.iter().map(Dim::as_fixed).collect();
    Some(Geometry::of(op)?.weight_layout(graph, image, &shape?))
}
