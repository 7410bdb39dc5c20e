//! Element-wise groups: one program over strips.

use kessen_graph::ops::binary::BinaryKind;
use kessen_graph::ops::unary::{GradUses, UnaryKind};
use kessen_graph::{NodeId, Op, ValueId};
use kessen_kernels::elementwise::{Binary, Broadcast, Instruction, MAX_OPERANDS, Program, Source, Unary};
use kessen_kernels::layout::{self, PANEL};

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::fuse;
use crate::cpu::memory::Buf;

/// Where the program finds one operand at run time.
#[derive(Debug, Clone, Copy)]
enum Operand {
    /// Read number `k`, element by element.
    Full(usize),
    /// The one element of read number `k`.
    Scalar(usize),
    /// Read number `k`, repeated.
    Repeated(usize, Broadcast),
    /// What the output held.
    Output,
}

/// Lowers a group of element-wise nodes of one result shape.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, group: &[NodeId]) -> Result<()> {
    let graph = b.graph;
    let Some(&last) = group.last() else { return Ok(()) };
    let result = graph.node(last).outputs[0];
    let values = fuse::operands(graph, group);
    let layout = choose_layout(b, result, &values);

    let (mut operands, mut reads) = (Vec::new(), Vec::new());
    for &v in &values {
        let operand = place(b, v, result, layout, &mut reads)?;
        operands.push(operand);
    }
    let output = match b.result_over_param(result, layout) {
        Some(buf) => buf,
        None => {
            over(b, result, layout, &values, &operands, &reads).unwrap_or_else(|| b.result(result, layout))
        }
    };
    // A read of the output's own buffer is work in place.
    let in_place = reads.iter().position(|&r| r == output);
    if let Some(k) = in_place {
        reads.remove(k);
        for operand in &mut operands {
            *operand = match *operand {
                Operand::Full(i) if i == k => Operand::Output,
                Operand::Full(i) if i > k => Operand::Full(i - 1),
                Operand::Scalar(i) if i > k => Operand::Scalar(i - 1),
                Operand::Repeated(i, broadcast) if i > k => Operand::Repeated(i - 1, broadcast),
                other => other,
            };
        }
    }
    let program = program(graph, group, &values)?;
    let words: Vec<_> = group.iter().map(|&n| graph.node(n).op.operator().word()).collect();
    let kernel = format!("map {}{}", words.join(" "), if in_place.is_some() { " in place" } else { "" });
    b.step(&kernel, &reads, &[output], move |views, _| {
        let mut sources = [Source::Scalar(0.0); MAX_OPERANDS];
        for (source, operand) in sources.iter_mut().zip(&operands) {
            *source = match *operand {
                Operand::Full(k) => Source::Full(views.read(k)),
                Operand::Scalar(k) => Source::Scalar(views.read(k)[0]),
                Operand::Repeated(k, broadcast) => Source::Broadcast(views.read(k), broadcast),
                Operand::Output => Source::Output(0),
            };
        }
        program.run(&sources[..operands.len()], &mut [views.write(0)]);
        Ok(())
    });
    Ok(())
}

/// Blocked where a full operand lies so only; a kernel's layout where the values belong to a parameter's class.
fn choose_layout(b: &PlanBuilder<'_>, result: ValueId, values: &[ValueId]) -> Layout {
    if b.has_kernel_layout(result) {
        return Layout::Kernel;
    }
    let full = |v: &&ValueId| b.shape(**v) == b.shape(result);
    let blocked = b.shape(result).len() == 4
        && values.iter().filter(full).any(|&v| b.lies(v, Layout::Blocked))
        && values.iter().all(|&v| blocked_broadcast(b, v, result).is_some());
    if blocked { Layout::Blocked } else { Layout::Plain }
}

/// How an operand goes with a blocked result: `None` where it can't, `Some(None)` where it needs no repetition.
fn blocked_broadcast(b: &PlanBuilder<'_>, v: ValueId, result: ValueId) -> Option<Option<Broadcast>> {
    let [n, c, h, w] = b.image(result);
    let blocks = c.div_ceil(PANEL);
    match b.shape(v) {
        shape if shape == b.shape(result) || b.len(v) == 1 => Some(None),
        [1, k, 1, 1] | [k, 1, 1] if *k == c => Some(Some(Broadcast::blocked(n, blocks, h * w))),
        [m, k, 1, 1] if (*m, *k) == (n, c) => {
            Broadcast::new(&[n * blocks, h * w, PANEL], &[PANEL, 0, 1]).ok().map(Some)
        }
        _ => None,
    }
}

/// Brings an operand to where the program can read it.
fn place(
    b: &mut PlanBuilder<'_>,
    v: ValueId,
    result: ValueId,
    layout: Layout,
    reads: &mut Vec<Buf>,
) -> Result<Operand> {
    let mut read = |buf: Buf| {
        let known = reads.iter().position(|&r| r == buf);
        known.unwrap_or_else(|| {
            reads.push(buf);
            reads.len() - 1
        })
    };
    if b.shape(v) == b.shape(result) && layout == Layout::Blocked {
        let buf = b.blocked_slice(v);
        let Some(step) = b.image_step(buf) else { return Ok(Operand::Full(read(buf))) };
        let [n, c, h, w] = b.image(v);
        let images = Broadcast::new(&[n, layout::blocked_len(1, c, h, w)], &[step, 1])
            .map_err(|e| super::unsupported(b, result, &e.to_string()))?;
        return Ok(Operand::Repeated(read(buf), images));
    }
    if b.shape(v) == b.shape(result) {
        return Ok(Operand::Full(read(b.located(v, layout))));
    }
    let plain = b.plain(v);
    if b.len(v) == 1 {
        return Ok(Operand::Scalar(read(plain)));
    }
    if layout == Layout::Blocked
        && let Some(Some(broadcast)) = blocked_broadcast(b, v, result)
    {
        return Ok(Operand::Repeated(read(blocked_vector(b, v, plain)), broadcast));
    }
    let full = b.shape(result);
    let strides = broadcast_strides(b.shape(v), full.len());
    let broadcast =
        Broadcast::new(full, &strides).map_err(|e| super::unsupported(b, result, &e.to_string()))?;
    Ok(Operand::Repeated(read(plain), broadcast))
}

/// One value a channel (and image), channels padded to whole blocks.
fn blocked_vector(b: &mut PlanBuilder<'_>, v: ValueId, plain: Buf) -> Buf {
    let shape = b.shape(v);
    let (n, c) = if let [n, c, 1, 1] = *shape { (n, c) } else { (1, shape.iter().product()) };
    if c.is_multiple_of(PANEL) {
        return plain;
    }
    let padded = b.scratch(layout::blocked_len(n, c, 1, 1));
    b.step("pad channels", &[plain], &[padded], move |views, _| {
        layout::to_blocked(views.read(0), views.write(0), n, c, 1);
        Ok(())
    });
    padded
}

/// Strides of a row-major operand aligned at the last dimension of a tensor of that rank; 0 where it is repeated.
pub(super) fn broadcast_strides(shape: &[usize], rank: usize) -> Vec<usize> {
    let strides = kessen_tensor::row_major_strides(shape);
    let own = shape.iter().zip(strides).map(|(&size, stride)| if size == 1 { 0 } else { stride });
    std::iter::repeat_n(0, rank - shape.len()).chain(own).collect()
}

/// The buffer of a full operand that nothing needs any more, now the result's.
fn over(
    b: &mut PlanBuilder<'_>,
    result: ValueId,
    layout: Layout,
    values: &[ValueId],
    operands: &[Operand],
    reads: &[Buf],
) -> Option<Buf> {
    let alone = |buf: Buf| reads.iter().all(|&other| other == buf || b.whole(other) != b.whole(buf));
    let candidates: Vec<ValueId> = values
        .iter()
        .zip(operands)
        .filter(|(_, operand)| matches!(operand, Operand::Full(k) if alone(reads[*k])))
        .map(|(&v, _)| v)
        .collect();
    candidates.into_iter().find_map(|v| b.result_over(result, v, layout))
}

/// The group as a program over `values`.
fn program(graph: &kessen_graph::Graph, group: &[NodeId], values: &[ValueId]) -> Result<Program> {
    let mut build = Build { numbers: values.iter().copied().map(Some).collect(), instructions: Vec::new() };
    let mut last = 0;
    for &id in group {
        let node = graph.node(id);
        let args: Vec<usize> = node
            .inputs
            .iter()
            .map(|&v| match (build.find(v), fuse::constant_scalar(graph, v)) {
                (Some(k), _) => k,
                (None, constant) => build.emit(Instruction::Constant(constant.unwrap_or(f32::NAN))),
            })
            .collect();
        last = match &node.op {
            Op::Unary(op) => build.unary(op.kind, op.alpha as f32, args[0]),
            Op::UnaryGrad(op) => build.unary_grad(op.kind, op.alpha as f32, args[0], args[1]),
            Op::Binary(op) => build.binary(op.kind, args[0], args[1]),
            Op::Clamp(op) => build.apply(Unary::Clamp { low: op.min as f32, high: op.max as f32 }, args[0]),
            Op::ClampGrad(op) => {
                let (low, high) = (op.min as f32, op.max as f32);
                build.emit(Instruction::Binary(Binary::DClamp { low, high }, args[0], args[1]))
            }
            _ => args[0],
        };
        build.name(last, node.outputs[0]);
    }
    Program::new(values.len(), &build.instructions, &[last])
        .map_err(|e| kessen_graph::Error::Inconsistent(e.to_string()).into())
}

struct Build {
    /// The value that each number of the program stands for.
    numbers: Vec<Option<ValueId>>,
    instructions: Vec<Instruction>,
}

impl Build {
    fn find(&self, v: ValueId) -> Option<usize> {
        self.numbers.iter().position(|n| *n == Some(v))
    }

    fn emit(&mut self, instruction: Instruction) -> usize {
        self.instructions.push(instruction);
        self.numbers.push(None);
        self.numbers.len() - 1
    }

    fn name(&mut self, number: usize, v: ValueId) {
        self.numbers[number] = Some(v);
    }

    fn apply(&mut self, op: Unary, x: usize) -> usize {
        self.emit(Instruction::Unary(op, x))
    }

    fn apply2(&mut self, op: Binary, a: usize, b: usize) -> usize {
        self.emit(Instruction::Binary(op, a, b))
    }

    fn unary(&mut self, kind: UnaryKind, alpha: f32, x: usize) -> usize {
        let op = match kind {
            UnaryKind::Relu => Unary::Relu,
            UnaryKind::LeakyRelu => Unary::LeakyRelu { slope: alpha },
            UnaryKind::Sigmoid => Unary::Sigmoid,
            UnaryKind::Tanh => Unary::Tanh,
            UnaryKind::Gelu => Unary::Gelu,
            UnaryKind::GeluTanh => Unary::GeluTanh,
            UnaryKind::Silu => Unary::Silu,
            UnaryKind::Softplus => Unary::Softplus,
            UnaryKind::Elu => Unary::Elu { alpha },
            UnaryKind::Exp => Unary::Exp,
            UnaryKind::Log => Unary::Log,
            UnaryKind::Sqrt => Unary::Sqrt,
            UnaryKind::Neg => Unary::Neg,
            UnaryKind::Abs => Unary::Abs,
            UnaryKind::Square => Unary::Square,
            UnaryKind::Reciprocal => Unary::Reciprocal,
            UnaryKind::Sin => Unary::Sin,
            UnaryKind::Cos => Unary::Cos,
            UnaryKind::Erf => Unary::Erf,
        };
        self.apply(op, x)
    }

    /// dy·f′, `known` being x or y as the kind says ([`UnaryKind::grad_uses`]).
    fn unary_grad(&mut self, kind: UnaryKind, alpha: f32, dy: usize, known: usize) -> usize {
        debug_assert!(matches!(kind.grad_uses(), GradUses::Input | GradUses::Output));
        let direct = match kind {
            UnaryKind::Relu => Some(Binary::DRelu),
            UnaryKind::LeakyRelu => Some(Binary::DLeakyRelu { slope: alpha }),
            UnaryKind::Sigmoid => Some(Binary::DSigmoid),
            UnaryKind::Tanh => Some(Binary::DTanh),
            UnaryKind::Gelu => Some(Binary::DGelu),
            UnaryKind::GeluTanh => Some(Binary::DGeluTanh),
            UnaryKind::Silu => Some(Binary::DSilu),
            UnaryKind::Softplus => Some(Binary::DSoftplus),
            UnaryKind::Elu => Some(Binary::DElu { alpha }),
            UnaryKind::Exp => Some(Binary::Mul),
            UnaryKind::Log => Some(Binary::Div),
            _ => None,
        };
        if let Some(op) = direct {
            return self.apply2(op, dy, known);
        }
        let scaled = |b: &mut Self, scale: f32, x: usize| b.apply(Unary::Affine { scale, shift: 0.0 }, x);
        let slope = match kind {
            UnaryKind::Sqrt => {
                let half = scaled(self, 0.5, dy);
                return self.apply2(Binary::Div, half, known);
            }
            UnaryKind::Neg => return self.apply(Unary::Neg, dy),
            UnaryKind::Abs => self.apply(Unary::Sign, known),
            UnaryKind::Square => scaled(self, 2.0, known),
            UnaryKind::Reciprocal => {
                let square = self.apply(Unary::Square, known);
                self.apply(Unary::Neg, square)
            }
            UnaryKind::Sin => self.apply(Unary::Cos, known),
            UnaryKind::Cos => {
                let sin = self.apply(Unary::Sin, known);
                self.apply(Unary::Neg, sin)
            }
            // erf′(x) = 2/√π·e^(−x²).
            _ => {
                let square = self.apply(Unary::Square, known);
                let minus = self.apply(Unary::Neg, square);
                let exp = self.apply(Unary::Exp, minus);
                scaled(self, std::f32::consts::FRAC_2_SQRT_PI, exp)
            }
        };
        self.apply2(Binary::Mul, dy, slope)
    }

    fn binary(&mut self, kind: BinaryKind, a: usize, b: usize) -> usize {
        let op = match kind {
            BinaryKind::Add => Binary::Add,
            BinaryKind::Sub => Binary::Sub,
            BinaryKind::Mul => Binary::Mul,
            BinaryKind::Div => Binary::Div,
            BinaryKind::Max => Binary::Max,
            BinaryKind::Min => Binary::Min,
            BinaryKind::Pow => Binary::Pow,
            BinaryKind::Greater => {
                // ½·((a > b) + (a ≥ b)).
                let (gt, ge) = (self.apply2(Binary::Gt, a, b), self.apply2(Binary::Ge, a, b));
                let sum = self.apply2(Binary::Add, gt, ge);
                return self.apply(Unary::Affine { scale: 0.5, shift: 0.0 }, sum);
            }
        };
        self.apply2(op, a, b)
    }
}
