//! Every command does what its help says.

use crate::common::{Place, exists, json};
use kessen_formats::npy;
use kessen_tensor::Tensor;

#[test]
fn help_lists_the_commands_and_each_has_examples() {
    let place = Place::new();
    let help = place.done(&["--help"]).out;
    let commands = [
        "train",
        "approximate",
        "predict",
        "eval",
        "inspect",
        "run",
        "recipes",
        "data",
        "bench",
        "completions",
    ];
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let help = place.done(&[command, "--help"]).out;
        assert!(help.contains("Examples:") && help.contains(&format!("  kessen {command}")), "{help}");
    }
    assert!(place.done(&["--version"]).out.starts_with("kessen "));
    assert!(!help.contains('\u{1b}'), "no colours where there is no terminal");
    assert!(place.done(&["completions", "bash"]).out.contains("approximate"));
}

#[test]
fn shipped_recipes_are_listed_printed_and_right() {
    let place = Place::new();
    let list = json(&place.done(&["recipes", "--json"]).out);
    for recipe in list.as_array().unwrap() {
        let name = recipe["name"].as_str().unwrap();
        assert!(!recipe["about"].as_str().unwrap().is_empty(), "{name}");
        let text = place.done(&["recipes", "show", name]).out;
        place.write("mine.toml", &text);
        if name == "mnist" || name == "regression" {
            place.fails(&["train", "mine.toml"], 1, &["data.path="]);
            continue;
        }
        let mut args = vec!["train", "mine.toml", "--out", name, "-q", "--set", "epochs=1"];
        if name == "digits" {
            args.extend(["--set", "model.text=image: input batch 1 8 8; flatten | linear out 10"]);
        }
        place.done(&args);
        // What a run writes down is a recipe again, and gives the same model.
        let resolved = format!("{name}/recipe.toml");
        place.done(&["train", &resolved, "--out", &format!("{name}-again"), "-q"]);
        let model = |folder: &str| std::fs::read(place.path(&format!("{folder}/model.safetensors"))).unwrap();
        let (a, b) = (model(name), model(&format!("{name}-again")));
        assert_eq!(tail(&a), tail(&b), "{name}");
    }
}

/// A model file's numbers, without its notes.
fn tail(bytes: &[u8]) -> &[u8] {
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    &bytes[8 + header..]
}

#[test]
fn a_run_leaves_its_folder_and_answers() {
    let place = Place::new();
    let output = place.done(&["train", "iris", "--seed", "3"]);
    assert!(output.out.contains("accuracy") && output.out.contains("Next: open runs/iris/report.html"));
    assert!(output.err.contains("epoch  60/60") && output.err.contains("samples/s"), "{}", output.err);
    for file in
        ["model.safetensors", "recipe.toml", "metrics.jsonl", "checkpoint/last.safetensors", "report.html"]
    {
        assert!(exists(place.path(&format!("runs/iris/{file}"))), "{file}");
    }
    let recipe = std::fs::read_to_string(place.path("runs/iris/recipe.toml")).unwrap();
    assert!(recipe.contains("seed = 3") && recipe.contains("betas = [0.9, 0.999]"), "{recipe}");
    let metrics = std::fs::read_to_string(place.path("runs/iris/metrics.jsonl")).unwrap();
    let epochs = metrics.lines().map(json).filter(|l| l["kind"] == "epoch").count();
    assert_eq!(epochs, 60);
    let report = std::fs::read_to_string(place.path("runs/iris/report.html")).unwrap();
    for part in ["Learning", "What it gets right and wrong", "Architecture", "Recipe", "Iris-virginica"] {
        assert!(report.contains(part), "{part}");
    }

    place.write(
        "flowers.csv",
        "petalwidth,petallength,sepalwidth,sepallength\n0.2,1.4,3.5,5.1\n2.5,6.0,3.3,6.3\n",
    );
    let answers = json(&place.done(&["predict", "runs/iris", "flowers.csv", "--json", "--top", "1"]).out);
    let label = |i: usize| answers[i]["top"][0]["label"].as_str().unwrap().to_owned();
    assert_eq!((label(0).as_str(), label(1).as_str()), ("Iris-setosa", "Iris-virginica"));
    let figures = json(&place.done(&["eval", "runs/iris", "--json"]).out);
    assert!(figures["accuracy"].as_f64().unwrap() > 0.9, "{figures}");
    place.done(&["eval", "runs/iris", "--data", "iris", "--part", "train"]);

    let table = place.done(&["inspect", "runs/iris"]).out;
    assert!(table.contains("hidden") && table.contains("total") && table.contains("training"), "{table}");
    let summary = json(&place.done(&["inspect", "runs/iris", "--json", "--batch", "2"]).out);
    assert_eq!(summary["total"]["parameters"], 4 * 16 + 16 + 16 * 3 + 3);
    place.done(&["inspect", "runs/iris", "--draw", "iris.svg", "--text", "-q"]);
    assert!(std::fs::read_to_string(place.path("iris.svg")).unwrap().starts_with("<svg"));
}

#[test]
fn raw_arrays_give_the_same_on_both_backends() {
    let place = Place::new();
    place.write("net.txt", "a: input batch 3\nb: input batch 3\nmul(a, b) | linear fc 2 | tanh | output y\n");
    let a = Tensor::from_vec(&[2, 3], vec![0.1f32, -0.2, 0.3, 1.0, 2.0, -3.0]).unwrap();
    npy::write(&place.path("a.npy"), &a).unwrap();
    let args = |backend: &'static str, out: &'static str| {
        [
            "run",
            "net.txt",
            "--input",
            "a=a.npy",
            "--input",
            "b=a.npy",
            "-o",
            out,
            "--backend",
            backend,
            "--seed",
            "5",
        ]
    };
    place.done(&args("cpu", "cpu"));
    place.done(&args("reference", "reference"));
    let read = |folder: &str| npy::read(&place.path(&format!("{folder}/y.npy"))).unwrap().to_f64_vec();
    let (cpu, reference) = (read("cpu"), read("reference"));
    assert_eq!(cpu.len(), 4);
    assert!(cpu.iter().zip(&reference).all(|(a, b)| (a - b).abs() < 1e-6), "{cpu:?} {reference:?}");
    place.fails(&["run", "net.txt", "--input", "a.npy", "-o", "x"], 2, &["NAME=a.npy"]);
    place.fails(&["run", "net.txt", "--input", "c=a.npy", "-o", "x"], 2, &["unknown input `c`"]);
    place.fails(&["run", "net.txt", "--input", "a=a.npy", "-o", "x"], 1, &["input `b`"]);
}

#[test]
fn the_error_of_an_approximation_falls_with_the_width() {
    let place = Place::new();
    let args = ["approximate", "abs(x)", "--units", "1,2,4,8", "--out", "abs", "--json"];
    let result = json(&place.done(&args).out);
    let errors: Vec<f64> =
        result["errors"].as_array().unwrap().iter().map(|e| e["rms"].as_f64().unwrap()).collect();
    assert!(errors.windows(2).all(|w| w[1] < w[0]) && errors[3] < 0.02, "{errors:?}");
    for file in ["error.svg", "error.png", "error.csv", "report.html"] {
        assert!(exists(place.path(&format!("abs/{file}"))), "{file}");
    }
}

#[test]
fn a_function_of_ones_own_and_points_from_a_file() {
    let place = Place::new();
    let own = "data.target=sin(2*pi*x)+0.3*x";
    place.done(&["train", "sine", "--set", own, "--set", "epochs=50", "--out", "own", "-q"]);
    let report = std::fs::read_to_string(place.path("own/report.html")).unwrap();
    for part in ["before training", "after 50 epochs", "basis functions"] {
        assert!(report.contains(part), "{part}");
    }
    let points: String = (0..40).map(|i| format!("{},{}\n", i, 2 * i)).collect();
    place.write("xy.csv", points);
    place.done(&["train", "sine", "--set", "data.path=xy.csv", "--set", "epochs=5", "--out", "file", "-q"]);
    place.write("x.csv", "x\n3\n");
    let answer = json(&place.done(&["predict", "own", "x.csv", "--json"]).out);
    assert!(answer[0]["values"]["y"].is_number(), "{answer}");
}
