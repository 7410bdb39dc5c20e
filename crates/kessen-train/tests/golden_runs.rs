//! Fifty training steps against PyTorch's, from the same weights and data; values from `golden/runs.py`.

use kessen_engine::{Backend, Clock, CompileOptions, Cpu, Data, Outcome, Reference, Session};
use kessen_formats::SafeTensors;
use kessen_graph::{Bindings, Graph};
use kessen_tensor::{DType, Tensor};
use kessen_train::{
    Clip, GRAD_NORM, GUARD, LOSS, Moment, Schedule, StepSpec, TrainStep, Warmup, adamw, cross_entropy, mse,
    sgd,
};

const STEPS: u64 = 50;
const BATCH: usize = 8;

struct Run {
    name: &'static str,
    net: Graph,
    spec: StepSpec,
    target: DType,
}

fn runs() -> [Run; 2] {
    let text = |t: &str| Graph::from_text(t).unwrap();
    let cnn = "x: input batch 1 8 8\n\
               conv c1 4 3x3 pad 1 | batch_norm bn | relu | max_pool 2 | conv c2 8 3x3 | relu | flatten\n\
               linear fc 3";
    let mlp = "x: input batch 2\nlinear a 16 | tanh | linear b 16 | sigmoid | linear c 1";
    let optimizer = sgd(0.1).momentum(0.9).nesterov().decay(1e-3);
    let clip = Clip { norm: Some(1.0), value: None };
    let classes =
        StepSpec { clip, decay_all: true, ..StepSpec::new(cross_entropy().smoothing(0.1), optimizer) };
    let values = StepSpec { decay_all: true, ..StepSpec::new(mse(), adamw(1e-2)) };
    [
        Run { name: "cnn", net: text(cnn), spec: classes, target: DType::I64 },
        Run { name: "mlp", net: text(mlp), spec: values, target: DType::F32 },
    ]
}

fn golden() -> SafeTensors {
    SafeTensors::decode(include_bytes!("../../../golden/values/runs.safetensors")).unwrap()
}

/// Rows of batch `b`.
fn rows<'a>(tensor: &'a Tensor, b: usize) -> Data<'a> {
    let n = tensor.len() / tensor.shape()[0] * BATCH;
    match tensor.dtype() {
        DType::I64 => Data::I64(&tensor.as_slice::<i64>().unwrap()[b * n..(b + 1) * n]),
        _ => Data::F32(&tensor.as_slice::<f32>().unwrap()[b * n..(b + 1) * n]),
    }
}

/// Losses and gradient norms of the fifty steps.
fn train(run: &Run, golden: &SafeTensors, backend: &dyn Backend) -> (Vec<f64>, Vec<f64>) {
    let get = |key: &str| golden.get(&format!("{}/{key}", run.name)).unwrap();
    let step = TrainStep::new(&run.net, &run.spec, run.target).unwrap();
    let bindings = Bindings::from([("batch", BATCH)]);
    let mut session =
        Session::new(backend, &step.graph, &bindings, &CompileOptions::training(GUARD)).unwrap();
    session.init_params(0).unwrap();
    for param in run.net.params() {
        session.write_param(&param.path, get(&format!("param/{}", param.path))).unwrap();
    }
    let (x, target) = (session.input_index("x").unwrap(), session.input_index("target").unwrap());
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for t in 0..STEPS {
        let batch = t as usize % 4;
        let at = Moment { step: t, steps: STEPS, steps_per_epoch: STEPS };
        let lr = run.spec.optimizer.lr() * Schedule::cosine().factor(Warmup::default(), at);
        let e = session.executable();
        e.write_input(x, rows(get("x"), batch)).unwrap();
        e.write_input(target, rows(get("target"), batch)).unwrap();
        e.write_input(step.lr, Data::F32(&[lr as f32])).unwrap();
        e.write_input(step.step, Data::F32(&[(t + 1) as f32])).unwrap();
        assert_eq!(e.run(Clock { seed: 0, step: t }).unwrap(), Outcome::Done);
        losses.push(e.output(LOSS).at(0));
        norms.push(e.output(GRAD_NORM).at(0));
    }
    (losses, norms)
}

#[test]
fn fifty_steps_follow_pytorchs_losses() {
    let golden = golden();
    for run in runs() {
        let expected = |key: &str| golden.get(&format!("{}/{key}", run.name)).unwrap().to_f64_vec();
        for backend in [&Reference as &dyn Backend, &Cpu::new(), &Cpu::unfused()] {
            let (losses, norms) = train(&run, &golden, backend);
            assert!(losses[49] < 0.9 * losses[0], "{} does not learn: {losses:?}", run.name);
            for (what, found, limit) in [("losses", losses, 1e-4), ("norms", norms, 1e-2)] {
                for (t, (a, b)) in found.iter().zip(expected(what)).enumerate() {
                    let name = (run.name, backend.name());
                    assert!((a - b).abs() <= limit * b.abs(), "{name:?} {what}, step {t}: {a} {b}");
                }
            }
        }
    }
}
