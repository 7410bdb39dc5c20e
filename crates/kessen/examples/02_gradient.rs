//! Lesson 2: the gradient is a transformation of the graph.
//!
//! Back-propagation adds nodes to the wiring. What comes out is a graph like any other: it can be read, planned and
//! run. Here every element of the gradient is held against a difference quotient.
//!
//! `cargo run -p kessen --example 02_gradient`

use kessen::graph::gradients;
use kessen::prelude::*;

fn main() -> Result<()> {
    let net = Graph::build("loss", |g| {
        let x = g.input("x", shape!["batch", 2]);
        let target = g.input("target", shape!["batch", 1]);
        let y = x.linear("hidden", 3).sigmoid().linear("out", 1);
        [("loss", y.mse_loss(&target))]
    })?;

    // Ask for ∂loss/∂w of the hidden layer's weight.
    let mut with_gradient = net.clone();
    let loss = net.outputs()[0].1;
    let weight = net.find("hidden.weight")?;
    let found = gradients(&mut with_gradient, loss, &[weight])?;
    let Some(dweight) = found[0] else { return Ok(()) };
    with_gradient.add_output("dweight", dweight)?;
    println!(
        "forward alone: {} nodes; with the gradient: {}\n",
        net.nodes().len(),
        with_gradient.nodes().len()
    );
    println!("{with_gradient}");

    let x = Tensor::from_vec(&[4, 2], vec![0.5f32, -1.0, 0.2, 0.9, -0.7, 0.4, 1.5, 0.1])?;
    let target = Tensor::from_vec(&[4, 1], vec![1.0f32, 0.0, -1.0, 0.5])?;
    let bindings = Bindings::default().with("batch", 4);
    let options = CompileOptions::inference();
    let mut session = Session::new(&Reference, &with_gradient, &bindings, &options)?;
    session.init_params(1)?;
    let outputs = session.run(&[("x", &x), ("target", &target)], Clock::default())?;
    let gradient = outputs[1].1.to_f64_vec();

    // ∂L/∂w ≈ (L(w + h) − L(w − h)) / 2h, one weight at a time.
    let h = 1e-3f32;
    let weights = session.read_params(&[kessen::graph::ParamKind::Weight])?;
    let values = weights.iter().find(|(path, _)| path == "hidden.weight").map(|(_, t)| t.clone());
    let Some(values) = values else { return Ok(()) };
    for (i, expected) in gradient.iter().enumerate() {
        let mut loss_at = |shift: f32| -> Result<f64> {
            let mut moved = values.clone();
            moved.as_slice_mut::<f32>()?[i] += shift;
            session.write_param("hidden.weight", &moved)?;
            let outputs = session.run(&[("x", &x), ("target", &target)], Clock::default())?;
            Ok(outputs[0].1.to_f64_vec()[0])
        };
        let quotient = (loss_at(h)? - loss_at(-h)?) / (2.0 * f64::from(h));
        println!("weight {i}: gradient {expected:+.6}, difference quotient {quotient:+.6}");
        assert!((expected - quotient).abs() < 1e-3);
    }
    Ok(())
}
