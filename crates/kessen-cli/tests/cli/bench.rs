//! `kessen bench`: any network, on any size, in one line.

use crate::common::{Place, json};

const NOW: [&str; 2] = ["--seconds", "0"];

fn line(place: &Place, args: &[&str]) -> serde_json::Value {
    json(&place.done(&[&["bench", "--json"], args, &NOW[..]].concat()).out)
}

#[test]
fn one_line_has_what_the_board_reads() {
    let place = Place::new();
    for mode in ["train", "infer"] {
        let line = line(&place, &["--work", "mlp-fit", "--mode", mode, "--batch", "64"]);
        let keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["who", "work", "mode", "batch", "sec", "min", "n", "rss_mb"]);
        assert_eq!((line["who"].as_str(), line["work"].as_str()), (Some("kessen"), Some("mlp-fit")));
        assert_eq!((line["mode"].as_str(), line["batch"].as_u64()), (Some(mode), Some(64)));
        assert!(line["sec"].as_f64().unwrap() > 0.0 && line["n"].as_u64().unwrap() >= 3, "{line}");
    }
}

/// What the plan says of a network measured with these flags.
fn plan(place: &Place, args: &[&str]) -> String {
    place.done(&[&["bench", "--plan"], args, &NOW[..]].concat()).out
}

#[test]
fn sizes_reach_the_plan() {
    let place = Place::new();
    let net = "image: input batch 3 height width\nconv c 4 3x3 pad 1 | global_avg_pool | flatten\n";
    place.write("any.txt", net);
    place.write("words.txt", "ids: input i64 batch time\nembedding e 50 8 | mean [1] | linear out 3\n");
    // Steps with their operations and bytes; the last line is about time.
    let steps = |args: &[&str]| {
        let out = plan(&place, args);
        out.trim_end().rsplit_once('\n').unwrap().0.to_owned()
    };
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--model", "lenet"], &["--input", "1x32x32"]),
        (&["--model", "lenet(classes=4)"], &["--input", "3x36x28"]),
        (&["--work", "lenet"], &["--input", "1x32x32"]),
        (&["--model", "mlp(hidden=[8])"], &["--input", "100"]),
        (&["--model", "elman_tagger(vocab=50)"], &["--time", "9"]),
        (&["--model", "transformer(vocab=50,width=16,layers=1)"], &["--time", "8"]),
        (&["--model", "any.txt"], &["--input", "3x40x50"]),
        (&["--model", "words.txt"], &["--dim", "time=7"]),
    ];
    for (model, size) in cases {
        for mode in ["train", "infer"] {
            let model = [model, &["--mode", mode, "--batch", "2"]].concat();
            let sized = [&model, size].concat();
            assert_eq!(steps(&model), steps(&model), "{model:?}");
            assert_ne!(steps(&model), steps(&sized), "{model:?} {size:?}");
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_told() {
    let place = Place::new();
    place.write("fixed.txt", "x: input 4 3\nlinear a 2\n");
    place.write("time.txt", "x: input batch time 3\nlinear a 2\n");
    let cases: [(&[&str], &str); 12] = [
        (&["--model", "resnet18", "--input", "192x192"], "the model's input `image` is"),
        (&["--model", "resnet18(size=64)", "--input", "3x96x96"], "the model's input `image` is"),
        (&["--model", "alexnet", "--input", "3x16x16"], "max_pool"),
        (&["--model", "lenet", "--input", "1x0x8"], "sizes above 0"),
        (&["--model", "lenet", "--input", "wide"], "such as 3x224x224"),
        (&["--model", "lenet", "--dim", "time=4"], "unknown dimension `time`"),
        (&["--model", "time.txt", "--dim", "tiem=4"], "did you mean `time`?"),
        (&["--model", "time.txt", "--dim", "time"], "NAME=N"),
        (&["--model", "time.txt", "--dim", "time=0"], "above 0"),
        (&["--model", "time.txt", "--input", "5x4"], "the model's input `x` is"),
        (&["--model", "fixed.txt", "--batch", "5"], "--batch 5: the model's input `x` is"),
        (&["--model", "none.safetensors"], "does not exist"),
    ];
    for (args, part) in cases {
        place.fails(&[&["bench"], args, &NOW[..]].concat(), 2, &[part]);
    }
    place.fails(&["bench", "--seconds=-1", "--work", "lenet"], 2, &["--seconds"]);
    assert_eq!(line(&place, &["--model", "fixed.txt"])["batch"], 4, "the batch is the wiring's own");
}

#[test]
fn a_trained_model_is_measured_in_its_precision_unless_told() {
    let place = Place::new();
    let small = "model.text=image: input batch 1 8 8; conv c1 64 3x3 pad 1; conv c2 64 3x3 pad 1; flatten | linear o 10";
    let args =
        ["train", "digits", "--set", small, "--set", "epochs=1", "--precision", "exact", "--out", "m", "-q"];
    place.done(&args);
    let infer = ["--model", "m", "--mode", "infer", "--batch", "64"];
    assert!(plan(&place, &infer).contains(" direct "));
    assert!(!plan(&place, &infer).contains("winograd"));
    assert!(plan(&place, &[&infer[..], &["--precision", "fast"]].concat()).contains("winograd"));
}
