//! Recurrent layers (stacked, in both directions, with lengths and states) and Transformer layers against PyTorch:
//! outputs and the gradients of every input and parameter, on the reference and on the fast backend.

mod cases;

use std::collections::BTreeMap;

use cases::compare::relative_error;
use cases::golden::{self, Stored};
use cases::{Fill, Operand};
use kessen_engine::{Backend, Clock, CompileOptions, Cpu, Mode, Reference, Session};
use kessen_graph::ops::attention_layer::AttentionMasks;
use kessen_graph::ops::binary::{Binary, BinaryKind};
use kessen_graph::ops::recurrent::RecurrentActivation;
use kessen_graph::ops::recurrent_layer::{RecurrentInputs, RecurrentSpec, elman, gru, lstm};
use kessen_graph::ops::reduce::Reduce;
use kessen_graph::ops::transformer_layer::{TransformerSpec, transformer};
use kessen_graph::ops::unary::UnaryKind;
use kessen_graph::{Bindings, Graph, GraphBuilder, Origin, ValueId, Wire, gradients, shape};
use kessen_tensor::Tensor;

// Batch, steps, steps of the memory, features: as in `golden/sequences.py`.
const B: usize = 3;
const T: usize = 5;
const S: usize = 4;
const E: usize = 8;

type Outputs = Vec<(String, Wire)>;
type Wiring = fn(&GraphBuilder) -> Outputs;

fn recurrent(g: &GraphBuilder, spec: RecurrentSpec, count: usize, hidden: usize, states: &str) -> Outputs {
    let x = g.input("x", shape![B, T, E]);
    let state = |kind: char| -> Vec<Wire> {
        let count = if states.contains(kind) { count } else { 0 };
        (0..count).map(|i| g.input(&format!("{kind}{i}"), shape![B, hidden])).collect()
    };
    let (h, c) = (state('h'), state('c'));
    let lengths = Some(g.input_ids("lengths", shape![B]));
    let out = x.recurrent_with("m", spec, RecurrentInputs { lengths, hidden: h, cell: c });
    let last = |kind: char, all: Vec<Wire>| {
        all.into_iter().enumerate().map(move |(i, w)| (format!("last_{kind}{i}"), w)).collect::<Vec<_>>()
    };
    let mut outputs = vec![("y".to_owned(), out.output)];
    outputs.extend(last('h', out.hidden));
    outputs.extend(last('c', out.cell));
    outputs
}

fn encoder(g: &GraphBuilder, spec: TransformerSpec, lengths: bool) -> Outputs {
    let x = g.input("x", shape![B, T, E]);
    let lengths = lengths.then(|| g.input_ids("lengths", shape![B]));
    let spec = spec.masks(AttentionMasks { lengths, ..AttentionMasks::default() });
    vec![("y".to_owned(), x.transformer_encoder_layer("m", spec))]
}

fn decoder(g: &GraphBuilder, spec: TransformerSpec) -> Outputs {
    let (x, memory) = (g.input("x", shape![B, T, E]), g.input("memory", shape![B, S, E]));
    let lengths = Some(g.input_ids("memory_lengths", shape![B]));
    let masks = AttentionMasks { lengths, ..AttentionMasks::default() };
    vec![("y".to_owned(), x.transformer_decoder_layer("m", &memory, spec.causal().memory_masks(masks)))]
}

const NETWORKS: [(&str, Wiring); 9] = [
    ("elman", |g| {
        let spec = elman(3).activation(RecurrentActivation::Relu).layers(2).bidirectional();
        recurrent(g, spec, 4, 3, "h")
    }),
    ("lstm", |g| recurrent(g, lstm(3).layers(2).bidirectional(), 4, 3, "hc")),
    ("gru", |g| recurrent(g, gru(3).layers(2).bidirectional(), 4, 3, "")),
    ("gru_stack", |g| recurrent(g, gru(5).layers(3).no_bias(), 3, 5, "h")),
    ("post_norm", |g| encoder(g, transformer(2, 12), true)),
    ("pre_norm", |g| encoder(g, transformer(2, 12).norm_first().causal().activation(UnaryKind::Gelu), false)),
    ("pre_norm_masked", |g| encoder(g, transformer(2, 12).norm_first().causal().eps(1e-3), true)),
    ("decoder_post_norm", |g| decoder(g, transformer(2, 12).activation(UnaryKind::Gelu))),
    ("decoder_pre_norm", |g| decoder(g, transformer(2, 12).norm_first())),
];

/// PyTorch's name of a parameter, where the layer itself is the module.
fn plain(path: &str) -> &str {
    path.trim_start_matches("m.")
}

fn filled(name: &str, shape: &[usize], fill: Fill) -> Tensor {
    let mut operand = Operand::named(name, shape);
    operand.fill = fill;
    Tensor::from_vec(shape, operand.fill().into_iter().map(|v| v as f32).collect()).unwrap()
}

/// The network with gradients as outputs: the values' names and, before them, the outputs' own.
fn with_gradients(name: &str, wiring: Wiring) -> Graph {
    let mut graph = Graph::build(name, wiring).unwrap();
    let outputs: Vec<(String, ValueId)> = graph.outputs().to_vec();
    let mut loss: Option<ValueId> = None;
    for (k, v) in outputs {
        let cotangent = graph.add_input(&format!("cotangent_{k}"), graph.ty(v).clone()).unwrap();
        let product = graph
            .add_node(&format!("product_{k}"), Binary { kind: BinaryKind::Mul }, &[v, cotangent])
            .unwrap()[0];
        let sum = graph.add_node(&format!("sum_{k}"), Reduce::default(), &[product]).unwrap()[0];
        loss = Some(match loss {
            None => sum,
            Some(before) => graph
                .add_node(&format!("loss_{k}"), Binary { kind: BinaryKind::Add }, &[before, sum])
                .unwrap()[0],
        });
    }
    let real = |v: &ValueId| {
        let value = graph.value(*v);
        let given = matches!(value.origin, Origin::Input | Origin::Param(_));
        given && value.ty.dtype.is_float() && !value.name.starts_with("cotangent")
    };
    let wrt: Vec<ValueId> = graph.value_ids().filter(real).collect();
    let found = gradients(&mut graph, loss.unwrap(), &wrt).unwrap();
    for (v, d) in wrt.into_iter().zip(found) {
        let output = format!("d{}", plain(&graph.value(v).name));
        graph.add_output(&output, d.unwrap_or_else(|| panic!("{name}: no gradient of {output}"))).unwrap();
    }
    graph
}

fn check(
    name: &str,
    wiring: Wiring,
    backend: &dyn Backend,
    stored: &BTreeMap<String, Stored>,
    tolerance: f64,
) {
    let graph = with_gradients(name, wiring);
    let options = CompileOptions { mode: Mode::Training, ..CompileOptions::inference() };
    let mut session = Session::new(backend, &graph, &Bindings::default(), &options).unwrap();
    for p in graph.params() {
        let value = filled(&format!("{name}/{}", plain(&p.path)), &p.shape, Fill::Spread(0.5));
        session.write_param(&p.path, &value).unwrap();
    }
    let inputs: Vec<(String, Tensor)> = graph
        .inputs()
        .iter()
        .map(|&v| {
            let value = graph.value(v);
            let shape: Vec<usize> = value.ty.shape.iter().map(|d| d.as_fixed().unwrap()).collect();
            let tensor = match value.name.as_str() {
                "lengths" => Tensor::from_vec(&[B], vec![5i64, 2, 4]).unwrap(),
                "memory_lengths" => Tensor::from_vec(&[B], vec![4i64, 1, 3]).unwrap(),
                input => filled(&format!("{name}/{input}"), &shape, Fill::Spread(1.0)),
            };
            (value.name.clone(), tensor)
        })
        .collect();
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let outputs = session.run(&inputs, Clock::default()).unwrap();
    assert_eq!(outputs.len(), stored.keys().filter(|k| k.starts_with(&format!("{name}/"))).count(), "{name}");
    for (output, found) in outputs {
        let expected = stored.get(&format!("{name}/{output}")).unwrap_or_else(|| panic!("{name}/{output}"));
        assert_eq!(found.shape(), expected.shape, "{name}/{output}");
        let error = relative_error(&found.to_f64_vec(), &expected.data);
        assert!(error <= tolerance, "{}: {name}/{output} is off by {error:.1e}", backend.name());
    }
}

#[test]
fn layers_agree_with_pytorch() {
    let stored = golden::read("sequences");
    for (name, wiring) in NETWORKS {
        check(name, wiring, &Reference, &stored, 1e-5);
        check(name, wiring, &Cpu::new(), &stored, 3e-5);
        check(name, wiring, &Cpu::unfused(), &stored, 3e-5);
    }
}
