//! Pooling and its gradients, in either layout of images.

use kessen_graph::attribute::Padding;
use kessen_graph::ops::adaptive_pool::PoolKind;
use kessen_graph::{Graph, Node, NodeId, Op, ValueId};
use kessen_kernels::layout::PANEL;
use kessen_kernels::pool::{self, Axis, Kind, Pool, Slices};

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::Buf;

/// Window of a pooling with fixed sizes.
struct Window {
    kind: Kind,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: Padding,
    dilation: [usize; 2],
    ceil: bool,
}

fn window(op: &Op) -> Option<Window> {
    let average = |include: bool| if include { Kind::AverageWithPadding } else { Kind::Average };
    let build = |kind, kernel, stride, padding, dilation, ceil| {
        Some(Window { kind, kernel, stride, padding, dilation, ceil })
    };
    match op {
        Op::MaxPool(o) => build(Kind::Max, o.kernel, o.stride, o.padding, o.dilation, o.ceil_mode),
        Op::MaxPoolGrad(o) => build(Kind::Max, o.kernel, o.stride, o.padding, o.dilation, o.ceil_mode),
        Op::AvgPool(o) => {
            build(average(o.count_include_pad), o.kernel, o.stride, o.padding, [1, 1], o.ceil_mode)
        }
        Op::AvgPoolGrad(o) => {
            build(average(o.count_include_pad), o.kernel, o.stride, o.padding, [1, 1], o.ceil_mode)
        }
        _ => None,
    }
}

/// The kernel's descriptor for an input `[N, C, H, W]`.
fn describe(b: &PlanBuilder<'_>, op: &Op, x: [usize; 4], layout: Layout, v: ValueId) -> Result<Pool> {
    let axis = |i: usize| match (window(op), op) {
        (Some(w), _) => {
            let padding = [w.padding.before[i], w.padding.after[i]];
            Axis::new(x[2 + i], w.kernel[i], w.stride[i], padding, w.dilation[i], w.ceil)
        }
        (None, Op::AdaptivePool(o)) => Axis::adaptive(x[2 + i], o.size[i]),
        (None, Op::AdaptivePoolGrad(o)) => Axis::adaptive(x[2 + i], o.size[i]),
        _ => unreachable!("not a pooling"),
    };
    let fail = |e: kessen_kernels::Error| super::unsupported(b, v, &e.to_string());
    let (rows, columns) = (axis(0).map_err(fail)?, axis(1).map_err(fail)?);
    let kind = match op {
        Op::AdaptivePool(o) if o.kind == PoolKind::Max => Kind::Max,
        Op::AdaptivePoolGrad(o) if o.kind == PoolKind::Max => Kind::Max,
        _ => window(op).map_or(Kind::Average, |w| w.kind),
    };
    let (layout, planes) = match layout {
        Layout::Blocked => (pool::Layout::Blocked, x[0] * x[1].div_ceil(PANEL)),
        _ => (pool::Layout::Plain, x[0] * x[1]),
    };
    Ok(Pool { kind, layout, planes, rows, columns, slices: None })
}

/// Where operands are slices: the distances of the images of `x`, `y` and `dy`.
fn slices(channels: usize, [x, y, dy]: [Option<usize>; 3]) -> Option<Slices> {
    let any = x.or(y).or(dy).is_some();
    any.then_some(Slices { planes: channels.div_ceil(PANEL), x, y, dy })
}

/// A value in that layout, blocked ones perhaps as slices, and the distance of a slice's images.
fn image(b: &mut PlanBuilder<'_>, v: ValueId, layout: Layout) -> (Buf, Option<usize>) {
    let buf = if layout == Layout::Blocked { b.blocked_slice(v) } else { b.located(v, layout) };
    (buf, b.image_step(buf))
}

/// The layout in which a value lies, blocked where it does in both.
fn layout_of(b: &PlanBuilder<'_>, v: ValueId) -> Layout {
    if b.lies(v, Layout::Blocked) { Layout::Blocked } else { Layout::Plain }
}

/// y = the largest or the mean of each window.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let (x, y) = (node.inputs[0], node.outputs[0]);
    let layout = layout_of(b, x);
    let mut pool = describe(b, &node.op, b.image(x), layout, y)?;
    let channels = b.image(x)[1];
    let (read, x_step) = image(b, x, layout);
    let reads = [read];
    let out = if layout == Layout::Blocked { b.image_result(y, &reads) } else { b.result(y, layout) };
    pool.slices = slices(channels, [x_step, b.image_step(out), None]);
    b.step(&format!("{} {}", node.op.operator().word(), words(layout)), &reads, &[out], move |views, _| {
        pool.forward(views.read(0), views.write(0));
        Ok(())
    });
    Ok(())
}

/// The gradient to the input.
pub(crate) fn lower_grad(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let (dy, dx) = (node.inputs[0], node.outputs[0]);
    let kernel = |layout| format!("{} {}", node.op.operator().name(), words(layout));
    let Some(&x) = node.inputs.get(1) else {
        let layout = layout_of(b, dy);
        let mut pool = describe(b, &node.op, b.image(dx), layout, dx)?;
        let (dy, dy_step) = image(b, dy, layout);
        pool.slices = slices(b.image(dx)[1], [None, None, dy_step]);
        let reads = [dy];
        let out = b.result(dx, layout);
        b.step(&kernel(layout), &reads, &[out], move |views, _| {
            pool.backward(&[], &[], views.read(0), views.write(0));
            Ok(())
        });
        return Ok(());
    };
    let layout = layout_of(b, x);
    let mut pool = describe(b, &node.op, b.image(dx), layout, dx)?;
    let channels = b.image(dx)[1];
    let ((x, x_step), (dy, dy_step)) = (image(b, x, layout), image(b, dy, layout));
    let (y, y_step) = match forward_result(b.graph, node) {
        Some(y) => image(b, y, layout),
        None => {
            pool.slices = slices(channels, [x_step, None, None]);
            let y = b.scratch(pool.output_len());
            b.step("max_pool again", &[x], &[y], move |views, _| {
                pool.forward(views.read(0), views.write(0));
                Ok(())
            });
            (y, None)
        }
    };
    pool.slices = slices(channels, [x_step, y_step, dy_step]);
    let reads = [x, y, dy];
    let out = b.result(dx, layout);
    b.step(&kernel(layout), &reads, &[out], move |views, _| {
        pool.backward(views.read(0), views.read(1), views.read(2), views.write(0));
        Ok(())
    });
    Ok(())
}

/// The result of the max pooling whose gradient `node` computes: the kernel finds the winners by it. Where it was
/// computed more than once, the last result before `node`.
pub(crate) fn forward_result(graph: &Graph, node: &Node) -> Option<ValueId> {
    let x = *node.inputs.get(1)?;
    let same = |n: &&Node| match (&n.op, &node.op) {
        (Op::MaxPool(a), Op::MaxPoolGrad(g)) => {
            (a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode)
                == (g.kernel, g.stride, g.padding, g.dilation, g.ceil_mode)
        }
        (Op::AdaptivePool(a), Op::AdaptivePoolGrad(g)) => (a.kind, a.size) == (g.kind, g.size),
        _ => false,
    };
    let (at, _) = graph.producer(*node.outputs.first()?)?;
    let before = &graph.nodes()[..at.index()];
    before.iter().rev().find(|n| n.inputs[0] == x && same(n)).map(|n| n.outputs[0])
}

fn words(layout: Layout) -> &'static str {
    if layout == Layout::Blocked { "nChw16c" } else { "nchw" }
}
