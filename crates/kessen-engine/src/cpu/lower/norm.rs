//! Batch and layer normalisation, with what follows or precedes them in the same pass.

use kessen_graph::ops::unary::UnaryKind;
use kessen_graph::{Graph, Node, NodeId, Op, ValueId};
use kessen_kernels::epilogue::Activation;
use kessen_kernels::norm::{
    self, Affine, BatchNorm, Bounds, Function, Fused, RowKind, RowNorm, Saved, Steps,
};

use super::linear::follow;
use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::Buf;

/// The kernel's descriptor for a value `[N, C, …]` in that layout.
fn describe(b: &PlanBuilder<'_>, x: ValueId, layout: Layout, eps: f64) -> BatchNorm {
    let shape = b.shape(x);
    BatchNorm {
        layout: if layout == Layout::Blocked { norm::Layout::Blocked } else { norm::Layout::Plain },
        batch: shape[0],
        channels: shape[1],
        inner: shape[2..].iter().product(),
        eps: eps as f32,
        steps: Steps::default(),
    }
}

/// A value in that layout, blocked ones perhaps as slices, and the distance of a slice's images.
fn image(b: &mut PlanBuilder<'_>, v: ValueId, layout: Layout) -> (Buf, Option<usize>) {
    let buf = if layout == Layout::Blocked { b.blocked_slice(v) } else { b.located(v, layout) };
    (buf, b.image_step(buf))
}

/// A buffer for a result, and the distance of a slice's images.
fn image_result(b: &mut PlanBuilder<'_>, v: ValueId, layout: Layout, reads: &[Buf]) -> (Buf, Option<usize>) {
    let buf = if layout == Layout::Blocked { b.image_result(v, reads) } else { b.result(v, layout) };
    (buf, b.image_step(buf))
}

fn layout_of(b: &PlanBuilder<'_>, v: ValueId) -> Layout {
    if b.lies(v, Layout::Blocked) { Layout::Blocked } else { Layout::Plain }
}

fn words(layout: Layout) -> &'static str {
    if layout == Layout::Blocked { "nChw16c" } else { "plain" }
}

/// Batch normalisation in training, with the addition and the bounds that follow it.
pub(crate) fn lower_batch_train(b: &mut PlanBuilder<'_>, group: &[NodeId]) -> Result<()> {
    let node = b.graph.node(group[0]);
    let Op::BatchNormTrain(op) = &node.op else { return Ok(()) };
    let follow = follow(b, group);
    let bounds = match follow.activation {
        Activation::Relu => Some(Bounds::Relu),
        Activation::Clamp(low, high) => Some(Bounds::Clamp(low, high)),
        _ => None,
    };
    let x = node.inputs[0];
    let layout = layout_of(b, x);
    let mut norm = describe(b, x, layout, op.eps);
    let momentum = op.momentum as f32;
    let (read, step) = image(b, x, layout);
    norm.steps.x = step;
    let mut reads = vec![read];
    reads.extend(node.inputs[1..].iter().map(|&v| b.plain(v)));
    let mut also = |buf: Buf| {
        reads.push(buf);
        reads.len() - 1
    };
    let residual = follow.residual.map(|v| also(b.located(v, layout)));
    let known = b.statistics(x).filter(|_| layout == Layout::Blocked).map(also);
    let mut writes: Vec<Buf> = node.outputs[1..].iter().map(|&v| b.result(v, Layout::Plain)).collect();
    let (y, step) = image_result(b, follow.result, layout, &reads);
    norm.steps.y = step;
    writes.push(y);
    if known.is_none() {
        writes.push(b.scratch(norm.scratch()));
    }
    let kernel = format!("batch norm {}{}", words(layout), follow.words);
    let channels = norm.channels;
    b.step(&kernel, &reads, &writes, move |views, _| {
        let (x, weight, bias) = (views.read(0), views.read(1), views.read(2));
        let (mean, inv_std) = (views.write(0), views.write(1));
        match known.map(|k| views.read(k)) {
            Some(statistics) => {
                let (means, variances) = statistics.split_at(statistics.len() / 2);
                mean.copy_from_slice(&means[..channels]);
                inv_std.copy_from_slice(&variances[..channels]);
            }
            None => norm.statistics(x, mean, inv_std, views.write(5)),
        }
        let (running_mean, running_var) = (views.write(2), views.write(3));
        running_mean.copy_from_slice(views.read(3));
        running_var.copy_from_slice(views.read(4));
        norm.update_running(momentum, mean, inv_std, running_mean, running_var);
        norm.invert(inv_std);
        let saved = Saved { mean, inv_std };
        let affine = Affine { weight: Some(weight), bias: Some(bias) };
        let fused = Fused { residual: residual.map(|k| views.read(k)), bounds };
        norm.normalise(x, saved, affine, fused, views.write(4));
        Ok(())
    });
    Ok(())
}

/// Its gradient, with that of a function before it where that is in the group.
pub(crate) fn lower_batch_grad(b: &mut PlanBuilder<'_>, group: &[NodeId]) -> Result<()> {
    let (first, node) = (b.graph.node(group[0]), b.graph.node(group[group.len() - 1]));
    let Op::BatchNormGrad(op) = &node.op else { return Ok(()) };
    let function = match &first.op {
        Op::UnaryGrad(_) => Some(" + relu gradient"),
        Op::ClampGrad(_) => Some(" + clamp gradient"),
        _ => None,
    };
    let (dy, x) = (first.inputs[0], node.inputs[1]);
    let layout = layout_of(b, x);
    let mut norm = describe(b, x, layout, op.eps);
    let ((dy, dy_step), (x, x_step)) = (image(b, dy, layout), image(b, x, layout));
    norm.steps = Steps { x: x_step, dy: dy_step, y: None };
    let mut reads = vec![dy, x];
    reads.extend(node.inputs[2..].iter().map(|&v| b.plain(v)));
    // Where the function's operand can be computed again, its result need not be read.
    let operand = function.and_then(|_| operand(b.graph, node));
    match operand {
        Some((bias, _)) => reads.push(b.plain(bias)),
        None if function.is_some() => {
            let (y, step) = image(b, first.inputs[1], layout);
            norm.steps.y = step;
            reads.push(y);
        }
        None => {}
    }
    let (dx, dw, db) = (node.outputs[0], node.outputs[1], node.outputs[2]);
    let mut writes = vec![b.result(dx, layout), b.result(dw, Layout::Plain), b.result(db, Layout::Plain)];
    writes.push(b.scratch(norm.scratch()));
    let masked = function.is_some() && b.is_needed(first.outputs[0]);
    if masked {
        writes.push(b.result(first.outputs[0], layout));
    }
    let kernel = format!("batch norm gradient {}{}", words(layout), function.unwrap_or_default());
    b.step(&kernel, &reads, &writes, move |views, _| {
        let saved = Saved { mean: views.read(3), inv_std: views.read(4) };
        let (dy, x, weight) = (views.read(0), views.read(1), views.read(2));
        let masked = masked.then(|| views.write(4));
        let (dw, db, scratch) = (views.write(1), views.write(2), views.write(3));
        let function = match (views.maybe_read(5), operand) {
            (None, _) => Function::None,
            (Some(y), None) => Function::Relu(y),
            (Some(bias), Some((_, bounds))) => Function::Behind(bias, bounds),
        };
        norm.backward(x, function, dy, saved, Some(weight), views.write(0), masked, dw, db, scratch);
        Ok(())
    });
    Ok(())
}

/// What lets the kernel of `node`, the gradient of a batch normalisation, find the operand of the function behind the
/// normalisation again: the normalisation's bias, and the function's bounds. Only where nothing else lies between them, and the
/// gradient passes the function first.
pub(crate) fn operand(graph: &Graph, node: &Node) -> Option<(ValueId, Bounds)> {
    let node_of = |v: ValueId| graph.producer(v).filter(|(_, k)| *k == 0).map(|(id, _)| graph.node(id));
    let is_relu = |kind: UnaryKind| kind == UnaryKind::Relu;
    let gradient = node_of(node.inputs[0])?;
    let (operand, bounds) = match &gradient.op {
        Op::UnaryGrad(u) if is_relu(u.kind) => {
            let relu =
                node_of(gradient.inputs[1]).filter(|n| matches!(&n.op, Op::Unary(u) if is_relu(u.kind)))?;
            (relu.inputs[0], Bounds::Relu)
        }
        Op::ClampGrad(op) => (gradient.inputs[1], Bounds::Clamp(op.min as f32, op.max as f32)),
        _ => return None,
    };
    let forward = node_of(operand).filter(|n| matches!(n.op, Op::BatchNormTrain(_)))?;
    let same = forward.inputs[..2] == node.inputs[1..3] && forward.outputs[1..3] == node.inputs[3..5];
    same.then_some((forward.inputs[2], bounds))
}

/// Batch normalisation by running statistics, where it was not folded.
pub(crate) fn lower_batch(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::BatchNorm(op) = &node.op else { return Ok(()) };
    let x = node.inputs[0];
    let layout = layout_of(b, x);
    let mut norm = describe(b, x, layout, op.eps);
    let (read, x_step) = image(b, x, layout);
    let mut reads = vec![read];
    reads.extend(node.inputs[1..].iter().map(|&v| b.plain(v)));
    let (y, y_step) = image_result(b, node.outputs[0], layout, &reads);
    norm.steps = Steps { x: x_step, y: y_step, dy: None };
    let inv_std = b.scratch(norm.channels);
    b.step(&format!("batch norm {}", words(layout)), &reads, &[y, inv_std], move |views, _| {
        let inv_std = views.write(1);
        inv_std.copy_from_slice(views.read(4));
        norm.invert(inv_std);
        let saved = Saved { mean: views.read(3), inv_std };
        let affine = Affine { weight: Some(views.read(1)), bias: Some(views.read(2)) };
        norm.normalise(views.read(0), saved, affine, Fused::default(), views.write(0));
        Ok(())
    });
    Ok(())
}

/// Rows of a value whose last `dims` dimensions are normalised.
fn rows(b: &PlanBuilder<'_>, x: ValueId, dims: usize, eps: f64) -> RowNorm {
    let shape = b.shape(x);
    let (outer, row) = shape.split_at(shape.len() - dims);
    let (rows, n) = (outer.iter().product(), row.iter().product());
    RowNorm { kind: RowKind::Layer, rows, n, eps: eps as f32 }
}

/// Layer normalisation.
pub(crate) fn lower_layer(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::LayerNorm(op) = &node.op else { return Ok(()) };
    let norm = rows(b, node.inputs[0], op.dims, op.eps);
    let reads: Vec<Buf> = node.inputs.iter().map(|&v| b.plain(v)).collect();
    let writes: Vec<Buf> = node.outputs.iter().map(|&v| b.result(v, Layout::Plain)).collect();
    b.step("layer norm", &reads, &writes, move |views, _| {
        let (weight, bias) = (views.maybe_read(1), views.maybe_read(2));
        norm.forward(views.read(0), weight, bias, views.write(0), views.write(1), views.write(2));
        Ok(())
    });
    Ok(())
}

/// Its gradient.
pub(crate) fn lower_layer_grad(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::LayerNormGrad(op) = &node.op else { return Ok(()) };
    let norm = rows(b, node.inputs[1], op.dims, 0.0);
    let reads: Vec<Buf> = node.inputs.iter().map(|&v| b.plain(v)).collect();
    let mut writes = vec![b.scratch(norm.backward_scratch())];
    writes.extend(node.outputs.iter().map(|&v| b.result(v, Layout::Plain)));
    let affine = node.outputs.len() == 3;
    b.step("layer norm gradient", &reads, &writes, move |views, _| {
        let (dw, db) = (affine.then(|| views.write(2)), affine.then(|| views.write(3)));
        let (dy, x, mean, inv_std) = (views.read(0), views.read(1), views.read(2), views.read(3));
        let weight = views.maybe_read(4);
        norm.backward(x, dy, weight, mean, inv_std, views.write(1), dw, db, views.write(0));
        Ok(())
    });
    Ok(())
}
