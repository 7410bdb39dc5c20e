//! Fifty training steps against PyTorch's, from the same weights and data order. The step is assembled here by hand
//! from graph operators, so that nothing of the training crate is needed to see that the gradients are right.

mod cases;

use std::collections::BTreeMap;

use cases::golden::{self, Stored};
use kessen_engine::{Backend, Clock, CompileOptions, Cpu, Mode, Outcome, Reference, Session};
use kessen_graph::ops::conv::conv;
use kessen_graph::ops::optimizer::{AdamStep, SgdStep};
use kessen_graph::{Bindings, Graph, GraphBuilder, Init, Op, ParamKind, Type, Wire, gradients, shape};
use kessen_tensor::{DType, Tensor};

type AnyError = Box<dyn std::error::Error>;

/// Images of 8×8 to ten classes, the loss its output.
fn cnn(g: &GraphBuilder) -> Wire {
    let h = g.input("x", shape!["batch", 1, 8, 8]);
    let h = h.conv("conv1", conv(8, 3).padding(1).no_bias()).batch_norm("bn1").relu().max_pool(2);
    let h = h.conv("conv2", conv(16, 3).padding(1)).batch_norm("bn2").relu().avg_pool(2);
    let logits = h.flatten().linear("fc", 10);
    logits.cross_entropy(&g.input_ids("target", shape!["batch"]))
}

/// A perceptron with one hidden layer of sigmoid units, the mean squared error its output.
fn mlp(g: &GraphBuilder, [inputs, hidden, outputs]: [usize; 3]) -> Wire {
    let x = g.input("x", shape!["batch", inputs]);
    let y = x.linear("hidden", hidden).sigmoid().linear("out", outputs);
    y.mse_loss(&g.input("target", shape!["batch", outputs]))
}

/// The model with gradients and updates: inputs `x`, `target`, `t`; output `loss`.
fn training_step(model: &Graph, op: &Op, states: &[&str], lr: f32) -> Result<Graph, kessen_graph::Error> {
    let mut graph = model.for_training()?;
    let loss = graph.outputs()[0].1;
    let weights: Vec<_> = graph.param_ids().filter(|&p| graph.param(p).kind == ParamKind::Weight).collect();
    let values: Vec<_> = weights.iter().map(|&p| graph.param(p).value).collect();
    let found = gradients(&mut graph, loss, &values)?;
    let (lr, one) = (graph.add_scalar(lr)?, graph.add_scalar(1.0)?);
    let t = graph.add_input("t", Type::f32(Vec::new()))?;
    for (param, gradient) in weights.into_iter().zip(found) {
        let (path, shape) = (graph.param(param).path.clone(), graph.param(param).shape.clone());
        let gradient = gradient.expect("every weight takes part");
        let mut operands = vec![graph.param(param).value, gradient, lr, one, t];
        for state in states {
            let path = format!("{path}.{state}");
            operands.push(graph.add_param(&path, &shape, Init::Constant(0.0), ParamKind::State)?);
        }
        let updated = [param].into_iter().chain(graph.param_ids().skip(graph.params().len() - states.len()));
        let updated: Vec<_> = updated.collect();
        let new = graph.add_node(&format!("{path}.step"), op.clone(), &operands)?;
        for (param, value) in updated.into_iter().zip(new) {
            graph.add_update(param, value)?;
        }
    }
    graph.clear_outputs();
    graph.add_output("loss", loss)?;
    graph.check()?;
    Ok(graph)
}

/// The rows of `table` (`[n, …]`) that `rows` names.
fn batch(table: &Stored, rows: &[f64], width: usize) -> Vec<f64> {
    rows.iter().flat_map(|&r| &table.data[r as usize * width..][..width]).copied().collect()
}

/// One run: its name in the golden file, its step, its data.
struct Run<'a> {
    name: &'a str,
    step: Graph,
    x: &'a Stored,
    target: &'a Stored,
    x_shape: &'a [usize],
    target_shape: &'a [usize],
}

impl Run<'_> {
    /// The loss of each step, and the session after the last.
    fn losses(
        &self,
        backend: &dyn Backend,
        golden: &BTreeMap<String, Stored>,
    ) -> Result<(Vec<f64>, Session), AnyError> {
        let order = &golden[&format!("{}/order", self.name)];
        let [steps, batch_size] = [order.shape[0], order.shape[1]];
        let bindings = Bindings::from([("batch", batch_size)]);
        let options = CompileOptions { mode: Mode::Training, ..CompileOptions::training("loss") };
        let mut session = Session::new(backend, &self.step, &bindings, &options)?;
        session.init_params(0)?;
        let prefix = format!("{}/initial/", self.name);
        for (name, stored) in golden.range(prefix.clone()..) {
            let Some(path) = name.strip_prefix(&prefix) else { break };
            let value = Tensor::from_vec(&stored.shape, stored.data.clone())?.cast(DType::F32)?;
            session.write_param(path, &value)?;
        }
        let mut losses = Vec::new();
        for t in 0..steps {
            let rows = &order.data[t * batch_size..][..batch_size];
            let write = |table: &Stored, shape: &[usize], dtype| {
                let width = shape.iter().product();
                let shape: Vec<usize> = std::iter::once(batch_size).chain(shape.iter().copied()).collect();
                Tensor::from_vec(&shape, batch(table, rows, width))?.cast(dtype)
            };
            let labels = if self.target_shape.is_empty() { DType::I64 } else { DType::F32 };
            session.write_input("x", &write(self.x, self.x_shape, DType::F32)?)?;
            session.write_input("target", &write(self.target, self.target_shape, labels)?)?;
            session.write_input("t", &Tensor::scalar((t + 1) as f32))?;
            assert_eq!(session.step(Clock { seed: 0, step: t as u64 })?, Outcome::Done);
            losses.push(session.output_tensor(0)?.to_f64_vec()[0]);
        }
        Ok((losses, session))
    }
}

fn follow_pytorch(backend: &dyn Backend) {
    let golden = golden::read("training");
    let pixels = &golden["digits/pixels"];
    let images = Stored { shape: pixels.shape.clone(), data: pixels.data.iter().map(|p| p / 16.0).collect() };
    let classes = &golden["digits/classes"];
    let one_hot = |&c: &f64| (0..10).map(move |k| f64::from(u8::from(c == f64::from(k))));
    let targets =
        Stored { shape: vec![classes.data.len(), 10], data: classes.data.iter().flat_map(one_hot).collect() };

    let sgd = Op::SgdStep(SgdStep { momentum: 0.9, weight_decay: 1e-4, ..SgdStep::default() });
    let adam = Op::AdamStep(AdamStep::default());
    let step = |model: Result<Graph, _>, op, states: &[&str], lr| {
        training_step(&model.unwrap(), op, states, lr).unwrap()
    };
    let runs = [
        Run {
            name: "cnn",
            step: step(Graph::build("cnn", cnn), &sgd, &["velocity"], 1.0 / 16.0),
            x: &images,
            target: classes,
            x_shape: &[1, 8, 8],
            target_shape: &[],
        },
        Run {
            name: "mlp",
            step: step(Graph::build("mlp", |g| mlp(g, [64, 32, 10])), &adam, &["m", "v"], 1.0 / 64.0),
            x: &images,
            target: &targets,
            x_shape: &[64],
            target_shape: &[10],
        },
        Run {
            name: "sine",
            step: step(Graph::build("sine", |g| mlp(g, [1, 16, 1])), &adam, &["m", "v"], 1.0 / 64.0),
            x: &golden["sine/x"],
            target: &golden["sine/y"],
            x_shape: &[1],
            target_shape: &[1],
        },
    ];
    for run in runs {
        let (found, session) = run.losses(backend, &golden).unwrap_or_else(|e| panic!("{}: {e}", run.name));
        let expected = &golden[&format!("{}/losses", run.name)].data;
        assert_eq!(found.len(), expected.len());
        for (t, (a, b)) in found.iter().zip(expected).enumerate() {
            let error = (a - b).abs() / b;
            assert!(error <= 1e-4, "{} on {}, step {t}: loss {a}, PyTorch's {b}", run.name, backend.name());
        }
        for (path, statistic) in session.read_params(&[ParamKind::Buffer]).unwrap() {
            let expected = &golden[&format!("{}/final/{path}", run.name)].data;
            let error = cases::compare::relative_error(&statistic.to_f64_vec(), expected);
            assert!(error <= 1e-3, "{path} on {} is off by {error:.1e}", backend.name());
        }
    }
}

#[test]
fn the_reference_follows_pytorchs_losses() {
    follow_pytorch(&Reference);
}

#[test]
fn cpu_follows_pytorchs_losses() {
    follow_pytorch(&Cpu::new());
}

#[test]
fn cpu_without_fusion_follows_pytorchs_losses() {
    follow_pytorch(&Cpu::unfused());
}
