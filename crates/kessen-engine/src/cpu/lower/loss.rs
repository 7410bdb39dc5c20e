//! Losses. Where the gradient of the same loss is in the graph and the loss itself is what is minimised, both are
//! computed in one pass.

use kessen_graph::ops::cross_entropy::CrossEntropy as CrossEntropyOp;
use kessen_graph::ops::loss::Reduction as GraphReduction;
use kessen_graph::ops::regression_loss::RegressionKind;
use kessen_graph::{Node, NodeId, Op, ValueId};
use kessen_kernels::loss::{Classes, CrossEntropy, Pointwise, Reduction, pointwise, pointwise_scratch};

use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::fuse::constant_scalar;
use crate::cpu::memory::{Buf, Views};
use crate::{Error, Result};

fn reduction(r: GraphReduction) -> Reduction {
    match r {
        GraphReduction::Mean => Reduction::Mean,
        GraphReduction::Sum => Reduction::Sum,
    }
}

/// The node that computes the gradient of the loss `node`, where the gradient of the loss itself is a constant: its
/// result and that constant.
fn gradient_of(b: &PlanBuilder<'_>, node: &Node) -> Option<(ValueId, f32)> {
    b.graph.nodes().iter().find_map(|n| {
        let is_gradient = match (&node.op, &n.op) {
            (Op::CrossEntropy(a), Op::CrossEntropyGrad(g)) => {
                (a.label_smoothing, a.ignore_index, a.reduction)
                    == (g.label_smoothing, g.ignore_index, g.reduction)
            }
            (Op::RegressionLoss(a), Op::RegressionLossGrad(g)) => {
                (a.kind, a.delta, a.reduction) == (g.kind, g.delta, g.reduction)
            }
            (Op::BceWithLogits(a), Op::BceWithLogitsGrad(g)) => a.reduction == g.reduction,
            _ => false,
        };
        let same_operands = n.inputs.split_first().is_some_and(|(_, rest)| rest == node.inputs);
        let scale = constant_scalar(b.graph, *n.inputs.first()?)?;
        (is_gradient && same_operands && b.fuses()).then_some((n.outputs[0], scale))
    })
}

/// The attributes that the cross-entropy kernel needs.
#[derive(Debug, Clone, Copy)]
struct Spec {
    smoothing: f32,
    ignore: Option<i64>,
    reduction: Reduction,
    shape: [usize; 3],
}

impl Spec {
    fn of(b: &PlanBuilder<'_>, op: &CrossEntropyOp, logits: ValueId) -> Self {
        Self {
            smoothing: op.label_smoothing as f32,
            ignore: op.ignore_index,
            reduction: reduction(op.reduction),
            shape: super::softmax::around(b.shape(logits), 1),
        }
    }

    fn kernel<'v>(&self, weight: Option<&'v [f32]>) -> CrossEntropy<'v> {
        CrossEntropy { weight, smoothing: self.smoothing, ignore: self.ignore, reduction: self.reduction }
    }

    fn check(&self, path: &str, targets: &[i64]) -> Result<()> {
        let limit = self.shape[1];
        let bad = |&t: &i64| Some(t) != self.ignore && usize::try_from(t).map_or(true, |t| t >= limit);
        match targets.iter().position(bad) {
            None => Ok(()),
            Some(position) => Err(Error::Index {
                path: path.to_owned(),
                operator: "cross_entropy".to_owned(),
                index: targets[position],
                position,
                limit,
            }),
        }
    }
}

/// Cross-entropy, with its gradient where that is wanted too.
pub(crate) fn lower_cross_entropy(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::CrossEntropy(op) = &node.op else { return Ok(()) };
    let spec = Spec::of(b, op, node.inputs[0]);
    let reads = reads(b, &node.inputs);
    let gradient = gradient_of(b, node);
    let path = node.path.clone();
    let (loss, losses) = (b.result(node.outputs[0], Layout::Plain), b.scratch(b.len(node.inputs[1])));
    let mut writes = vec![loss, losses];
    let scale = gradient.map(|(dlogits, scale)| {
        writes.push(b.result(dlogits, Layout::Plain));
        scale
    });
    let kernel = if scale.is_some() { "cross-entropy + gradient" } else { "cross-entropy" };
    b.step(kernel, &reads, &writes, move |views, _| {
        let (logits, targets) = (views.read(0), views.read_ids(1));
        spec.check(&path, targets)?;
        let kernel = spec.kernel(views.maybe_read(2));
        let classes = Classes::I64(targets);
        let losses = views.write(1);
        let loss = match scale {
            Some(scale) => {
                kernel.forward_backward(logits, spec.shape, classes, scale, losses, views.write(2))
            }
            None => kernel.forward(logits, spec.shape, classes, losses),
        };
        views.write(0)[0] = loss.map_err(|e| kernel_error(&e))?;
        Ok(())
    });
    Ok(())
}

/// The gradient of cross-entropy, where the loss did not compute it.
pub(crate) fn lower_cross_entropy_grad(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::CrossEntropyGrad(op) = &node.op else { return Ok(()) };
    if b.lies(node.outputs[0], Layout::Plain) {
        return Ok(());
    }
    let forward = CrossEntropyOp {
        label_smoothing: op.label_smoothing,
        ignore_index: op.ignore_index,
        reduction: op.reduction,
    };
    let spec = Spec::of(b, &forward, node.inputs[1]);
    let path = node.path.clone();
    let mut reads = reads(b, &node.inputs[1..]);
    reads.push(b.plain(node.inputs[0]));
    let dloss = reads.len() - 1;
    let (dlogits, losses) = (b.result(node.outputs[0], Layout::Plain), b.scratch(b.len(node.inputs[2])));
    b.step("cross-entropy gradient", &reads, &[dlogits, losses], move |views, _| {
        let (logits, targets) = (views.read(0), views.read_ids(1));
        spec.check(&path, targets)?;
        let weight = (dloss == 3).then(|| views.read(2));
        let classes = Classes::I64(targets);
        let (scale, losses, dlogits) = (views.read(dloss)[0], views.write(1), views.write(0));
        let kernel = spec.kernel(weight);
        let loss = kernel.forward_backward(logits, spec.shape, classes, scale, losses, dlogits);
        loss.map(|_| ()).map_err(|e| kernel_error(&e))
    });
    Ok(())
}

/// Mean squared, mean absolute, Huber and binary cross-entropy losses.
pub(crate) fn lower_pointwise(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Some((kind, reduction)) = pointwise_kind(&node.op) else { return Ok(()) };
    if let Some(&weight) = node.inputs.get(2).filter(|&&w| b.len(w) != 1) {
        return lower_weighted_bce(b, id, weight, reduction);
    }
    let (x, target) = (node.inputs[0], node.inputs[1]);
    let n = b.len(x);
    if node.inputs.get(2).is_some_and(|&weight| b.len(weight) != 1) {
        return super::weighted_bce::lower(b, &node.inputs, node.outputs[0], reduction);
    }
    let reads = reads(b, &node.inputs);
    let gradient = gradient_of(b, node);
    let (loss, scratch) = (b.result(node.outputs[0], Layout::Plain), b.scratch(pointwise_scratch(n)));
    let mut writes = vec![loss, scratch];
    let scale = gradient.map(|(dx, scale)| {
        writes.push(b.result(dx, Layout::Plain));
        scale
    });
    debug_assert_eq!(b.len(target), n);
    let kernel = if scale.is_some() { "loss + gradient" } else { "loss" };
    b.step(kernel, &reads, &writes, move |views, _| {
        let dx = scale.map(|_| views.write(2));
        let kind = with_pos_weight(kind, views, 2);
        let (x, target, scratch) = (views.read(0), views.read(1), views.write(1));
        views.write(0)[0] = pointwise(kind, reduction, x, target, scale.unwrap_or(1.0), dx, scratch);
        Ok(())
    });
    Ok(())
}

/// Their gradient, where the loss did not compute it.
pub(crate) fn lower_pointwise_grad(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Some((kind, reduction)) = pointwise_kind(&node.op) else { return Ok(()) };
    if b.lies(node.outputs[0], Layout::Plain) {
        return Ok(());
    }
    if let Some(&weight) = node.inputs.get(3).filter(|&&w| b.len(w) != 1) {
        return lower_weighted_bce(b, id, weight, reduction);
    }
    let n = b.len(node.inputs[1]);
    if node.inputs.get(3).is_some_and(|&weight| b.len(weight) != 1) {
        return super::weighted_bce::lower_grad(b, &node.inputs, node.outputs[0], reduction);
    }
    let reads = reads(b, &node.inputs);
    let (dx, scratch) = (b.result(node.outputs[0], Layout::Plain), b.scratch(pointwise_scratch(n)));
    b.step("loss gradient", &reads, &[dx, scratch], move |views, _| {
        let kind = with_pos_weight(kind, views, 3);
        let (dloss, x, target) = (views.read(0)[0], views.read(1), views.read(2));
        pointwise(kind, reduction, x, target, dloss, Some(views.write(0)), views.write(1));
        Ok(())
    });
    Ok(())
}

/// Binary cross-entropy, or its gradient, with a weight for each class: a plain loop, as multi-label heads are small.
///
/// With x logit, y target, w weight: l = (1 − y)·x + (1 + (w − 1)·y)·(ln(1 + e^−|x|) + max(−x, 0)),
/// dl/dx = (1 − y) − (1 + (w − 1)·y)/(1 + e^x).
fn lower_weighted_bce(
    b: &mut PlanBuilder<'_>,
    id: NodeId,
    weight: ValueId,
    reduction: Reduction,
) -> Result<()> {
    let node = b.graph.node(id);
    let is_gradient = matches!(node.op, Op::BceWithLogitsGrad(_));
    let operands = if is_gradient { &node.inputs[1..] } else { &node.inputs[..] };
    let sources = broadcast_sources(b.shape(operands[0]), b.shape(weight));
    let mut reads = reads(b, operands);
    if is_gradient {
        reads.push(b.plain(node.inputs[0]));
    }
    let result = b.result(node.outputs[0], Layout::Plain);
    b.step("weighted binary cross-entropy", &reads, &[result], move |views, _| {
        let (x, target, weight) = (views.read(0), views.read(1), views.read(2));
        let share = if reduction == Reduction::Mean { 1.0 / x.len() as f64 } else { 1.0 };
        let elements = x.iter().zip(target).zip(&sources).map(|((&x, &y), &source)| {
            (f64::from(x), f64::from(y), 1.0 + (f64::from(weight[source]) - 1.0) * f64::from(y))
        });
        if is_gradient {
            let scale = f64::from(views.read(3)[0]) * share;
            for (dx, (x, y, w)) in views.write(0).iter_mut().zip(elements) {
                *dx = (scale * ((1.0 - y) - w / (1.0 + x.exp()))) as f32;
            }
        } else {
            let losses =
                elements.map(|(x, y, w)| (1.0 - y) * x + w * ((-x.abs()).exp().ln_1p() + (-x).max(0.0)));
            views.write(0)[0] = (share * losses.sum::<f64>()) as f32;
        }
        Ok(())
    });
    Ok(())
}

/// For each element of `shape`, the element of an operand of shape `small` that is broadcast to it.
fn broadcast_sources(shape: &[usize], small: &[usize]) -> Vec<usize> {
    let source = |i: usize| {
        let (mut rest, mut stride, mut at) = (i, 1, 0);
        for (n, m) in shape.iter().rev().zip(small.iter().rev()) {
            at += if *m == 1 { 0 } else { rest % n * stride };
            rest /= n;
            stride *= m;
        }
        at
    };
    (0..shape.iter().product()).map(source).collect()
}

fn pointwise_kind(op: &Op) -> Option<(Pointwise, Reduction)> {
    let kind = |kind: RegressionKind, delta: f64| match kind {
        RegressionKind::Mse => Pointwise::Mse,
        RegressionKind::Mae => Pointwise::Mae,
        RegressionKind::Huber => Pointwise::Huber { delta: delta as f32 },
    };
    let bce = Pointwise::BceWithLogits { pos_weight: 1.0 };
    match op {
        Op::RegressionLoss(op) => Some((kind(op.kind, op.delta), reduction(op.reduction))),
        Op::RegressionLossGrad(op) => Some((kind(op.kind, op.delta), reduction(op.reduction))),
        Op::BceWithLogits(op) => Some((bce, reduction(op.reduction))),
        Op::BceWithLogitsGrad(op) => Some((bce, reduction(op.reduction))),
        _ => None,
    }
}

/// The weight of the positive class, where the step reads one at position `k`.
fn with_pos_weight(kind: Pointwise, views: &Views<'_>, k: usize) -> Pointwise {
    match (kind, views.maybe_read(k)) {
        (Pointwise::BceWithLogits { .. }, Some(weight)) => Pointwise::BceWithLogits { pos_weight: weight[0] },
        _ => kind,
    }
}

fn reads(b: &mut PlanBuilder<'_>, values: &[ValueId]) -> Vec<Buf> {
    values.iter().map(|&v| b.plain(v)).collect()
}

fn kernel_error(error: &kessen_kernels::Error) -> Error {
    kessen_graph::Error::Inconsistent(error.to_string()).into()
}
