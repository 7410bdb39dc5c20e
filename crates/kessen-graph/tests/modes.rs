//! Wirings for training and for use, and the rewriting they rest on.

use kessen_graph::ops::batch_norm::BatchNorm;
use kessen_graph::ops::conv::conv;
use kessen_graph::ops::unary::{Unary, UnaryKind};
use kessen_graph::{Bindings, Error, Graph, Init, Op, ParamKind, Rewrite, Wire, gradients, shape};

fn net() -> Graph {
    Graph::build("net", |g| {
        let x = g.input("image", shape!["batch", 3, "h", "w"]);
        let h = x.conv("conv1", conv(8, 3).padding(1).no_bias()).batch_norm("bn1").relu().dropout(0.2);
        let h = h.conv("conv2", conv(8, 3).padding(1).no_bias()).batch_norm("bn2").add(&h).dropout(0.2);
        h.relu().global_avg_pool().flatten().linear("fc", 10)
    })
    .unwrap()
}

fn words(graph: &Graph) -> Vec<&'static str> {
    graph.nodes().iter().map(|n| n.op.operator().name()).collect()
}

/// All that is said of the parameters; only their values' numbers may differ between wirings.
fn params(graph: &Graph) -> Vec<(&str, &[usize], Init, ParamKind)> {
    graph.params().iter().map(|p| (p.path.as_str(), p.shape.as_slice(), p.init, p.kind)).collect()
}

#[test]
fn training_updates_running_statistics_and_drops() {
    let (model, training) = (net(), net().for_training().unwrap());
    assert_eq!(params(&training), params(&model));
    let paths = |g: &Graph| g.nodes().iter().map(|n| n.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&training), paths(&model));
    let updated: Vec<_> = training.updates().iter().map(|(p, _)| training.param(*p).path.as_str()).collect();
    assert_eq!(updated, ["bn1.running_mean", "bn1.running_var", "bn2.running_mean", "bn2.running_var"]);
    for ((param, value), k) in training.updates().iter().zip([3, 4, 3, 4]) {
        assert_eq!(training.param(*param).kind, ParamKind::Buffer);
        let (node, output) = training.producer(*value).unwrap();
        assert_eq!((training.node(node).op.operator().name(), output), ("batch_norm_train", k));
    }
    let keys: Vec<u64> = training
        .nodes()
        .iter()
        .filter_map(|n| match &n.op {
            Op::Dropout(d) => d.training.then_some(d.key),
            _ => None,
        })
        .collect();
    assert!(keys.len() == 2 && keys[0] != keys[1] && !keys.contains(&0), "{keys:?}");
    assert_eq!(training.for_training().unwrap(), training);
}

#[test]
fn training_can_be_differentiated() {
    let mut step = net().for_training().unwrap();
    let logits = step.outputs()[0].1;
    step =
        step.extend(|g, _| g.wire_of(logits).cross_entropy(&g.input_ids("target", shape!["batch"]))).unwrap();
    let loss = step.outputs()[0].1;
    let weights: Vec<_> =
        step.params().iter().filter(|p| p.kind == ParamKind::Weight).map(|p| p.value).collect();
    assert!(gradients(&mut step, loss, &weights).unwrap().iter().all(Option::is_some));
    step.check().unwrap();
    assert_eq!(words(&step).iter().filter(|w| **w == "dropout").count(), 4);
}

#[test]
fn inference_undoes_training() {
    let inference = net().for_training().unwrap().for_inference().unwrap();
    assert_eq!(inference, net().for_inference().unwrap());
    assert!(!words(&inference).contains(&"dropout") && !words(&inference).contains(&"batch_norm_train"));
    assert_eq!(params(&inference), params(&net()));
    assert!(inference.updates().is_empty());
    // A wiring without dropout stays as it is.
    assert_eq!(inference.for_inference().unwrap(), inference);
}

#[test]
fn a_normalisation_used_twice_updates_its_statistics_in_order() {
    let net = Graph::build("shared", |g| {
        let x = g.input("x", shape!["batch", 4]);
        let [w, b] = ["w", "b"].map(|n| g.param(n, &[4], Init::Constant(1.0)));
        let [m, v] = ["mean", "var"].map(|n| g.buffer(n, &[4], Init::Constant(1.0)));
        let bn = |x: &Wire| x.apply(BatchNorm::default(), &[&w, &b, &m, &v]);
        bn(&bn(&x).relu())
    });
    let training = net.unwrap().for_training().unwrap();
    let [first, second] = [0, 2].map(|i| &training.nodes()[i]);
    assert_eq!(second.inputs[3..], first.outputs[3..]);
    let updates: Vec<_> = training.updates().iter().map(|(_, v)| *v).collect();
    assert_eq!(updates, second.outputs[3..]);
}

#[test]
fn statistics_over_one_value_are_refused_once_the_batch_is_known() {
    let training = Graph::build("n", |g| g.input("x", shape!["batch", 4]).batch_norm("bn1")).unwrap();
    let training = training.for_training().unwrap();
    assert!(training.bind(&Bindings::from([("batch", 2)])).is_ok());
    let message = training.bind(&Bindings::from([("batch", 1)])).unwrap_err().to_string();
    for part in ["`bn1`", "more than one value per channel", "1×4"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused_with_the_path() {
    let net =
        Graph::build("n", |g| g.input("x", shape!["batch", 3, "h", "h"]).conv("c1", conv(4, 5))).unwrap();
    let message = net.bind(&Bindings::from([("batch", 1), ("h", 4)])).unwrap_err().to_string();
    assert!(message.contains("`c1`") && message.contains("spans 5"), "{message}");
    assert!(
        matches!(net.bind(&Bindings::from([("batch", 1)])), Err(Error::Unbound { name, .. }) if name == "h")
    );
}

#[test]
fn rewriting_keeps_what_it_is_not_told_to_change() {
    let step = net().for_training().unwrap();
    assert_eq!(step.rewrite(|_, _| Ok(Rewrite::Keep)).unwrap(), step);
    assert_eq!(step.prune().unwrap(), step);
}

#[test]
fn a_rule_may_insert_nodes_and_may_not_lose_values() {
    let net = Graph::build("n", |g| g.input("x", shape!["batch", 4]).relu().scale(2.0)).unwrap();
    let longer = net
        .rewrite(|r, node| match node.op {
            Op::Unary(_) => {
                let operands = r.operands(node)?;
                let path = r.fresh_name("relu");
                let first = r.node(&path, Unary::new(UnaryKind::Tanh), &operands)?;
                assert_ne!(r.fresh_name("constant"), "constant", "a later name of the old graph is taken");
                Ok(Rewrite::Replace(r.node(&node.path, node.op.clone(), &first)?))
            }
            _ => Ok(Rewrite::Keep),
        })
        .unwrap();
    assert_eq!(longer.nodes().iter().map(|n| n.path.as_str()).collect::<Vec<_>>(), ["relu_1", "relu", "mul"]);
    let lost = net.rewrite(|_, node| match node.op {
        Op::Unary(_) => Ok(Rewrite::Replace(Vec::new())),
        _ => Ok(Rewrite::Keep),
    });
    assert!(matches!(lost, Err(Error::Inconsistent(m)) if m.contains("`relu`")));
}

#[test]
fn pruning_removes_what_nothing_needs_and_keeps_inputs_and_updates() {
    let mut graph = Graph::build("n", |g| {
        let (x, y) = (g.input("x", shape!["batch", 4]), g.input("y", shape!["batch", 4]));
        let _unused = y.linear("unused", 3).scale(2.0);
        x.batch_norm("bn").linear("fc", 2)
    })
    .unwrap()
    .for_training()
    .unwrap();
    graph.clear_outputs();
    let pruned = graph.prune().unwrap();
    assert_eq!(words(&pruned), ["batch_norm_train"]);
    assert_eq!(pruned.inputs().len(), 2);
    assert_eq!(pruned.updates().len(), 2);
    assert_eq!(pruned.params().len(), 4);
}
