//! Training steps out of networks.

use kessen_graph::ops::global_norm::GlobalNorm;
use kessen_graph::{Graph, Init, Op, ParamKind, gradients};

type AnyError = Box<dyn std::error::Error>;

/// The training step of a network whose first output is its loss, with an optimiser's step and its states; `watch` makes the
/// length of the gradient an output, so that gradients are stored.
pub fn training(
    network: Graph,
    (op, states): (Op, &[&str]),
    lr: f32,
    watch: bool,
) -> Result<Graph, AnyError> {
    let mut graph = network.for_training()?;
    let loss = graph.outputs()[0].1;
    let weights: Vec<_> = graph.param_ids().filter(|&p| graph.param(p).kind == ParamKind::Weight).collect();
    let values: Vec<_> = weights.iter().map(|&p| graph.param(p).value).collect();
    let found: Option<Vec<_>> = gradients(&mut graph, loss, &values)?.into_iter().collect();
    let found = found.ok_or("a weight takes no part")?;
    if watch {
        let norm = graph.add_node("norm", GlobalNorm {}, &found)?[0];
        graph.add_output("norm", norm)?;
    }
    let (lr, one) = (graph.add_scalar(lr)?, graph.add_scalar(1.0)?);
    for (param, gradient) in weights.into_iter().zip(found) {
        let (path, shape) = (graph.param(param).path.clone(), graph.param(param).shape.clone());
        let mut operands = vec![graph.param(param).value, gradient, lr, one, one];
        let mut updated = vec![param];
        for state in states {
            let state = format!("{path}.{state}");
            operands.push(graph.add_param(&state, &shape, Init::Constant(0.0), ParamKind::State)?);
            updated.extend(graph.param_ids().last());
        }
        let new = graph.add_node(&format!("{path}.step"), op.clone(), &operands)?;
        for (param, value) in updated.into_iter().zip(new) {
            graph.add_update(param, value)?;
        }
    }
    graph.check()?;
    Ok(graph)
}
