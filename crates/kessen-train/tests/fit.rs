//! Whole runs on tiny data.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kessen_data::{Dataset, Splits};
use kessen_engine::Precision;
use kessen_graph::ops::conv::conv;
use kessen_graph::{Graph, shape};
use kessen_tensor::{Rng, Tensor};
use kessen_train::{
    Config, EpochRecord, Error, Group, Observer, Predictor, ReadParams, Result, Schedule, StepEvent, Trained,
    Trainer, adam, adamw, cross_entropy, default_backend, mse, sgd, trained_precision,
};

/// Points in the plane, in three classes by angle.
fn points(n: usize, seed: u64) -> Dataset {
    let mut rng = Rng::new(seed, 0);
    let (mut x, mut t) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let (a, b) = (rng.normal() as f32, rng.normal() as f32);
        x.extend([a, b]);
        t.push((b.atan2(a) / 2.1 + 1.5) as i64);
    }
    let fields =
        [("x", Tensor::from_vec(&[n, 2], x).unwrap()), ("target", Tensor::from_vec(&[n], t).unwrap())];
    Dataset::from_tensors(fields).unwrap()
}

fn splits() -> Splits {
    let mut splits = Splits::new("points", points(90, 1), points(40, 2)).unwrap();
    splits.validation = points(30, 3);
    splits
}

/// With batch normalisation and dropout, so that buffers and random numbers are in the run.
fn net() -> Graph {
    Graph::build("net", |g| {
        let h = g.input("x", shape!["batch", 2]).linear("a", 16).batch_norm("bn").relu().dropout(0.1);
        h.linear("b", 3)
    })
    .unwrap()
}

fn from_config(config: Config) -> Trainer {
    Trainer::from_config(&net(), config)
}

fn trainer() -> Trainer {
    let trainer = Trainer::new(&net()).optimizer(adam(0.01)).schedule(Schedule::cosine()).warmup(0.5);
    trainer.batch(16).epochs(4).seed(5)
}

fn bits(params: &[(String, Tensor)]) -> Vec<(String, Vec<u8>)> {
    params.iter().map(|(n, t)| (n.clone(), t.bytes().to_vec())).collect()
}

/// Everything of a run that does not depend on the clock.
fn outcome(run: &Trained) -> (Vec<(String, Vec<u8>)>, Vec<f64>, Vec<EpochRecord>) {
    let epochs = run.history.epochs.iter().cloned().map(|e| EpochRecord { seconds: 0.0, ..e }).collect();
    (bits(run.params()), run.history.steps.iter().map(|s| s.loss).collect(), epochs)
}

/// Raises the flag after a step.
struct StopAt(u64, Arc<AtomicBool>);

impl Observer for StopAt {
    fn on_step(&mut self, event: &StepEvent) {
        self.1.store(event.step >= self.0, Ordering::Relaxed);
    }
}

#[test]
fn a_net_learns_and_the_history_tells_of_it() {
    let run = trainer().epochs(30).fit(&splits()).unwrap();
    let test = run.test.clone().unwrap();
    assert!(test.accuracy > 0.85, "{test:?}");
    assert_eq!(run.history.epochs.len(), 30);
    assert_eq!(run.history.epochs[0].train.samples, 80);
    assert_eq!(run.history.epochs[29].validation.as_ref().unwrap().samples, 30);
    assert_eq!(run.evaluate(&splits().test).unwrap(), test);
    let x = Tensor::from_vec(&[2, 2], vec![1.0f32, 0.0, -1.0, 0.1]).unwrap();
    let outputs = run.predict(&[("x", &x)]).unwrap();
    assert_eq!((outputs[0].0.as_str(), outputs[0].1.shape()), ("output", &[2, 3][..]));
}

#[test]
fn an_interrupted_and_resumed_run_equals_an_uninterrupted_one() {
    let options: [(&str, fn(Trainer) -> Trainer); 5] = [
        ("adam", |t| t),
        ("exact", |t| t.precision(Precision::Exact)),
        ("momentum, clipping", |t| t.optimizer(sgd(0.1).momentum(0.9).nesterov()).clip_norm(0.5)),
        ("accumulation", |t| t.accumulate(3)),
        ("average, plateau", |t| {
            t.ema(0.9).schedule(Schedule::Plateau {
                factor: 0.5,
                patience: 0,
                threshold: 0.1,
                cooldown: 0,
                floor: 0.0,
            })
        }),
    ];
    for (name, option) in options {
        let whole = outcome(&option(trainer()).fit(&splits()).unwrap());
        for at in [1, 7, 10] {
            let folder = tempfile::tempdir().unwrap();
            let flag = Arc::new(AtomicBool::new(false));
            let first = option(trainer()).folder(folder.path()).interrupt(flag.clone());
            let run = first.fit_observed(&splits(), &mut StopAt(at, flag)).unwrap();
            assert!(run.interrupted && run.history.epochs.len() == at as usize / 5);
            let run = option(trainer()).folder(folder.path()).resume().fit(&splits()).unwrap();
            assert!(outcome(&run) == whole, "{name}, interrupted after step {at}");
            let log = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
            assert_eq!(log.lines().filter(|l| l.contains(r#""kind":"epoch""#)).count(), 4);
            assert_eq!(log.lines().filter(|l| l.contains(r#""kind":"step""#)).count(), 20);
        }
    }
}

/// Ends the run by an error after a step, as a kill would, after the last checkpoint at an earlier step.
struct Kill;

impl Observer for Kill {
    fn on_epoch(&mut self, record: &EpochRecord, _params: &ReadParams<'_>) -> Result<()> {
        match record.epoch {
            2 => Err(Error::Option { option: "test".into(), found: "kill".into(), expected: String::new() }),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let whole = outcome(&trainer().fit(&splits()).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut config = trainer().config().clone();
    config.checkpoint.steps = 4;
    let first = from_config(config).folder(folder.path());
    first.fit_observed(&splits(), &mut Kill).unwrap_err();
    let run = trainer().folder(folder.path()).resume().fit(&splits()).unwrap();
    assert!(outcome(&run) == whole);
}

/// Noise for images, with a convolution that Winograd's algorithm is worth it for and one that bf16 is.
fn images() -> (Graph, Splits) {
    let net = Graph::build("images", |g| {
        let h = g.input("image", shape!["batch", 64, 28, 28]).conv("a", conv(64, 3).padding(1));
        h.relu().conv("p", conv(64, 1)).relu().max_pool(28).flatten().linear("b", 2)
    });
    let mut rng = Rng::new(4, 0);
    let image = (0..4 * 64 * 28 * 28).map(|_| rng.normal() as f32).collect();
    let fields = [
        ("image", Tensor::from_vec(&[4, 64, 28, 28], image).unwrap()),
        ("target", Tensor::from_vec(&[4], vec![0i64, 1, 1, 0]).unwrap()),
    ];
    let set = Dataset::from_tensors(fields).unwrap();
    (net.unwrap(), Splits::new("images", set.clone(), set).unwrap())
}

#[test]
fn the_precision_decides_how_is_computed_and_stays_with_the_model() {
    let (net, splits) = images();
    let (_, image) = &splits.train.sample(0).unwrap()[0];
    let image = image.clone().reshaped(&[1, 64, 28, 28]).unwrap();
    let run = |precision: Precision| {
        let trainer = Trainer::new(&net).precision(precision).batch(4).epochs(2).seed(1);
        trainer.fit(&splits).unwrap()
    };
    let [exact, fast] = [Precision::Exact, Precision::Fast].map(run);
    let loss = |run: &Trained| run.history.steps.last().unwrap().loss;
    assert_ne!(loss(&exact), loss(&fast), "both were computed by the same algorithm");
    assert!((loss(&exact) / loss(&fast) - 1.0).abs() < 1e-2, "{} {}", loss(&exact), loss(&fast));

    let answer = |run: &Predictor| run.predict(&[("image", &image)]).unwrap()[0].1.to_f64_vec();
    for (precision, run) in [(Precision::Exact, &exact), (Precision::Fast, &fast)] {
        let model = run.to_model().unwrap();
        assert_eq!(trained_precision(&model), Some(precision));
        let again = || Predictor::new(default_backend(), &model.graph, &model.params).unwrap();
        let answers = Precision::ALL.map(|p| (p, answer(&again().precision(p))));
        for (p, values) in &answers {
            assert_eq!(*values == answer(&run.predictor), *p == precision, "{precision} then {p}");
        }
    }
    let mut old = exact.to_model().unwrap();
    old.provenance.clear();
    assert_eq!(trained_precision(&old), None);
}

#[test]
fn a_run_goes_on_in_its_own_precision_only() {
    let folder = tempfile::tempdir().unwrap();
    let exact = || trainer().precision(Precision::Exact).folder(folder.path());
    let whole = outcome(&exact().fit(&splits()).unwrap());
    let error = trainer().folder(folder.path()).resume().fit(&splits()).unwrap_err().to_string();
    assert!(error.contains("precision = exact, this run has fast"), "{error}");
    assert!(outcome(&exact().resume().fit(&splits()).unwrap()) == whole);
}

#[test]
fn the_seed_decides_and_the_number_of_workers_does_not() {
    let base = outcome(&trainer().fit(&splits()).unwrap());
    let mut config = trainer().config().clone();
    config.workers = 3;
    assert!(outcome(&from_config(config).fit(&splits()).unwrap()) == base);
    assert!(outcome(&trainer().seed(6).fit(&splits()).unwrap()) != base);
}

#[test]
fn accumulated_gradients_are_those_of_the_larger_batch() {
    let line = Graph::build("line", |g| g.input("x", shape!["batch", 1]).linear("a", 1)).unwrap();
    let x: Vec<f32> = (0..16).map(|i| i as f32 / 8.0 - 1.0).collect();
    let t: Vec<f32> = x.iter().map(|x| 2.0 * x - 0.5).collect();
    let fields =
        [("x", Tensor::from_vec(&[16, 1], x).unwrap()), ("target", Tensor::from_vec(&[16, 1], t).unwrap())];
    let set = Dataset::from_tensors(fields).unwrap();
    let splits = Splits::new("line", set.clone(), set).unwrap();
    let base = Trainer::new(&line).loss(mse()).optimizer(sgd(0.1).momentum(0.5)).epochs(3).seed(1);
    let whole = base.clone().batch(16).fit(&splits).unwrap();
    let parts = base.batch(4).accumulate(4).fit(&splits).unwrap();
    for ((_, a), (_, b)) in whole.params().iter().zip(parts.params()) {
        let (a, b) = (a.to_f64_vec()[0], b.to_f64_vec()[0]);
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert!(parts.test.unwrap().r2 > 0.5);
}

#[test]
fn groups_freeze_and_early_stopping_stops() {
    let run = trainer().group(Group::frozen("a.*")).optimizer(adamw(0.01)).fit(&splits()).unwrap();
    let first = net().params()[0].init.sample(&[16, 2], 5, "a.weight").unwrap();
    assert_eq!(run.params()[0].1.bytes(), first.bytes());
    let run = trainer().optimizer(sgd(1e-9)).epochs(50).early_stopping(2).fit(&splits()).unwrap();
    assert!(run.history.epochs.len() < 50, "{}", run.history.epochs.len());
    let error = trainer().group(Group::frozen("c.*")).fit(&splits()).unwrap_err().to_string();
    assert!(error.contains("groups.pattern"), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_stops_with_advice_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wild =
        Trainer::new(&net_without_norm()).loss(mse()).optimizer(sgd(1e3)).batch(8).folder(folder.path());
    let x: Vec<f32> = (0..16).map(|i| i as f32).collect();
    let x = Tensor::from_vec(&[16, 1], x).unwrap();
    let set = Dataset::from_tensors([("x", x.clone()), ("target", x)]).unwrap();
    let splits = Splits::new("wild", set.clone(), set.clone()).unwrap();
    let error = wild.fit(&splits).unwrap_err();
    let Error::NonFinite { step, ref node, lr, .. } = error else { panic!("{error}") };
    assert!(step > 0 && !node.is_empty() && lr == 1e3, "{error}");
    assert!(error.to_string().contains("Lower the learning rate"), "{error}");
    let kept = kessen_formats::SafeTensors::read(&checkpoint(folder.path())).unwrap();
    assert!(kept.tensors.iter().all(|(_, t)| t.to_f64_vec().iter().all(|v| v.is_finite())));
    let error = wild.clone().batch(4).resume().fit(&splits).unwrap_err().to_string();
    assert!(error.contains("does not belong to this run"), "{error}");
}

fn net_without_norm() -> Graph {
    Graph::build("wild", |g| g.input("x", shape!["batch", 1]).linear("a", 4).square().linear("b", 1)).unwrap()
}

fn checkpoint(folder: &Path) -> std::path::PathBuf {
    folder.join("checkpoint").join("last.safetensors")
}

#[derive(Default)]
struct Warnings(Vec<String>);

impl Observer for Warnings {
    fn on_warning(&mut self, message: &str) {
        self.0.push(message.to_owned());
    }
}

#[test]
fn bad_input_is_refused_and_a_large_batch_is_clipped_with_a_warning() {
    let mut warnings = Warnings::default();
    trainer().batch(1000).epochs(1).fit_observed(&splits(), &mut warnings).unwrap();
    assert!(warnings.0[0].contains("larger than the 90 samples"), "{:?}", warnings.0);
    let cases: [(&str, Trainer, &str); 5] = [
        ("regression loss for classes", trainer().loss(mse()), "target"),
        ("no epochs", trainer().epochs(0), "epochs"),
        ("resume without a folder", trainer().resume(), "resume"),
        ("clip", trainer().clip_norm(-1.0), "clip.norm"),
        ("smoothing", trainer().loss(cross_entropy().smoothing(2.0)), "loss.smoothing"),
    ];
    for (name, trainer, part) in cases {
        let error = trainer.fit(&splits()).expect_err(name).to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = trainer().folder(folder.path()).resume().fit(&splits()).unwrap_err().to_string();
    assert!(error.contains("last.safetensors"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named_and_old_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "old").unwrap();
    let error = trainer().folder(&folder.path().join("file")).fit(&splits()).unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
    // `checkpoint` is a file: the run itself succeeds until it saves.
    std::fs::write(folder.path().join("checkpoint"), "old").unwrap();
    let error = trainer().epochs(1).folder(folder.path()).fit(&splits()).unwrap_err().to_string();
    assert!(error.contains("checkpoint"), "{error}");
    assert_eq!(std::fs::read(folder.path().join("checkpoint")).unwrap(), b"old");
}
