//! Class labels and token ids moved about: transpose, slice, pad, concatenation, repetition.
//!
//! There are few of them, so a table from each place of the result to where it is read from is made ahead, and one loop
//! serves all operators. The rejected alternative, the strided kernels over another element type, would be a second copy
//! of each for numbers that cost no time.

use kessen_graph::{Dim, NodeId, Op};
use kessen_tensor::DType;

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};

/// Whether a node reads or writes ids.
pub(crate) fn touches(b: &PlanBuilder<'_>, id: NodeId) -> bool {
    let node = b.graph.node(id);
    node.inputs.iter().chain(&node.outputs).any(|&v| b.graph.ty(v).dtype == DType::I64)
}

/// Lowers a node whose operands and result are ids.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let (y, shape) = (node.outputs[0], b.shape(node.outputs[0]).to_vec());
    let operands: Vec<Vec<usize>> = node.inputs.iter().map(|&x| b.shape(x).to_vec()).collect();
    let mut sources = Vec::with_capacity(shape.iter().product());
    for i in 0..shape.iter().product() {
        let at = coordinates(i, &shape);
        let Some(source) = source(&node.op, &at, &operands) else {
            return Err(super::unsupported(
                b,
                y,
                "it computes with real numbers, not with ids; cast them first",
            ));
        };
        sources.push(source);
    }
    let value = if let Op::Pad(pad) = &node.op { pad.value as i64 } else { 0 };
    let mut reads = Vec::new();
    for &x in &node.inputs {
        reads.push(b.plain(x));
    }
    let mut distinct = reads.clone();
    distinct.sort_unstable_by_key(|buf| buf.index());
    distinct.dedup();
    let position: Vec<usize> =
        reads.iter().map(|r| distinct.iter().position(|d| d == r).unwrap_or_default()).collect();
    let out = b.result(y, Layout::Plain);
    b.step("move ids", &distinct, &[out], move |views, _| {
        for (y, source) in views.write_ids(0).iter_mut().zip(&sources) {
            *y = source.map_or(value, |(k, i)| views.read_ids(position[k])[i]);
        }
        Ok(())
    });
    Ok(())
}

/// Where the element at `at` of the result is read from: operand and place, or nowhere (padding). `None` for operators
/// that don't just move elements.
fn source(op: &Op, at: &[usize], operands: &[Vec<usize>]) -> Option<Option<(usize, usize)>> {
    let fixed = |d: &Dim| d.as_fixed().unwrap_or(0);
    let from = |k: usize, at: &[usize]| Some(Some((k, place(at, &operands[k]))));
    let mut moved = at.to_vec();
    match op {
        Op::Transpose(op) => {
            op.dims.iter().zip(at).for_each(|(&d, &i)| moved[d] = i);
            from(0, &moved)
        }
        Op::Slice(op) => {
            moved[op.dim] = fixed(&op.start) + op.step * at[op.dim];
            from(0, &moved)
        }
        Op::Broadcast(_) => {
            let kept = moved.split_off(at.len() - operands[0].len());
            let repeated: Vec<usize> =
                kept.iter().zip(&operands[0]).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
            from(0, &repeated)
        }
        Op::Concat(op) => {
            let mut k = 0;
            while moved[op.dim] >= operands[k][op.dim] {
                moved[op.dim] -= operands[k][op.dim];
                k += 1;
            }
            from(k, &moved)
        }
        Op::Pad(op) => {
            for (i, (d, n)) in moved.iter_mut().zip(op.before.iter().zip(&operands[0])) {
                match i.checked_sub(fixed(d)).filter(|i| i < n) {
                    Some(inside) => *i = inside,
                    None => return Some(None),
                }
            }
            from(0, &moved)
        }
        _ => None,
    }
}

/// Coordinates of element `i` of a row-major array.
fn coordinates(i: usize, shape: &[usize]) -> Vec<usize> {
    let (mut rest, mut at) = (i, vec![0; shape.len()]);
    for (c, n) in at.iter_mut().zip(shape).rev() {
        *c = rest % n;
        rest /= n;
    }
    at
}

/// Place of those coordinates in a row-major array.
fn place(at: &[usize], shape: &[usize]) -> usize {
    at.iter().zip(shape).fold(0, |sum, (i, n)| sum * n + i)
}
