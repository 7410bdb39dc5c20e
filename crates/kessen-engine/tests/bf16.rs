//! Plans in mixed precision: what is rounded to bf16, and what comes out.

mod cases;

use cases::model::{run, with_gradients};
use cases::runner::Array;
use kessen_engine::{Backend, CompileOptions, Cpu, Mode, Precision, Reference};
use kessen_graph::ops::conv::conv;
use kessen_graph::ops::linear::MatMul;
use kessen_graph::{Bindings, Graph, GraphBuilder, Wire, shape};
use kessen_kernels::bf16;

const BATCH: usize = 40;

/// Layers that are each large enough for rounding to pay, by the words of their steps.
fn strided(g: &GraphBuilder) -> Wire {
    g.input("x", shape!["batch", 64, 12, 12]).conv("c", conv(64, 3).stride(2).padding(1))
}

fn pointwise(g: &GraphBuilder) -> Wire {
    g.input("x", shape!["batch", 96, 9, 9]).conv("c", conv(128, 1)).relu()
}

fn grouped(g: &GraphBuilder) -> Wire {
    g.input("x", shape!["batch", 64, 9, 9]).conv("c", conv(128, 5).groups(2))
}

fn dense(g: &GraphBuilder) -> Wire {
    g.input("x", shape!["batch", 400]).linear("fc", 300).leaky_relu(0.1)
}

fn product_with_itself(g: &GraphBuilder) -> Wire {
    let x = g.input("x", shape!["batch", 200, 130]);
    x.apply(MatMul { trans_a: false, trans_b: true }, &[&x])
}

const LAYERS: [(&str, fn(&GraphBuilder) -> Wire); 5] = [
    ("strided", strided),
    ("pointwise", pointwise),
    ("grouped", grouped),
    ("dense", dense),
    ("product_with_itself", product_with_itself),
];

fn options(mode: Mode, precision: Precision) -> CompileOptions {
    CompileOptions { mode, ..CompileOptions::inference() }.precision(precision)
}

/// Forward and training graph of a wiring.
fn graphs(name: &str, wiring: fn(&GraphBuilder) -> Wire) -> [(Graph, Mode); 2] {
    let model = Graph::build(name, wiring).unwrap();
    let forward = model.for_inference().unwrap();
    [(forward, Mode::Inference), (with_gradients(&model).unwrap(), Mode::Training)]
}

/// The largest difference, relative to the largest expected magnitude; NaN where one is.
fn error(found: &Array, expected: &Array) -> f64 {
    assert_eq!(found.shape, expected.shape);
    let scale = expected.data.iter().fold(f64::MIN_POSITIVE, |m, b| m.max(b.abs()));
    let differences = found.data.iter().zip(&expected.data).map(|(a, b)| (a - b).abs() / scale);
    differences.fold(0.0, |m: f64, d| if d > m || d.is_nan() { d } else { m })
}

fn results(
    name: &str,
    graph: &Graph,
    options: &CompileOptions,
    round: fn(f32) -> f32,
) -> Vec<(String, Array)> {
    run(name, graph, BATCH, options, &Cpu::new(), round).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn operands_that_are_bf16_give_what_the_reference_gives() {
    for (name, wiring) in LAYERS {
        let (graph, mode) = graphs(name, wiring)[0].clone();
        let found = results(name, &graph, &options(mode, Precision::Bf16), bf16::round);
        let exact = options(mode, Precision::Exact);
        let expected = run(name, &graph, BATCH, &exact, &Reference, bf16::round).unwrap();
        for ((output, a), (_, b)) in found.iter().zip(&expected) {
            let off = error(a, b);
            assert!(off <= 2e-6, "{name}: {output} is off by {off:.1e}");
        }
    }
}

#[test]
fn other_operands_are_rounded_first() {
    for (name, wiring) in LAYERS {
        for (graph, mode) in graphs(name, wiring) {
            let rounded = results(name, &graph, &options(mode, Precision::Bf16), |v| v);
            let exact = results(name, &graph, &options(mode, Precision::Exact), |v| v);
            for ((output, a), (_, b)) in rounded.iter().zip(&exact) {
                let off = error(a, b);
                assert!(off <= 1e-2, "{name} {mode:?}: {output} is off by {off:.1e}");
                let untouched = output == "loss" || output.ends_with("bias");
                assert!(untouched || off >= 1e-4, "{name} {mode:?}: {output} was not rounded ({off:.1e})");
            }
        }
    }
}

#[test]
fn every_cpu_gives_the_same() {
    for (name, wiring) in LAYERS {
        for (graph, mode) in graphs(name, wiring) {
            let options = options(mode, Precision::Bf16);
            let found = results(name, &graph, &options, |v| v);
            let emulated = bf16::with_emulation(|| results(name, &graph, &options, |v| v));
            for ((output, a), (_, b)) in found.iter().zip(&emulated) {
                // Gradients round a result whose last bits depend on the order of summation.
                let off = error(a, b);
                assert!(off <= 1e-3, "{name} {mode:?}: {output} differs by {off:.1e}");
            }
        }
    }
}

#[test]
fn plans_say_what_is_rounded() {
    let text = |wiring: fn(&GraphBuilder) -> Wire, batch: usize, precision: Precision| {
        let (graph, mode) = graphs("net", wiring)[1].clone();
        let bindings = Bindings::from([("batch", batch)]);
        Cpu::new().compile(&graph, &bindings, &options(mode, precision)).unwrap().describe()
    };
    for (_, wiring) in LAYERS {
        assert!(text(wiring, BATCH, Precision::Bf16).contains("bf16"));
        assert!(!text(wiring, BATCH, Precision::Fast).contains("bf16"));
    }
    // A small product is not worth the rounding.
    assert!(!text(dense, 2, Precision::Bf16).contains("bf16"));
}

#[test]
fn words_name_the_choices() {
    let words: Vec<_> = Precision::ALL.iter().map(|p| p.word()).collect();
    assert_eq!(words, ["exact", "fast", "bf16"]);
}
