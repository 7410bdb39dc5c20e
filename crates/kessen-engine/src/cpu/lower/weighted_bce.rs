//! Binary cross-entropy with a weight of the positive class that varies by class: as element-wise programs.
//!
//! With logits x, target y, weight w and q = 1 + (w − 1)·y, one element's loss is (1 − y)·x + q·ln(1 + e^−x), and its
//! gradient (1 − y) − q·σ(−x).

use kessen_graph::ValueId;
use kessen_kernels::elementwise::{Binary, Broadcast, Instruction, Program, Source, Unary};
use kessen_kernels::loss::Reduction;
use kessen_kernels::reduce::{Reduce, Reduction as Sum};

use super::elementwise::broadcast_strides;
use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};

/// q, −x and 1 − y as values 3 …, over the operands x, y, w: numbers 6, 7, 8.
const COMMON: [Instruction; 6] = [
    Instruction::Unary(Unary::Affine { scale: 1.0, shift: -1.0 }, 2),
    Instruction::Binary(Binary::Mul, 3, 1),
    Instruction::Constant(1.0),
    Instruction::Binary(Binary::Add, 4, 5),
    Instruction::Unary(Unary::Neg, 0),
    Instruction::Binary(Binary::Sub, 5, 1),
];

fn program(operands: &[Instruction], last: usize) -> Result<Program> {
    let instructions = [&COMMON, operands].concat();
    Program::new(3, &instructions, &[last])
        .map_err(|e| kessen_graph::Error::Inconsistent(e.to_string()).into())
}

fn repeated(b: &PlanBuilder<'_>, weight: ValueId, x: ValueId) -> Result<Broadcast> {
    let strides = broadcast_strides(b.shape(weight), b.shape(x).len());
    Broadcast::new(b.shape(x), &strides).map_err(|e| super::unsupported(b, x, &e.to_string()))
}

/// The loss of operands (logits, target, weight).
pub(crate) fn lower(b: &mut PlanBuilder<'_>, operands: &[ValueId], y: ValueId, how: Reduction) -> Result<()> {
    let program = program(
        &[
            Instruction::Binary(Binary::Mul, 8, 0),
            Instruction::Unary(Unary::Softplus, 7),
            Instruction::Binary(Binary::Mul, 6, 10),
            Instruction::Binary(Binary::Add, 9, 11),
        ],
        12,
    )?;
    let (x, weight) = (operands[0], operands[2]);
    let broadcast = repeated(b, weight, x)?;
    let kind = if how == Reduction::Mean { Reduce::Mean } else { Reduce::Sum };
    let n = b.len(x);
    let sum = Sum::new(kind, &[n], &[0]).map_err(|e| super::unsupported(b, y, &e.to_string()))?;
    let reads = [b.plain(x), b.plain(operands[1]), b.plain(weight)];
    let writes = [b.result(y, Layout::Plain), b.scratch(n), b.scratch(sum.run_scratch())];
    b.step("weighted binary cross-entropy", &reads, &writes, move |views, _| {
        let [x, target] = [views.read(0), views.read(1)].map(Source::Full);
        let each = views.write(1);
        program.run(&[x, target, Source::Broadcast(views.read(2), broadcast)], &mut [&mut *each]);
        sum.run(each, views.write(0), views.write(2));
        Ok(())
    });
    Ok(())
}

/// Its gradient, of operands (dloss, logits, target, weight).
pub(crate) fn lower_grad(
    b: &mut PlanBuilder<'_>,
    operands: &[ValueId],
    dx: ValueId,
    how: Reduction,
) -> Result<()> {
    let program = program(
        &[
            Instruction::Unary(Unary::Sigmoid, 7),
            Instruction::Binary(Binary::Mul, 6, 9),
            Instruction::Binary(Binary::Sub, 8, 10),
        ],
        11,
    )?;
    let (x, weight) = (operands[1], operands[3]);
    let broadcast = repeated(b, weight, x)?;
    let share = if how == Reduction::Mean { 1.0 / b.len(x) as f32 } else { 1.0 };
    let reads = [b.plain(x), b.plain(operands[2]), b.plain(weight), b.plain(operands[0])];
    let out = b.result(dx, Layout::Plain);
    b.step("weighted binary cross-entropy gradient", &reads, &[out], move |views, _| {
        let [x, target] = [views.read(0), views.read(1)].map(Source::Full);
        let scale = views.read(3)[0] * share;
        let dx = views.write(0);
        program.run(&[x, target, Source::Broadcast(views.read(2), broadcast)], &mut [&mut *dx]);
        kessen_kernels::elementwise::unary_in_place(Unary::Affine { scale, shift: 0.0 }, dx);
        Ok(())
    });
    Ok(())
}
