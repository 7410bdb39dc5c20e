//! Element-wise operators, programs of them, and dropout.

use crate::suite::Suite;
use crate::{SIZES, floats};
use kessen_kernels::dropout::Dropout;
use kessen_kernels::elementwise::{self, Binary, Broadcast, Instruction, Program, Source, Ternary, Unary};

pub fn maps(suite: &mut Suite) {
    let dropout = Dropout { p: 0.1, seed: 1, stream: 2, step: 3 };
    for (size, n) in SIZES {
        suite.group("memory copy", floats(2 * n)).also_cold().bench(size, [n, n], |[x, y]| {
            y.copy_from_slice(x);
        });
        for op in [Unary::Relu, Unary::Exp, Unary::Tanh, Unary::Sigmoid, Unary::Gelu, Unary::Sin] {
            suite.group(&format!("{op:?}"), floats(2 * n)).bench(size, [n, n], |[x, y]| {
                elementwise::unary(op, x, y);
            });
        }
        for (name, op) in [("add", Binary::Add), ("relu backward", Binary::DRelu)] {
            suite.group(name, floats(3 * n)).also_cold().bench(size, [n, n, n], |[a, b, y]| {
                elementwise::binary(op, a, b, y);
            });
        }
        suite.group("bias over rows of 256", floats(2 * n)).bench(size, [n, 256, n], |[x, b, y]| {
            elementwise::binary_rows(Binary::Add, x, b, y);
        });
        program(suite, size, n);
        suite.group("dropout", floats(2 * n)).bench(size, [n, n], |[x, y]| dropout.apply(x, y));
    }
}

fn program(suite: &mut Suite, size: &str, n: usize) {
    let steps = [
        Instruction::Ternary(Ternary::MulAdd, 0, 1, 2),
        Instruction::Unary(Unary::Relu, 3),
        Instruction::Binary(Binary::Add, 4, 2),
    ];
    let program = Program::new(3, &steps, &[5]).expect("a program of known operands");
    let per_channel = Broadcast::blocked(1, 4, n / 64);
    suite.group("program relu(x·c + z) + z", floats(3 * n)).bench(size, [n, 64, n, n], |[x, c, z, y]| {
        let operands = [Source::Full(x), Source::Broadcast(c, per_channel), Source::Full(z)];
        program.run(&operands, &mut [y]);
    });
}
