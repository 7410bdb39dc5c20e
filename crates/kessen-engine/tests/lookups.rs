//! Training recurrent layers right behind an embedding: they compute once for each row of the table that occurs, and follow
//! the reference.

mod cases;

use cases::compare::relative_error;
use cases::step;
use kessen_engine::{Backend, Clock, CompileOptions, Cpu, Outcome, Reference, Session};
use kessen_graph::ops::embedding::Embedding;
use kessen_graph::ops::optimizer::SgdStep;
use kessen_graph::ops::recurrent_layer::{RecurrentInputs, RecurrentSpec, elman, gru, lstm};
use kessen_graph::{Bindings, Graph, GraphBuilder, Init, ParamKind, Wire, shape};
use kessen_tensor::{DType, Tensor};

type AnyError = Box<dyn std::error::Error>;

const WORDS: usize = 60;
const BATCH: usize = 6;
const TIME: usize = 8;
const WIDTH: usize = 40;

/// What is special about a network.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Special {
    Nothing,
    Padding,
    Lengths,
    /// The embedding's result is an output.
    Seen,
    /// Dropout between embedding and layer.
    Dropout,
    /// A second embedding of the same table before a layer of its own.
    Twice,
}

fn words(g: &GraphBuilder, special: Special) -> Wire {
    let padding_index = (special == Special::Padding).then_some(3);
    g.input_ids("ids", shape![BATCH, TIME]).embedding_with(
        "words",
        WORDS,
        WIDTH,
        Embedding { padding_index },
        Init::Normal(1.0),
    )
}

fn tagger(g: &GraphBuilder, spec: &RecurrentSpec, special: Special) -> Vec<(String, Wire)> {
    let x = words(g, special);
    let lengths = (special == Special::Lengths).then(|| g.input_ids("lengths", shape![BATCH]));
    let inputs = || RecurrentInputs { lengths: lengths.clone(), ..RecurrentInputs::default() };
    let input = if special == Special::Dropout { x.dropout(0.5) } else { x.clone() };
    let mut h = input.recurrent_with("rnn", spec.clone(), inputs()).output;
    if special == Special::Twice {
        let table = g.param("other.weight", &[WORDS, WIDTH], Init::Normal(1.0));
        for name in ["a", "b"] {
            let ids = g.input_ids(name, shape![BATCH, TIME]);
            let x = ids.apply_named(&format!("other.{name}"), Embedding::default(), &[&table]);
            h = h.add(&x.recurrent_with(&format!("rnn_{name}"), spec.clone(), inputs()).output);
        }
    }
    let logits = h.linear("o", 3).reshape(shape![BATCH * TIME, 3]);
    let loss = logits.cross_entropy(&g.input_ids("target", shape![BATCH * TIME]));
    let seen = (special == Special::Seen).then(|| ("x".to_owned(), x));
    [("loss".to_owned(), loss)].into_iter().chain(seen).collect()
}

/// The training step by plain descent at a rate of 0.1.
fn training(spec: &RecurrentSpec, special: Special, watch: bool) -> Result<Graph, AnyError> {
    let network = Graph::build("step", |g| tagger(g, spec, special))?;
    step::training(network, (SgdStep::default().into(), &[]), 0.1, watch)
}

fn session(graph: &Graph, backend: &dyn Backend) -> Result<Session, AnyError> {
    let options = CompileOptions::training("loss");
    let mut session = Session::new(backend, graph, &Bindings::default(), &options)?;
    session.init_params(5)?;
    Ok(session)
}

/// Losses and other outputs of three steps, then all parameters. Words number `words`.
fn run(session: &mut Session, graph: &Graph, words: usize) -> Result<Vec<Vec<f64>>, AnyError> {
    let mut numbers = Vec::new();
    for step in 0..3 {
        for &v in graph.inputs() {
            let name = &graph.value(v).name;
            let (count, below) = match name.as_str() {
                "lengths" => (BATCH, TIME + 1),
                "target" => (BATCH * TIME, 3),
                _ => (BATCH * TIME, words),
            };
            // 7 has no factor in common with the number of words.
            let values = (0..count).map(|i| ((i + step) * 7 % below) as i64).collect();
            let shape = if name == "lengths" || name == "target" { vec![count] } else { vec![BATCH, TIME] };
            session.write_input(name, &Tensor::from_vec(&shape, values)?)?;
        }
        assert_eq!(session.step(Clock { seed: 3, step: step as u64 })?, Outcome::Done);
        for k in 0..graph.outputs().len() {
            numbers.push(session.output_tensor(k)?.to_f64_vec());
        }
    }
    let params = session.read_params(&[ParamKind::Weight])?;
    numbers.extend(params.into_iter().map(|(_, value)| value.to_f64_vec()));
    Ok(numbers)
}

fn looks_up(session: &mut Session) -> bool {
    let plan = session.executable().describe();
    let steps = ["look up", "of looked-up rows", "gradient of looked-up rows"];
    let found = steps.map(|step| plan.contains(step));
    assert!(found[0] == found[1] && found[1] == found[2], "{plan}");
    found[0]
}

/// Checks that training follows the reference, and whether layers compute by rows of the table.
fn check(spec: &RecurrentSpec, special: Special, chosen: bool) -> Result<(), AnyError> {
    for (watch, words) in [(false, 11), (true, 5), (false, WORDS), (true, WORDS)] {
        let what = format!("{spec:?}, {special:?}, {words} words");
        let graph = training(spec, special, watch)?;
        let (mut fast, mut plain) = (session(&graph, &Cpu::new())?, session(&graph, &Cpu::unfused())?);
        assert_eq!(looks_up(&mut fast), chosen, "{what}");
        assert!(!looks_up(&mut plain), "{what}");
        let want = run(&mut session(&graph, &Reference)?, &graph, words)?;
        for got in [run(&mut fast, &graph, words)?, run(&mut plain, &graph, words)?] {
            assert_eq!(got.len(), want.len());
            for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                assert!(relative_error(got, want) < 1e-5, "{what}: result {k}");
            }
        }
    }
    Ok(())
}

#[test]
fn layers_that_look_rows_up_follow_the_reference() -> Result<(), AnyError> {
    for spec in [elman(20), lstm(20), gru(33), lstm(17).layers(2), gru(5).no_bias()] {
        for special in [Special::Nothing, Special::Padding, Special::Lengths, Special::Twice] {
            check(&spec, special, true)?;
        }
    }
    Ok(())
}

#[test]
fn where_the_embeddings_rows_are_wanted_they_are_made() -> Result<(), AnyError> {
    for special in [Special::Seen, Special::Dropout] {
        check(&lstm(20), special, false)?;
    }
    check(&gru(20).bidirectional(), Special::Nothing, false)
}

#[test]
fn an_id_that_is_no_row_is_refused_with_its_place() -> Result<(), AnyError> {
    let graph = training(&lstm(8), Special::Nothing, false)?;
    let mut fast = session(&graph, &Cpu::new())?;
    let mut ids = vec![0i64; BATCH * TIME];
    ids[7] = WORDS as i64;
    fast.write_input("ids", &Tensor::from_vec(&[BATCH, TIME], ids)?)?;
    fast.write_input("target", &Tensor::zeros(DType::I64, &[BATCH * TIME])?)?;
    let error = fast.step(Clock::default()).unwrap_err().to_string();
    assert!(error.contains("words") && error.contains("60") && error.contains('7'), "{error}");
    Ok(())
}
