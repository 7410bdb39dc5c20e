//! The zoo's classifiers against torchvision's: logits, and for some the loss and the gradient's length in training.
//!
//! Weights follow from each parameter's path by a formula that `golden/zoo.py` computes too, so a path, shape or order
//! that differs from torchvision's changes the numbers.

mod cases;

use cases::golden::{self, Stored};
use cases::{Fill, Operand, compare::relative_error};
use kessen_engine::{Backend, Clock, CompileOptions, Cpu, Mode, Reference, Session};
use kessen_graph::ops::global_norm::GlobalNorm;
use kessen_graph::{Bindings, Graph, ParamKind, gradients, shape};
use kessen_tensor::{DType, Tensor};

type AnyError = Box<dyn std::error::Error>;

/// How `golden/zoo.py` fills a parameter.
fn rule(path: &str, shape: &[usize]) -> Fill {
    match shape {
        [_] if path.ends_with("running_var") || path.ends_with("weight") => Fill::Positive,
        [_] => Fill::Spread(0.1),
        _ => Fill::Spread((6.0 / shape[1..].iter().product::<usize>() as f64).sqrt()),
    }
}

fn set_weights(session: &mut Session, network: &str) -> Result<(), AnyError> {
    let params: Vec<_> = session.graph().params().iter().map(|p| (p.path.clone(), p.shape.clone())).collect();
    for (path, shape) in params {
        let mut operand = Operand::named(&format!("{network}/{path}"), &shape);
        operand.fill = rule(&path, &shape);
        session.write_param(&path, &Tensor::from_vec(&shape, operand.fill_f32())?)?;
    }
    Ok(())
}

fn image(network: &str, batch: usize, [height, width]: [usize; 2]) -> Result<Tensor, AnyError> {
    let shape = [batch, 3, height, width];
    let operand = Operand::named(&format!("{network}/image{batch}"), &shape);
    Ok(Tensor::from_vec(&shape, operand.fill_f32())?)
}

/// The model without dropout.
fn model(network: &str, [height, width]: [usize; 2]) -> Result<Graph, AnyError> {
    let dropout = if network.starts_with("resnet") { "" } else { ", dropout=0" };
    Ok(kessen_zoo::from_text(&format!("{network}(classes=10, size={height}x{width}{dropout})"))?)
}

fn logits(network: &str, size: [usize; 2], backend: &dyn Backend) -> Result<Vec<f64>, AnyError> {
    let graph = model(network, size)?.for_inference()?;
    let bindings = Bindings::from([("batch", 2)]);
    let mut session = Session::new(backend, &graph, &bindings, &CompileOptions::inference())?;
    set_weights(&mut session, network)?;
    let outputs = session.run(&[("image", &image(network, 2, size)?)], Clock::default())?;
    Ok(outputs[0].1.to_f64_vec())
}

/// Loss and length of the gradient of all weights, of one training batch of four.
fn training(network: &str, size: [usize; 2], backend: &dyn Backend) -> Result<[f64; 2], AnyError> {
    let model = model(network, size)?.extend(|g, outputs| {
        let loss = g.wire_of(outputs[0]).cross_entropy(&g.input_ids("target", shape!["batch"]));
        [("loss", loss)]
    })?;
    let mut graph = model.for_training()?;
    let loss = graph.outputs()[0].1;
    let weights: Vec<_> =
        graph.params().iter().filter(|p| p.kind == ParamKind::Weight).map(|p| p.value).collect();
    let found = gradients(&mut graph, loss, &weights)?;
    let found: Option<Vec<_>> = found.into_iter().collect();
    let norm = graph.add_node("norm", GlobalNorm {}, &found.ok_or("a weight takes no part")?)?[0];
    graph.add_output("norm", norm)?;
    let options = CompileOptions { mode: Mode::Training, ..CompileOptions::inference() };
    let mut session = Session::new(backend, &graph, &Bindings::from([("batch", 4)]), &options)?;
    set_weights(&mut session, network)?;
    let mut target = Operand::named(&format!("{network}/target"), &[4]);
    target.fill = Fill::Ids(10);
    let target = Tensor::from_vec(&[4], target.ids())?.cast(DType::I64)?;
    let image = image(network, 4, size)?;
    let outputs = session.run(&[("image", &image), ("target", &target)], Clock::default())?;
    Ok([outputs[0].1.to_f64_vec()[0], outputs[1].1.to_f64_vec()[0]])
}

/// Networks with their image sizes, as in `golden/zoo.py`.
const NETWORKS: [(&str, [usize; 2]); 7] = [
    ("alexnet", [64, 72]),
    ("vgg11", [32, 32]),
    ("googlenet", [64, 48]),
    ("resnet18", [40, 56]),
    ("resnet34", [32, 32]),
    ("resnet50", [32, 40]),
    ("mobilenet_v2", [48, 40]),
];

fn stored(name: String) -> Stored {
    golden::read("zoo").remove(&name).unwrap_or_else(|| panic!("no stored `{name}`"))
}

fn assert_logits(network: &str, size: [usize; 2], backend: &dyn Backend) {
    let found = logits(network, size, backend).unwrap_or_else(|e| panic!("{network}: {e}"));
    let error = relative_error(&found, &stored(format!("{network}/logits")).data);
    assert!(error <= 1e-4, "{network} on {}: logits are off by {error:.1e}", backend.name());
}

#[test]
fn logits_are_torchvisions_on_cpu() {
    for (network, size) in NETWORKS {
        assert_logits(network, size, &Cpu::new());
    }
}

#[test]
fn logits_are_torchvisions_on_the_reference() {
    assert_logits("mobilenet_v2", [48, 40], &Reference);
}

#[test]
fn losses_and_gradients_in_training_are_torchvisions() {
    for (network, size) in [NETWORKS[2], NETWORKS[3], NETWORKS[5], NETWORKS[6]] {
        let found = training(network, size, &Cpu::new()).unwrap_or_else(|e| panic!("{network}: {e}"));
        for (value, what) in found.into_iter().zip(["loss", "gradient_norm"]) {
            let expected = stored(format!("{network}/{what}")).data[0];
            let error = (value - expected).abs() / expected;
            assert!(error <= 1e-3, "{network}: {what} is {value}, torchvision's {expected}");
        }
    }
}
