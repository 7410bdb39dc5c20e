//! `kessen train`: a recipe becomes a run folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use kessen_data::{Input, Splits};
use kessen_engine::Precision;
use kessen_train::{Bytes, Trained, Trainer};
use serde_json::json;

use crate::failure::usage;
use crate::files;
use crate::models;
use crate::progress::{Blind, Progress, Watch, figures, heading};
use crate::recipe::Recipe;
use crate::report;
use crate::report::basis::{self, Snapshots};
use crate::run_folder::RunFolder;
use crate::term::{Style, Term, duration, grouped};

const EXAMPLES: &str = "\
Examples:
  kessen train digits                                    a shipped recipe; see `kessen recipes`
  kessen train digits --set run.epochs=5 --set optimizer.lr=0.01
  kessen train sine --set data.target=\"sin(2*pi*x)+0.3*x\" --set model.units=32
  kessen train regression --set data.path=houses.csv --set data.target=price
  kessen train mine.toml --out runs/mine --seed 7        a recipe of your own
  kessen train --resume runs/digits                      continue a run that was interrupted

The run folder holds model.safetensors, recipe.toml (with every default), metrics.jsonl, checkpoint/ and
report.html. Ctrl-C ends a run after the current step, with a checkpoint; a second one ends it at once.";

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A shipped recipe's name or a file that ends in .toml.
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    recipe: Option<String>,
    /// Change a setting of the recipe; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Continue the run in this folder.
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    /// The run folder [default: runs/RECIPE, runs/RECIPE-2, …].
    #[arg(long, short, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// The seed of first values, order, augmentation and dropout; short for `--set run.seed=N`.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    seed: Option<u32>,
    /// Which algorithms the plans may use; short for `--set run.precision=…` [default: the recipe's].
    #[arg(long, value_name = "PRECISION", value_parser = models::precision(), conflicts_with = "resume")]
    precision: Option<Precision>,
    /// The most memory that a training step may take, such as 2GB: it computes part of its values twice where it would
    /// need more; short for `--set run.memory_limit=SIZE`.
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<Bytes>,
    /// What computes: `cpu`, or `reference` (naive loops in double precision, slow).
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    backend: String,
}

/// Trains.
pub fn run(term: &Term, args: Args) -> Result<()> {
    let backend = models::backend(&args.backend)?;
    let (recipe, resumed) = recipe_of(&args)?;
    let splits = recipe.open_data()?;
    splits.notes.iter().for_each(|note| term.note(note));
    let model = recipe.build_model(&splits)?;
    let folder = match resumed {
        Some(folder) => folder,
        None => {
            let folder = RunFolder::create(args.out.as_deref(), &recipe.name)?;
            files::write(&folder.recipe(), recipe.to_toml()?.as_bytes())?;
            folder
        }
    };
    heading(term, &format!("Training {} into {}", recipe.name, folder.path().display()));
    let stop = interrupt_flag(term)?;
    let mut trainer = Trainer::from_config(&model, recipe.config.clone())
        .folder(folder.path())
        .backend(backend)
        .interrupt(stop);
    if args.resume.is_some() {
        trainer = trainer.resume();
    }
    let mut snapshots = basis::applies(&model, &splits).then(|| Snapshots::new(recipe.config.epochs));
    let watch: Box<dyn Watch + '_> = match &mut snapshots {
        Some(snapshots) => Box::new(snapshots),
        None => Box::new(Blind),
    };
    let mut progress = Progress::new(term, watch);
    let outcome = trainer.fit_observed(&splits, &mut progress);
    progress.finish();
    drop(progress);
    let mut trained = outcome.map_err(|error| explain(&recipe, &folder, error))?;
    if !trained.interrupted {
        save_model(&recipe, &splits, &folder, &trained)?;
        report::page(&recipe, &splits, &mut trained, snapshots.as_ref())?.save(folder.report())?;
    }
    say_result(term, &recipe, &folder, &trained);
    Ok(())
}

/// The recipe, and the folder of the run that goes on.
fn recipe_of(args: &Args) -> Result<(Recipe, Option<RunFolder>)> {
    let mut sets = args.set.clone();
    sets.extend(args.seed.map(|seed| format!("run.seed={seed}")));
    sets.extend(args.precision.map(|precision| format!("run.precision={precision}")));
    sets.extend(args.memory_limit.map(|limit| format!("run.memory_limit={limit}")));
    match (&args.resume, &args.recipe) {
        (Some(path), _) => {
            let folder = RunFolder::open(path)?;
            let recipe = Recipe::open(&folder.recipe().display().to_string(), &sets)?;
            Ok((recipe, Some(folder)))
        }
        (None, Some(name)) => Ok((Recipe::open(name, &sets)?, None)),
        (None, None) => Err(usage("name a recipe, or a run with --resume")),
    }
}

/// Ctrl-C sets the flag; a second one ends the process.
fn interrupt_flag(term: &Term) -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let (shared, term) = (flag.clone(), *term);
    let handler = move || {
        if shared.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        term.error("\ninterrupted: ending after this step, with a checkpoint; once more ends at once");
    };
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")?;
    Ok(flag)
}

fn explain(recipe: &Recipe, folder: &RunFolder, error: kessen_train::Error) -> anyhow::Error {
    match &error {
        kessen_train::Error::Option { .. } | kessen_train::Error::Data(kessen_data::Error::Option { .. }) => {
            recipe.explain("run", error).into()
        }
        _ => anyhow::Error::new(error).context(format!("the run in {} failed", folder.path().display())),
    }
}

/// Writes the model file with everything that an answer needs.
fn save_model(recipe: &Recipe, splits: &Splits, folder: &RunFolder, trained: &Trained) -> Result<()> {
    let mut model = trained.to_model()?;
    let mut note = |key: &str, value: String| model.provenance.insert(key.to_owned(), value);
    note("data", splits.name.clone());
    note("recipe", recipe.to_toml()?);
    if let Some(test) = &trained.test {
        note("test", figures(test));
    }
    model.write(&folder.model())?;
    Ok(())
}

/// Says what came out, and in one line what to do next.
fn say_result(term: &Term, recipe: &Recipe, folder: &RunFolder, trained: &Trained) {
    let path = folder.path().display();
    let seconds = trained.history.last().map_or(0.0, |e| e.seconds);
    if term.json {
        let epochs = trained.history.last().map_or(0, |e| e.epoch);
        let value = json!({
            "run": path.to_string(), "interrupted": trained.interrupted, "epochs": epochs, "seconds": seconds,
            "train": trained.history.last().map(|e| &e.train), "test": trained.test,
        });
        term.result(&value.to_string());
    }
    if trained.interrupted {
        term.say(&format!("Interrupted. Next: continue with `kessen train --resume {path}`"));
        return;
    }
    if let Some(test) = &trained.test {
        let line = format!("{} on {} test samples", figures(test), grouped(test.samples));
        term.say(&format!("{} after {}", term.paint(Style::Good, &line), duration(seconds)));
    }
    let ask = match &trained.preprocess.input {
        Input::Image(_) => format!("kessen predict {path} IMAGE"),
        Input::Table { .. } => format!("kessen predict {path} FILE.csv"),
        _ => format!("kessen inspect {path}"),
    };
    let next = format!("Next: open {}, or `{ask}`", folder.report().display());
    term.say(&next);
    if recipe.config.step.ema.is_some() {
        term.note(
            &term.paint(Style::Faint, "The model's weights are the averages over the training's last steps."),
        );
    }
}
