//! Graphs as a user builds them, and their gradients.

use kessen_graph::ops::conv::conv;
use kessen_graph::{Bindings, Error, Graph, ParamKind, gradients, shape};

fn lenet() -> Result<Graph, Error> {
    Graph::build("lenet", |g| {
        let image = g.input("image", shape!["batch", 1, 28, 28]);
        let h = image.conv("c1", conv(6, 5).padding(2)).relu();
        let h = h.conv("c2", conv(16, 5).stride(2)).relu().flatten();
        h.linear("f3", 120).relu().linear("f4", 10)
    })
}

#[test]
fn shapes_follow_the_named_batch() {
    let net = lenet().unwrap();
    net.check().unwrap();
    assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×10");
    let shapes = net.shapes(&Bindings::from([("batch", 7)])).unwrap();
    assert_eq!(shapes[net.find("c2").unwrap().index()], [7, 16, 12, 12]);
    assert_eq!(net.dim_names(), ["batch"]);
}

#[test]
fn the_gradient_is_part_of_the_graph_and_has_the_parameters_types() {
    let mut net = lenet().unwrap();
    let net = {
        let logits = net.outputs()[0].1;
        net.clear_outputs();
        net.extend(|g, _| g.wire_of(logits).square().mean(&[])).unwrap()
    };
    let mut step = net.clone();
    let loss = step.outputs()[0].1;
    let weights: Vec<_> =
        step.params().iter().filter(|p| p.kind == ParamKind::Weight).map(|p| p.value).collect();
    let found = gradients(&mut step, loss, &weights).unwrap();
    step.check().unwrap();
    for (w, d) in weights.iter().zip(found) {
        assert_eq!(step.ty(*w), step.ty(d.unwrap()), "{}", step.value(*w).name);
    }
}

#[test]
fn a_kernel_larger_than_its_input_is_refused_with_the_formulas_values() {
    let error =
        Graph::build("bad", |g| g.input("x", shape!["batch", 3, 4, 4]).conv("c", conv(8, 7).padding(1)));
    let message = error.unwrap_err().to_string();
    for part in ["`c`", "spans 7", "input 4 + padding 2 = 6", "batch×3×4×4"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_first_error_is_the_one_reported() {
    let result = Graph::build("bad", |g| {
        let x = g.input("x", shape!["batch", 3]);
        x.linear("a", 4).add(&x).relu().linear("a", 2)
    });
    assert!(matches!(result, Err(Error::Misfit { path, .. }) if path == "add"));
}
