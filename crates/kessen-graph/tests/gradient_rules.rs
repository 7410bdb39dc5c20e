//! The gradient rule of every operator gives a graph that passes its check, with gradients of the operands' types.
//! (Their numbers are compared with finite differences where there is a backend.)

use std::collections::BTreeSet;

use kessen_graph::attribute::Padding;
use kessen_graph::ops::adaptive_pool::{AdaptivePool, PoolKind};
use kessen_graph::ops::attention_layer::{AttentionMasks, attention};
use kessen_graph::ops::avg_pool::AvgPool;
use kessen_graph::ops::batch_norm::BatchNormTrain;
use kessen_graph::ops::binary::{Binary, BinaryKind};
use kessen_graph::ops::conv::conv;
use kessen_graph::ops::cross_entropy::CrossEntropy;
use kessen_graph::ops::dropout::Dropout;
use kessen_graph::ops::layer_norm::LayerNorm;
use kessen_graph::ops::max_pool::MaxPool;
use kessen_graph::ops::recurrent_layer::{RecurrentInputs, elman, gru, lstm};
use kessen_graph::ops::reduce::{Reduce, ReduceKind, SumTo};
use kessen_graph::ops::slice::Slice;
use kessen_graph::ops::unary::{Unary, UnaryKind};
use kessen_graph::{Bindings, Error, Graph, GraphBuilder, Init, Op, Wire, dim, gradients, shape};
use kessen_tensor::DType;

type Wiring = fn(&GraphBuilder) -> Wire;

/// Operators that a gradient neither passes through nor consists of.
const WITHOUT: [&str; 5] = ["argmax", "global_norm", "sgd_step", "adam_step", "rmsprop_step"];

fn x(g: &GraphBuilder) -> Wire {
    g.input("x", shape!["batch", 4, 6, 7])
}

fn rows(g: &GraphBuilder) -> Wire {
    g.input("x", shape!["batch", "time", 4])
}

fn cases() -> Vec<(&'static str, Wiring)> {
    let mut cases: Vec<(&'static str, Wiring)> = layers();
    cases.extend(normalisations());
    cases.extend(movements());
    cases.extend(losses());
    cases
}

fn layers() -> Vec<(&'static str, Wiring)> {
    vec![
        ("linear", |g| rows(g).linear("fc", 3)),
        ("matmul", |g| rows(g).matmul(&rows_2(g).transpose(&[0, 2, 1]))),
        ("conv", |g| x(g).conv("c", conv(6, 3).stride(2).padding([0, 1]).groups(2))),
        ("max_pool", |g| x(g).max_pool(2)),
        ("max_pool with all", |g| {
            x(g).max_pool_with(MaxPool {
                kernel: [3, 2],
                stride: [2, 3],
                padding: Padding { before: [1, 0], after: [0, 1] },
                dilation: [2, 1],
                ceil_mode: true,
            })
        }),
        ("avg_pool", |g| x(g).avg_pool(2)),
        ("avg_pool with all", |g| {
            x(g).avg_pool_with(AvgPool {
                kernel: [3, 2],
                stride: [2, 3],
                padding: 1.into(),
                ceil_mode: true,
                count_include_pad: false,
            })
        }),
        ("adaptive_avg_pool", |g| x(g).adaptive_avg_pool(3, 4)),
        ("adaptive_max_pool", |g| {
            g.input("x", shape!["batch", 2, "h", "w"])
                .apply(AdaptivePool { kind: PoolKind::Max, size: [1, 2] }, &[])
        }),
        ("embedding", |g| g.input_ids("ids", shape!["batch", "time"]).embedding("e", 10, 4)),
        ("dropout in training", |g| rows(g).apply(Dropout { p: 0.5, key: 7, training: true }, &[])),
        ("dropout", |g| rows(g).dropout(0.5).linear("fc", 2)),
        ("self_attention", |g| {
            let lengths = Some(g.input_ids("lengths", shape!["batch"]));
            let masks = AttentionMasks { lengths, ..AttentionMasks::default() };
            rows(g).self_attention("attn", attention(2).causal().dropout(0.1).masks(masks))
        }),
        ("cross_attention", |g| {
            rows(g).cross_attention("attn", &g.input("m", shape!["batch", "past", 4]), attention(2).no_bias())
        }),
        ("elman", |g| rows(g).recurrent("rnn", elman(3).no_bias())),
        ("lstm in both directions", |g| {
            rows(g).recurrent("rnn", lstm(3).layers(2).bidirectional().dropout(0.1))
        }),
        ("lstm with all", |g| {
            let lengths = Some(g.input_ids("lengths", shape!["batch"]));
            let [h, c] = ["h", "c"].map(|name| vec![g.input(name, shape!["batch", 3])]);
            let out = rows(g).recurrent_with("rnn", lstm(3), RecurrentInputs { lengths, hidden: h, cell: c });
            out.hidden[0].add(&out.cell[0])
        }),
        ("gru", |g| rows(g).recurrent("rnn", gru(3))),
        ("softmax", |g| rows(g).softmax(1)),
        ("log_softmax", |g| rows(g).log_softmax(2)),
    ]
}

fn rows_2(g: &GraphBuilder) -> Wire {
    g.input("y", shape![1, 5, 4])
}

fn train(x: &Wire) -> Wire {
    let g = x.builder();
    let [w, b] = ["w", "b"].map(|n| g.param(n, &[4], Init::Constant(1.0)));
    let [m, v] = ["m", "v"].map(|n| g.buffer(n, &[4], Init::Constant(1.0)));
    x.apply(BatchNormTrain::default(), &[&w, &b, &m, &v])
}

fn normalisations() -> Vec<(&'static str, Wiring)> {
    vec![
        ("batch_norm", |g| x(g).batch_norm("bn")),
        ("batch_norm of rows", |g| g.input("x", shape!["batch", 4]).batch_norm("bn")),
        ("batch_norm_train", |g| train(&x(g))),
        ("batch_norm_train of sequences", |g| train(&g.input("x", shape!["batch", 4, "time"]))),
        ("layer_norm", |g| rows(g).layer_norm("ln")),
        ("layer_norm over two", |g| {
            x(g).layer_norm_with("ln", LayerNorm { dims: 2, ..LayerNorm::default() }, true)
        }),
        ("layer_norm without weights", |g| rows(g).layer_norm_with("ln", LayerNorm::default(), false)),
        ("group_norm", |g| x(g).group_norm("gn", 2)),
        ("rms_norm", |g| rows(g).rms_norm("rms", 1e-6)),
    ]
}

fn movements() -> Vec<(&'static str, Wiring)> {
    vec![
        ("concat", |g| rows(g).concat(&[&g.input("y", shape!["batch", "past", 4]), &rows_3(g)], 1)),
        ("slice", |g| rows(g).slice(1, 0, dim("time").minus(1))),
        ("slice, whole", |g| rows(g).slice(2, 0, 4)),
        ("slice with steps", |g| x(g).apply(Slice { dim: 3, start: 1.into(), end: 6.into(), step: 3 }, &[])),
        ("slice of a named size with steps", |g| {
            rows(g).apply(Slice { dim: 1, start: 1.into(), end: "time".into(), step: 2 }, &[])
        }),
        ("pad", |g| rows(g).pad(shape![0, 1, 0], shape![0, "past", 2])),
        ("transpose", |g| x(g).transpose(&[2, 3, 1, 0])),
        ("reshape", |g| rows(g).flatten()),
        ("broadcast", |g| g.input("x", shape![1, 4]).broadcast(shape!["batch", 4])),
        ("sum_to", |g| rows(g).apply(SumTo { shape: shape!["time", 1] }, &[])),
        ("clamp", |g| rows(g).clamp(-1.0, 1.0)),
        ("cast", |g| rows(g).cast(DType::Bf16).cast(DType::F32)),
    ]
}

fn rows_3(g: &GraphBuilder) -> Wire {
    g.input("z", shape!["batch", 1, 4])
}

fn logits(g: &GraphBuilder) -> Wire {
    g.input("x", shape!["batch", 8]).linear("fc", 5)
}

fn losses() -> Vec<(&'static str, Wiring)> {
    vec![
        ("cross_entropy", |g| logits(g).cross_entropy(&g.input_ids("t", shape!["batch"]))),
        ("cross_entropy with weights", |g| {
            let weights = g.buffer("weights", &[5], Init::Constant(1.0));
            let target = g.input_ids("t", shape!["batch"]);
            let op = CrossEntropy { label_smoothing: 0.1, ..CrossEntropy::default() };
            logits(g).cross_entropy_with(&target, Some(&weights), op)
        }),
        ("bce", |g| {
            logits(g).bce_with_logits(&g.buffer("t", &[1, 5], Init::Constant(1.0)).broadcast(batch_5()))
        }),
        ("mse", |g| logits(g).mse_loss(&g.input("t", shape!["batch", 5]))),
        ("mae", |g| logits(g).mae_loss(&g.input("t", shape!["batch", 5]))),
        ("huber", |g| logits(g).huber_loss(&g.input("t", shape!["batch", 5]), 2.0)),
    ]
}

fn batch_5() -> Vec<kessen_graph::Dim> {
    shape!["batch", 5]
}

/// The graph with the gradients of the sum of its output to every input and weight, and these.
fn with_gradients(name: &str, graph: Graph) -> Graph {
    let mut graph =
        graph.extend(|g, outputs| g.wire_of(outputs[0]).sum(&[])).unwrap_or_else(|e| panic!("{name}: {e}"));
    let loss = graph.outputs()[0].1;
    let buffers = |p: &kessen_graph::Param| p.kind == kessen_graph::ParamKind::Weight;
    let mut wrt: Vec<_> = graph.params().iter().filter(|p| buffers(p)).map(|p| p.value).collect();
    wrt.extend(graph.inputs().iter().filter(|&&v| graph.ty(v).dtype.is_float()));
    let found = gradients(&mut graph, loss, &wrt).unwrap_or_else(|e| panic!("{name}: {e}"));
    graph.check().unwrap_or_else(|e| panic!("{name}: {e}"));
    for (v, d) in wrt.into_iter().zip(found) {
        let d = d.unwrap_or_else(|| panic!("{name}: no gradient to {}", graph.value(v).name));
        assert_eq!(graph.ty(d), graph.ty(v), "{name}: {}", graph.value(v).name);
        graph.add_output(&format!("d{}", graph.value(v).name), d).unwrap();
    }
    graph
}

#[test]
fn every_gradient_rule_gives_a_graph_of_the_right_types() {
    let mut seen = BTreeSet::new();
    for (name, wiring) in cases() {
        let graph = Graph::build("case", wiring).unwrap_or_else(|e| panic!("{name}: {e}"));
        let graph = with_gradients(name, graph);
        seen.extend(graph.nodes().iter().map(|n| n.op.operator().name()));
        // The shape rules hold for numbers too, in the gradient's attributes as well.
        let sizes = [("batch", 3), ("time", 5), ("past", 2), ("h", 6), ("w", 9)];
        let bound = graph.bind(&Bindings::from(sizes)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(bound.dim_names().is_empty(), "{name}");
    }
    for op in Op::all() {
        let op = op.operator().name();
        assert!(seen.contains(op) || WITHOUT.contains(&op), "no case has `{op}`; add one");
    }
}

#[test]
fn every_kind_of_function_has_a_gradient() {
    for &kind in UnaryKind::ALL {
        let graph = Graph::build("u", |g| rows(g).apply(Unary::new(kind), &[])).unwrap();
        with_gradients(kind.word(), graph);
    }
    for &kind in BinaryKind::ALL.iter().filter(|&&k| k != BinaryKind::Greater) {
        let graph =
            Graph::build("b", |g| rows(g).apply(Binary { kind }, &[&g.input("y", shape!["time", 1])]));
        with_gradients(kind.word(), graph.unwrap());
    }
    for &kind in ReduceKind::ALL {
        for keepdim in [false, true] {
            let op = Reduce { kind, dims: vec![1], keepdim };
            let graph = Graph::build("r", |g| rows(g).apply(op, &[])).unwrap();
            with_gradients(kind.word(), graph);
        }
    }
}

#[test]
fn what_has_no_gradient_says_what_to_do() {
    let cases: [(&str, Wiring, usize); 4] = [
        (
            "given, not learnt",
            |g| {
                let weights = g.param("w", &[5], Init::Constant(1.0));
                let target = g.input_ids("t", shape!["batch"]);
                g.input("x", shape!["batch", 5]).cross_entropy_with(
                    &target,
                    Some(&weights),
                    CrossEntropy::default(),
                )
            },
            2,
        ),
        (
            "given, not learnt",
            |g| {
                let target = g.param("t", &[2, 5], Init::Constant(1.0));
                g.input("x", shape![2, 5]).bce_with_logits(&target)
            },
            1,
        ),
        (
            "make them buffers",
            |g| {
                let s = ["w", "b", "m", "v"].map(|n| g.param(n, &[4], Init::Constant(1.0)));
                let op = kessen_graph::ops::batch_norm::BatchNorm::default();
                x(g).apply(op, &[&s[0], &s[1], &s[2], &s[3]]).sum(&[])
            },
            3,
        ),
        (
            "remove the operator",
            |g| {
                let w = g.param("w", &[4], Init::Constant(1.0));
                w.global_norm(&[])
            },
            0,
        ),
    ];
    for (advice, wiring, operand) in cases {
        let mut graph = Graph::build("case", wiring).unwrap();
        let loss = graph.outputs()[0].1;
        let weights: Vec<_> = graph.params().iter().map(|p| p.value).collect();
        match gradients(&mut graph, loss, &weights) {
            Err(Error::NotDifferentiable { input, advice: found, .. }) => {
                assert_eq!(input, operand, "{advice}");
                assert!(found.contains(advice), "{found}");
            }
            other => panic!("{advice}: {other:?}"),
        }
    }
}

#[test]
fn a_position_found_by_argmax_carries_no_gradient() {
    let mut graph = Graph::build("a", |g| {
        let w = g.param("w", &[3, 4], Init::Constant(1.0));
        w.argmax(1).cast(DType::F32).sum(&[])
    })
    .unwrap();
    let (loss, w) = (graph.outputs()[0].1, graph.params()[0].value);
    assert_eq!(gradients(&mut graph, loss, &[w]).unwrap(), [None]);
}
