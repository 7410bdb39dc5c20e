//! Which nodes become one step.
//!
//! Two rules cover what networks need. A product (convolution, linear layer) takes the addition of a value of its
//! result's shape and then the activation that follow it, where nothing else reads what lies between. Element-wise
//! operators of one shape become one program: a producer joins its consumers where all of them are in one group.

use kessen_graph::ops::binary::BinaryKind;
use kessen_graph::ops::unary::UnaryKind;
use kessen_graph::{Graph, NodeId, Op, Origin, ValueId};

/// Most nodes of an element-wise group, so that its program keeps within the kernel's limits.
const MAX_GROUP: usize = 16;
/// Most operands of an element-wise group.
const MAX_OPERANDS: usize = 12;

/// Nodes that are computed together, in graph order; the group is lowered in the place of its last node.
pub(crate) type Group = Vec<NodeId>;

/// Splits the graph's nodes into groups, ordered by their last node.
pub(crate) fn groups(graph: &Graph, fuse: bool) -> Vec<Group> {
    let users = users(graph);
    let mut group_of: Vec<Option<usize>> = vec![None; graph.nodes().len()];
    let mut groups: Vec<Group> = Vec::new();
    if fuse {
        for id in graph.node_ids() {
            if takes_epilogue(&graph.node(id).op) && group_of[id.index()].is_none() {
                let group = epilogue(graph, &users, &group_of, id);
                if group.len() > 1 {
                    group.iter().for_each(|n| group_of[n.index()] = Some(groups.len()));
                    groups.push(group);
                }
            }
        }
    }
    for id in graph.node_ids().rev() {
        if group_of[id.index()].is_some() {
            continue;
        }
        let joined = if fuse { joins(graph, &users, &group_of, &groups, id) } else { None };
        let at = joined.unwrap_or(groups.len());
        match joined {
            Some(at) => groups[at].push(id),
            None => groups.push(vec![id]),
        }
        group_of[id.index()] = Some(at);
    }
    groups.iter_mut().for_each(|g| g.sort_unstable());
    groups.sort_unstable_by_key(|g| g.last().copied());
    groups
}

/// For each value the nodes that read it; `None` stands for an output or an update.
fn users(graph: &Graph) -> Vec<Vec<Option<NodeId>>> {
    let mut users = vec![Vec::new(); graph.values().len()];
    for id in graph.node_ids() {
        graph.node(id).inputs.iter().for_each(|v| users[v.index()].push(Some(id)));
    }
    graph.outputs().iter().for_each(|(_, v)| users[v.index()].push(None));
    graph.updates().iter().for_each(|(_, v)| users[v.index()].push(None));
    users
}

fn takes_epilogue(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::Linear(_))
}

/// Whether a product's epilogue can apply the function.
pub(crate) fn epilogue_activation(op: &Op) -> bool {
    matches!(op, Op::Unary(u) if matches!(u.kind, UnaryKind::Relu | UnaryKind::LeakyRelu))
}

/// The product `id` with the addition and activation that follow it alone.
fn epilogue(graph: &Graph, users: &[Vec<Option<NodeId>>], group_of: &[Option<usize>], id: NodeId) -> Group {
    let mut group = vec![id];
    let mut value = graph.node(id).outputs[0];
    let mut may_add = true;
    while let [Some(next)] = users[value.index()].as_slice() {
        let node = graph.node(*next);
        let residual = match &node.op {
            Op::Binary(op) if op.kind == BinaryKind::Add && may_add => {
                node.inputs.iter().find(|v| **v != value).is_some_and(|&v| graph.ty(v) == graph.ty(value))
            }
            _ => false,
        };
        let activation = epilogue_activation(&node.op);
        if group_of[next.index()].is_some() || !(residual || activation) {
            break;
        }
        group.push(*next);
        value = node.outputs[0];
        may_add = false;
        if activation {
            break;
        }
    }
    group
}

/// Whether the operator works element by element with a program.
pub(crate) fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::UnaryGrad(_) | Op::Binary(_) | Op::Clamp(_) | Op::ClampGrad(_))
}

/// The element-wise group that all readers of the node's result belong to, if it can take one more.
fn joins(
    graph: &Graph,
    users: &[Vec<Option<NodeId>>],
    group_of: &[Option<usize>],
    groups: &[Group],
    id: NodeId,
) -> Option<usize> {
    let node = graph.node(id);
    if !is_elementwise(&node.op) {
        return None;
    }
    let value = node.outputs[0];
    let first = group_of[(*users[value.index()].first()?)?.index()]?;
    let all_there =
        users[value.index()].iter().all(|u| u.is_some_and(|n| group_of[n.index()] == Some(first)));
    let group = &groups[first];
    let elementwise = group.iter().all(|&n| is_elementwise(&graph.node(n).op));
    let same_shape = group.iter().all(|&n| graph.ty(graph.node(n).outputs[0]).shape == graph.ty(value).shape);
    if !(all_there && elementwise && same_shape && group.len() < MAX_GROUP) {
        return None;
    }
    let mut with = group.clone();
    with.push(id);
    (operands(graph, &with).len() <= MAX_OPERANDS).then_some(first)
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
