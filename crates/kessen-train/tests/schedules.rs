//! Schedules against PyTorch's; values from `golden/schedules.py`.

use kessen_train::{Moment, PlateauState, Schedule, Warmup};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    steps: u64,
    steps_per_epoch: u64,
    cases: Vec<Case>,
    plateau: Plateau,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    schedule: Schedule,
    warmup: f64,
    rates: Vec<f64>,
}

#[derive(Deserialize)]
struct Plateau {
    schedule: Schedule,
    metrics: Vec<f64>,
    rates: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../golden/schedules.json")).unwrap()
}

#[test]
fn rates_are_pytorchs() {
    let golden = golden();
    for case in golden.cases {
        let warmup = Warmup { epochs: case.warmup, ..Warmup::default() };
        case.schedule.check(warmup).unwrap();
        for (step, expected) in case.rates.iter().enumerate() {
            let at =
                Moment { step: step as u64, steps: golden.steps, steps_per_epoch: golden.steps_per_epoch };
            let found = case.schedule.factor(warmup, at);
            assert!((found - expected).abs() < 1e-9, "{}, step {step}: {found} {expected}", case.name);
        }
    }
}

#[test]
fn plateau_is_pytorchs() {
    let Plateau { schedule, metrics, rates } = golden().plateau;
    let mut state = PlateauState::default();
    for (epoch, (metric, expected)) in metrics.iter().zip(rates).enumerate() {
        state.observe(&schedule, *metric);
        assert!((state.factor - expected).abs() < 1e-12, "epoch {epoch}: {} {expected}", state.factor);
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let cases = [
        (r#"{"kind":"step","every":0}"#, "schedule.every"),
        (r#"{"kind":"cosine","floor":1.5}"#, "schedule.floor"),
        (r#"{"kind":"polynomial","power":-1}"#, "schedule.power"),
        (r#"{"kind":"one-cycle","rise":2}"#, "schedule.rise"),
    ];
    for (json, name) in cases {
        let schedule: Schedule = serde_json::from_str(json).unwrap();
        let error = schedule.check(Warmup::default()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    assert!(Schedule::Constant {}.check(Warmup { epochs: f64::NAN, start: 0.0 }).is_err());
}
