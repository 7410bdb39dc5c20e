//! Linear layers.

use crate::multiply_adds;
use crate::suite::{Floats, Group, Suite};
use kessen_kernels::epilogue::Epilogue;
use kessen_kernels::gemm::Linear;
use kessen_kernels::optim::{Adam, Common};

/// Rows, inputs and outputs: small perceptrons, a tagger and a Transformer on 2048 rows, the classifiers of CNNs.
const SHAPES: [[usize; 3]; 12] = [
    [128, 784, 512],
    [128, 512, 512],
    [128, 512, 10],
    [2048, 256, 17],
    [64, 400, 120],
    [64, 1, 32],
    [2048, 256, 768],
    [2048, 256, 256],
    [2048, 256, 1024],
    [2048, 1024, 256],
    [16, 4096, 4096],
    [1, 4096, 4096],
];

/// With β₂ = 0 any number serves as a second moment.
const ADAM: Adam =
    Adam { lr: 1e-3, beta1: 0.9, beta2: 0.0, eps: 1e-8, weight_decay: 0.0, decoupled: false, step: 10 };

/// Calls `bench` with the group of each layer and the lengths of its input, weights and output.
pub fn each(suite: &mut Suite, suffix: &str, bench: impl Fn(Group<'_>, &Linear, [usize; 3])) {
    for [batch, inputs, outputs] in SHAPES {
        let layer = Linear { batch, inputs, outputs };
        let name = format!("linear {batch}x{inputs}->{outputs}{suffix}");
        let lengths = [batch * inputs, layer.weight_len(), batch * outputs];
        let group = suite.group(&name, multiply_adds(batch * inputs * outputs)).also_cold();
        bench(group, &layer, lengths);
    }
}

pub fn layers(suite: &mut Suite) {
    each(suite, "", |mut group, l, [x, w, y]| {
        let store = Epilogue::store();
        let mut scratch =
            Floats::scratch([l.forward_scratch(), l.grad_input_scratch(), l.update_weight_scratch()]);
        let scratch = scratch.slice();
        group.bench("forward", [x, w, y], |[x, w, y]| l.forward(x, w, y, &store, scratch));
        group.bench("dx", [y, w, x], |[dy, w, dx]| l.grad_input(dy, w, dx, false, scratch));
        group.bench("dw", [x, y, w], |[x, dy, dw]| l.grad_weight(x, dy, dw, false, scratch));
        group.bench("dw + adam", [x, y, w, w, w], |[x, dy, w, m, v]| {
            let pieces = ADAM.pieces(w, m, v, Common::default());
            l.update_weight(x, dy, &pieces, scratch);
        });
    });
}
