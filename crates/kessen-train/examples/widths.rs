//! Errors by width for some functions: `cargo run --release -p kessen-train --example widths`.

use kessen_tensor::Tensor;
use kessen_train::{Perceptron, Predictor, default_backend, perceptron};

fn main() -> kessen_train::Result<()> {
    type Function = fn(f64) -> f64;
    let functions: [(&str, Function); 5] = [
        ("|x|", f64::abs),
        ("sin(2πx)", |x| (std::f64::consts::TAU * x).sin()),
        ("x²", |x| x * x),
        ("step", |x| f64::from(u8::from(x > 0.0))),
        ("chirp", |x| (20.0 * (x + 1.0) * (x + 1.0)).sin()),
    ];
    for (name, f) in functions {
        println!(
            "{name:10} {:>5} {:>10} {:>10} {:>10} {:>10}",
            "units", "worst", "rms", "in f32", "largest v"
        );
        let start = std::time::Instant::now();
        let widths = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
        for (units, fit) in widths.iter().zip(kessen_train::approximate_widths(&f, [-1.0, 1.0], &widths)?) {
            let in_f32 = worst_in_f32(f, &fit.perceptron)?;
            let v = fit.perceptron.units.iter().fold(0.0f64, |m, u| m.max(u.v.abs()));
            println!(
                "{:10} {units:>5} {:>10.2e} {:>10.2e} {in_f32:>10.2e} {v:>10.1}",
                "", fit.worst, fit.rms
            );
        }
        println!("{:10} {:.1} s", "", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Largest error where the cpu backend computes the perceptron.
fn worst_in_f32(f: fn(f64) -> f64, fit: &Perceptron) -> kessen_train::Result<f64> {
    let model = Predictor::new(default_backend(), &perceptron(fit.units.len())?, &fit.params()?)?;
    let x: Vec<f32> = (0..4001).map(|i| i as f32 / 2000.0 - 1.0).collect();
    let outputs = model.predict(&[("x", &Tensor::from_slice(&[x.len(), 1], &x)?)])?;
    let errors = x.iter().zip(outputs[0].1.to_f64_vec()).map(|(&x, y)| (y - f(f64::from(x))).abs());
    Ok(errors.fold(0.0, f64::max))
}
