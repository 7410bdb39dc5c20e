//! Attention: one step forward, one backward, on q, k and v as the projections leave them.

use kessen_graph::ops::attention as op;
use kessen_graph::{NodeId, Op, ValueId};
use kessen_kernels::attention::{Attention, Kept, Masks, Strides};
use kessen_kernels::dropout::Dropout;

use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::{Buf, Views};
use crate::{Clock, Error, Result};

/// A node's attention with its operands' places in a step's list.
struct Lowered {
    kernel: Attention,
    path: String,
    packed: bool,
    /// E.
    features: usize,
    reads: Vec<Buf>,
    lengths: Option<usize>,
    key_mask: Option<usize>,
    bias: Option<usize>,
    /// The drop probability and stream.
    dropout: Option<(f32, u64)>,
}

impl Lowered {
    /// For the operands `inputs` of the forward operator.
    fn new(b: &mut PlanBuilder<'_>, path: &str, op: &op::Attention, inputs: &[ValueId]) -> Self {
        let places = op.places();
        let row = b.shape(inputs[0])[2];
        let (batch, queries) = (b.shape(inputs[0])[0], b.shape(inputs[0])[1]);
        let keys = if op.packed { queries } else { b.shape(inputs[1])[1] };
        let features = if op.packed { row / 3 } else { row };
        let width = features / op.heads;
        let strides = |rows: usize, row: usize| Strides { batch: rows * row, head: width, row };
        let kernel = Attention {
            batch,
            heads: op.heads,
            queries,
            keys,
            width,
            scale: op.factor(width) as f32,
            causal: op.causal.then_some(0),
            dropout: None,
            q: strides(queries, row),
            k: strides(keys, row),
            v: strides(keys, row),
            o: strides(queries, features),
        };
        let mut reads: Vec<Buf> = inputs.iter().map(|&v| b.plain(v)).collect();
        // One buffer may be several operands; a packed one stands for three.
        if op.packed {
            let extra = [reads[0]; 2];
            reads.splice(1..1, extra);
        }
        let shift = if op.packed { 2 } else { 0 };
        let dropout = (op.training && op.dropout > 0.0).then_some((op.dropout as f32, op.key));
        Self {
            kernel,
            path: path.to_owned(),
            packed: op.packed,
            features,
            reads,
            lengths: places.lengths.map(|i| i + shift),
            key_mask: places.key_mask.map(|i| i + shift),
            bias: places.bias.map(|i| i + shift),
            dropout,
        }
    }

    /// Length of the mask that lengths are turned into.
    fn mask_len(&self) -> usize {
        if self.lengths.is_some() { self.kernel.batch * self.kernel.keys } else { 0 }
    }

    /// Where k and v begin in their operands.
    fn starts(&self) -> [usize; 3] {
        if self.packed { [0, self.features, 2 * self.features] } else { [0; 3] }
    }

    fn operands<'v>(&self, views: &Views<'v>) -> [&'v [f32]; 3] {
        let starts = self.starts();
        [0, 1, 2].map(|i| views.read(i).get(starts[i]..).unwrap_or_default())
    }

    /// The masks; `scratch` has room for [`Lowered::mask_len`].
    fn masks<'v>(&self, views: &Views<'v>, scratch: &'v mut [f32]) -> Result<Masks<'v>> {
        let given = self.key_mask.map(|k| views.read(k));
        let bias = self.bias.map(|k| views.read(k));
        let Some(lengths) = self.lengths.map(|k| views.read_ids(k)) else {
            return Ok(Masks { keys: given, bias });
        };
        let keys = self.kernel.keys;
        for (n, (&length, mask)) in lengths.iter().zip(scratch.chunks_exact_mut(keys.max(1))).enumerate() {
            let Some(length) = usize::try_from(length).ok().filter(|&l| l <= keys) else {
                return Err(Error::Index {
                    path: self.path.clone(),
                    operator: "attention".to_owned(),
                    index: length,
                    position: n,
                    limit: keys + 1,
                });
            };
            match given {
                Some(given) => mask.copy_from_slice(&given[n * keys..(n + 1) * keys]),
                None => mask.fill(1.0),
            }
            mask[length..].fill(0.0);
        }
        Ok(Masks { keys: Some(scratch), bias })
    }

    /// The kernel's descriptor at one step of a run.
    fn at(&self, clock: Clock) -> Attention {
        let dropout = |(p, stream)| Dropout { p, seed: clock.seed, stream, step: clock.step };
        Attention { dropout: self.dropout.map(dropout), ..self.kernel }
    }
}

/// The attention forward.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Attention(op) = &node.op else { return Ok(()) };
    let lowered = Lowered::new(b, &node.path, op, &node.inputs);
    let writes = [
        b.result(node.outputs[0], Layout::Plain),
        b.result(node.outputs[1], Layout::Plain),
        b.scratch(lowered.kernel.forward_scratch()),
        b.scratch(lowered.mask_len()),
    ];
    let reads = lowered.reads.clone();
    b.step("attention", &reads, &writes, move |views, clock| {
        let [q, k, v] = lowered.operands(views);
        let masks = lowered.masks(views, views.write(3))?;
        lowered.at(clock).forward(q, k, v, masks, views.write(0), views.write(1), views.write(2));
        Ok(())
    });
    Ok(())
}

/// Its gradient.
pub(crate) fn lower_grad(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::AttentionGrad(op) = &node.op else { return Ok(()) };
    let op = op.forward();
    let (operands, kept) = node.inputs[1..].split_at(op.places().operands);
    let lowered = Lowered::new(b, &node.path, &op, operands);
    let mut reads = lowered.reads.clone();
    let first = reads.len();
    reads.extend([b.plain(node.inputs[0]), b.plain(kept[0]), b.plain(kept[1])]);
    let mut writes = vec![b.scratch(lowered.kernel.backward_scratch()), b.scratch(lowered.mask_len())];
    writes.extend(node.outputs.iter().map(|&v| b.result(v, Layout::Plain)));
    b.step("attention gradient", &reads, &writes, move |views, clock| {
        let [q, k, v] = lowered.operands(views);
        let masks = lowered.masks(views, views.write(1))?;
        let (d_o, o, sums) = (views.read(first), views.read(first + 1), views.read(first + 2));
        let kept = Kept { q, k, v, masks, o, sums, d_o };
        let (kernel, scratch) = (lowered.at(clock), views.write(0));
        if lowered.packed {
            kernel.backward_packed(&kept, views.write(2), lowered.starts(), scratch);
        } else {
            kernel.backward(&kept, views.write(2), views.write(3), views.write(4), scratch);
        }
        Ok(())
    });
    Ok(())
}
