//! Recurrent layers over 64 time steps, forward and back through time; on their inputs, and on rows that are looked up in a
//! table, where the work counted stays that of all rows.

use crate::suite::{Floats, Suite};
use criterion::Throughput;
use kessen_kernels::Indices;
use kessen_kernels::recurrent::{
    Activation, Cell, Gradients, Inputs, Kept, Lookup, Outputs, Recurrent, States, Weights,
};

const TIME: usize = 64;
/// Rows of the table.
const WORDS: usize = 10_000;

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
            forward(suite, &name, &layer, None);
            backward(suite, &name, &layer, None);
            let (even, text) = (ids(&layer, |u| WORDS as f64 * u), ids(&layer, |u| (WORDS as f64).powf(u)));
            for (kind, ids) in [("words drawn evenly", even), ("words of a text", text)] {
                let name = format!("{name} {kind}");
                forward(suite, &name, &layer, Some(&ids));
                backward(suite, &name, &layer, Some(&ids));
            }
        }
    }
}

/// One word for each of the layer's rows: `word` of numbers spread evenly over 0 to 1. Of a text's words, the one of rank
/// r is drawn 1/r as often as the first (Zipf's law).
fn ids(l: &Recurrent, word: impl Fn(f64) -> f64) -> Vec<i64> {
    let numbers = (1..=l.batch * l.time).scan(1u64, |state, _| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 11) as f64 / (1u64 << 53) as f64)
    });
    numbers.map(|u| word(u).min(WORDS as f64 - 1.0) as i64).collect()
}

/// Looks the ids up, if there are any; `seen` is scratch.
fn look_up(l: &Recurrent, ids: Option<&[i64]>, record: &mut [i64], seen: &mut [i64]) {
    if let Some(ids) = ids {
        assert!(l.look_up(Indices::I64(ids), WORDS, record, seen).is_ok());
    }
}

/// Length of what is read as inputs: those, or the table.
fn inputs_len(l: &Recurrent, ids: Option<&[i64]>) -> usize {
    l.inputs * ids.map_or(l.batch * l.time, |_| WORDS)
}

/// Floating-point operations of the products of a forward pass.
fn operations(l: &Recurrent) -> u64 {
    (2 * l.batch * l.time * l.cell.gates() * l.hidden * (l.inputs + l.hidden)) as u64
}

fn forward(suite: &mut Suite, name: &str, l: &Recurrent, ids: Option<&[i64]>) {
    let mut group = suite.group(name, Throughput::Elements(operations(l))).also_cold();
    let mut scratch = Floats::scratch([l.forward_scratch(), l.forward_lookup_scratch()]);
    let scratch = scratch.slice();
    let (mut record, mut seen) = (vec![0; l.record_len()], vec![0; WORDS]);
    let lengths = [
        l.weight_len(l.inputs),
        l.weight_len(l.hidden),
        inputs_len(l, ids),
        l.output_len(),
        l.gates_len(),
        l.extra_len(),
    ];
    group.bench("forward", lengths, |[input, recurrent, x, y, gates, extra]| {
        let weights = Weights { input, recurrent, bias_input: None, bias_recurrent: None };
        let mut out = Outputs { y, gates, extra, h: None, c: None };
        look_up(l, ids, &mut record, &mut seen);
        let done = match ids {
            None => l.forward(x, &weights, States::default(), None, &mut out, scratch),
            Some(_) => {
                let x = Lookup::new(l, x, &record);
                l.forward_lookup(&x, &weights, States::default(), None, &mut out, scratch)
            }
        };
        assert!(done.is_ok());
    });
}

fn backward(suite: &mut Suite, name: &str, l: &Recurrent, ids: Option<&[i64]>) {
    let mut group = suite.group(name, Throughput::Elements(2 * operations(l))).also_cold();
    let mut scratch = Floats::scratch([l.backward_scratch(), l.backward_lookup_scratch()]);
    let scratch = scratch.slice();
    let weights = [l.weight_len(l.inputs), l.weight_len(l.hidden)];
    let (mut record, mut seen) = (vec![0; l.record_len()], vec![0; WORDS]);
    look_up(l, ids, &mut record, &mut seen);
    let lengths = [
        weights[0],
        weights[1],
        inputs_len(l, ids),
        l.output_len(),
        l.gates_len(),
        l.extra_len(),
        l.output_len(),
        l.batch * l.time * l.inputs,
        weights[0],
        weights[1],
    ];
    group.bench("backward", lengths, |[input, recurrent, x, y, gates, extra, dy, dx, dw, dr]| {
        let weights = Weights { input, recurrent, bias_input: None, bias_recurrent: None };
        let kept = Kept {
            x: match ids {
                None => Inputs::Rows(x),
                Some(_) => Inputs::Lookup(Lookup::new(l, x, &record)),
            },
            start: States::default(),
            lengths: None,
            y,
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
            // From the second run on, the gradients of the run before; the time does not depend on what they are.
            gates,
        };
        assert!(l.backward(&weights, &kept, &mut out, scratch).is_ok());
    });
}
