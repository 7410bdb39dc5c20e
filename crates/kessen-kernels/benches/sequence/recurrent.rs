//! Recurrent layers over 64 time steps, forward and back through time.

use crate::suite::{Floats, Suite};
use criterion::Throughput;
use kessen_kernels::recurrent::{Activation, Cell, Gradients, Kept, Outputs, Recurrent, States, Weights};

const TIME: usize = 64;

pub fn layers(suite: &mut Suite) {
    let elman = Cell::Elman(Activation::Tanh);
    for (name, cell, inputs, hidden) in
        [("elman", elman, 128, 256), ("lstm", Cell::Lstm, 256, 512), ("gru", Cell::Gru, 256, 512)]
    {
        for batch in [1, 32] {
            let layer = Recurrent {
                cell,
                batch,
                time: TIME,
                inputs,
                hidden,
                batch_first: true,
                reverse: false,
                output_row: hidden,
            };
            let name = format!("{name} {inputs}->{hidden} batch {batch}");
            forward(suite, &name, &layer);
            backward(suite, &name, &layer);
        }
    }
}

/// Floating-point operations of the products of a forward pass.
fn operations(l: &Recurrent) -> u64 {
    (2 * l.batch * l.time * l.cell.gates() * l.hidden * (l.inputs + l.hidden)) as u64
}

fn forward(suite: &mut Suite, name: &str, l: &Recurrent) {
    let mut group = suite.group(name, Throughput::Elements(operations(l))).also_cold();
    let mut scratch = Floats::scratch([l.forward_scratch()]);
    let scratch = scratch.slice();
    let lengths = [
        l.weight_len(l.inputs),
        l.weight_len(l.hidden),
        l.batch * l.time * l.inputs,
        l.output_len(),
        l.gates_len(),
        l.extra_len(),
    ];
    group.bench("forward", lengths, |[input, recurrent, x, y, gates, extra]| {
        let weights = Weights { input, recurrent, bias_input: None, bias_recurrent: None };
        let mut out = Outputs { y, gates, extra, h: None, c: None };
        let done = l.forward(x, &weights, States::default(), None, &mut out, scratch);
        assert!(done.is_ok());
    });
}

fn backward(suite: &mut Suite, name: &str, l: &Recurrent) {
    let mut group = suite.group(name, Throughput::Elements(2 * operations(l))).also_cold();
    let mut scratch = Floats::scratch([l.backward_scratch()]);
    let scratch = scratch.slice();
    let weights = [l.weight_len(l.inputs), l.weight_len(l.hidden)];
    let x = l.batch * l.time * l.inputs;
    let lengths = [
        weights[0],
        weights[1],
        x,
        l.output_len(),
        l.gates_len(),
        l.extra_len(),
        l.output_len(),
        x,
        weights[0],
        weights[1],
    ];
    group.bench("backward", lengths, |[input, recurrent, x, y, gates, extra, dy, dx, dw, dr]| {
        let weights = Weights { input, recurrent, bias_input: None, bias_recurrent: None };
        let kept = Kept {
            x,
            start: States::default(),
            lengths: None,
            y,
            gates,
            extra,
            dy: Some(dy),
            dend: States::default(),
        };
        let mut out = Gradients {
            x: Some(dx),
            accumulate_x: false,
            input: dw,
            recurrent: dr,
            bias_input: None,
            bias_recurrent: None,
            h: None,
            c: None,
        };
        assert!(l.backward(&weights, &kept, &mut out, scratch).is_ok());
    });
}
