//! A whole model on a backend against the reference: outputs, gradients, updated statistics.

use kessen_engine::{Backend, CompileOptions, Mode, Reference, Session};
use kessen_graph::{Bindings, Graph, ParamKind, gradients};
use kessen_tensor::Tensor;

use super::compare::{compare_above, tolerance};
use super::runner::{Array, CLOCK};
use super::{Fill, Operand};

type AnyError = Box<dyn std::error::Error>;

/// The wiring with the mean square of its output as loss, and the gradients of all weights and of x.
///
/// # Errors
/// Operators without a gradient.
pub fn with_gradients(model: &Graph) -> Result<Graph, kessen_graph::Error> {
    let model = model.clone().extend(|g, outputs| {
        let y = g.wire_of(outputs[0]);
        [("output", y.clone()), ("loss", y.square().mean(&[]))]
    })?;
    let mut graph = model.for_training()?;
    let loss = graph.outputs()[1].1;
    let weights = graph.params().iter().filter(|p| p.kind == ParamKind::Weight).map(|p| p.value);
    let wrt: Vec<_> = graph.inputs().iter().copied().chain(weights).collect();
    for (v, d) in wrt.iter().zip(gradients(&mut graph, loss, &wrt)?) {
        if let Some(d) = d {
            let name = format!("d.{}", graph.value(*v).name);
            graph.add_output(&name, d)?;
        }
    }
    graph.check()?;
    Ok(graph)
}

/// Outputs, then updated buffers, each with its name. Parameters and x are fixed numbers that follow from `name`, each
/// passed through `round`.
///
/// # Errors
/// The backend's.
pub fn run(
    name: &str,
    graph: &Graph,
    batch: usize,
    options: &CompileOptions,
    backend: &dyn Backend,
    round: fn(f32) -> f32,
) -> Result<Vec<(String, Array)>, AnyError> {
    let bindings = Bindings::from([("batch", batch)]);
    let mut session = Session::new(backend, graph, &bindings, options)?;
    let numbers = |name: &str, shape: &[usize], fill: Fill| -> Result<Tensor, AnyError> {
        let mut operand = Operand::named(name, shape);
        operand.fill = fill;
        let numbers: Vec<f32> = operand.fill_f32().into_iter().map(round).collect();
        Ok(Tensor::from_vec(shape, numbers)?)
    };
    let params: Vec<_> = graph.params().iter().map(|p| (p.path.clone(), p.shape.clone())).collect();
    for (path, shape) in params {
        let fan_in = shape.iter().skip(1).product::<usize>() as f64;
        let fill = match shape.len() {
            1 if path.ends_with("weight") || path.ends_with("var") => Fill::Positive,
            1 => Fill::Spread(0.5),
            _ => Fill::Spread((3.0 / fan_in).sqrt()),
        };
        session.write_param(&path, &numbers(&format!("{name}/{path}"), &shape, fill)?)?;
    }
    let input = graph.inputs()[0];
    let shape = graph.shapes(&bindings)?[input.index()].clone();
    let x = numbers(&format!("{name}/x"), &shape, Fill::Spread(1.0))?;
    let array = |t: &Tensor| Array { shape: t.shape().to_vec(), data: t.to_f64_vec() };
    let outputs = session.run(&[("x", &x)], CLOCK)?;
    let buffers = session.read_params(&[ParamKind::Buffer])?;
    Ok(outputs.iter().chain(&buffers).map(|(name, t)| (name.clone(), array(t))).collect())
}

/// Errors add up over the nodes in a row.
const SLACK: f64 = 4.0;

/// Compares a model without named dimensions but `batch` on `backend` with the reference, for inference and for training.
///
/// # Errors
/// What differs, and by how much.
pub fn agree(name: &str, model: &Graph, batch: usize, backend: &dyn Backend) -> Result<(), AnyError> {
    let bindings = Bindings::from([("batch", batch)]);
    let forward = model.for_inference()?;
    for (graph, mode) in [(forward, Mode::Inference), (with_gradients(model)?, Mode::Training)] {
        let options = CompileOptions { mode, ..CompileOptions::inference() };
        let expected = run(name, &graph, batch, &options, &Reference, |v| v)?;
        let found = run(name, &graph, batch, &options, backend, |v| v)?;
        let allowed = SLACK * tolerance(&graph, &bindings)?;
        // A gradient that nearly vanishes where others don't is a difference of large numbers.
        let gradients = expected.iter().filter(|(name, _)| name.starts_with("d.")).flat_map(|(_, a)| &a.data);
        let floor = gradients.fold(1e-3f64, |m, v| m.max(0.01 * v.abs()));
        for ((output, a), (_, b)) in found.iter().zip(&expected) {
            compare_above(floor, &format!("{mode:?} {output}"), a, b, allowed)?;
        }
    }
    Ok(())
}
