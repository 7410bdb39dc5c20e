//! Training within less memory: recomputation and updates in one pass change no bit of a loss, a parameter or a state.

mod cases;

use cases::step;
use kessen_engine::{Backend, Clock, CompileOptions, Cpu, Error, Outcome, Session};
use kessen_graph::attribute::Padding;
use kessen_graph::ops::conv::conv;
use kessen_graph::ops::embedding::Embedding;
use kessen_graph::ops::max_pool::MaxPool;
use kessen_graph::ops::optimizer::{AdamStep, RmspropStep, SgdStep};
use kessen_graph::ops::recurrent_layer::{RecurrentInputs, lstm};
use kessen_graph::ops::transformer_layer::transformer;
use kessen_graph::ops::unary::UnaryKind;
use kessen_graph::{Bindings, Graph, GraphBuilder, Init, Op, ParamKind, Wire, shape};
use kessen_kernels::threads;
use kessen_tensor::{DType, Rng, Tensor};

type AnyError = Box<dyn std::error::Error>;

/// A network with its loss as its output.
type Wiring = fn(&GraphBuilder) -> Wire;

fn block(x: &Wire, path: &str, channels: usize) -> Wire {
    let path = |part: &str| format!("{path}.{part}");
    let h = x.conv(&path("conv1"), conv(channels, 3).padding(1).no_bias()).batch_norm(&path("bn1")).relu();
    let h = h.dropout(0.2).conv(&path("conv2"), conv(channels, 3).padding(1)).batch_norm(&path("bn2"));
    h.add(x).relu()
}

/// Batch normalisation, residuals, dropout, both kinds of pooling.
fn residual(g: &GraphBuilder) -> Wire {
    let x = g.input("x", shape![4, 3, 24, 24]);
    let mut h = x.conv("stem", conv(16, 3).padding(1)).batch_norm("bn").relu();
    for k in 0..4 {
        h = block(&h, &format!("block{k}"), 16);
        if k == 1 {
            h = h.max_pool(2);
        }
    }
    let logits = h.avg_pool(2).flatten().dropout(0.5).linear("fc1", 40).relu().linear("fc2", 10);
    logits.cross_entropy(&g.input_ids("target", shape![4]))
}

/// Branches that are joined, as in GoogLeNet; a picture that is normalised first.
fn branches(g: &GraphBuilder) -> Wire {
    let x = g.input("x", shape![4, 3, 16, 16]).batch_norm("bn");
    let mut h = x.conv("stem", conv(20, 3).padding(1)).leaky_relu(0.1);
    for k in 0..3 {
        let branch = |name: &str, channels, size: usize| {
            h.conv(&format!("{name}{k}"), conv(channels, size).padding(size / 2)).relu()
        };
        let window =
            MaxPool { kernel: [3, 3], stride: [1, 1], padding: Padding::from(1), ..MaxPool::default() };
        let pooled = h.max_pool_with(window).conv(&format!("pool{k}"), conv(4, 1)).silu();
        h = branch("a", 4, 1).concat(&[&branch("b", 12, 3), &pooled], 1);
    }
    h.global_avg_pool().flatten().linear("fc", 10).cross_entropy(&g.input_ids("target", shape![4]))
}

/// Convolutions between poolings, as in VGG.
fn pools(g: &GraphBuilder) -> Wire {
    let mut h = g.input("x", shape![4, 3, 32, 32]);
    for k in 0..4 {
        for part in ["a", "b"] {
            h = h.conv(&format!("conv{k}{part}"), conv(16, 3).padding(1)).relu();
        }
        h = h.max_pool(2);
    }
    let logits = h.flatten().linear("fc1", 40).relu().dropout(0.5).linear("fc2", 10);
    logits.cross_entropy(&g.input_ids("target", shape![4]))
}

/// A stack of Transformer layers on word vectors.
fn encoder(g: &GraphBuilder) -> Wire {
    let mut h = g.input_ids("x", shape![4, 16]).embedding("words", 12, 32);
    for k in 0..3 {
        let spec = transformer(4, 64).norm_first().causal().activation(UnaryKind::Gelu).dropout(0.1);
        h = h.transformer_encoder_layer(&format!("layer{k}"), spec);
    }
    h.reshape(shape![64, 32]).linear("fc", 10).cross_entropy(&g.input_ids("target", shape![64]))
}

/// Two recurrent layers with dropout between them, and lengths.
fn tagger(g: &GraphBuilder) -> Wire {
    let x = g.input_ids("x", shape![4, 12]).embedding("words", 12, 16);
    let lengths = Some(g.input_ids("lengths", shape![4]));
    let inputs = RecurrentInputs { lengths, ..RecurrentInputs::default() };
    let h = x.recurrent_with("rnn", lstm(24).layers(2).bidirectional().dropout(0.3), inputs).output;
    h.reshape(shape![48, 48]).tanh().linear("fc", 10).cross_entropy(&g.input_ids("target", shape![48]))
}

/// A perceptron whose products are large enough for several tasks.
fn perceptron(g: &GraphBuilder) -> Wire {
    let h = g.input("x", shape![24, 150]).linear("a", 260).relu().linear("b", 130).gelu();
    h.linear("c", 10).cross_entropy(&g.input_ids("target", shape![24]))
}

const NETWORKS: [(&str, Wiring); 6] = [
    ("residual", residual),
    ("branches", branches),
    ("pools", pools),
    ("encoder", encoder),
    ("tagger", tagger),
    ("perceptron", perceptron),
];

fn sgd() -> (Op, &'static [&'static str]) {
    (SgdStep { momentum: 0.9, weight_decay: 0.01, ..SgdStep::default() }.into(), &["velocity"])
}

/// The training step at a rate of 0.01.
fn training(wiring: Wiring, optimizer: (Op, &[&str]), watch: bool) -> Result<Graph, AnyError> {
    step::training(Graph::build("step", |g| [("loss", wiring(g))])?, optimizer, 0.01, watch)
}

/// Losses and all parameters after three steps.
struct Outcomes {
    numbers: Vec<(String, Vec<u64>)>,
    /// Bytes of values and scratch.
    memory: usize,
    plan: String,
}

fn run(graph: &Graph, backend: &dyn Backend, limit: Option<usize>) -> Result<Outcomes, AnyError> {
    let options = CompileOptions::training("loss").memory_limit(limit);
    let mut session = Session::new(backend, graph, &Bindings::default(), &options)?;
    session.init_params(1)?;
    let mut numbers = Vec::new();
    for step in 0..3 {
        for &v in graph.inputs() {
            let value = graph.value(v);
            let shape: Vec<usize> = value.ty.shape.iter().filter_map(|d| d.as_fixed()).collect();
            let mut rng = Rng::named(step, &value.name);
            let count = shape.iter().product();
            let tensor = match value.ty.dtype {
                DType::I64 => Tensor::from_vec(&shape, (0..count).map(|_| rng.below(10) as i64).collect())?,
                _ => Tensor::from_vec(&shape, (0..count).map(|_| rng.normal() as f32).collect())?,
            };
            session.write_input(&value.name, &tensor)?;
        }
        assert_eq!(session.step(Clock { seed: 3, step })?, Outcome::Done);
        numbers.push((format!("loss {step}"), bits(&session.output_tensor(0)?)));
    }
    let kinds = [ParamKind::Weight, ParamKind::Buffer, ParamKind::State];
    numbers.extend(session.read_params(&kinds)?.into_iter().map(|(path, value)| (path, bits(&value))));
    let (memory, plan) = (session.executable().memory(), session.executable().describe());
    Ok(Outcomes { numbers, memory, plan })
}

fn bits(value: &Tensor) -> Vec<u64> {
    value.to_f64_vec().into_iter().map(f64::to_bits).collect()
}

fn assert_same(what: &str, a: &Outcomes, b: &Outcomes) {
    for ((name, x), (_, y)) in a.numbers.iter().zip(&b.numbers) {
        assert!(x == y, "{what}: {name} differs");
    }
}

/// What a plan of no memory says it needs at least, and how much of it lasts.
fn least(graph: &Graph, backend: &dyn Backend) -> (usize, usize) {
    let options = CompileOptions::training("loss").memory_limit(Some(1));
    match backend.compile(graph, &Bindings::default(), &options).err() {
        Some(Error::Memory { needed, limit: 1, lasting }) => (needed, lasting),
        other => panic!("{other:?}"),
    }
}

#[test]
fn recomputation_fits_the_limit_and_changes_no_bit() {
    for (name, wiring) in NETWORKS {
        let graph = training(wiring, sgd(), false).unwrap_or_else(|e| panic!("{name}: {e}"));
        for backend in [Cpu::new(), Cpu::unfused()] {
            let whole = run(&graph, &backend, None).unwrap_or_else(|e| panic!("{name}: {e}"));
            let (least, lasting) = least(&graph, &backend);
            let full = lasting + whole.memory;
            assert!(least <= full, "{name}");
            for part in 0..=8 {
                let limit = least + (full - least) * part / 8;
                let what = format!("{name} with {limit} of {full} bytes, {least} at least");
                let found = run(&graph, &backend, Some(limit)).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(lasting + found.memory <= limit, "{what}: takes {}", lasting + found.memory);
                assert_same(&what, &whole, &found);
            }
            assert!(run(&graph, &backend, Some(least - 1)).is_err(), "{name}: less than the least");
        }
    }
}

#[test]
fn a_deep_network_needs_a_fraction_of_its_memory() {
    // Each thread's scratch weighs as much as a layer of networks as small as these.
    threads::with_count(1, || {
        for (name, wiring) in [("residual", residual as Wiring), ("branches", branches), ("encoder", encoder)]
        {
            let graph = training(wiring, sgd(), false).unwrap();
            let whole = run(&graph, &Cpu::new(), None).unwrap().memory as f64;
            let (least, lasting) = least(&graph, &Cpu::new());
            let found = (least - lasting) as f64 / whole;
            assert!(found <= 0.8, "{name}: {found:.2} of the memory of values and scratch");
        }
    });
}

#[test]
fn an_update_in_the_gradients_step_changes_no_bit() {
    let adam = AdamStep { weight_decay: 0.01, decoupled: true, ..AdamStep::default() };
    let rmsprop = RmspropStep { momentum: 0.5, centered: true, ..RmspropStep::default() };
    let rmsprop_states = rmsprop.state();
    let optimizers: [(Op, &[&str]); 4] = [
        sgd(),
        (SgdStep::default().into(), &[]),
        (adam.into(), &["m", "v"]),
        (rmsprop.into(), rmsprop_states),
    ];
    for (op, states) in optimizers {
        let name = op.operator().name();
        let networks: [(&str, Wiring, &[&str]); 3] = [
            ("perceptron", perceptron, &["linear gradient to weight"]),
            ("encoder", encoder, &["linear gradient to weight", "embedding gradient"]),
            ("tagger", tagger, &["linear gradient to weight", "embedding gradient"]),
        ];
        for (network, wiring, gradients) in networks {
            // Where the gradient's length is asked for, the gradient is stored.
            let [fused, stored, serial] = [(false, 2), (true, 2), (false, 1)].map(|(watch, count)| {
                let graph = training(wiring, (op.clone(), states), watch).unwrap();
                let outcomes = threads::with_count(count, || run(&graph, &Cpu::new(), None));
                outcomes.unwrap_or_else(|e| panic!("{network}, {name}: {e}"))
            });
            for gradient in gradients {
                let step = format!("{gradient} + {name}");
                assert!(fused.plan.contains(&step), "{}", fused.plan);
                assert!(!stored.plan.contains(&step), "{}", stored.plan);
            }
            assert_same(&format!("{network}, {name}"), &fused, &stored);
            assert_same(&format!("{network}, {name}, one thread"), &fused, &serial);
        }
    }
}

/// A large table of which a batch reads a few rows.
fn wide_table(g: &GraphBuilder) -> Wire {
    let op = Embedding { padding_index: Some(3) };
    let words = g.input_ids("x", shape![4, 3]).embedding_with("words", 20_000, 32, op, Init::Normal(1.0));
    words.reshape(shape![12, 32]).linear("fc", 10).cross_entropy(&g.input_ids("target", shape![12]))
}

#[test]
fn a_tables_gradient_takes_no_memory() {
    let gradient = 20_000 * 32 * 4;
    let [fused, stored] = [false, true].map(|watch| {
        let graph = training(wide_table, (AdamStep::default().into(), &["m", "v"]), watch).unwrap();
        // Each thread has scratch of its own.
        threads::with_count(2, || run(&graph, &Cpu::new(), None)).unwrap()
    });
    assert!(stored.memory > gradient && fused.memory < gradient / 2, "{}", fused.plan);
    assert_same("a large table", &fused, &stored);
}

/// One table for two inputs, so that its gradient is the sum of two.
fn shared_table(g: &GraphBuilder) -> Wire {
    let table = g.param("words.weight", &[12, 8], Init::Normal(1.0));
    let look = |name: &str| {
        let ids = g.input_ids(name, shape![24]);
        ids.apply_named(&format!("words.{name}"), Embedding::default(), &[&table])
    };
    look("x").add(&look("z")).linear("fc", 10).cross_entropy(&g.input_ids("target", shape![24]))
}

#[test]
fn the_gradient_of_a_shared_table_is_stored() {
    let graph = training(shared_table, sgd(), false).unwrap();
    let [fused, plain] = [Cpu::new(), Cpu::unfused()].map(|cpu| run(&graph, &cpu, None).unwrap());
    assert!(!fused.plan.contains("embedding gradient +"), "{}", fused.plan);
    assert_same("a shared table", &fused, &plain);
}

#[test]
fn a_limit_that_cannot_be_kept_says_what_would_do() {
    let graph = training(perceptron, sgd(), false).unwrap();
    let options = CompileOptions::training("loss").memory_limit(Some(100_000));
    let error = Session::new(&Cpu::new(), &graph, &Bindings::default(), &options).unwrap_err().to_string();
    assert!(error.contains("the limit is 100 kB") && error.contains("at least"), "{error}");
}
