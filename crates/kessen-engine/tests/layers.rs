//! Layers that are composed of operators, and wirings for training, by their numbers on the reference.

use kessen_engine::{Clock, CompileOptions, Reference, Session};
use kessen_graph::ops::batch_norm::BatchNorm;
use kessen_graph::{Bindings, Graph, GraphBuilder, Init, ParamKind, Wire, shape};
use kessen_tensor::{Rng, Tensor};

fn random(shape: &[usize], name: &str) -> Tensor {
    let mut rng = Rng::named(11, name);
    let count = shape.iter().product();
    Tensor::from_vec(shape, (0..count).map(|_| rng.normal() as f32 + 0.3).collect()).unwrap()
}

fn session(graph: &Graph, batch: usize) -> Session {
    let bindings = Bindings::from([("batch", batch)]);
    let mut session = Session::new(&Reference, graph, &bindings, &CompileOptions::inference()).unwrap();
    session.init_params(5).unwrap();
    session
}

/// The output for x, with the weights drawn at random by their paths.
fn run(wiring: impl FnOnce(&GraphBuilder) -> Wire, x: &Tensor) -> Vec<f64> {
    let graph = Graph::build("case", wiring).unwrap();
    let mut session = session(&graph, x.shape()[0]);
    for p in graph.params() {
        session.write_param(&p.path, &random(&p.shape, &p.path)).unwrap();
    }
    session.run(&[("x", x)], Clock::default()).unwrap()[0].1.to_f64_vec()
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 2e-5 * (1.0 + b.abs()), "element {i}: {a}, expected {b}");
    }
}

/// Mean and biased variance.
fn moments(v: &[f64]) -> (f64, f64) {
    let n = v.len() as f64;
    let mean = v.iter().sum::<f64>() / n;
    (mean, v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
}

#[test]
fn group_norm_is_its_formula() {
    let (n, c, s, groups) = (2, 6, 4 * 3, 3);
    let tensor = random(&[n, c, 4, 3], "x");
    let found = run(|g| g.input("x", shape!["batch", 6, 4, 3]).group_norm("n", 3), &tensor);
    let x = tensor.to_f64_vec();
    let [weight, bias] = ["n.weight", "n.bias"].map(|path| random(&[c], path).to_f64_vec());
    let row = c / groups * s;
    let expected: Vec<f64> = (0..x.len())
        .map(|i| {
            let (mean, var) = moments(&x[i / row * row..][..row]);
            let channel = i / s % c;
            (x[i] - mean) / (var + 1e-5).sqrt() * weight[channel] + bias[channel]
        })
        .collect();
    assert_close(&found, &expected);
}

#[test]
fn rms_norm_is_its_formula() {
    let tensor = random(&[3, 2, 5], "x");
    let found = run(|g| g.input("x", shape!["batch", 2, 5]).rms_norm("n", 1e-3), &tensor);
    let (x, weight) = (tensor.to_f64_vec(), random(&[5], "n.weight").to_f64_vec());
    let expected: Vec<f64> = (0..x.len())
        .map(|i| {
            let row = &x[i / 5 * 5..][..5];
            x[i] / (row.iter().map(|v| v * v).sum::<f64>() / 5.0 + 1e-3).sqrt() * weight[i % 5]
        })
        .collect();
    assert_close(&found, &expected);
}

#[test]
fn training_keeps_running_statistics_as_pytorch_does() {
    let (n, c, s) = (4, 3, 5);
    let net = |g: &GraphBuilder| {
        let op = BatchNorm { momentum: 0.25, ..BatchNorm::default() };
        g.input("x", shape!["batch", 3, 5]).batch_norm_with("bn", op)
    };
    let graph = Graph::build("n", net).unwrap().for_training().unwrap();
    let mut session = session(&graph, n);
    let (mut mean, mut var) = (vec![0.0; c], vec![1.0; c]);
    for step in 0..3 {
        let tensor = random(&[n, c, s], &format!("x{step}"));
        let y = session.run(&[("x", &tensor)], Clock { seed: 0, step }).unwrap()[0].1.to_f64_vec();
        let x = tensor.to_f64_vec();
        let channel = |v: &[f64], k: usize| -> Vec<f64> {
            (0..n * s).map(|i| v[i / s * c * s + k * s + i % s]).collect()
        };
        for k in 0..c {
            let (batch_mean, batch_var) = moments(&channel(&x, k));
            let m = (n * s) as f64;
            mean[k] += 0.25 * (batch_mean - mean[k]);
            var[k] += 0.25 * (batch_var * m / (m - 1.0) - var[k]);
            let (y_mean, y_var) = moments(&channel(&y, k));
            assert!(y_mean.abs() < 1e-6 && (y_var - 1.0).abs() < 1e-3, "{y_mean} {y_var}");
        }
    }
    let buffers = session.read_params(&[ParamKind::Buffer]).unwrap();
    assert_eq!(buffers[0].0, "bn.running_mean");
    assert_close(&buffers[0].1.to_f64_vec(), &mean);
    assert_close(&buffers[1].1.to_f64_vec(), &var);
}

#[test]
fn dropout_drops_in_training_only_and_each_step_and_node_anew() {
    let net = Graph::build("n", |g| {
        let x = g.input("x", shape!["batch", 1000]);
        [("a", x.dropout(0.3)), ("b", x.dropout(0.3))]
    })
    .unwrap();
    let x = Tensor::from_vec(&[2, 1000], vec![1.0f32; 2000]).unwrap();
    let outputs = |graph: &Graph, step| {
        let all = session(graph, 2).run(&[("x", &x)], Clock { seed: 9, step }).unwrap();
        [all[0].1.to_f64_vec(), all[1].1.to_f64_vec()]
    };
    let (training, inference) = (net.for_training().unwrap(), net.for_inference().unwrap());
    assert!(outputs(&inference, 0).concat().iter().all(|v| *v == 1.0));
    let [a, b] = outputs(&training, 0);
    let dropped = a.iter().filter(|v| **v == 0.0).count();
    assert!((500..700).contains(&dropped), "{dropped} of 2000 with p = 0.3");
    assert!(a.iter().all(|v| *v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
    assert_ne!(a, b, "two nodes draw alike");
    assert_ne!(a, outputs(&training, 1)[0], "two steps draw alike");
    assert_eq!(a, outputs(&training, 0)[0], "one step draws differently when it is run again");
}

#[test]
fn sizes_that_do_not_fit_are_refused_with_the_nodes_path() {
    let graph = Graph::build("n", |g| g.param("w", &[3], Init::Constant(1.0)).slice(0, 0, "length")).unwrap();
    let compile = |length| {
        let bindings = Bindings::from([("length", length)]);
        Session::new(&Reference, &graph, &bindings, &CompileOptions::inference())
    };
    assert!(compile(3).is_ok());
    let message = compile(4).unwrap_err().to_string();
    assert!(message.contains("`slice`") && message.contains("0 to 4"), "{message}");
}
