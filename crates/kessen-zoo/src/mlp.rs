//! Multi-layer perceptron.

use kessen_graph::ops::unary::{Unary, UnaryKind};
use kessen_graph::{Graph, shape};

use crate::{Architecture, Argument, Result, Values};

pub(crate) const ALL: &[Architecture] = &[Architecture {
    name: "mlp",
    about: "multi-layer perceptron: fully connected layers with an activation between them",
    arguments: &[
        Argument {
            name: "inputs",
            default: "784",
            about: "number of features; further dimensions are flattened",
        },
        Argument { name: "hidden", default: "[512,512]", about: "units of the hidden layers" },
        Argument { name: "outputs", default: "10", about: "classes, or values to predict" },
        Argument { name: "activation", default: "relu", about: "function of the hidden units" },
        Argument { name: "dropout", default: "0", about: "share of hidden units left out in training" },
    ],
    build,
}];

fn build(values: &Values) -> Result<Graph> {
    let (inputs, outputs) = (values.count("inputs")?, values.count("outputs")?);
    let hidden: Vec<usize> = values.get("hidden")?;
    if hidden.contains(&0) {
        return Err(values.wrong("hidden", "units ≥ 1 in brackets, as [64,64]"));
    }
    let (activation, dropout): (UnaryKind, f64) = (values.get("activation")?, values.rate("dropout")?);
    let net = Graph::build(values.name(), |g| {
        let mut h = g.input("x", shape!["batch", inputs]);
        for (i, units) in hidden.iter().enumerate() {
            h = h.linear(&format!("hidden{}", i + 1), *units).apply(Unary::new(activation), &[]);
            if dropout > 0.0 {
                h = h.dropout(dropout);
            }
        }
        h.linear("output", outputs)
    });
    Ok(net?)
}
