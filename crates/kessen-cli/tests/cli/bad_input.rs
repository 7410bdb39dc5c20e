//! What is wrong is said clearly, with exit code 1 or 2, and nothing is lost.

use crate::common::{Place, exists, finished};

#[test]
fn wrong_usage_is_told_with_the_nearest_name() {
    let place = Place::new();
    let cases: [(&[&str], &str); 17] = [
        (&["trian", "digits"], "train"),
        (&["train", "digts"], "did you mean `digits`?"),
        (&["train"], "<RECIPE>"),
        (&["recipes", "show", "iriss"], "did you mean `iris`?"),
        (&["data", "show", "winee"], "did you mean `wine`?"),
        (&["inspect", "resnet43"], "did you mean `resnet34`?"),
        (&["bench", "--work", "lennet"], "did you mean `lenet`?"),
        (&["predict", "runs/none", "x.png"], "does not exist"),
        (&["train", "iris", "--backend", "cpuu"], "did you mean `cpu`?"),
        (&["approximate", "sinn(x)"], "`sin`"),
        (&["train", "iris", "--precision", "exat"], "'exact'"),
        (&["eval", "runs/none", "--precision", "fats"], "'fast'"),
        (&["predict", "runs/none", "x.png", "--precision", "fats"], "'fast'"),
        (&["run", "lenet", "--input", "x.npy", "-o", "y", "--precision", "exat"], "'exact'"),
        (&["bench", "--work", "lenet", "--precision", "exat"], "'exact'"),
        (&["inspect", "lenet", "--precision", "exat"], "'exact'"),
        (&["train", "--resume", "runs/iris", "--precision", "exact"], "cannot be used with"),
    ];
    for (args, part) in cases {
        place.fails(args, 2, &[part]);
    }
    assert!(!exists(place.path("runs")), "wrong usage leaves no folder");
}

#[test]
fn recipes_are_refused_at_the_line() {
    let base = "[data]\nname = \"iris\"\n[model]\ntext = \"x: input batch $features\\nlinear out $classes\"\n[loss]\nkind = \"cross-entropy\"\n[optimizer]\nkind = \"adam\"\n";
    let cases = [
        (
            "a misspelt key",
            "[run]\nepoch = 3\n",
            "r.toml:10:1: unknown key `epoch`",
            "did you mean `epochs`?",
        ),
        (
            "a misspelt section",
            "[shedule]\nkind = \"cosine\"\n",
            "unknown section `shedule`",
            "did you mean `schedule`?",
        ),
        (
            "a misspelt kind",
            "[schedule]\nkind = \"cosin\"\n",
            "r.toml:10:1: `cosin`",
            "did you mean `cosine`?",
        ),
        ("a wrong type", "[run]\nepochs = \"many\"\n", "r.toml:10:1:", "invalid type: string"),
        (
            "a misspelt precision",
            "[run]\nepochs = 1\nprecision = \"exat\"\n",
            "r.toml:11:1: `exat`",
            "did you mean `exact`?",
        ),
        ("out of range", "[run]\nema = 1.5\n", "r.toml:10:1: ema = 1.5", "0 or more and below 1"),
        ("no TOML", "[run\n", "r.toml:9:", "^"),
        ("augmentation", "[[augment]]\nkind = \"cutout\"\nsize = 2\nprobability = 7.0\n", "7", ""),
        (
            "a group's key",
            "[[groups]]\npatern = \"*\"\n",
            "r.toml:10:1: unknown key `patern`",
            "did you mean `pattern`?",
        ),
    ];
    for (name, tail, place_of, advice) in cases {
        let place = Place::new();
        place.write("r.toml", format!("{base}{tail}"));
        let output = place.run(&["train", "r.toml"]);
        assert_eq!(output.code, 1, "{name}: {}", output.err);
        assert!(output.err.contains(place_of) && output.err.contains(advice), "{name}: {}", output.err);
    }
}

#[test]
fn settings_from_the_command_line_are_refused_by_their_own_text() {
    let place = Place::new();
    let cases = [
        ("optimizer.lrr=3", "did you mean `lr`?"),
        ("optimizer.lr=-3", "a number above 0"),
        ("run.batch=0", "at least 1"),
        ("epoch=3", "did you mean `epochs`?"),
        ("precision=fas", "did you mean `fast`?"),
        ("nothing", "KEY=VALUE"),
        ("model.unit=3", "no argument `unit`"),
        ("data.name=digit", "did you mean `digits`?"),
        ("model.units=0", "at least one unit"),
    ];
    for (set, part) in cases {
        place.fails(&["train", "iris", "--set", set], 1, &[&format!("--set {set}"), part]);
    }
    for (set, part) in [("data.target=sin(y)", "found `y`"), ("data.points=1", "2 to 10000000")] {
        place.fails(&["train", "sine", "--set", set], 1, &[&format!("--set {set}"), part]);
    }
}

#[test]
fn bad_data_is_refused_with_its_place() {
    let place = Place::new();
    place.write("nan.csv", "a,b,y\n1,2,3\n4,nan,6\n7,8,9\n1,1,1\n2,2,2\n3,3,3\n");
    place.write("empty.csv", "");
    place.write("head.csv", "a,b,y\n");
    place.write("text.csv", "a,b,y\n1,2,3\n1,x,3\n1,2,3\n");
    let cases =
        [("nan.csv", "nan"), ("empty.csv", "empty.csv"), ("head.csv", "head.csv"), ("none.csv", "none.csv")];
    for (file, part) in cases {
        let set = format!("data.path={file}");
        place.fails(&["train", "regression", "--set", &set], 1, &[part]);
    }
    // A batch larger than the data is cut, with a warning.
    let output = place.done(&["train", "wine", "--set", "batch=5000", "--set", "epochs=1"]);
    assert!(output.err.contains("larger than the 142 samples"), "{}", output.err);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_with_advice() {
    let place = Place::new();
    let args = ["train", "sine", "--set", "optimizer.lr=1e38", "--set", "schedule.kind=constant"];
    place.fails(&args, 1, &["not finite", "step", "node", "Lower the learning rate"]);
    assert!(exists(place.path("runs/sine/checkpoint/last.safetensors")));
    assert!(!exists(place.path("runs/sine/model.safetensors")));
}

#[test]
fn damaged_models_and_inputs_are_refused() {
    let place = Place::new();
    place.done(&["train", "iris", "--set", "epochs=1", "--out", "m", "-q"]);
    let whole = std::fs::read(place.path("m/model.safetensors")).unwrap();
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    place.write("cut.safetensors", &whole[..whole.len() - 9]);
    place.write("huge.safetensors", huge);
    place.write("empty.safetensors", "");
    place.write("text.safetensors", "this is no model");
    place.write("flowers.csv", "5.1,3.5,1.4,0.2\n");
    for file in ["cut", "huge", "empty", "text"] {
        let name = format!("{file}.safetensors");
        place.fails(&["predict", &name, "flowers.csv"], 1, &[&name]);
        place.fails(&["inspect", &name], 1, &[&name]);
    }
    place.write("words.csv", "sepallength,sepalwidth,petallength,petalwidth\n1,2,3,red\n");
    place.write("less.csv", "sepallength,sepalwidth\n1,2\n");
    place.fails(&["predict", "m", "words.csv"], 1, &["words.csv", "red"]);
    place.fails(&["predict", "m", "less.csv"], 1, &["petallength"]);
    place.fails(&["predict", "m", "none.csv"], 1, &["none.csv"]);
    place.fails(&["eval", "m", "--part", "validation"], 2, &["no validation part"]);
}

#[test]
fn corrupt_images_are_refused() {
    let place = Place::new();
    let small = "model.text=image: input batch 1 8 8; flatten | linear out 10";
    place.done(&["train", "digits", "--set", small, "--set", "epochs=1", "--out", "m", "-q"]);
    place.write("noise.png", b"\x89PNG\r\n\x1a\nnothing that follows");
    place.write("word.png", "no image");
    place.fails(&["predict", "m", "noise.png"], 1, &["noise.png"]);
    place.fails(&["predict", "m", "word.png"], 1, &["word.png", "no known image format"]);
}

#[test]
fn wirings_that_do_not_fit_name_the_node() {
    let place = Place::new();
    place.write("net.txt", "image: input batch 3 8 8\nconv c1 4 9x9 | relu\n");
    place.fails(&["inspect", "net.txt"], 1, &["net.txt", "c1", "9"]);
    place.write("typo.txt", "x: input batch 4\nlinear a 3 | reul\n");
    place.fails(&["inspect", "typo.txt"], 1, &["line 2", "relu"]);
    place.write("time.txt", "x: input batch time 4\nlinear a 3\n");
    place.fails(&["inspect", "time.txt"], 2, &["--dim time=64"]);
}

#[test]
fn a_folder_that_exists_or_cannot_be_written_is_told() {
    let place = Place::new();
    std::fs::create_dir(place.path("mine")).unwrap();
    place.write("mine/thesis.txt", "years of work");
    place.fails(&["train", "iris", "--out", "mine"], 2, &["exists already", "--resume mine"]);
    assert_eq!(std::fs::read_to_string(place.path("mine/thesis.txt")).unwrap(), "years of work");
    place.write("file", "");
    place.fails(&["train", "iris", "--out", "file/run"], 1, &["cannot create the folder file/run"]);
    place.fails(&["train", "--resume", "mine"], 2, &["no run that can be continued"]);
    for _ in 0..2 {
        place.done(&["train", "iris", "--set", "epochs=1", "-q"]);
    }
    assert!(exists(place.path("runs/iris")) && exists(place.path("runs/iris-2")));
}

/// A limit on the size of files stands for a full disk: writing fails in the middle of a file.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_no_half_written_model() {
    let place = Place::new();
    place.done(&["train", "iris", "--set", "epochs=1", "--out", "good", "-q"]);
    let before = std::fs::read(place.path("good/model.safetensors")).unwrap();
    let mut command = std::process::Command::new("sh");
    let script = format!(
        "trap '' XFSZ; ulimit -f 1; exec {} train digits --set epochs=1 --out full -q",
        env!("CARGO_BIN_EXE_kessen")
    );
    command.current_dir(place.path("")).args(["-c", &script]);
    let output = finished(&mut command);
    assert_eq!(output.code, 1, "{}", output.err);
    assert!(output.err.contains("full") && output.err.contains("cannot"), "{}", output.err);
    assert!(!exists(place.path("full/model.safetensors")));
    assert_eq!(std::fs::read(place.path("good/model.safetensors")).unwrap(), before);
}
