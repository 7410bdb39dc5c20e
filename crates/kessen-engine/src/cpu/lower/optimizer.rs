//! One step of an optimiser, in place: the parameter and its state are overwritten where they lie.

use kessen_graph::ops::optimizer::AdamStep;
use kessen_graph::{Node, NodeId, Op, ValueId};
use kessen_kernels::elementwise::{Binary, Instruction, Program, Source, Unary};
use kessen_kernels::optim::{Adam, Common, Pieces, RmsProp, Sgd};
use kessen_kernels::reduce;

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::{Buf, Views};

/// What changes from step to step.
#[derive(Debug, Clone, Copy)]
struct Now {
    lr: f32,
    grad_scale: f32,
    step: f32,
}

impl Now {
    /// Learning rate, scale and step, which a step reads from position `k` on.
    fn read(views: &Views<'_>, k: usize) -> Self {
        Self { lr: views.read(k)[0], grad_scale: views.read(k + 1)[0], step: views.read(k + 2)[0] }
    }
}

/// The parameter and its states.
fn targets(node: &Node) -> impl Iterator<Item = ValueId> {
    std::iter::once(node.inputs[0]).chain(node.inputs[5..].iter().copied())
}

fn layout_of(b: &PlanBuilder<'_>, node: &Node) -> Layout {
    if b.has_kernel_layout(node.inputs[0]) { Layout::Kernel } else { Layout::Plain }
}

/// The buffers of the parameter and its states as those of their next values, where all can be overwritten.
pub(super) fn in_place(b: &mut PlanBuilder<'_>, node: &Node) -> Option<Vec<Buf>> {
    let layout = layout_of(b, node);
    if !node.outputs.iter().all(|&v| b.param_under(v, layout).is_some()) {
        return None;
    }
    node.outputs.iter().map(|&v| b.result_over_param(v, layout)).collect()
}

/// Parameter and state in place of their results; reads are grad, lr, grad_scale, step.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let layout = layout_of(b, node);
    let grad = b.located(node.inputs[1], layout);
    let reads = [grad, b.plain(node.inputs[2]), b.plain(node.inputs[3]), b.plain(node.inputs[4])];
    let mut writes: Vec<Buf> = Vec::new();
    for (old, &new) in targets(node).zip(&node.outputs) {
        let from = b.located(old, layout);
        let to = match b.result_over_param(new, layout) {
            Some(buf) => buf,
            None => {
                let to = b.result(new, layout);
                b.step("copy", &[from], &[to], |views, _| {
                    views.write(0).copy_from_slice(views.read(0));
                    Ok(())
                });
                to
            }
        };
        writes.push(to);
    }
    let op = node.op.clone();
    if let Op::AdamStep(adam) = &op
        && adam.amsgrad
    {
        return lower_amsgrad(b, adam.clone(), &reads, &writes);
    }
    b.step(node.op.operator().name(), &reads, &writes, move |views, _| {
        pieces(&op, Now::read(views, 1), views).run(views.read(0));
        Ok(())
    });
    Ok(())
}

/// One step for a gradient and the optimiser's step `node` with it: `compute` makes the gradient from the operands `reads`
/// and updates the parameter and its states, which lie in `targets` ([`in_place`]), piece by piece. It is told where
/// its `scratch` begins among what the step writes.
pub(super) fn lower_pieces(
    b: &mut PlanBuilder<'_>,
    node: &Node,
    gradient: &str,
    reads: [Buf; 2],
    targets: Vec<Buf>,
    scratch: &[Buf],
    compute: impl Fn(&Views<'_>, &Pieces<'_>, usize) -> Result<()> + Send + 'static,
) {
    let [first, second] = reads;
    let reads = [first, second, b.plain(node.inputs[2]), b.plain(node.inputs[3]), b.plain(node.inputs[4])];
    let (at, op) = (targets.len(), node.op.clone());
    let writes = [targets.as_slice(), scratch].concat();
    let kernel = format!("{gradient} + {}", op.operator().name());
    b.step(&kernel, &reads, &writes, move |views, _| {
        compute(views, &pieces(&op, Now::read(views, 2), views), at)
    });
}

/// The kernel's step on the parameter and its states, which a step writes first. Not for amsgrad.
fn pieces<'v>(op: &Op, now: Now, views: &Views<'v>) -> Pieces<'v> {
    let common = Common { grad_scale: now.grad_scale, ..Common::default() };
    let p = views.write(0);
    match op {
        Op::SgdStep(o) => {
            let sgd = Sgd {
                lr: now.lr * o.lr_scale as f32,
                momentum: o.momentum as f32,
                dampening: o.dampening as f32,
                weight_decay: o.weight_decay as f32,
                nesterov: o.nesterov,
                first: now.step <= 1.0,
            };
            sgd.pieces(p, if o.momentum == 0.0 { &mut [] } else { views.write(1) }, common)
        }
        Op::AdamStep(o) => {
            let adam = Adam {
                lr: now.lr * o.lr_scale as f32,
                beta1: o.beta1 as f32,
                beta2: o.beta2 as f32,
                eps: o.eps as f32,
                weight_decay: o.weight_decay as f32,
                decoupled: o.decoupled,
                step: now.step as u64,
            };
            adam.pieces(p, views.write(1), views.write(2), common)
        }
        Op::RmspropStep(o) => {
            let rms = RmsProp {
                lr: now.lr * o.lr_scale as f32,
                alpha: o.alpha as f32,
                eps: o.eps as f32,
                weight_decay: o.weight_decay as f32,
                momentum: o.momentum as f32,
                centered: o.centered,
            };
            let (a, buffer): (&mut [f32], &mut [f32]) = match (o.centered, o.momentum != 0.0) {
                (false, false) => (&mut [], &mut []),
                (true, false) => (views.write(2), &mut []),
                (false, true) => (&mut [], views.write(2)),
                (true, true) => (views.write(2), views.write(3)),
            };
            rms.pieces(p, views.write(1), a, buffer, common)
        }
        _ => unreachable!("not an optimiser"),
    }
}

/// Adam with the largest second moment so far, as an element-wise program over p, m, v, v_max in place.
fn lower_amsgrad(b: &mut PlanBuilder<'_>, op: AdamStep, reads: &[Buf], writes: &[Buf]) -> Result<()> {
    use Instruction::{Binary as Two, Unary as One};
    let scaled = |factor: f64| Unary::Affine { scale: factor as f32, shift: 0.0 };
    let decay = if op.decoupled { 0.0 } else { op.weight_decay };
    // Operands: 0 p, 1 m, 2 v, 3 v_max, 4 grad; scalars: 5 grad_scale, 6 lr/(1 − β₁ᵗ), 7 1/√(1 − β₂ᵗ),
    // 8 the factor of p (decoupled decay).
    let instructions = [
        Two(Binary::Mul, 4, 5),
        Two(Binary::AddScaled { scale: decay as f32 }, 9, 0),
        One(scaled(op.beta1), 1),
        Two(Binary::AddScaled { scale: (1.0 - op.beta1) as f32 }, 11, 10),
        One(Unary::Square, 10),
        One(scaled(op.beta2), 2),
        Two(Binary::AddScaled { scale: (1.0 - op.beta2) as f32 }, 14, 13),
        Two(Binary::Max, 3, 15),
        One(Unary::Sqrt, 16),
        Two(Binary::Mul, 17, 7),
        One(Unary::Affine { scale: 1.0, shift: op.eps as f32 }, 18),
        Two(Binary::Div, 12, 19),
        Two(Binary::Mul, 20, 6),
        Two(Binary::Mul, 0, 8),
        Two(Binary::Sub, 22, 21),
    ];
    let program = Program::new(9, &instructions, &[23, 12, 15, 16])
        .map_err(|e| kessen_graph::Error::Inconsistent(e.to_string()))?;
    b.step("adam_step amsgrad", reads, writes, move |views, _| {
        let (lr, t) = (f64::from(views.read(1)[0]) * op.lr_scale, f64::from(views.read(3)[0]));
        let rate = lr / (1.0 - op.beta1.powf(t));
        let correction = 1.0 / (1.0 - op.beta2.powf(t)).sqrt();
        let keep = if op.decoupled { 1.0 - lr * op.weight_decay } else { 1.0 };
        let scalar = |v: f64| Source::Scalar(v as f32);
        let sources = [
            Source::Output(0),
            Source::Output(1),
            Source::Output(2),
            Source::Output(3),
            Source::Full(views.read(0)),
            Source::Scalar(views.read(2)[0]),
            scalar(rate),
            scalar(correction),
            scalar(keep),
        ];
        let mut outputs = [views.write(0), views.write(1), views.write(2), views.write(3)];
        program.run(&sources, &mut outputs);
        Ok(())
    });
    Ok(())
}

/// Elements of one partial sum of the norm; as the kernel splits its slices.
fn norm_scratch(b: &PlanBuilder<'_>, reads: &[Buf]) -> usize {
    let zeros = vec![0.0; reads.iter().map(|r| b.infos[r.index()].len).max().unwrap_or(0)];
    reads
        .iter()
        .map(|r| reduce::sum_of_squares_scratch(&[&zeros[..b.infos[r.index()].len]]))
        .max()
        .unwrap_or(0)
}

/// √Σ‖g‖²; padding of kernel layouts is zero and adds nothing.
pub(crate) fn lower_global_norm(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let mut reads = Vec::new();
    for &v in &node.inputs {
        let layout = if b.has_kernel_layout(v) { Layout::Kernel } else { Layout::Plain };
        reads.push(b.located(v, layout));
    }
    let scratch = norm_scratch(b, &reads);
    let (y, scratch) = (b.result(node.outputs[0], Layout::Plain), b.scratch(scratch));
    let count = reads.len();
    b.step("global norm", &reads, &[y, scratch], move |views, _| {
        let scratch = views.write(1);
        let sum: f64 = (0..count).map(|k| reduce::sum_of_squares(&[views.read(k)], scratch)).sum();
        views.write(0)[0] = sum.sqrt() as f32;
        Ok(())
    });
    Ok(())
}
