//! Operators that move elements: transpose, slice, pad and concatenation.

use kessen_graph::{Dim, NodeId, Op, ValueId};
use kessen_kernels::copy::StridedCopy;
use kessen_kernels::layout::PANEL;
use kessen_tensor::row_major_strides;

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::Buf;

/// A copy with offsets into source and target.
#[derive(Debug, Clone, Copy)]
struct Move {
    copy: StridedCopy,
    from: usize,
    to: usize,
}

impl Move {
    fn run(&self, source: &[f32], target: &mut [f32]) {
        self.copy.run(&source[self.from..], &mut target[self.to..]);
    }
}

fn copy(
    b: &PlanBuilder<'_>,
    v: ValueId,
    shape: &[usize],
    from: &[usize],
    to: &[usize],
) -> Result<StridedCopy> {
    StridedCopy::new(shape, from, to).map_err(|e| super::unsupported(b, v, &e.to_string()))
}

fn fixed(d: &Dim) -> usize {
    d.as_fixed().unwrap_or(0)
}

/// Dimension i of the result is dimension `dims[i]` of the operand.
pub(crate) fn lower_transpose(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Transpose(op) = &node.op else { return Ok(()) };
    let (x, y) = (node.inputs[0], node.outputs[0]);
    let copy =
        StridedCopy::transpose(b.shape(x), &op.dims).map_err(|e| super::unsupported(b, y, &e.to_string()))?;
    let reads = [b.plain(x)];
    let out = b.result(y, Layout::Plain);
    b.step("transpose", &reads, &[out], move |views, _| {
        copy.run(views.read(0), views.write(0));
        Ok(())
    });
    Ok(())
}

/// Every `step`-th element of a range along one dimension.
pub(crate) fn lower_slice(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Slice(op) = &node.op else { return Ok(()) };
    let (x, y) = (node.inputs[0], node.outputs[0]);
    let (start, step) = (fixed(&op.start), op.step);
    let width = b.shape(y)[op.dim];
    let whole_blocks = start.is_multiple_of(PANEL) && width.is_multiple_of(PANEL) && step == 1;
    let layout = channel_layout(b, &[x], op.dim, whole_blocks);
    if layout == Layout::Blocked && op.dim == 1 && b.alias_channels(y, x, start) {
        return Ok(());
    }
    let (from_shape, to_shape) = (physical(b.shape(x), layout), physical(b.shape(y), layout));
    let (mut from, to) = (row_major_strides(&from_shape), row_major_strides(&to_shape));
    let unit = if layout == Layout::Blocked { PANEL } else { 1 };
    let offset = start / unit * from[op.dim];
    from[op.dim] *= step;
    let run = Move { copy: copy(b, y, &to_shape, &from, &to)?, from: offset, to: 0 };
    let reads = [b.located(x, layout)];
    let out = b.result(y, layout);
    b.step("slice", &reads, &[out], move |views, _| {
        run.run(views.read(0), views.write(0));
        Ok(())
    });
    Ok(())
}

/// A value around the operand.
pub(crate) fn lower_pad(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Pad(op) = &node.op else { return Ok(()) };
    let (x, y, value) = (node.inputs[0], node.outputs[0], op.value as f32);
    let to = row_major_strides(b.shape(y));
    let offset = op.before.iter().zip(&to).map(|(d, stride)| fixed(d) * stride).sum();
    let from = row_major_strides(b.shape(x));
    let run = Move { copy: copy(b, y, b.shape(x), &from, &to)?, from: 0, to: offset };
    let is_empty = b.len(x) == 0;
    let reads = [b.plain(x)];
    let out = b.result(y, Layout::Plain);
    b.step("pad", &reads, &[out], move |views, _| {
        let y = views.write(0);
        kessen_kernels::elementwise::fill(value, y);
        if !is_empty {
            run.run(views.read(0), y);
        }
        Ok(())
    });
    Ok(())
}

/// Operands one after the other along one dimension.
pub(crate) fn lower_concat(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Concat(op) = &node.op else { return Ok(()) };
    let y = node.outputs[0];
    let whole_blocks = op.dim != 1 || node.inputs.iter().all(|&v| b.image(v)[1].is_multiple_of(PANEL));
    let layout = channel_layout(b, &node.inputs, op.dim, whole_blocks);
    if layout == Layout::Blocked && op.dim == 1 && b.complete(y, &node.inputs) {
        return Ok(());
    }
    let to = row_major_strides(&physical(b.shape(y), layout));
    let (mut moves, mut reads, mut offset) = (Vec::new(), Vec::<Buf>::new(), 0);
    for &x in &node.inputs {
        let shape = physical(b.shape(x), layout);
        if b.len(x) > 0 {
            let copy = copy(b, y, &shape, &row_major_strides(&shape), &to)?;
            let buf = b.located(x, layout);
            let read = reads.iter().position(|&r| r == buf).unwrap_or(reads.len());
            if read == reads.len() {
                reads.push(buf);
            }
            moves.push((read, Move { copy, from: 0, to: offset }));
        }
        offset += shape[op.dim] * to[op.dim];
    }
    let out = b.result(y, layout);
    b.step("concat", &reads, &[out], move |views, _| {
        let y = views.write(0);
        moves.iter().for_each(|(k, run)| run.run(views.read(*k), y));
        Ok(())
    });
    Ok(())
}

/// Blocked where an operand lies so and the cut leaves blocks of channels whole.
fn channel_layout(b: &PlanBuilder<'_>, values: &[ValueId], dim: usize, whole_blocks: bool) -> Layout {
    let blocked = values.iter().any(|&v| b.lies(v, Layout::Blocked));
    if blocked && (dim != 1 || whole_blocks) { Layout::Blocked } else { Layout::Plain }
}

/// The dimensions as they lie in memory: `[N, ⌈C/16⌉, H, W, 16]` for blocked images.
fn physical(shape: &[usize], layout: Layout) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if layout == Layout::Blocked {
        shape[1] = shape[1].div_ceil(PANEL);
        shape.push(PANEL);
    }
    shape
}
