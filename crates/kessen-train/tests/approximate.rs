//! Functions of one variable by perceptrons.

use kessen_engine::Cpu;
use kessen_tensor::Tensor;
use kessen_train::{Perceptron, Predictor, approximate, approximate_widths, perceptron, spread};

#[test]
fn a_sine_by_16_units_is_closer_than_a_hundredth() {
    let fit = approximate(&|x| (std::f64::consts::TAU * x).sin(), [-1.0, 1.0], 16).unwrap();
    assert!(fit.worst < 1e-4 && fit.rms < fit.worst, "{} {}", fit.worst, fit.rms);
    assert_eq!(fit.perceptron.units.len(), 16);
    assert_eq!(fit.snapshots.last().unwrap().stage, "done");
}

#[test]
fn the_error_of_a_kink_falls_with_the_width() {
    let widths = [1, 4, 16, 64];
    let fits = approximate_widths(&f64::abs, [-1.0, 1.0], &widths).unwrap();
    for (pair, h) in fits.windows(2).zip(&widths[1..]) {
        let sum = |i: usize| pair[i].worst + pair[i].rms;
        assert!(sum(1) < sum(0), "{h} units: {} after {}", sum(1), sum(0));
    }
    assert!(fits[3].worst < 0.005, "{}", fits[5].worst);
}

#[test]
fn the_interval_and_the_scale_do_not_matter() {
    let fit = approximate(&|x| 1000.0 * (x / 40.0).cos() + 7.0, [100.0, 300.0], 8).unwrap();
    assert!(fit.worst < 1.0, "{}", fit.worst);
    let flat = approximate(&|_| 3.0, [0.0, 1.0], 4).unwrap();
    assert!(flat.worst < 1e-5, "{}", flat.worst);
}

#[test]
fn the_graph_computes_the_same_function() {
    let fit = approximate(&|x| x * x, [-1.0, 1.0], 4).unwrap();
    let params = fit.perceptron.params().unwrap();
    assert_eq!(Perceptron::from_params(&params).unwrap(), fit.perceptron);
    let graph = perceptron(4).unwrap();
    let predictor = Predictor::new(std::sync::Arc::new(Cpu::new()), &graph, &params).unwrap();
    let x = Tensor::from_vec(&[3, 1], vec![-0.7f32, 0.0, 0.9]).unwrap();
    let y = predictor.predict(&[("x", &x)]).unwrap()[0].1.to_f64_vec();
    for (x, y) in x.to_f64_vec().iter().zip(y) {
        assert!((y - x * x).abs() < 1e-3, "{x}: {y}");
    }
}

#[test]
fn bad_questions_are_refused() {
    let cases: [(&str, kessen_train::Result<()>); 5] = [
        ("units", approximate(&|x| x, [0.0, 1.0], 0).map(drop)),
        ("domain", approximate(&|x| x, [1.0, 1.0], 4).map(drop)),
        ("at x = ", approximate(&|x| 1.0 / (x - 1.0), [0.0, 1.0], 4).map(drop)),
        ("rise", approximate_widths(&|x| x, [0.0, 1.0], &[4, 2]).map(drop)),
        ("domain", spread(4, [f64::NAN, 1.0]).map(drop)),
    ];
    for (part, result) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let units = spread(4, [0.0, 8.0]).unwrap().units;
    assert!((-units[1].b / units[1].w - 3.0).abs() < 1e-9);
}
