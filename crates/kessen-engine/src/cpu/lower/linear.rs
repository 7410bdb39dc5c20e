//! Fully connected layers and matrix products.

use kessen_graph::ops::unary::UnaryKind;
use kessen_graph::{NodeId, Op, ValueId};
use kessen_kernels::epilogue::{Activation, Epilogue};
use kessen_kernels::gemm::{Gemm, Linear, bf16};
use kessen_kernels::optim::Pieces;

use super::optimizer;
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::{Buf, Views};
use crate::cpu::param::ParamLayout;
use crate::{Precision, Result};

/// What follows a product in the same step: which operand is added, and the activation.
pub(crate) struct Follow {
    pub residual: Option<ValueId>,
    pub activation: Activation,
    /// The group's result.
    pub result: ValueId,
    /// Words for the plan's text.
    pub words: String,
}

/// Reads the nodes behind a product: an addition, then an activation.
pub(crate) fn follow(b: &PlanBuilder<'_>, group: &[NodeId]) -> Follow {
    let graph = b.graph;
    let mut value = graph.node(group[0]).outputs[0];
    let mut follow =
        Follow { residual: None, activation: Activation::Identity, result: value, words: String::new() };
    for &id in &group[1..] {
        let node = graph.node(id);
        match &node.op {
            Op::Unary(u) if u.kind == UnaryKind::LeakyRelu => {
                follow.activation = Activation::LeakyRelu(u.alpha as f32);
            }
            Op::Unary(_) => follow.activation = Activation::Relu,
            Op::Clamp(op) => follow.activation = Activation::Clamp(op.min as f32, op.max as f32),
            _ => follow.residual = node.inputs.iter().copied().find(|&v| v != value),
        }
        follow.words += &format!(" + {}", node.op.operator().word());
        value = node.outputs[0];
    }
    follow.result = value;
    follow
}

/// Which reads of a step the epilogue takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EpilogueReads {
    pub bias: Option<usize>,
    pub residual: Option<usize>,
    pub activation: Activation,
}

impl EpilogueReads {
    pub fn epilogue<'v>(&self, views: &Views<'v>) -> Epilogue<'v> {
        let mut epilogue = Epilogue::store().activation(self.activation);
        if let Some(k) = self.bias {
            epilogue = epilogue.bias(views.read(k));
        }
        if let Some(k) = self.residual {
            epilogue = epilogue.residual(views.read(k));
        }
        epilogue
    }
}

/// y = x·Wᵀ + b with what follows it.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, group: &[NodeId]) -> Result<()> {
    let node = b.graph.node(group[0]);
    let follow = follow(b, group);
    let (x, w) = (node.inputs[0], node.inputs[1]);
    let (inputs, outputs) = (b.shape(w)[1], b.shape(w)[0]);
    let linear = Linear { batch: b.len(follow.result) / outputs.max(1), inputs, outputs };
    let rounds = rounds(b, &linear, b.is_static(w));
    let weight = if rounds { rounded_weight(b, w, linear) } else { packed_weight(b, w, linear) };
    let mut reads = vec![b.plain(x), weight];
    let mut also = |buf: Buf| {
        reads.push(buf);
        reads.len() - 1
    };
    let bias = node.inputs.get(2).map(|&v| also(b.plain(v)));
    let residual = follow.residual.map(|v| also(b.plain(v)));
    let ends = EpilogueReads { bias, residual, activation: follow.activation };
    let scratch = if rounds { bf16::forward_scratch(&linear) } else { linear.forward_scratch() };
    let (y, scratch) = (b.result(follow.result, Layout::Plain), b.scratch(scratch));
    let kernel = format!("linear{}{}", word(rounds), follow.words);
    b.step(&kernel, &reads, &[y, scratch], move |views, _| {
        let epilogue = ends.epilogue(views);
        let (x, w, y, scratch) = (views.read(0), views.read(1), views.write(0), views.write(1));
        if rounds {
            bf16::forward(&linear, x, w, y, &epilogue, scratch);
        } else {
            linear.forward(x, w, y, &epilogue, scratch);
        }
        Ok(())
    });
    Ok(())
}

/// Whether a layer's operands are rounded to bf16.
fn rounds(b: &PlanBuilder<'_>, linear: &Linear, prepared: bool) -> bool {
    b.precision() == Precision::Bf16 && bf16::pays_for_layer(linear, prepared)
}

/// What the plan's text says of rounded operands.
fn word(rounds: bool) -> &'static str {
    if rounds { " bf16" } else { "" }
}

/// The weight in panels, rounded to bf16 (once, where it never changes).
fn rounded_weight(b: &mut PlanBuilder<'_>, w: ValueId, linear: Linear) -> Buf {
    let len = bf16::weight_words(&linear);
    if b.is_static(w) {
        let plain = b.plain(w);
        return b.derived(w, plain, len, "round weight", move |src, dst| {
            let mut packed = vec![0.0; linear.weight_len()];
            linear.pack_weight(src, &mut packed);
            bf16::prepare_weight(&linear, &packed, dst);
        });
    }
    let packed = packed_weight(b, w, linear);
    b.derived(w, packed, len, "round weight", move |src, dst| bf16::prepare_weight(&linear, src, dst))
}

/// The weight in panels: the parameter itself, or packed (once, where it never changes).
fn packed_weight(b: &mut PlanBuilder<'_>, w: ValueId, linear: Linear) -> Buf {
    if b.has_kernel_layout(w) {
        return b.located(w, Layout::Kernel);
    }
    let plain = b.plain(w);
    b.derived(w, plain, linear.weight_len(), "pack weight", move |src, dst| linear.pack_weight(src, dst))
}

/// A matrix product; the two of a linear layer's gradient work on the weight as it lies.
pub(crate) fn lower_matmul(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::MatMul(op) = &node.op else { return Ok(()) };
    let (a, w, y) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    if let ParamLayout::Linear(linear) = b.kernel_layout(w) {
        let linear = Linear { batch: b.len(a) / linear.outputs.max(1), ..linear };
        lower_grad_input(b, linear, [a, w, y]);
        return Ok(());
    }
    if let ParamLayout::Linear(linear) = b.kernel_layout(y) {
        let linear = Linear { batch: b.len(a) / linear.outputs.max(1), ..linear };
        lower_grad_weight(b, linear, [a, w, y]);
        return Ok(());
    }
    let gemms = products(b, op.trans_a, op.trans_b, a, w, y);
    let first = gemms.first().map(|(gemm, _)| *gemm);
    let rounds = b.precision() == Precision::Bf16 && first.is_some_and(|gemm| bf16::pays(&gemm));
    let scratch_len = first.map_or(0, |gemm| if rounds { bf16::scratch(&gemm) } else { gemm.scratch() });
    let reads = [b.plain(a), b.plain(w)];
    let (c, scratch) = (b.result(y, Layout::Plain), b.scratch(scratch_len));
    b.step(&format!("gemm{}", word(rounds)), &reads, &[c, scratch], move |views, _| {
        let (a, w, c, scratch) = (views.read(0), views.read(1), views.write(0), views.write(1));
        let store = Epilogue::store();
        for (gemm, [at_a, at_b, at_c]) in &gemms {
            let (a, w, c) = (&a[*at_a..], &w[*at_b..], &mut c[*at_c..]);
            if rounds {
                bf16::run(gemm, a, w, c, &store, scratch);
            } else {
                gemm.run(a, w, c, &store, scratch);
            }
        }
        Ok(())
    });
    Ok(())
}

/// The gradient to a linear layer's weight and the optimiser's step with it: one step where both the layer's kernel
/// and the optimiser work on the parameter where it lies, else two.
pub(crate) fn lower_update(b: &mut PlanBuilder<'_>, group: &[NodeId]) -> Result<()> {
    let (product, step) = (b.graph.node(group[0]), b.graph.node(group[1]));
    let (dy, x) = (product.inputs[0], product.inputs[1]);
    let ParamLayout::Linear(linear) = b.kernel_layout(product.outputs[0]) else {
        lower_matmul(b, group[0])?;
        return optimizer::lower(b, group[1]);
    };
    let linear = Linear { batch: b.len(dy) / linear.outputs.max(1), ..linear };
    if rounds(b, &linear, false) {
        lower_matmul(b, group[0])?;
        return optimizer::lower(b, group[1]);
    }
    let Some(targets) = optimizer::in_place(b, step) else {
        lower_matmul(b, group[0])?;
        return optimizer::lower(b, group[1]);
    };
    let reads = [b.plain(x), b.plain(dy)];
    let scratch = b.scratch(linear.update_weight_scratch());
    let update = move |views: &Views<'_>, pieces: &Pieces<'_>, at: usize| {
        linear.update_weight(views.read(0), views.read(1), pieces, views.write(at));
        Ok(())
    };
    optimizer::lower_pieces(b, step, "linear gradient to weight", reads, targets, &[scratch], update);
    Ok(())
}

/// dx = dy·W, on the weight as it lies.
fn lower_grad_input(b: &mut PlanBuilder<'_>, linear: Linear, [dy, w, dx]: [ValueId; 3]) {
    let rounds = rounds(b, &linear, false);
    let len = if rounds { bf16::grad_input_scratch(&linear) } else { linear.grad_input_scratch() };
    let reads = [b.plain(dy), b.located(w, Layout::Kernel)];
    let (dx, scratch) = (b.result(dx, Layout::Plain), b.scratch(len));
    let kernel = format!("linear gradient to input{}", word(rounds));
    b.step(&kernel, &reads, &[dx, scratch], move |views, _| {
        let (dy, w, dx, scratch) = (views.read(0), views.read(1), views.write(0), views.write(1));
        if rounds {
            bf16::grad_input(&linear, dy, w, dx, false, scratch);
        } else {
            linear.grad_input(dy, w, dx, false, scratch);
        }
        Ok(())
    });
}

/// dW = dyᵀ·x, in the weight's layout.
fn lower_grad_weight(b: &mut PlanBuilder<'_>, linear: Linear, [dy, x, dw]: [ValueId; 3]) {
    let rounds = rounds(b, &linear, false);
    let len = if rounds { bf16::grad_weight_scratch(&linear) } else { linear.grad_weight_scratch() };
    let reads = [b.plain(x), b.plain(dy)];
    let (dw, scratch) = (b.result(dw, Layout::Kernel), b.scratch(len));
    let kernel = format!("linear gradient to weight{}", word(rounds));
    b.step(&kernel, &reads, &[dw, scratch], move |views, _| {
        let (x, dy, dw, scratch) = (views.read(0), views.read(1), views.write(0), views.write(1));
        if rounds {
            bf16::grad_weight(&linear, x, dy, dw, false, scratch);
        } else {
            linear.grad_weight(x, dy, dw, false, scratch);
        }
        Ok(())
    });
}

/// The products that a (batched, broadcast) matrix product consists of, with the operands' offsets.
fn products(
    b: &PlanBuilder<'_>,
    trans_a: bool,
    trans_b: bool,
    a: ValueId,
    w: ValueId,
    y: ValueId,
) -> Vec<(Gemm, [usize; 3])> {
    let (shape_a, shape_b, shape_y) = (b.shape(a), b.shape(w), b.shape(y));
    let rank = shape_y.len();
    let (m, n) = (shape_y[rank - 2], shape_y[rank - 1]);
    let k = shape_a[shape_a.len() - if trans_a { 2 } else { 1 }];
    let mut gemm = Gemm::new(m, n, k);
    if trans_a {
        gemm = gemm.trans_a();
    }
    if trans_b {
        gemm = gemm.trans_b();
    }
    let batch = &shape_y[..rank - 2];
    let count: usize = batch.iter().product();
    let batch_a = &shape_a[..shape_a.len() - 2];
    let batch_b = &shape_b[..shape_b.len() - 2];
    let shared = |shape: &[usize]| shape.iter().product::<usize>() == 1;
    if (batch_a == batch || shared(batch_a)) && (batch_b == batch || shared(batch_b)) {
        let mut all = gemm.batched(count);
        all.stride_a = if shared(batch_a) && count > 1 { 0 } else { all.stride_a };
        all.stride_b = if shared(batch_b) && count > 1 { 0 } else { all.stride_b };
        return vec![(all, [0; 3])];
    }
    (0..count)
        .map(|i| {
            let at = |shape: &[usize], size: usize| broadcast_index(i, batch, shape) * size;
            (gemm, [at(batch_a, m * k), at(batch_b, k * n), i * m * n])
        })
        .collect()
}

/// Index into a broadcast batch shape for element `i` of the full one.
fn broadcast_index(i: usize, full: &[usize], shape: &[usize]) -> usize {
    let (mut rest, mut index, mut stride) = (i, 0, 1);
    for (d, &size) in full.iter().enumerate().rev() {
        let position = rest % size.max(1);
        rest /= size.max(1);
        if let Some(own) = (d + shape.len()).checked_sub(full.len()) {
            index += if shape[own] == 1 { 0 } else { position * stride };
            stride *= shape[own];
        }
    }
    index
}
