//! Ten steps of every optimiser against PyTorch's, from the same parameters and gradients.

mod cases;

use cases::{Case, Operand, golden};
use kessen_engine::{Backend, Clock, CompileOptions, Cpu, Mode, Reference, Session};
use kessen_graph::{Bindings, Graph, Init, ParamKind, Type};
use kessen_tensor::Tensor;

/// The parameter and its state as parameters of a graph that updates them.
fn step_graph(case: &Case) -> Result<Graph, kessen_graph::Error> {
    let mut graph = Graph::new(&case.name);
    let operands = case.operands();
    let shape = &operands[0].shape;
    let param = graph.add_param("param", shape, Init::Constant(0.0), ParamKind::Weight)?;
    let grad = graph.add_input("grad", operands[1].ty())?;
    let lr = graph.add_scalar(0.05)?;
    let grad_scale = graph.add_scalar(0.5)?;
    let t = graph.add_input("t", Type::f32(Vec::new()))?;
    let mut inputs = vec![param, grad, lr, grad_scale, t];
    for k in 5..operands.len() {
        inputs.push(graph.add_param(&format!("state{k}"), shape, Init::Constant(0.0), ParamKind::State)?);
    }
    let new = graph.add_node("step", case.operator(), &inputs)?;
    let params: Vec<_> = graph.param_ids().collect();
    for (param, value) in params.into_iter().zip(new) {
        graph.add_update(param, value)?;
    }
    graph.check()?;
    Ok(graph)
}

/// The parameter after each of ten steps.
fn path(case: &Case, backend: &dyn Backend) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
    let graph = step_graph(case)?;
    let options = CompileOptions { mode: Mode::Training, ..CompileOptions::inference() };
    let mut session = Session::new(backend, &graph, &Bindings::default(), &options)?;
    let operand = &case.operands()[0];
    let shape = operand.shape.clone();
    let tensor = |numbers: Vec<f64>| Tensor::from_vec(&shape, numbers)?.cast(kessen_tensor::DType::F32);
    session.write_param("param", &tensor(operand.fill())?)?;
    let mut path = Vec::new();
    for t in 1..=10u32 {
        let gradient = Operand::named(&format!("{}/gradient{t}", case.name), &shape).fill();
        session.run(&[("grad", &tensor(gradient)?), ("t", &Tensor::scalar(t as f32))], Clock::default())?;
        path.extend(session.read_params(&[ParamKind::Weight])?[0].1.to_f64_vec());
    }
    Ok(path)
}

fn follow_pytorch(backend: &dyn Backend, tolerance: f64) {
    let stored = golden::read("optimizer");
    let cases: Vec<Case> = cases::all().into_iter().filter(|c| c.family == "optimizer" && !c.large).collect();
    assert!(cases.len() >= 14);
    for case in &cases {
        let found = path(case, backend).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let expected = &stored[&format!("{}/path", case.name)].data;
        assert_eq!(found.len(), expected.len());
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            let step = 1 + i / (found.len() / 10);
            assert!((a - b).abs() <= tolerance, "{} on {}, step {step}: {a} {b}", case.name, backend.name());
        }
    }
}

#[test]
fn the_reference_follows_pytorch() {
    follow_pytorch(&Reference, 1e-6);
}

#[test]
fn cpu_follows_pytorch() {
    follow_pytorch(&Cpu::new(), 1e-5);
}

#[test]
fn cpu_without_fusion_follows_pytorch() {
    follow_pytorch(&Cpu::unfused(), 1e-5);
}
