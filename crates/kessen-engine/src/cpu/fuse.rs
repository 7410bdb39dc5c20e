//! Which nodes become one step.
//!
//! Four rules cover what networks need. A product (convolution, linear layer) or a batch normalisation takes the
//! addition of a value of its result's shape and then the activation that follow it, where nothing else reads what
//! lies between. The gradient of a batch normalisation takes that of a ReLU or a clamp before it. Element-wise operators of
//! one shape become one program: a producer joins its consumers where all of them are in one group. An optimiser's
//! step takes what computes the gradient before it, where nothing else reads that and it comes piece by piece: the product
//! of a linear layer, the sum over the occurrences of an embedding's rows. And it moves up to the place where its gradient is known.

use kessen_graph::ops::binary::BinaryKind;
use kessen_graph::ops::unary::UnaryKind;
use kessen_graph::{Graph, NodeId, Op, Origin, ValueId};

use super::lower::norm;

/// Most nodes of an element-wise group, so that its program keeps within the kernel's limits.
const MAX_GROUP: usize = 16;
/// Most operands of an element-wise group.
const MAX_OPERANDS: usize = 12;

/// Nodes that are computed together, in graph order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub nodes: Vec<NodeId>,
    /// The node in whose place the group is computed: the last, unless the results of the first are wanted sooner.
    at: NodeId,
}

impl Group {
    /// The optimiser's step in the group.
    fn update(&self, graph: &Graph) -> Option<NodeId> {
        self.nodes.last().copied().filter(|&id| is_optimizer_step(&graph.node(id).op))
    }
}

/// Splits the graph's live nodes into groups, in the order in which they are computed. No update is computed before
/// the value `guarded`.
pub(crate) fn groups(graph: &Graph, live: &[bool], guarded: Option<ValueId>, fuse: bool) -> Vec<Group> {
    let users = users(graph, live);
    let mut grouping =
        Grouping { graph, users, group_of: vec![None; graph.nodes().len()], groups: Vec::new() };
    let ids = || graph.node_ids().filter(|id| live[id.index()]);
    let guard = guarded.and_then(|v| graph.producer(v)).map(|(producer, _)| producer);
    if fuse {
        for id in ids() {
            match &graph.node(id).op {
                op if takes_epilogue(op) => grouping.take_epilogue(id),
                Op::BatchNormGrad(_) => grouping.take_function_gradient(id),
                op if is_optimizer_step(op) => grouping.take_weight_gradient(id, guard),
                _ => {}
            }
        }
    }
    for id in ids().rev() {
        if grouping.group_of[id.index()].is_none() {
            match if fuse { grouping.joins(id) } else { None } {
                Some(at) => grouping.join(at, id),
                None => grouping.open(vec![id], id),
            }
        }
    }
    let mut groups = grouping.groups;
    groups.iter_mut().for_each(|g| g.nodes.sort_unstable());
    if fuse {
        hoist_updates(graph, &grouping.users, &grouping.group_of, guard, &mut groups);
    }
    groups.sort_by_key(|g| (g.at, g.update(graph).is_some()));
    groups
}

/// Moves each optimiser step to where its operands and the guarded value are known and nothing reads the parameter's
/// present value any more: the gradient is still in cache, and its memory is free again for the rest of the backward pass.
fn hoist_updates(
    graph: &Graph,
    users: &[Vec<Option<NodeId>>],
    group_of: &[Option<usize>],
    guard: Option<NodeId>,
    groups: &mut [Group],
) {
    for k in 0..groups.len() {
        let Some(id) = groups[k].update(graph) else { continue };
        let node = graph.node(id);
        let operands = groups[k].nodes.iter().flat_map(|&n| &graph.node(n).inputs);
        let producers = operands.filter_map(|&v| graph.producer(v).map(|(producer, _)| producer));
        let state = std::iter::once(node.inputs[0]).chain(node.inputs[5..].iter().copied());
        let readers = state.flat_map(|v| users[v.index()].iter().flatten().copied());
        let places = producers
            .chain(readers)
            .chain(guard)
            .filter_map(|n| group_of[n.index()])
            .filter(|&g| g != k)
            .map(|g| groups[g].at);
        if let Some(at) = places.max() {
            groups[k].at = at.min(groups[k].at);
        }
    }
}

/// Groups while they are formed.
struct Grouping<'g> {
    graph: &'g Graph,
    users: Vec<Vec<Option<NodeId>>>,
    group_of: Vec<Option<usize>>,
    groups: Vec<Group>,
}

/// For each value the live nodes that read it; `None` stands for an output or an update.
fn users(graph: &Graph, live: &[bool]) -> Vec<Vec<Option<NodeId>>> {
    let mut users = vec![Vec::new(); graph.values().len()];
    for id in graph.node_ids().filter(|id| live[id.index()]) {
        graph.node(id).inputs.iter().for_each(|v| users[v.index()].push(Some(id)));
    }
    graph.outputs().iter().for_each(|(_, v)| users[v.index()].push(None));
    graph.updates().iter().for_each(|(_, v)| users[v.index()].push(None));
    users
}

fn takes_epilogue(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::Linear(_) | Op::BatchNormTrain(_))
}

/// Whether the last stage of the kernel of `product` can apply the function.
fn epilogue_activation(product: &Op, op: &Op) -> bool {
    match op {
        Op::Clamp(_) => true,
        Op::Unary(u) if u.kind == UnaryKind::Relu => true,
        Op::Unary(u) => u.kind == UnaryKind::LeakyRelu && !matches!(product, Op::BatchNormTrain(_)),
        _ => false,
    }
}

/// Whether the operator works element by element with a program.
pub(crate) fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::UnaryGrad(_) | Op::Binary(_) | Op::Clamp(_) | Op::ClampGrad(_))
}

impl Grouping<'_> {
    fn open(&mut self, nodes: Vec<NodeId>, at: NodeId) {
        nodes.iter().for_each(|n| self.group_of[n.index()] = Some(self.groups.len()));
        self.groups.push(Group { nodes, at });
    }

    fn join(&mut self, group: usize, id: NodeId) {
        self.groups[group].nodes.push(id);
        self.group_of[id.index()] = Some(group);
    }

    /// Groups the product `id` with the addition and activation that follow it alone.
    fn take_epilogue(&mut self, id: NodeId) {
        let graph = self.graph;
        let mut nodes = vec![id];
        let mut value = graph.node(id).outputs[0];
        let mut may_add = true;
        while let Some(next) = self.reader(value) {
            let node = graph.node(next);
            let residual = match &node.op {
                Op::Binary(op) if op.kind == BinaryKind::Add && may_add => {
                    let other = node.inputs.iter().find(|v| **v != value);
                    other.is_some_and(|&v| graph.ty(v) == graph.ty(value))
                }
                _ => false,
            };
            let activation = epilogue_activation(&graph.node(id).op, &node.op);
            if self.group_of[next.index()].is_some() || !(residual || activation) {
                break;
            }
            nodes.push(next);
            value = node.outputs[0];
            may_add = false;
            if activation {
                break;
            }
        }
        let at = nodes[nodes.len() - 1];
        // Statistics of a normalisation may be wanted before what follows it can be computed.
        let waits = matches!(graph.node(id).op, Op::BatchNormTrain(_)) && self.is_read_before(id, at);
        if nodes.len() > 1 && !waits {
            self.open(nodes, at);
        }
    }

    /// The node that alone reads a value. The gradient of a clamp does not count where it is computed without the clamp's operand.
    fn reader(&self, value: ValueId) -> Option<NodeId> {
        let is_clamp = |id: NodeId| matches!(self.graph.node(id).op, Op::Clamp(_));
        match self.users[value.index()].as_slice() {
            [Some(next)] => Some(*next),
            [Some(clamp), Some(gradient)] if is_clamp(*clamp) && self.finds_operand(*gradient) => {
                Some(*clamp)
            }
            _ => None,
        }
    }

    /// Whether the node is the gradient of a clamp that is computed in one step with that of the batch normalisation before it,
    /// which finds the clamp's operand again.
    fn finds_operand(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        let mut readers = self.users[node.outputs[0].index()].iter().flatten();
        matches!(node.op, Op::ClampGrad(_)) && readers.any(|&next| self.function_gradient(next) == Some(id))
    }

    /// Whether a node before `at` reads a result of `id` other than the first.
    fn is_read_before(&self, id: NodeId, at: NodeId) -> bool {
        let others = &self.graph.node(id).outputs[1..];
        others.iter().flat_map(|v| &self.users[v.index()]).flatten().any(|&user| user < at)
    }

    /// Groups the gradient of a batch normalisation with that of the function behind the normalisation.
    fn take_function_gradient(&mut self, id: NodeId) {
        if let Some(function) = self.function_gradient(id)
            && self.group_of[function.index()].is_none()
        {
            self.open(vec![function, id], function);
        }
    }

    /// The gradient of a ReLU or a clamp that is computed in one step with `id`, the gradient of a batch normalisation.
    fn function_gradient(&self, id: NodeId) -> Option<NodeId> {
        let node = self.graph.node(id);
        if !matches!(node.op, Op::BatchNormGrad(_)) {
            return None;
        }
        let (function, _) = self.graph.producer(node.inputs[0]).filter(|(_, result)| *result == 0)?;
        let fits = match &self.graph.node(function).op {
            Op::UnaryGrad(u) => u.kind == UnaryKind::Relu,
            Op::ClampGrad(_) => norm::operand(self.graph, node).is_some(),
            _ => false,
        };
        // All else that the normalisation's gradient reads is known before the function's gradient.
        let known = node.inputs[1..]
            .iter()
            .all(|&v| self.graph.producer(v).is_none_or(|(producer, _)| producer < function));
        (fits && known).then_some(function)
    }

    /// Groups an optimiser's step with what computes its gradient piece by piece (a linear layer's product xᵀ·dy, an
    /// embedding's sum), so that the gradient need not be stored, unless that would have to wait for the guarded value.
    fn take_weight_gradient(&mut self, id: NodeId, guard: Option<NodeId>) {
        let gradient = self.graph.node(id).inputs[1];
        let Some((source, 0)) = self.graph.producer(gradient) else { return };
        let in_pieces = match &self.graph.node(source).op {
            Op::MatMul(op) => op.trans_a && !op.trans_b,
            Op::EmbeddingGrad(_) => true,
            _ => false,
        };
        let alone = self.users[gradient.index()] == [Some(id)];
        let waits = guard.is_some_and(|guard| guard > source);
        let takes_pieces = !matches!(&self.graph.node(id).op, Op::AdamStep(op) if op.amsgrad);
        if in_pieces && takes_pieces && alone && !waits && self.group_of[source.index()].is_none() {
            self.open(vec![source, id], id);
        }
    }

    /// The element-wise group that all readers of the node's result belong to, if it can take one more.
    fn joins(&self, id: NodeId) -> Option<usize> {
        let graph = self.graph;
        let node = graph.node(id);
        if !is_elementwise(&node.op) {
            return None;
        }
        let value = node.outputs[0];
        let users = &self.users[value.index()];
        let first = self.group_of[(*users.first()?)?.index()]?;
        let all_there = users.iter().all(|u| u.is_some_and(|n| self.group_of[n.index()] == Some(first)));
        let nodes = &self.groups[first].nodes;
        let fits = |&n: &NodeId| {
            let other = graph.node(n);
            is_elementwise(&other.op) && graph.ty(other.outputs[0]).shape == graph.ty(value).shape
        };
        if !(all_there && nodes.iter().all(fits) && nodes.len() < MAX_GROUP) {
            return None;
        }
        let mut with = nodes.clone();
        with.push(id);
        (operands(graph, &with).len() <= MAX_OPERANDS).then_some(first)
    }
}

/// Values that a group reads from outside, each once, without constant scalars.
pub(crate) fn operands(graph: &Graph, group: &[NodeId]) -> Vec<ValueId> {
    let made: Vec<ValueId> = group.iter().flat_map(|&n| graph.node(n).outputs.iter().copied()).collect();
    let mut operands = Vec::new();
    for &v in group.iter().flat_map(|&n| &graph.node(n).inputs) {
        if !made.contains(&v) && !operands.contains(&v) && constant_scalar(graph, v).is_none() {
            operands.push(v);
        }
    }
    operands
}

/// The number, where a value is a constant scalar.
pub(crate) fn constant_scalar(graph: &Graph, v: ValueId) -> Option<f32> {
    match &graph.value(v).origin {
        Origin::Constant(t) if t.len() == 1 && t.shape().is_empty() => {
            t.as_slice::<f32>().ok()?.first().copied()
        }
        _ => None,
    }
}

/// Whether the operator is one step of an optimiser.
pub(crate) fn is_optimizer_step(op: &Op) -> bool {
    matches!(op, Op::SgdStep(_) | Op::AdamStep(_) | Op::RmspropStep(_))
}
