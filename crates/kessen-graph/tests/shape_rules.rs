//! The shape rule of every operator, as a table: a wiring, and the type it gives or the words it is refused with.

use kessen_graph::attribute::Padding;
use kessen_graph::ops::avg_pool::AvgPool;
use kessen_graph::ops::batch_norm::BatchNormTrain;
use kessen_graph::ops::cross_entropy::CrossEntropy;
use kessen_graph::ops::dropout::Dropout;
use kessen_graph::ops::embedding::Embedding;
use kessen_graph::ops::layer_norm::LayerNorm;
use kessen_graph::ops::max_pool::{MaxPool, pool_count};
use kessen_graph::ops::optimizer::{AdamStep, RmspropStep, SgdStep};
use kessen_graph::ops::slice::Slice;
use kessen_graph::{Bindings, Dim, Graph, GraphBuilder, Init, Op, Wire, dim, shape};
use kessen_tensor::DType;

type Wiring = fn(&GraphBuilder) -> Wire;

fn result_of(wiring: Wiring) -> Result<String, String> {
    let graph = Graph::build("case", wiring).map_err(|e| e.to_string())?;
    graph.check().map_err(|e| e.to_string())?;
    Ok(graph.ty(graph.outputs()[0].1).to_string())
}

fn accepts(cases: Vec<(&str, &str, Wiring)>) {
    for (name, expected, wiring) in cases {
        assert_eq!(result_of(wiring).as_deref(), Ok(expected), "{name}");
    }
}

fn refuses(cases: Vec<(&str, &[&str], Wiring)>) {
    for (name, expected, wiring) in cases {
        let message = result_of(wiring).expect_err(name);
        for part in expected {
            assert!(message.contains(part), "{name}: `{message}` lacks `{part}`");
        }
    }
}

macro_rules! cases {
    ($($name:literal => $expected:expr, |$g:ident| $wire:expr;)*) => {
        vec![$(($name, $expected, (|$g| $wire) as Wiring)),*]
    };
}

fn image(g: &GraphBuilder, h: usize, w: usize) -> Wire {
    g.input("x", shape!["batch", 4, h, w])
}

fn pool(k: usize, s: usize, p: usize, d: usize, ceil_mode: bool) -> MaxPool {
    MaxPool { kernel: [k, k], stride: [s, s], padding: p.into(), dilation: [d, d], ceil_mode }
}

#[test]
fn pooling() {
    accepts(cases! {
        "window and step alike" => "batch×4×14×10", |g| image(g, 28, 21).max_pool(2);
        "alexnet's" => "batch×4×27×27", |g| image(g, 55, 55).max_pool_with(pool(3, 2, 0, 1, false));
        "resnet's" => "batch×4×56×56", |g| image(g, 112, 112).max_pool_with(pool(3, 2, 1, 1, false));
        "googlenet's" => "batch×4×56×28", |g| image(g, 112, 56).max_pool_with(pool(3, 2, 0, 1, true));
        "googlenet's inception" => "batch×4×28×28", |g| image(g, 28, 28).max_pool_with(pool(3, 1, 1, 1, true));
        "dilated" => "batch×4×3×5", |g| image(g, 7, 9).max_pool_with(pool(3, 1, 0, 2, false));
        "ceil, smaller than the window" => "batch×4×1×1", |g| image(g, 1, 1).max_pool_with(pool(2, 2, 0, 1, true));
        "one side padded" => "batch×4×4×4", |g| image(g, 7, 7).avg_pool_with(AvgPool {
            padding: Padding { before: [0, 0], after: [1, 1] }, ..AvgPool::default()
        });
        "mean" => "batch×4×3×2", |g| image(g, 6, 5).avg_pool(2);
        "named size" => "batch×4×((h-1)/2)+1×3", |g| {
            g.input("x", shape!["batch", 4, "h", 6]).max_pool_with(pool(3, 2, 1, 1, false))
        };
        "adaptive" => "batch×4×6×7", |g| image(g, 13, 13).adaptive_avg_pool(6, 7);
        "adaptive, larger than the input" => "batch×4×7×7", |g| image(g, 3, 3).adaptive_max_pool(7, 7);
        "global" => "batch×4×1×1", |g| image(g, 7, 7).global_avg_pool();
    });
    refuses(cases! {
        "too large" => &["spans 5", "input 4", "max_pool"], |g| image(g, 4, 4).max_pool(5);
        "padding over half" => &["padding 2", "at most 1"], |g| image(g, 9, 9).max_pool_with(pool(3, 1, 2, 1, false));
        "a window may miss the input" => &["smaller than dilation 2"], |g| image(g, 1, 9).max_pool_with(pool(2, 1, 1, 2, false));
        "no stride" => &["at least 1"], |g| image(g, 9, 9).max_pool_with(pool(3, 0, 1, 1, false));
        "rank" => &["[N, C, H, W]", "batch×3"], |g| g.input("x", shape!["batch", 3]).max_pool(2);
        "size 0" => &["at least 1"], |g| image(g, 9, 9).adaptive_avg_pool(0, 1);
        "empty" => &["empty"], |g| image(g, 0, 9).adaptive_avg_pool(1, 1);
        "empty, ceil" => &["empty"], |g| image(g, 0, 9).max_pool_with(pool(2, 2, 0, 1, true));
    });
}

/// PyTorch's `pooling_output_shape_pad_lr` as it is written there, in two steps.
fn pytorch_count(n: i64, k: i64, s: i64, [l, r]: [i64; 2], d: i64, ceil: bool) -> i64 {
    let count = (n + l + r - d * (k - 1) - 1 + if ceil { s - 1 } else { 0 }).div_euclid(s) + 1;
    if ceil && (count - 1) * s >= n + l { count - 1 } else { count }
}

#[test]
fn pool_counts_are_pytorchs_also_for_named_sizes() {
    let mut checked = 0;
    for (k, s, d) in (1..6usize).flat_map(|k| (1..6).flat_map(move |s| [1, 2].map(|d| (k, s, d)))) {
        let span = d * (k - 1) + 1;
        let half = span / 2;
        for (l, r, ceil) in
            (0..=half).flat_map(|l| (0..=half).flat_map(move |r| [(l, r, false), (l, r, true)]))
        {
            let symbolic = pool_count(&dim("n"), k, s, [l, r], d, ceil).unwrap();
            // A window might miss an input smaller than the dilation.
            let smallest = if l > 0 { d } else { 1 };
            for n in smallest..14usize {
                let [ni, ki, si, li, ri, di] = [n, k, s, l, r, d].map(|v| v as i64);
                let expected = pytorch_count(ni, ki, si, [li, ri], di, ceil);
                let found = pool_count(&Dim::fixed(n), k, s, [l, r], d, ceil);
                let case = format!("n {n} k {k} s {s} d {d} padding {l},{r} ceil {ceil}");
                assert_eq!(
                    found.ok().and_then(|d| d.as_fixed()).unwrap_or(0) as i64,
                    expected.max(0),
                    "{case}"
                );
                let bound = symbolic.eval(&Bindings::from([("n", n)])).unwrap_or(0);
                assert_eq!(bound as i64, expected.max(0), "{case}");
                checked += 1;
            }
        }
    }
    assert!(checked > 5000);
}

fn train(x: &Wire) -> Wire {
    let g = x.builder();
    let stats = ["w", "b", "m", "v"].map(|n| g.param(n, &[4], Init::Constant(1.0)));
    x.apply(BatchNormTrain::default(), &[&stats[0], &stats[1], &stats[2], &stats[3]])
}

#[test]
fn normalisation() {
    accepts(cases! {
        "batch norm of images" => "batch×4×5×5", |g| image(g, 5, 5).batch_norm("bn");
        "batch norm of rows" => "batch×4", |g| g.input("x", shape!["batch", 4]).batch_norm("bn");
        "batch norm of sequences" => "batch×4×time", |g| g.input("x", shape!["batch", 4, "time"]).batch_norm("bn");
        "layer norm" => "batch×time×4", |g| g.input("x", shape!["batch", "time", 4]).layer_norm("ln");
        "layer norm over an image" => "batch×4×5×6", |g| {
            image(g, 5, 6).layer_norm_with("ln", LayerNorm { dims: 3, ..LayerNorm::default() }, true)
        };
        "layer norm without weights" => "batch×time", |g| {
            g.input("x", shape!["batch", "time"]).layer_norm_with("ln", LayerNorm::default(), false)
        };
        "group norm" => "batch×4×5×5", |g| image(g, 5, 5).group_norm("gn", 2);
        "group norm of any size" => "batch×4×h×w", |g| g.input("x", shape!["batch", 4, "h", "w"]).group_norm("gn", 4);
        "rms norm" => "batch×4×5×6", |g| image(g, 5, 6).rms_norm("rms", 1e-6);
        "one sample, one row of statistics" => "1×4×2", |g| train(&g.input("x", shape![1, 4, 2]));
    });
    refuses(cases! {
        "single value" => &["more than one value per channel", "found 1"], |g| train(&g.input("x", shape![1, 4, 1, 1]));
        "channels by name" => &["`bn`", "not a fixed number"], |g| g.input("x", shape!["batch", "c"]).batch_norm("bn");
        "five dimensions" => &["[N, C, H, W]"], |g| g.input("x", shape![2, 4, 1, 1, 1]).batch_norm("bn");
        "groups" => &["`gn`", "3 groups must divide 4"], |g| image(g, 5, 5).group_norm("gn", 3);
        "weights of another size" => &["expected 4"], |g| {
            let w = g.param("w", &[5], Init::Constant(1.0));
            g.input("x", shape!["batch", 4]).apply(LayerNorm::default(), &[&w, &w])
        };
        "negative eps" => &["eps is -1"], |g| {
            g.input("x", shape!["batch", 4]).layer_norm_with("ln", LayerNorm { eps: -1.0, dims: 1 }, false)
        };
    });
}

fn x(g: &GraphBuilder) -> Wire {
    g.input("x", shape!["batch", 4, "time"])
}

#[test]
fn moving_elements() {
    accepts(cases! {
        "concat" => "batch×10×time", |g| x(g).concat(&[&g.input("y", shape!["batch", 6, "time"])], 1);
        "concat of named sizes" => "batch×4×past+time", |g| {
            g.input("y", shape!["batch", 4, "past"]).concat(&[&x(g)], 2)
        };
        "concat of one" => "batch×4×time", |g| x(g).concat(&[], 0);
        "slice" => "batch×2×time", |g| x(g).slice(1, 1, 3);
        "last step" => "batch×4×1", |g| x(g).slice(2, dim("time").minus(1), "time");
        "nothing" => "batch×0×time", |g| x(g).slice(1, 2, 2);
        "every other" => "batch×2×time", |g| {
            x(g).apply(Slice { dim: 1, start: 0.into(), end: 4.into(), step: 2 }, &[])
        };
        "every third of a named size" => "batch×4×((time+2)/3)", |g| {
            x(g).apply(Slice { dim: 2, start: 0.into(), end: dim("time"), step: 3 }, &[])
        };
        "pad" => "batch×7×time+2", |g| x(g).pad(shape![0, 1, 0], shape![0, 2, 2]);
        "transpose" => "time×batch×4", |g| x(g).transpose(&[2, 0, 1]);
        "embedding" => "batch×time×8", |g| g.input_ids("x", shape!["batch", "time"]).embedding("e", 100, 8);
        "argmax" => "i64 batch×time", |g| x(g).argmax(1);
        "cast" => "bf16 batch×4×time", |g| x(g).cast(DType::Bf16);
        "clamp" => "batch×4×time", |g| x(g).clamp(0.0, f64::INFINITY);
        "dropout" => "batch×4×time", |g| x(g).dropout(0.5);
        "softmax" => "batch×4×time", |g| x(g).softmax(2);
    });
    refuses(cases! {
        "concat of others" => &["operand 1", "all dimensions but 1"], |g| {
            x(g).concat(&[&g.input("y", shape!["batch", 6, 9])], 1)
        };
        "concat of other types" => &["operand 1"], |g| x(g).concat(&[&g.input_ids("y", shape!["batch", 4, "time"])], 1);
        "concat along nothing" => &["no dimension 3"], |g| x(g).concat(&[], 3);
        "slice beyond" => &["3 to 5", "size 4"], |g| x(g).slice(1, 3, 5);
        "slice backwards" => &["3 to 2"], |g| x(g).slice(1, 3, 2);
        "slice with step 0" => &["step"], |g| {
            x(g).apply(Slice { dim: 1, start: 0.into(), end: 4.into(), step: 0 }, &[])
        };
        "pad of two dimensions" => &["2 numbers before", "one per dimension, 3"], |g| x(g).pad(shape![0, 1], shape![0, 1]);
        "transpose of two" => &["[0, 1]", "0 to 2"], |g| x(g).transpose(&[0, 1]);
        "transpose twice" => &["each of 0 to 2 once"], |g| x(g).transpose(&[0, 1, 1]);
        "embedding of real numbers" => &["input_ids"], |g| x(g).embedding("e", 10, 2);
        "padding_index" => &["padding_index is 10", "10 rows"], |g| {
            let op = Embedding { padding_index: Some(10) };
            g.input_ids("x", shape!["batch"]).embedding_with("e", 10, 2, op, Init::Normal(1.0))
        };
        "argmax of nothing" => &["no dimension 3"], |g| x(g).argmax(3);
        "clamp" => &["min ≤ max"], |g| x(g).clamp(1.0, 0.0);
        "dropout" => &["p is 1.5"], |g| x(g).dropout(1.5);
        "dropout of ids" => &["real numbers"], |g| g.input_ids("x", shape!["batch"]).dropout(0.5);
        "softmax of nothing" => &["no dimension 3"], |g| x(g).softmax(3);
    });
}

fn rows(g: &GraphBuilder) -> Wire {
    g.input("logits", shape!["batch", 5])
}

fn labels(g: &GraphBuilder) -> Wire {
    g.input_ids("target", shape!["batch"])
}

#[test]
fn losses() {
    accepts(cases! {
        "cross-entropy" => "scalar", |g| rows(g).cross_entropy(&labels(g));
        "cross-entropy of pixels" => "scalar", |g| {
            g.input("x", shape!["batch", 5, "h", "w"]).cross_entropy(&g.input_ids("t", shape!["batch", "h", "w"]))
        };
        "class weights" => "scalar", |g| {
            rows(g).cross_entropy_with(&labels(g), Some(&g.input("w", shape![5])), CrossEntropy::default())
        };
        "binary" => "scalar", |g| rows(g).bce_with_logits(&g.input("t", shape!["batch", 5]));
        "weight of the positive class" => "scalar", |g| {
            let weight = g.input("w", shape![5]);
            rows(g).bce_with_logits_with(&g.input("t", shape!["batch", 5]), Some(&weight), Default::default())
        };
        "squared" => "scalar", |g| rows(g).mse_loss(&g.input("t", shape!["batch", 5]));
        "absolute" => "scalar", |g| rows(g).mae_loss(&g.input("t", shape!["batch", 5]));
        "huber" => "scalar", |g| rows(g).huber_loss(&g.input("t", shape!["batch", 5]), 0.5);
        "length" => "scalar", |g| rows(g).global_norm(&[&g.input("t", shape![3])]);
    });
    refuses(cases! {
        "labels as real numbers" => &["input_ids"], |g| rows(g).cross_entropy(&g.input("t", shape!["batch"]));
        "labels of another batch" => &["expected i64 batch"], |g| rows(g).cross_entropy(&g.input_ids("t", shape![8]));
        "no classes" => &["[N, K, …]"], |g| g.input("x", shape!["batch"]).cross_entropy(&labels(g));
        "smoothing" => &["label_smoothing is 2"], |g| {
            rows(g).cross_entropy_with(&labels(g), None, CrossEntropy { label_smoothing: 2.0, ..Default::default() })
        };
        "class weights" => &["class weights are 4, expected 5"], |g| {
            rows(g).cross_entropy_with(&labels(g), Some(&g.input("w", shape![4])), CrossEntropy::default())
        };
        "broadcast target" => &["reshape"], |g| rows(g).mse_loss(&g.input("t", shape!["batch", 1]));
        "delta" => &["delta is 0"], |g| rows(g).huber_loss(&g.input("t", shape!["batch", 5]), 0.0);
    });
}

#[test]
fn optimiser_steps() {
    let step = |g: &GraphBuilder, op: Op, state: usize| {
        let p = g.param("p", &[3, 2], Init::Constant(0.0));
        let grad = g.input("grad", shape![3, 2]);
        let scalars = ["lr", "grad_scale", "step"].map(|n| g.input(n, shape![]));
        let state: Vec<Wire> = (0..state).map(|i| g.input(&format!("s{i}"), shape![3, 2])).collect();
        let mut operands = vec![&grad, &scalars[0], &scalars[1], &scalars[2]];
        operands.extend(&state);
        p.apply(op, &operands)
    };
    let momentum = SgdStep { momentum: 0.9, ..SgdStep::default() };
    let full = RmspropStep { momentum: 0.9, centered: true, ..RmspropStep::default() };
    let cases: [(&str, Op, usize); 6] = [
        ("sgd", SgdStep::default().into(), 0),
        ("sgd with momentum", momentum.clone().into(), 1),
        ("adam", AdamStep::default().into(), 2),
        ("amsgrad", AdamStep { amsgrad: true, ..AdamStep::default() }.into(), 3),
        ("rmsprop", RmspropStep::default().into(), 1),
        ("rmsprop with everything", full.into(), 3),
    ];
    for (name, op, state) in cases {
        for given in 0..4 {
            let op = op.clone();
            let found = Graph::build("step", |g| step(g, op, given));
            assert_eq!(found.is_ok(), given == state, "{name} with {given} states");
            if let Ok(graph) = found {
                let outputs = &graph.nodes()[0].outputs;
                assert_eq!(outputs.len(), 1 + state, "{name}");
                assert!(outputs.iter().all(|&v| graph.ty(v).to_string() == "3×2"), "{name}");
            }
        }
    }
    let refused: [(&str, Op); 3] = [
        ("nesterov needs", SgdStep { nesterov: true, ..SgdStep::default() }.into()),
        ("beta1 is 1", AdamStep { beta1: 1.0, ..AdamStep::default() }.into()),
        ("weight_decay is -1", AdamStep { weight_decay: -1.0, ..AdamStep::default() }.into()),
    ];
    for (part, op) in refused {
        let message = Graph::build("step", |g| step(g, op, 2)).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn attributes_round_trip_as_text() {
    let dropout = Dropout { p: 0.25, key: u64::MAX, training: true };
    let slice = Slice { dim: 2, start: dim("time").minus(1), end: dim("time"), step: 1 };
    let mut ops: Vec<Op> = Op::all();
    ops.extend([dropout.into(), slice.into()] as [Op; 2]);
    for op in ops {
        let mut copy = Op::by_name(op.operator().name()).unwrap();
        for a in op.operator().attributes() {
            copy.attributes_mut().set_attribute(a.key, &a.value).unwrap();
        }
        assert_eq!(copy, op);
    }
}
