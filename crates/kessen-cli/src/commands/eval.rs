//! `kessen eval`: a trained model's figures on data.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kessen_data::{Dataset, FolderOptions, Input, Preprocess, Splits, Table, data, image_folder};
use kessen_engine::Precision;
use kessen_formats::Model;
use kessen_train::{Evaluation, Loss, cross_entropy, mse};

use crate::failure::usage;
use crate::models;
use crate::recipe::Recipe;
use crate::term::{Term, figure, grouped, table};

const EXAMPLES: &str = "\
Examples:
  kessen eval runs/digits                         on the data and part that it was tested on
  kessen eval runs/digits --part train
  kessen eval runs/iris --data more-flowers.csv   on a table of yours, all rows
  kessen eval runs/shapes --data photos/          on a folder with a folder of images per class
  kessen eval runs/digits --json";

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A model file or a run folder.
    model: PathBuf,
    /// A data set's name, a CSV or ARFF file, a folder of images; the training's own data where nothing is given.
    #[arg(long, value_name = "NAME|FILE|FOLDER")]
    data: Option<String>,
    /// The folder of a data set that is not in the binary.
    #[arg(long, value_name = "FOLDER", requires = "data")]
    path: Option<PathBuf>,
    /// The part of the data: train, validation or test.
    #[arg(long, value_name = "PART", default_value = "test", value_parser = ["train", "validation", "test"])]
    part: String,
    /// Samples per run of the model.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Which algorithms the plan may use [default: those of the training].
    #[arg(long, value_name = "PRECISION", value_parser = models::precision())]
    precision: Option<Precision>,
}

/// Measures.
pub fn run(term: &Term, args: Args) -> Result<()> {
    let model = models::model(&args.model)?;
    let preprocess = models::preprocess(&model)?;
    let set = open(&args, &model, &preprocess)?;
    let loss = loss_of(&model, &set);
    let predictor = models::predictor(&model, args.precision)?;
    let evaluation = predictor.evaluate(&loss, &set, args.batch as usize)?;
    match term.json {
        true => term.result(&serde_json::to_string(&evaluation)?),
        false => term.result(&table(term, &rows(&evaluation), None)),
    }
    Ok(())
}

/// The loss that the model was trained for; a plain one of the right kind where the file does not say.
fn loss_of(model: &Model, set: &Dataset) -> Loss {
    let noted = model.provenance.get("loss").and_then(|text| serde_json::from_str(text).ok());
    let classes = set.labels().is_some();
    noted.unwrap_or_else(|| if classes { cross_entropy() } else { mse() })
}

fn open(args: &Args, model: &Model, preprocess: &Preprocess) -> Result<Dataset> {
    let Some(name) = &args.data else {
        let text = model
            .provenance
            .get("recipe")
            .context("the model file does not say what it was trained on; name the data with --data")?;
        let recipe = Recipe::parse("the model's recipe", text)?;
        return part(recipe.open_data()?.with_preprocess(preprocess)?, &args.part);
    };
    let path = std::path::Path::new(name);
    if path.is_dir() {
        let Input::Image(image) = &preprocess.input else {
            return Err(usage(format!("{name} is a folder, but this model takes no images")));
        };
        let options = FolderOptions { image: image.clone(), test: 0.0, seed: 0 };
        let splits = image_folder(path, &options)?.with_preprocess(preprocess)?;
        let whole = splits.test.is_empty() && args.part == "test";
        return part(splits, if whole { "train" } else { &args.part });
    }
    if path.is_file() {
        return Ok(Table::read(path)?.dataset(preprocess)?);
    }
    let entry = data::find(name).map_err(|e| usage(format!("{e}, or a file or folder")))?;
    part(entry.open(args.path.as_deref())?.with_preprocess(preprocess)?, &args.part)
}

fn part(splits: Splits, name: &str) -> Result<Dataset> {
    let set = match name {
        "train" => splits.train,
        "validation" => splits.validation,
        _ => splits.test,
    };
    if set.is_empty() {
        return Err(usage(format!("{} has no {name} part; choose another with --part", splits.name)));
    }
    Ok(set)
}

fn rows(e: &Evaluation) -> Vec<Vec<String>> {
    let percent = |v: f64| format!("{:.2} %", 100.0 * v);
    let mut rows = vec![["figure", "value"].map(str::to_owned).to_vec()];
    let mut add = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    add("samples", grouped(e.samples));
    add("loss", figure(e.loss));
    for (name, v) in [("accuracy", e.accuracy), ("top-5 accuracy", e.top5)] {
        if !v.is_nan() {
            add(name, percent(v));
        }
    }
    for (name, v) in [("RMSE", e.rmse), ("mean absolute error", e.mae), ("R²", e.r2)] {
        if !v.is_nan() {
            add(name, figure(v));
        }
    }
    rows
}
