//! Lesson 6: an operator of one's own, without touching Kessen: shape, forward, backward.
//!
//! The example is Mish (Misra 2019), x·tanh(ln(1 + eˣ)). It trains like a built-in operator, on both backends.
//!
//! `cargo run -p kessen --example 06_custom_operator`

use std::sync::Arc;

use kessen::graph::Misfit;
use kessen::prelude::*;

#[derive(Debug)]
struct Mish;

/// Mish and its derivative.
fn mish(x: f32) -> (f32, f32) {
    let t = x.exp().ln_1p().tanh();
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    (x * t, t + x * (1.0 - t * t) * sigmoid)
}

impl CustomOperator for Mish {
    fn name(&self) -> &str {
        "mish"
    }

    fn infer(&self, inputs: &[&Type]) -> std::result::Result<Type, Misfit> {
        match inputs {
            [x] => Ok((*x).clone()),
            _ => Err(Misfit(format!("mish takes one operand, found {}", inputs.len()))),
        }
    }

    fn forward(&self, inputs: &[CustomTensor<'_>], output: &mut [f32]) {
        for (y, x) in output.iter_mut().zip(inputs[0].data) {
            *y = mish(*x).0;
        }
    }

    fn backward(&self, inputs: &[CustomTensor<'_>], doutput: &[f32], dinputs: &mut [&mut [f32]]) {
        for ((dx, x), dy) in dinputs[0].iter_mut().zip(inputs[0].data).zip(doutput) {
            *dx = dy * mish(*x).1;
        }
    }
}

fn main() -> Result<()> {
    let operator: Arc<dyn CustomOperator> = Arc::new(Mish);
    let net = Graph::build("mish net", |g| {
        let h = g.input("x", shape!["batch", 13]).linear("hidden", 16);
        let h = g.custom("act", operator.clone(), &[&h]);
        h.linear("out", 3)
    })?;
    // The text form knows the operator by its name, given the operators that it may meet.
    println!("{net}");
    assert_eq!(Graph::from_text_with(&net.to_text(), &[operator])?, net);

    let wine = data::wine()?;
    for backend in [Arc::new(Cpu::new()) as Arc<dyn Backend>, Arc::new(Reference)] {
        let name = backend.name();
        let trainer = Trainer::new(&net).optimizer(adam(0.02)).epochs(10).batch(16).backend(backend);
        let model = trainer.fit(&wine)?;
        println!("{name:>9}: test accuracy {:.1} %", 100.0 * model.evaluate(&wine.test)?.accuracy);
    }
    Ok(())
}
