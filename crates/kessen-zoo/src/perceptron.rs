//! The lecture's perceptron: scalar in, one hidden layer, scalar out.
//!
//! y(x) = Σ_j w_j^(2)·f(w_j^(1)·x + b_j^(1)) + b^(2). Each hidden unit is a basis function f(w·x + b): w sets its
//! steepness and direction, b its place; learning changes the bases themselves.

use kessen_graph::ops::unary::{Unary, UnaryKind};
use kessen_graph::{Graph, shape};

use crate::{Architecture, Argument, Result, Values};

pub(crate) const ALL: &[Architecture] = &[Architecture {
    name: "perceptron",
    about: "1–H–1 perceptron for functions y(x): sigmoid hidden layer, identity output",
    arguments: &[
        Argument { name: "units", default: "16", about: "hidden units (basis functions)" },
        Argument { name: "activation", default: "sigmoid", about: "function of the hidden units" },
    ],
    build,
}];

fn build(values: &Values) -> Result<Graph> {
    let units = values.count("units")?;
    let activation: UnaryKind = values.get("activation")?;
    let net = Graph::build(values.name(), |g| {
        let x = g.input("x", shape!["batch", 1]);
        x.linear("hidden", units).apply(Unary::new(activation), &[]).linear("output", 1)
    });
    Ok(net?)
}
