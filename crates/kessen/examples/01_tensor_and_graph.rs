//! Lesson 1: numbers in a tensor, a wiring as a value, and the one run on the other.
//!
//! `cargo run -p kessen --example 01_tensor_and_graph`

use kessen::prelude::*;

fn main() -> Result<()> {
    // A tensor is a row-major array with a shape and an element type. It has no arithmetic of its own.
    let x = Tensor::from_vec(&[2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    println!("x: {} {:?}", x.dtype(), x.shape());

    // What is computed is a graph. `batch` is a dimension with a name: its number comes with the data.
    let net = Graph::build("two layers", |g| {
        let x = g.input("x", shape!["batch", 3]);
        x.linear("hidden", 4).tanh().linear("out", 2).softmax(1)
    })?;

    // The wiring is a value: it can be printed, and the text can be read back to the identical graph.
    println!("\n{net}");
    assert_eq!(Graph::from_text(&net.to_text())?, net);

    // Shapes are checked where they are written. This one does not fit, and the message names the node and both sides.
    let wrong = Graph::build("wrong", |g| {
        let a = g.input("a", shape!["batch", 3]);
        let b = g.input("b", shape!["batch", 4]);
        a.add(&b)
    });
    println!("refused: {}", wrong.unwrap_err());

    // Planned for a batch of 2, the graph runs. The reference backend computes the same in double precision.
    for backend in [&Cpu::new() as &dyn Backend, &Reference] {
        let bindings = Bindings::default().with("batch", 2);
        let mut session = Session::new(backend, &net, &bindings, &CompileOptions::inference())?;
        session.init_params(0)?;
        let outputs = session.run(&[("x", &x)], Clock::default())?;
        println!("{:>9}: {:?}", backend.name(), outputs[0].1.as_slice::<f32>()?);
    }
    Ok(())
}
