//! Convolutions and their gradients, on images in nChw16c.

use kessen_graph::attribute::Padding;
use kessen_graph::{Dim, Graph, Node, NodeId, Op, Origin, ValueId};
use kessen_kernels::conv::winograd::{self, Algorithm, Direction, Order};
use kessen_kernels::conv::{self, ConvDesc};
use kessen_kernels::epilogue::Epilogue;
use kessen_kernels::layout::{self, PANEL};

use super::linear::{EpilogueReads, Follow, follow};
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::Buf;
use crate::cpu::param::ParamLayout;
use crate::{Precision, Result};

/// Attributes that the three operators share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    stride: [usize; 2],
    padding: Padding,
    dilation: [usize; 2],
    groups: usize,
}

impl Geometry {
    /// The attributes of a convolution or one of its gradients.
    pub fn of(op: &Op) -> Option<Self> {
        let (stride, padding, dilation, groups) = match op {
            Op::Conv(o) => (o.stride, o.padding, o.dilation, o.groups),
            Op::ConvGradInput(o) => (o.stride, o.padding, o.dilation, o.groups),
            Op::ConvGradWeight(o) => (o.stride, o.padding, o.dilation, o.groups),
            _ => return None,
        };
        Some(Self { stride, padding, dilation, groups })
    }

    /// The kernel's descriptor for an input `[N, C, H, W]` and a weight `[K, C/G, M, M′]`.
    fn desc(&self, x: [usize; 4], w: [usize; 4], plain: bool) -> ConvDesc {
        let mut desc = ConvDesc::new(x[0], x[1], w[0], [x[2], x[3]], 1);
        desc.kernel = [w[2], w[3]];
        desc.stride = self.stride;
        desc.pad_before = self.padding.before;
        desc.pad_after = self.padding.after;
        desc.dilation = self.dilation;
        desc.groups = self.groups;
        if plain { desc.plain() } else { desc }
    }

    /// The weight's layout for an image input `x` and a weight of fixed shape; it does not depend on the image.
    pub fn weight_layout(&self, graph: &Graph, x: ValueId, weight: &[usize]) -> ParamLayout {
        let [k, c, m, m2] = [0, 1, 2, 3].map(|i| weight[i]);
        let span = [0, 1].map(|i| self.dilation[i] * (weight[2 + i] - 1) + 1);
        let plain = reads_plain(graph, x, c * self.groups, self.groups);
        let image = [1, c * self.groups, span[0], span[1]];
        let bare = Self { padding: Padding::default(), ..*self };
        ParamLayout::Conv(bare.desc(image, [k, c, m, m2], plain))
    }
}

/// Whether a convolution reads its input as it comes: few channels that lie row-major.
fn reads_plain(graph: &Graph, x: ValueId, channels: usize, groups: usize) -> bool {
    channels < PANEL && groups == 1 && lies_plain(graph, x)
}

/// Whether a value of few channels lies row-major: it is given so, or a convolution writes it so, and what came
/// between keeps the layout.
fn lies_plain(graph: &Graph, v: ValueId) -> bool {
    let Origin::Node(id, _) = graph.value(v).origin else { return true };
    let node = graph.node(id);
    match &node.op {
        Op::Reshape(_) | Op::Transpose(_) => true,
        Op::Conv(_) => writes_plain(graph, node),
        Op::MaxPool(_) | Op::AvgPool(_) | Op::AdaptivePool(_) => lies_plain(graph, node.inputs[0]),
        Op::BatchNorm(_) | Op::BatchNormTrain(_) => lies_plain(graph, node.inputs[0]),
        Op::Unary(_) | Op::Binary(_) | Op::Clamp(_) => {
            let full = node.inputs.iter().find(|x| graph.ty(**x) == graph.ty(v));
            full.is_some_and(|&x| lies_plain(graph, x))
        }
        _ => false,
    }
}

/// Whether a convolution writes its output row-major: its channels are few, and pixels fill the lanes better.
fn writes_plain(graph: &Graph, node: &Node) -> bool {
    let sizes = |v: ValueId| -> Option<[usize; 4]> {
        let sizes: Option<Vec<usize>> = graph.ty(v).shape.iter().map(Dim::as_fixed).collect();
        sizes?.try_into().ok()
    };
    let (Some(geometry), Some(x), Some(w)) =
        (Geometry::of(&node.op), sizes(node.inputs[0]), sizes(node.inputs[1]))
    else {
        return false;
    };
    let desc = geometry.desc(x, w, true);
    reads_plain(graph, node.inputs[0], x[1], geometry.groups)
        && desc.check().is_ok()
        && desc.prefers_plain_output()
}

/// The descriptor with the gradient of its output as that lies.
fn with_gradient(b: &PlanBuilder<'_>, desc: ConvDesc, dy: ValueId) -> ConvDesc {
    let plain = desc.plain_output();
    if b.lies(dy, Layout::Blocked) || plain.check().is_err() { desc } else { plain }
}

/// The descriptor of the convolution of `x` by `w` and whether it reads a plain image.
fn describe(
    b: &PlanBuilder<'_>,
    op: &Op,
    x: ValueId,
    x_shape: [usize; 4],
    w_shape: [usize; 4],
) -> (ConvDesc, bool) {
    let Some(geometry) = Geometry::of(op) else { unreachable!("not a convolution") };
    let plain = reads_plain(b.graph, x, x_shape[1], geometry.groups);
    (geometry.desc(x_shape, w_shape, plain), plain)
}

/// y = x ∗ w + b with what follows it.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, group: &[NodeId]) -> Result<()> {
    let node = b.graph.node(group[0]);
    let follow = follow(b, group);
    let (x, w) = (node.inputs[0], node.inputs[1]);
    let (mut desc, plain) = describe(b, &node.op, x, b.image(x), b.image(w));
    if writes_plain(b.graph, node) {
        desc = desc.plain_output();
    }
    check(b, &desc, follow.result)?;
    let fixed = b.is_static(w);
    let algorithm = choose(b, &desc, if fixed { Direction::ForwardPrepared } else { Direction::Forward });
    let weight = match algorithm {
        Algorithm::Winograd(order) if fixed => prepared_weight(b, w, desc, order),
        Algorithm::Bf16 => rounded_weight(b, w, desc),
        _ => kernel_weight(b, w, desc),
    };
    let (x, input_step) = image(b, x, plain);
    let mut reads = vec![x, weight];
    let mut also = |buf: Buf| {
        reads.push(buf);
        reads.len() - 1
    };
    let bias = node.inputs.get(2).map(|&v| also(padded_bias(b, v)));
    let layout = if desc.output == conv::Layout::Plain { Layout::Plain } else { Layout::Blocked };
    let residual = follow.residual.map(|v| also(b.located(v, layout)));
    let ends = EpilogueReads { bias, residual, activation: follow.activation };
    // A residual lies as the result does.
    let y = match (follow.residual, layout) {
        (None, Layout::Blocked) => b.image_result(follow.result, &reads),
        _ => b.result(follow.result, layout),
    };
    let desc = ConvDesc { input_step, output_step: b.image_step(y), ..desc };
    if !fixed && layout == Layout::Blocked && b.wants_statistics(follow.result) {
        forward_with_statistics(b, desc, algorithm, &follow, y, &reads, ends);
        return Ok(());
    }
    let scratch = match algorithm {
        Algorithm::Direct => conv::forward_scratch(&desc),
        Algorithm::Bf16 => conv::bf16::forward_scratch(&desc),
        Algorithm::Winograd(order) if fixed => winograd::forward_prepared_scratch(&desc, order),
        Algorithm::Winograd(order) => winograd::forward_scratch(&desc, order),
    };
    let scratch = b.scratch(scratch);
    let kernel = format!("conv {}{}", words(&desc, algorithm), follow.words);
    b.step(&kernel, &reads, &[y, scratch], move |views, _| {
        let epilogue = ends.epilogue(views);
        let (x, w, y, scratch) = (views.read(0), views.read(1), views.write(0), views.write(1));
        match algorithm {
            Algorithm::Direct => conv::forward(&desc, x, w, &epilogue, y, scratch),
            Algorithm::Bf16 => conv::bf16::forward(&desc, x, w, &epilogue, y, scratch),
            Algorithm::Winograd(order) if fixed => {
                winograd::forward_prepared(&desc, order, x, w, &epilogue, y, scratch);
            }
            Algorithm::Winograd(order) => winograd::forward(&desc, order, x, w, &epilogue, y, scratch),
        }
        Ok(())
    });
    Ok(())
}

/// The step of [`lower`], with the statistics that the batch normalisation behind it needs.
fn forward_with_statistics(
    b: &mut PlanBuilder<'_>,
    desc: ConvDesc,
    algorithm: Algorithm,
    follow: &Follow,
    y: Buf,
    reads: &[Buf],
    ends: EpilogueReads,
) {
    let scratch = match algorithm {
        Algorithm::Direct => conv::forward_with_statistics_scratch(&desc),
        Algorithm::Bf16 => conv::bf16::forward_with_statistics_scratch(&desc),
        Algorithm::Winograd(order) => winograd::forward_with_statistics_scratch(&desc, order),
    };
    let statistics = b.scratch(conv::statistics_len(&desc));
    b.bind_statistics(follow.result, statistics);
    let writes = [y, statistics, b.scratch(scratch)];
    let kernel = format!("conv {}{} + statistics", words(&desc, algorithm), follow.words);
    b.step(&kernel, reads, &writes, move |views, _| {
        let epilogue = ends.epilogue(views);
        let (x, w) = (views.read(0), views.read(1));
        let (y, statistics, scratch) = (views.write(0), views.write(1), views.write(2));
        match algorithm {
            Algorithm::Direct => {
                conv::forward_with_statistics(&desc, x, w, &epilogue, y, statistics, scratch);
            }
            Algorithm::Bf16 => {
                conv::bf16::forward_with_statistics(&desc, x, w, &epilogue, y, statistics, scratch);
            }
            Algorithm::Winograd(order) => {
                winograd::forward_with_statistics(&desc, order, x, w, &epilogue, y, statistics, scratch);
            }
        }
        Ok(())
    });
}

/// The gradient to the input.
pub(crate) fn lower_grad_input(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let (dy, w, dx) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let Some(x) = forward_input(b.graph, w, dx) else {
        return Err(super::unsupported(b, dx, "the convolution it belongs to is not in the graph"));
    };
    let (desc, plain) = describe(b, &node.op, x, b.image(dx), b.image(w));
    let desc = with_gradient(b, desc, dy);
    check(b, &desc, dx)?;
    let (dy, output_step) = image(b, dy, desc.output == conv::Layout::Plain);
    let reads = [dy, kernel_weight(b, w, desc)];
    let desc = ConvDesc { output_step, ..desc };
    let algorithm = choose(b, &desc, Direction::GradInput);
    let scratch = match algorithm {
        Algorithm::Direct => conv::grad_input_scratch(&desc),
        Algorithm::Bf16 => conv::bf16::grad_input_scratch(&desc),
        Algorithm::Winograd(order) => winograd::grad_input_scratch(&desc, order),
    };
    let (out, scratch) = (b.result(dx, image_layout(plain)), b.scratch(scratch));
    let kernel = format!("conv gradient to input {}", words(&desc, algorithm));
    b.step(&kernel, &reads, &[out, scratch], move |views, _| {
        let (dy, w, dx, scratch) = (views.read(0), views.read(1), views.write(0), views.write(1));
        let store = Epilogue::store();
        match algorithm {
            Algorithm::Direct => conv::grad_input(&desc, dy, w, &store, dx, scratch),
            Algorithm::Bf16 => conv::bf16::grad_input(&desc, dy, w, &store, dx, scratch),
            Algorithm::Winograd(order) => winograd::grad_input(&desc, order, dy, w, &store, dx, scratch),
        }
        Ok(())
    });
    Ok(())
}

/// The input of the convolution by `w` whose input is of `dx`'s shape: it says how the weight lies.
pub(crate) fn forward_input(graph: &Graph, w: ValueId, dx: ValueId) -> Option<ValueId> {
    graph.nodes().iter().find_map(|n| {
        let found = matches!(n.op, Op::Conv(_)) && n.inputs[1] == w && graph.ty(n.inputs[0]) == graph.ty(dx);
        found.then(|| n.inputs[0])
    })
}

/// The gradient to the weight, in the weight's layout.
pub(crate) fn lower_grad_weight(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let (x, dy, dw) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let (desc, plain) = describe(b, &node.op, x, b.image(x), b.image(dw));
    let desc = with_gradient(b, desc, dy);
    check(b, &desc, dw)?;
    let (x, input_step) = image(b, x, plain);
    let (dy, output_step) = image(b, dy, desc.output == conv::Layout::Plain);
    let (reads, desc) = ([x, dy], ConvDesc { input_step, output_step, ..desc });
    let in_kernel_layout = b.has_kernel_layout(dw);
    let out = match in_kernel_layout {
        true => b.result(dw, Layout::Kernel),
        false => b.scratch(desc.weight_len()),
    };
    let algorithm = choose(b, &desc, Direction::GradWeight);
    let scratch = b.scratch(match algorithm {
        Algorithm::Direct => conv::grad_weight_scratch(&desc),
        Algorithm::Bf16 => conv::bf16::grad_weight_scratch(&desc),
        Algorithm::Winograd(order) => winograd::grad_weight_scratch(&desc, order),
    });
    let kernel = format!("conv gradient to weight {}", words(&desc, algorithm));
    b.step(&kernel, &reads, &[out, scratch], move |views, _| {
        let (x, dy, dw, scratch) = (views.read(0), views.read(1), views.write(0), views.write(1));
        match algorithm {
            Algorithm::Direct => conv::grad_weight(&desc, x, dy, false, dw, scratch),
            Algorithm::Bf16 => conv::bf16::grad_weight(&desc, x, dy, false, dw, scratch),
            Algorithm::Winograd(order) => winograd::grad_weight(&desc, order, x, dy, false, dw, scratch),
        }
        Ok(())
    });
    if !in_kernel_layout {
        let plain = b.result(dw, Layout::Plain);
        b.step("reorder weight gradient", &[out], &[plain], move |views, _| {
            desc.unpack_weight(views.read(0), views.write(0));
            Ok(())
        });
    }
    Ok(())
}

/// An image where a kernel reads it, and the distance of a slice's images.
fn image(b: &mut PlanBuilder<'_>, v: ValueId, plain: bool) -> (Buf, Option<usize>) {
    let buf = if plain { b.plain(v) } else { b.blocked_slice(v) };
    (buf, b.image_step(buf))
}

fn image_layout(plain: bool) -> Layout {
    if plain { Layout::Plain } else { Layout::Blocked }
}

fn check(b: &PlanBuilder<'_>, desc: &ConvDesc, v: ValueId) -> Result<()> {
    desc.check().map_err(|e| super::unsupported(b, v, &e.to_string()))
}

/// The weight as the kernel reads it: the parameter itself, or packed (once, where it never changes).
fn kernel_weight(b: &mut PlanBuilder<'_>, w: ValueId, desc: ConvDesc) -> Buf {
    if b.has_kernel_layout(w) {
        return b.located(w, Layout::Kernel);
    }
    let plain = b.plain(w);
    b.derived(w, plain, desc.weight_len(), "pack weight", move |src, dst| desc.pack_weight(src, dst))
}

/// The weight rounded to bf16 (once, where it never changes).
fn rounded_weight(b: &mut PlanBuilder<'_>, w: ValueId, desc: ConvDesc) -> Buf {
    let len = conv::bf16::weight_words(&desc);
    if b.is_static(w) {
        let plain = b.plain(w);
        return b.derived(w, plain, len, "round weight", move |src, dst| {
            let mut packed = vec![0.0; desc.weight_len()];
            desc.pack_weight(src, &mut packed);
            conv::bf16::prepare_weight(&desc, &packed, dst);
        });
    }
    let packed = kernel_weight(b, w, desc);
    b.derived(w, packed, len, "round weight", move |src, dst| {
        conv::bf16::prepare_weight(&desc, src, dst);
    })
}

/// The bias with its last block filled by zeros.
fn padded_bias(b: &mut PlanBuilder<'_>, v: ValueId) -> Buf {
    let (plain, k) = (b.plain(v), b.len(v));
    if k.is_multiple_of(PANEL) {
        return plain;
    }
    b.derived(v, plain, layout::blocked_len(1, k, 1, 1), "pad bias", move |src, dst| {
        layout::to_blocked(src, dst, 1, k, 1);
    })
}

/// The fastest algorithm that the precision asked for allows.
fn choose(b: &PlanBuilder<'_>, desc: &ConvDesc, direction: Direction) -> Algorithm {
    let [two, four] = [Order::Two, Order::Four].map(Algorithm::Winograd);
    let allowed: &[Algorithm] = match b.precision() {
        Precision::Exact => &[],
        Precision::Fast => &[two, four],
        Precision::Bf16 => &[two, four, Algorithm::Bf16],
    };
    winograd::choose(desc, direction, allowed)
}

/// A weight that never changes, transformed for Winograd's algorithm once.
fn prepared_weight(b: &mut PlanBuilder<'_>, w: ValueId, desc: ConvDesc, order: Order) -> Buf {
    let plain = b.plain(w);
    b.derived(w, plain, winograd::prepared_len(&desc, order), "transform weight", move |src, dst| {
        let mut packed = vec![0.0; desc.weight_len()];
        desc.pack_weight(src, &mut packed);
        winograd::prepare_weight(&desc, order, &packed, dst);
    })
}

fn words(desc: &ConvDesc, algorithm: Algorithm) -> String {
    let layouts = match (desc.input, desc.output) {
        (conv::Layout::Blocked, _) => "nChw16c",
        (conv::Layout::Plain, conv::Layout::Blocked) => "nchw",
        (conv::Layout::Plain, conv::Layout::Plain) => "nchw both",
    };
    let how = match algorithm {
        Algorithm::Direct => "direct",
        Algorithm::Bf16 => "bf16",
        Algorithm::Winograd(Order::Two) => "winograd 2x2",
        Algorithm::Winograd(Order::Four) => "winograd 4x4",
    };
    format!("{}x{} {how} {layouts}", desc.kernel[0], desc.kernel[1])
}
