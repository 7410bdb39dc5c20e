//! What a backend promises besides numbers: bad data is refused, bad losses change nothing, updates are simultaneous.

use std::sync::Arc;

use kessen_engine::{Backend, Clock, CompileOptions, Cpu, Data, Error, Mode, Outcome, Reference, Session};
use kessen_graph::{
    Bindings, CustomOperator, CustomTensor, Graph, Init, Misfit, ParamKind, Type, gradients, shape,
};
use kessen_tensor::Tensor;

type AnyError = Box<dyn std::error::Error>;

/// Calls `test` with every backend.
fn for_every_backend(test: impl Fn(&dyn Backend) -> Result<(), AnyError>) {
    for backend in [&Reference as &dyn Backend, &Cpu::new(), &Cpu::unfused()] {
        test(backend).unwrap_or_else(|e| panic!("{}: {e}", backend.name()));
    }
}

fn training() -> CompileOptions {
    CompileOptions { mode: Mode::Training, ..CompileOptions::inference() }
}

/// w ← w − loss gradient, for logits w·x and class labels.
fn classifier() -> Result<Graph, kessen_graph::Error> {
    let mut graph = Graph::build("classifier", |g| {
        let logits = g.input("x", shape!["batch", 2]).linear_with("fc", 3, Init::Constant(0.25), false);
        [("loss", logits.cross_entropy(&g.input_ids("target", shape!["batch"])))]
    })?;
    let loss = graph.outputs()[0].1;
    let w = graph.params()[0].value;
    let dw = gradients(&mut graph, loss, &[w])?[0]
        .ok_or(kessen_graph::Error::Inconsistent("no gradient".into()))?;
    let new = graph.add_node(
        "new",
        kessen_graph::ops::binary::Binary { kind: kessen_graph::ops::binary::BinaryKind::Sub },
        &[w, dw],
    )?[0];
    let param = graph.param_ids().next().ok_or(kessen_graph::Error::Inconsistent("no parameter".into()))?;
    graph.add_update(param, new)?;
    Ok(graph)
}

fn session(backend: &dyn Backend, graph: &Graph, options: &CompileOptions) -> Result<Session, AnyError> {
    let mut session = Session::new(backend, graph, &Bindings::from([("batch", 2)]), options)?;
    session.init_params(0)?;
    Ok(session)
}

fn weights(session: &Session) -> Vec<f64> {
    session.read_params(&[ParamKind::Weight]).unwrap().iter().flat_map(|(_, t)| t.to_f64_vec()).collect()
}

#[test]
fn a_label_out_of_range_is_refused_by_place_and_nothing_changes() {
    for_every_backend(|backend| {
        let mut session = session(backend, &classifier()?, &CompileOptions::training("loss"))?;
        session.write_input("x", &Tensor::from_vec(&[2, 2], vec![1.0f32, 2.0, 3.0, 4.0])?)?;
        for bad in [3, -1, i64::MAX] {
            session.write_input("target", &Tensor::from_vec(&[2], vec![0i64, bad])?)?;
            match session.step(Clock::default()) {
                Err(Error::Index { index, position: 1, limit: 3, .. }) if index == bad => {}
                other => panic!("{}: label {bad} gives {other:?}", backend.name()),
            }
            assert_eq!(weights(&session), [0.25; 6], "{}", backend.name());
        }
        session.write_input("target", &Tensor::from_vec(&[2], vec![0i64, 2])?)?;
        assert_eq!(session.step(Clock::default())?, Outcome::Done);
        assert_ne!(weights(&session), [0.25; 6], "{}", backend.name());
        Ok(())
    });
}

#[test]
fn a_token_out_of_range_is_refused() {
    for_every_backend(|backend| {
        let net = Graph::build("e", |g| g.input_ids("tokens", shape!["batch", 3]).embedding("table", 5, 4))?;
        let mut session = session(backend, &net, &CompileOptions::inference())?;
        session.write_input("tokens", &Tensor::from_vec(&[2, 3], vec![0i64, 1, 2, 3, 5, 4])?)?;
        match session.step(Clock::default()) {
            Err(Error::Index { path, index: 5, position: 4, limit: 5, .. }) if path == "table" => Ok(()),
            other => panic!("{}: {other:?}", backend.name()),
        }
    });
}

#[test]
fn a_loss_that_is_not_finite_changes_no_parameter_and_its_origin_is_named() {
    for_every_backend(|backend| {
        let mut graph = Graph::build("g", |g| {
            let x = g.input("x", shape!["batch", 2]).mul(&g.param("w", &[2], Init::Constant(0.5)));
            let log = x.apply_named(
                "bad_log",
                kessen_graph::ops::unary::Unary::new(kessen_graph::ops::unary::UnaryKind::Log),
                &[],
            );
            [("loss", log.mean(&[])), ("new", g.scalar(2.0).mul(&x.sum(&[0])))]
        })?;
        let new = graph.outputs()[1].1;
        let param = graph.param_ids().next().ok_or("no parameter")?;
        graph.add_update(param, new)?;
        let mut session = session(backend, &graph, &CompileOptions::training("loss"))?;
        let bad = [1.0f32, 2.0, -3.0, 4.0];
        session.write_input("x", &Tensor::from_slice(&[2, 2], &bad)?)?;
        assert_eq!(session.step(Clock::default())?, Outcome::NonFinite, "{}", backend.name());
        for given in [&[][..], &[(0, Data::F32(&bad))]] {
            assert_eq!(weights(&session), [0.5; 2], "{}", backend.name());
            let found = session.executable().first_non_finite(given, Clock::default())?;
            assert_eq!(found.as_deref(), Some("bad_log"), "{}", backend.name());
            assert_eq!(weights(&session), [0.5; 2], "{}", backend.name());
            // What follows finds the numbers in the run's own list only.
            session.write_input("x", &Tensor::from_vec(&[2, 2], vec![1.0f32; 4])?)?;
        }
        session.write_input("x", &Tensor::from_vec(&[2, 2], vec![1.0f32, 2.0, 3.0, 4.0])?)?;
        assert_eq!(session.executable().first_non_finite(&[], Clock::default())?, None, "{}", backend.name());
        assert_eq!(session.step(Clock::default())?, Outcome::Done, "{}", backend.name());
        assert_eq!(weights(&session), [4.0, 6.0], "{}", backend.name());
        Ok(())
    });
}

#[test]
fn a_guard_that_is_no_output_is_refused() {
    for_every_backend(|backend| {
        let net = Graph::build("g", |g| [("loss", g.input("x", shape!["batch"]).mean(&[]))])?;
        match Session::new(backend, &net, &Bindings::from([("batch", 2)]), &CompileOptions::training("los")) {
            Err(Error::Unknown { name, known, .. }) if name == "los" && known == "loss" => Ok(()),
            other => panic!("{}: {other:?}", backend.name()),
        }
    });
}

#[test]
fn updates_read_the_values_before_the_run() {
    for_every_backend(|backend| {
        let mut graph = Graph::build("swap", |g| {
            let (a, b) = (g.param("a", &[3], Init::Constant(1.0)), g.param("b", &[3], Init::Constant(2.0)));
            let zero = g.scalar(0.0);
            [("new_a", b.add(&zero)), ("new_b", a.scale(10.0)), ("sum", a.add(&b))]
        })?;
        let (new_a, new_b) = (graph.outputs()[0].1, graph.outputs()[1].1);
        let params: Vec<_> = graph.param_ids().collect();
        graph.add_update(params[0], new_a)?;
        graph.add_update(params[1], new_b)?;
        let mut session = session(backend, &graph, &training())?;
        for expected in [[2.0, 10.0], [10.0, 20.0], [20.0, 100.0]] {
            session.step(Clock::default())?;
            let found = weights(&session);
            assert_eq!([found[0], found[3]], expected, "{}", backend.name());
        }
        assert_eq!(session.output_tensor(2)?.to_f64_vec(), [30.0; 3], "{}", backend.name());
        Ok(())
    });
}

#[test]
fn data_that_does_not_fit_is_refused() {
    for_every_backend(|backend| {
        let mut session = session(backend, &classifier()?, &training())?;
        let refused = |result: Result<(), Error>| {
            assert!(matches!(result, Err(Error::Mismatch { .. })), "{}: {result:?}", backend.name());
        };
        refused(session.write_input("x", &Tensor::from_vec(&[1, 2], vec![1.0f32, 2.0])?));
        refused(session.write_param("fc.weight", &Tensor::from_vec(&[2, 3], vec![0.0f32; 6])?));
        refused(session.executable().write_input(0, Data::F32(&[1.0; 5])));
        refused(session.executable().write_input(0, Data::I64(&[1; 4])));
        refused(session.executable().write_input(1, Data::F32(&[1.0; 2])));
        for given in [(0, Data::F32(&[1.0; 5])), (1, Data::F32(&[1.0; 2]))] {
            refused(session.executable().run_on(&[given], Clock::default()).map(|_| ()));
        }
        let unknown = session.executable().run_on(&[(2, Data::F32(&[1.0]))], Clock::default());
        assert!(matches!(unknown, Err(Error::Unknown { .. })), "{unknown:?}");
        let unknown = session.write_param("fc.wieght", &Tensor::scalar(0.0f32));
        assert!(matches!(unknown, Err(Error::Unknown { .. })), "{unknown:?}");
        Ok(())
    });
}

#[test]
fn a_run_reads_what_it_is_given() {
    for_every_backend(|backend| {
        // `x` is an output itself, and `y` an output behind nothing but another shape.
        let net = Graph::build("g", |g| {
            let (x, y) = (g.input("x", shape!["batch", 2]), g.input("y", shape!["batch", 2, 1]));
            [("x", x.clone()), ("flat", y.flatten()), ("sum", x.add(&y.flatten()))]
        })?;
        let mut session = session(backend, &net, &CompileOptions::inference())?;
        let (y, single, double) = ([0.5f32; 4], [1.0f32, 2.0, 3.0, 4.0], [5.0f64, 6.0, 7.0, 8.0]);
        session.executable().write_input(1, Data::F32(&y))?;
        for (x, expected) in [(Data::F32(&single), [1.0, 2.0, 3.0, 4.0]), (Data::F64(&double), double)] {
            session.executable().run_on(&[(0, x)], Clock::default())?;
            assert_eq!(session.output_tensor(0)?.to_f64_vec(), expected, "{}", backend.name());
            assert_eq!(session.output_tensor(1)?.to_f64_vec(), [0.5; 4], "{}", backend.name());
            assert_eq!(
                session.output_tensor(2)?.to_f64_vec(),
                expected.map(|v| v + 0.5),
                "{}",
                backend.name()
            );
        }
        session.executable().run_on(&[(0, Data::F32(&single)), (1, Data::F32(&single))], Clock::default())?;
        assert_eq!(session.output_tensor(1)?.to_f64_vec(), [1.0, 2.0, 3.0, 4.0], "{}", backend.name());
        assert_eq!(session.output_tensor(2)?.to_f64_vec(), [2.0, 4.0, 6.0, 8.0], "{}", backend.name());
        Ok(())
    });
}

#[test]
fn limits_and_missing_sizes_are_refused_before_anything_runs() {
    for_every_backend(|backend| {
        let net = Graph::build("g", |g| g.input("x", shape!["batch", 1000]).tanh())?;
        let options = CompileOptions { memory_limit: Some(100), ..CompileOptions::inference() };
        match backend.compile(&net, &Bindings::from([("batch", 10)]), &options).err() {
            Some(Error::Memory { needed, limit: 100, .. }) => assert!(needed >= 4000),
            other => panic!("{}: {other:?}", backend.name()),
        }
        let unbound = backend.compile(&net, &Bindings::default(), &CompileOptions::inference()).err();
        let message = unbound.map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("`batch`"), "{}: {message}", backend.name());
        let small = Graph::build("g", |g| g.input("x", shape!["batch", "h"]).slice(1, 0, 5))?;
        let bindings = Bindings::from([("batch", 1), ("h", 3)]);
        let mut too_short = match backend.compile(&small, &bindings, &CompileOptions::inference()) {
            Ok(executable) => executable,
            Err(_) => return Ok(()),
        };
        assert!(too_short.run(Clock::default()).is_err(), "{}: reads beyond its operand", backend.name());
        Ok(())
    });
}

#[test]
fn an_empty_batch_gives_empty_results() {
    for_every_backend(|backend| {
        let net = Graph::build("g", |g| {
            let h = g.input("x", shape!["batch", 3, 8, 8]).conv("c", kessen_graph::ops::conv::conv(16, 3));
            h.batch_norm("bn").relu().max_pool(2).flatten().linear("fc", 5).softmax(1)
        })?;
        let bindings = Bindings::from([("batch", 0)]);
        let mut session = Session::new(backend, &net, &bindings, &CompileOptions::inference())?;
        session.init_params(1)?;
        assert_eq!(session.step(Clock::default())?, Outcome::Done);
        assert_eq!(session.output_tensor(0)?.shape(), [0, 5], "{}", backend.name());
        Ok(())
    });
}

/// y = a·b², as somebody else would write it.
#[derive(Debug)]
struct TimesSquare;

impl CustomOperator for TimesSquare {
    fn name(&self) -> &str {
        "times_square"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, Misfit> {
        match inputs {
            [a, b] if a == b => Ok((*a).clone()),
            _ => Err("expected two operands of the same shape".into()),
        }
    }

    fn forward(&self, inputs: &[CustomTensor<'_>], output: &mut [f32]) {
        for (i, y) in output.iter_mut().enumerate() {
            *y = inputs[0].data[i] * inputs[1].data[i].powi(2);
        }
    }

    fn backward(&self, inputs: &[CustomTensor<'_>], doutput: &[f32], dinputs: &mut [&mut [f32]]) {
        for (i, dy) in doutput.iter().enumerate() {
            let (a, b) = (inputs[0].data[i], inputs[1].data[i]);
            dinputs[0][i] = dy * b * b;
            dinputs[1][i] = dy * 2.0 * a * b;
        }
    }
}

#[test]
fn an_operator_from_outside_runs_forward_and_backward() {
    for_every_backend(|backend| {
        let mut graph = Graph::build("g", |g| {
            let (a, b) = (g.input("a", shape!["batch", 3]), g.input("b", shape!["batch", 3]));
            let y = g.custom("outside", Arc::new(TimesSquare), &[&a, &b.tanh()]);
            [("y", y.clone()), ("loss", y.sum(&[]))]
        })?;
        let (loss, inputs) = (graph.outputs()[1].1, graph.inputs().to_vec());
        for (k, d) in gradients(&mut graph, loss, &inputs)?.into_iter().enumerate() {
            graph.add_output(&format!("d{k}"), d.ok_or("no gradient")?)?;
        }
        let mut session = session(backend, &graph, &training())?;
        let a: Vec<f32> = vec![1.0, -2.0, 3.0, 0.5, 0.0, -1.0];
        let b: Vec<f32> = vec![0.1, 0.2, -0.3, 0.9, 2.0, -1.5];
        let outputs = session.run(
            &[("a", &Tensor::from_slice(&[2, 3], &a)?), ("b", &Tensor::from_slice(&[2, 3], &b)?)],
            Clock::default(),
        )?;
        let values: Vec<Vec<f64>> = outputs.iter().map(|(_, t)| t.to_f64_vec()).collect();
        for i in 0..6 {
            let (a, t) = (f64::from(a[i]), f64::from(b[i]).tanh());
            let expected = [a * t * t, t * t, 2.0 * a * t * (1.0 - t * t)];
            for (k, e) in [0, 2, 3].into_iter().zip(expected) {
                let found = values[k][i];
                assert!((found - e).abs() < 1e-6, "{} output {k}, element {i}: {found} {e}", backend.name());
            }
        }
        Ok(())
    });
}
