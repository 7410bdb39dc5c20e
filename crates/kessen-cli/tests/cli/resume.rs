//! A run that was killed and resumed equals the uninterrupted one, and so do runs with 1 and 2 threads.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{Place, exists};

const SMALL: &str = "model.text=image: input batch 1 8 8; conv c 8 3x3 pad 1 | relu | max_pool 2 | flatten | dropout p 0.1 | linear out 10";

fn args<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "digits", "-q", "--set", SMALL, "--set", "epochs=8", "--out", out];
    args.extend(more);
    args
}

fn model(place: &Place, folder: &str) -> Vec<u8> {
    std::fs::read(place.path(&format!("{folder}/model.safetensors"))).unwrap()
}

#[test]
fn killed_and_resumed_equals_uninterrupted_and_threads_change_nothing() {
    let place = Place::new();
    let every = ["--set", "run.checkpoint.steps=7"];
    place.done(&args("whole", &every));
    place.done(&args("one", &["--set", "run.checkpoint.steps=7", "--threads", "1"]));
    assert!(model(&place, "whole") == model(&place, "one"), "the number of threads changes the model");

    let mut child =
        place.command(&args("killed", &every)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !exists(place.path("killed/checkpoint/last.safetensors"))
        && begun.elapsed() < Duration::from_secs(60)
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    place.done(&["train", "--resume", "killed", "-q"]);
    assert!(model(&place, "whole") == model(&place, "killed"), "the resumed run gives another model");
}

/// Ctrl-C ends after the step, with a checkpoint, and says how to go on.
#[cfg(unix)]
#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let place = Place::new();
    let long = ["train", "digits", "--set", SMALL, "--set", "epochs=100000", "--out", "long"];
    let mut command = place.command(&long);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !exists(place.path("long/metrics.jsonl")) && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && out.contains("kessen train --resume long"), "{out}");
    assert!(
        exists(place.path("long/checkpoint/last.safetensors"))
            && !exists(place.path("long/model.safetensors"))
    );
}
