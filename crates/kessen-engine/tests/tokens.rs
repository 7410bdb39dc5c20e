//! Recurrent layers right behind an embedding: in inference they read ids, and the results are those of the reference.

mod cases;

use cases::compare::relative_error;
use kessen_engine::{Backend, Clock, CompileOptions, Cpu, Reference, Session};
use kessen_graph::ops::recurrent::RecurrentActivation;
use kessen_graph::ops::recurrent_layer::{RecurrentInputs, RecurrentSpec, elman, gru, lstm};
use kessen_graph::{Bindings, Graph, shape};
use kessen_tensor::{Rng, Tensor};

type AnyError = Box<dyn std::error::Error>;

const VOCABULARY: usize = 40;
const BATCH: usize = 3;
const TIME: usize = 5;

/// Tokens with lengths to two classes each; where `seen`, the embedded tokens are an output, too.
fn tagger(spec: RecurrentSpec, seen: bool) -> Result<Graph, AnyError> {
    Ok(Graph::build("tagger", |g| {
        let x = g.input_ids("ids", shape!["batch", "time"]).embedding("e", VOCABULARY, 6);
        let lengths = Some(g.input_ids("lengths", shape!["batch"]));
        let out = x.recurrent_with("r", spec, RecurrentInputs { lengths, hidden: vec![], cell: vec![] });
        let mut outputs = vec![("y".to_owned(), out.output.linear("o", 2))];
        outputs.extend(seen.then(|| ("x".to_owned(), x)));
        outputs
    })?)
}

fn session(graph: &Graph, backend: &dyn Backend, time: usize) -> Result<Session, AnyError> {
    let bindings = Bindings::from([("batch", BATCH), ("time", time)]);
    let mut session = Session::new(backend, graph, &bindings, &CompileOptions::inference())?;
    session.init_params(3)?;
    Ok(session)
}

fn outputs(session: &mut Session, time: usize) -> Result<Vec<Vec<f64>>, AnyError> {
    let mut rng = Rng::named(1, "tokens");
    let ids = (0..BATCH * time).map(|_| rng.below(VOCABULARY) as i64).collect();
    let ids = Tensor::from_vec(&[BATCH, time], ids)?;
    let lengths = Tensor::from_vec(&[BATCH], vec![time as i64, 1, 0])?;
    let outputs = session.run(&[("ids", &ids), ("lengths", &lengths)], Clock::default())?;
    Ok(outputs.into_iter().map(|(_, t)| t.to_f64_vec()).collect())
}

fn takes_ids(session: &mut Session) -> bool {
    session.executable().describe().contains("of a table's rows")
}

#[test]
fn layers_that_read_ids_compute_what_the_reference_does() -> Result<(), AnyError> {
    let specs = [
        elman(20).activation(RecurrentActivation::Tanh),
        lstm(20),
        gru(33),
        lstm(5).no_bias(),
        gru(16).bidirectional(),
        lstm(17).layers(2).bidirectional(),
    ];
    for spec in specs {
        let what = format!("{spec:?}");
        for seen in [false, true] {
            let graph = tagger(spec.clone(), seen)?.for_inference()?;
            let mut fast = session(&graph, &Cpu::new(), TIME)?;
            assert_eq!(takes_ids(&mut fast), !seen, "{what}");
            let want = outputs(&mut session(&graph, &Reference, TIME)?, TIME)?;
            let got = outputs(&mut fast, TIME)?;
            for (got, want) in got.iter().zip(&want) {
                assert!(relative_error(got, want) < 1e-5, "{what}, seen {seen}");
            }
            // Parameters that change are multiplied anew.
            fast.init_params(3)?;
            assert_eq!(outputs(&mut fast, TIME)?, got, "{what}");
        }
    }
    Ok(())
}

#[test]
fn a_table_much_larger_than_what_is_looked_up_is_left_alone() -> Result<(), AnyError> {
    let graph = tagger(lstm(8), false)?.for_inference()?;
    // 16 runs of 3·1 rows would have to pay for 48, of 3·5 rows for 240.
    assert!(takes_ids(&mut session(&graph, &Cpu::new(), 1)?));
    let large = Graph::build("large", |g| {
        g.input_ids("ids", shape!["batch", "time"]).embedding("e", 49, 6).recurrent("r", lstm(8))
    })?
    .for_inference()?;
    assert!(!takes_ids(&mut session(&large, &Cpu::new(), 1)?));
    assert!(takes_ids(&mut session(&large, &Cpu::new(), 2)?));
    assert!(!takes_ids(&mut session(&large, &Cpu::unfused(), 2)?));
    Ok(())
}

#[test]
fn an_id_that_is_no_row_is_refused_with_its_place() -> Result<(), AnyError> {
    let graph = tagger(gru(8), false)?.for_inference()?;
    let mut fast = session(&graph, &Cpu::new(), TIME)?;
    let mut ids = vec![0i64; BATCH * TIME];
    ids[7] = VOCABULARY as i64;
    let (ids, lengths) =
        (Tensor::from_vec(&[BATCH, TIME], ids)?, Tensor::from_vec(&[BATCH], vec![1i64; BATCH])?);
    let error = fast.run(&[("ids", &ids), ("lengths", &lengths)], Clock::default()).unwrap_err().to_string();
    assert!(error.contains("40") && error.contains('7'), "{error}");
    Ok(())
}
