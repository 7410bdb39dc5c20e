//! `precision`: in the recipe, on the command line, in the run folder, and for a run that goes on.

use crate::common::{Place, json};

const NET: &str = "model.text=image: input batch 1 8 8; conv a 64 3x3 pad 1 | relu; conv b 64 3x3 pad 1 | relu | max_pool 2 | flatten | linear o 10";

/// A short training of 3×3 convolutions into `out`.
fn train(place: &Place, out: &str, more: &[&str]) {
    let args =
        ["train", "digits", "-q", "--set", NET, "--set", "epochs=1", "--set", "augment=[]", "--out", out];
    place.done(&[&args[..], more].concat());
}

/// A model file's numbers, without its notes.
fn numbers(place: &Place, folder: &str) -> Vec<u8> {
    let bytes = std::fs::read(place.path(&format!("{folder}/model.safetensors"))).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

fn recipe(place: &Place, folder: &str) -> String {
    std::fs::read_to_string(place.path(&format!("{folder}/recipe.toml"))).unwrap()
}

#[test]
fn the_precision_of_a_run_is_written_down_and_kept() {
    let place = Place::new();
    train(&place, "usual", &[]);
    train(&place, "fast", &["--precision", "fast"]);
    train(&place, "exact", &["--precision", "exact"]);
    train(&place, "set", &["--set", "precision=exact"]);
    assert!(recipe(&place, "usual").contains("precision = \"fast\"\n"), "{}", recipe(&place, "usual"));
    assert!(recipe(&place, "exact").contains("precision = \"exact\"\n"), "{}", recipe(&place, "exact"));
    assert!(numbers(&place, "usual") == numbers(&place, "fast"), "`fast` is what a run has by itself");
    assert!(numbers(&place, "set") == numbers(&place, "exact"), "recipe and flag mean the same");
    assert!(numbers(&place, "fast") != numbers(&place, "exact"), "the flag changes nothing");

    // From the folder's recipe the same run again, and the same figures from the model file by itself.
    place.done(&["train", "exact/recipe.toml", "--out", "again", "-q"]);
    assert!(numbers(&place, "again") == numbers(&place, "exact"));
    let figures = |args: &[&str]| {
        json(&place.done(&[&["eval", "exact", "--json", "--batch", "7"], args].concat()).out)["loss"].clone()
    };
    assert_eq!(figures(&[]), figures(&["--precision", "exact"]));
    let (exact, fast) = (figures(&[]).as_f64().unwrap(), figures(&["--precision", "fast"]).as_f64().unwrap());
    assert!(exact != fast && (exact / fast - 1.0).abs() < 1e-3, "{exact} {fast}");
}

#[test]
fn a_run_that_goes_on_keeps_its_precision() {
    let place = Place::new();
    let steps = ["--set", "run.checkpoint.steps=20", "--precision", "exact"];
    train(&place, "whole", &steps);
    train(&place, "part", &steps);
    std::fs::remove_file(place.path("part/model.safetensors")).unwrap();
    let other = ["train", "--resume", "part", "--set", "run.precision=fast", "-q"];
    place.fails(&other, 1, &["precision = exact, this run has fast"]);
    place.done(&["train", "--resume", "part", "-q"]);
    assert!(numbers(&place, "whole") == numbers(&place, "part"));
}

#[test]
fn help_and_completion_list_the_words() {
    let place = Place::new();
    for command in ["train", "eval", "predict", "run", "bench", "inspect"] {
        let help = place.done(&[command, "--help"]).out;
        let at = help.find("--precision").unwrap_or_else(|| panic!("{command}: {help}"));
        for word in kessen_engine::Precision::WORDS {
            assert!(help[at..].contains(word), "{command}: {help}");
        }
    }
    let script = place.done(&["completions", "bash"]).out;
    assert!(script.contains(&kessen_engine::Precision::WORDS.join(" ")), "{script}");
}

#[test]
fn predict_and_run_take_a_precision() {
    let place = Place::new();
    train(&place, "m", &["--precision", "exact"]);
    let image = kessen_tensor::Tensor::from_vec(
        &[1, 1, 8, 8],
        (0..64).map(|k| (k % 7) as f32 / 3.0).collect::<Vec<f32>>(),
    );
    kessen_formats::npy::write(&place.path("x.npy"), &image.unwrap()).unwrap();
    let output = |folder: &str, more: &[&str]| {
        place.done(&[&["run", "m", "--input", "x.npy", "-o", folder, "-q"], more].concat());
        let mut files = std::fs::read_dir(place.path(folder)).unwrap();
        kessen_formats::npy::read(&files.next().unwrap().unwrap().path()).unwrap().to_f64_vec()
    };
    assert_eq!(output("own", &[]), output("exact", &["--precision", "exact"]));
    assert_ne!(output("own", &[]), output("fast", &["--precision", "fast"]));
}
