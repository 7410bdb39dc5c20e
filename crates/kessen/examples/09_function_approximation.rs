//! Lesson 9: function approximation. y(x) = Σᵢ wᵢ·f(vᵢ·x + cᵢ) + b: learning changes the basis functions themselves.
//!
//! The error falls with the number of hidden units (universal approximation), and a picture shows each unit's basis
//! function with its weighted contribution.
//!
//! `cargo run -p kessen --example 09_function_approximation`

use kessen::prelude::*;
use kessen::view::{Approximation, Snapshot};

fn main() -> Result<()> {
    let options =
        FunctionOptions { target: "sin(2*pi*x)".to_owned(), standardise: false, ..Default::default() };
    let points = function(&options)?;
    println!("{:>5}  {:>10}", "units", "RMS error");
    let mut last = None;
    for units in [1, 2, 4, 8, 16] {
        let net =
            Graph::from_text(&format!("x: input batch 1\nlinear hidden {units} | sigmoid | linear out 1"))?;
        let trainer = Trainer::new(&net).loss(mse()).optimizer(adam(0.05)).schedule(Schedule::one_cycle());
        let model = trainer.batch(256).epochs(3000).fit(&points)?;
        let error = model.test.as_ref().map_or(f64::NAN, |t| t.rmse);
        println!("{units:>5}  {error:>10.5}");
        last = Some(model);
    }

    let Some(model) = last else { return Ok(()) };
    let get =
        |path: &str| model.params().iter().find(|(p, _)| p == path).map_or(vec![], |(_, t)| t.to_f64_vec());
    let x: Vec<f64> = (0..=200).map(|k| f64::from(k) / 100.0 - 1.0).collect();
    let (v, c, w, b) = (get("hidden.weight"), get("hidden.bias"), get("out.weight"), get("out.bias"));
    let sigmoid = |u: f64| 1.0 / (1.0 + (-u).exp());
    let after = Snapshot::perceptron("after training", &x, (&v, &c), (&w, b[0]), sigmoid)?;
    let target: Vec<f64> = x.iter().map(|x| (std::f64::consts::TAU * x).sin()).collect();
    let picture = Approximation::new("y = sin(2πx)", x).target(target)?.snapshot(after)?.picture();
    let path = std::env::temp_dir().join("kessen-sine.svg");
    picture.save(&path)?;
    println!("drawn into {}", path.display());
    Ok(())
}
