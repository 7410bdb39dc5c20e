//! `kessen predict`: labels with probabilities, or values, for images and table rows.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kessen_data::{Input, Preprocess, Table};
use kessen_engine::Precision;
use kessen_formats::Model;
use kessen_train::Predictor;
use serde_json::{Value, json};

use crate::files;
use crate::models;
use crate::report::softmax;
use crate::term::{Term, figure, table};

const EXAMPLES: &str = "\
Examples:
  kessen predict runs/digits 5.png 7.png
  kessen predict runs/iris flowers.csv --top 1
  echo 5.1,3.5,1.4,0.2 | kessen predict runs/iris -
  kessen predict runs/digits 5.png --json

Images (PNG, JPEG, BMP, GIF, PNM, WebP) are brought to the network's size and standardised as in training. A table's
columns are found by their names; without names they stand in the order of training.";

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A model file or a run folder.
    model: PathBuf,
    /// Images, or CSV or ARFF files; `-` reads standard input.
    #[arg(required = true, value_name = "IMAGE|CSV|-")]
    inputs: Vec<PathBuf>,
    /// The likeliest classes to print.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Which algorithms the plan may use [default: those of the training].
    #[arg(long, value_name = "PRECISION", value_parser = models::precision())]
    precision: Option<Precision>,
}

/// One answer.
struct Answer {
    name: String,
    output: Vec<f32>,
}

/// Predicts.
pub fn run(term: &Term, args: Args) -> Result<()> {
    let model = models::model(&args.model)?;
    let preprocess = models::preprocess(&model)?;
    let mut predictor = models::predictor(&model, args.precision)?;
    let input = model.graph.inputs().first().context("the model has no input")?;
    let input = model.graph.value(*input).name.clone();
    let mut answers = Vec::new();
    for path in &args.inputs {
        answers.extend(answer(&mut predictor, &input, &preprocess, path)?);
    }
    match preprocess.labels().map(<[String]>::to_vec).or_else(|| labels(&model)) {
        Some(labels) => say_classes(term, &answers, &labels, args.top as usize),
        None => say_values(term, &answers, &preprocess),
    }
    Ok(())
}

fn labels(model: &Model) -> Option<Vec<String>> {
    (!model.labels.is_empty()).then(|| model.labels.clone())
}

/// The answers for one image, or for every row of one table.
fn answer(
    predictor: &mut Predictor,
    input: &str,
    preprocess: &Preprocess,
    path: &Path,
) -> Result<Vec<Answer>> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let bytes = files::read_bytes(path)?;
    let x = match &preprocess.input {
        Input::Image(_) => preprocess.image(&bytes, &name)?,
        Input::Table { .. } => rows(&bytes, &name, path)?.inputs(preprocess)?,
        _ => anyhow::bail!(
            "this model says nothing of its inputs' meaning; run it on raw arrays with `kessen run MODEL --input x.npy`"
        ),
    };
    let count = x.shape()[0];
    if count == 0 {
        anyhow::bail!("{name} holds no row");
    }
    let outputs = predictor.predict(&[(input, &x)])?;
    let output = &outputs.first().context("the model has no output")?.1;
    let values: &[f32] = output.as_slice()?;
    let width = values.len() / count;
    let named = |i: usize| if count == 1 { name.clone() } else { format!("{name}, row {}", i + 1) };
    Ok(values
        .chunks(width.max(1))
        .enumerate()
        .map(|(i, v)| Answer { name: named(i), output: v.to_vec() })
        .collect())
}

fn rows(bytes: &[u8], name: &str, path: &Path) -> Result<Table> {
    if path != Path::new("-") {
        return Ok(Table::read(path)?);
    }
    let text = std::str::from_utf8(bytes).context("standard input is no text")?;
    let is_arff = text.lines().any(|l| l.trim_start().to_lowercase().starts_with("@relation"));
    Ok(if is_arff { Table::arff(text, name)? } else { Table::csv(text, name, None)? })
}

fn say_classes(term: &Term, answers: &[Answer], labels: &[String], top: usize) {
    let ranked = |a: &Answer| -> Vec<(String, f64)> {
        let name = |k: usize| labels.get(k).cloned().unwrap_or_else(|| k.to_string());
        let mut all: Vec<_> = softmax(&a.output).into_iter().enumerate().map(|(k, p)| (name(k), p)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(top);
        all
    };
    if term.json {
        let all: Vec<Value> = answers
            .iter()
            .map(|a| {
                let top: Vec<Value> =
                    ranked(a).into_iter().map(|(l, p)| json!({ "label": l, "probability": p })).collect();
                json!({ "input": a.name, "top": top })
            })
            .collect();
        term.result(&json!(all).to_string());
        return;
    }
    for a in answers {
        let top: Vec<String> = ranked(a).iter().map(|(l, p)| format!("{l} {:.1} %", 100.0 * p)).collect();
        term.result(&format!("{}: {}", a.name, top.join(", ")));
    }
}

fn say_values(term: &Term, answers: &[Answer], preprocess: &Preprocess) {
    let width = answers.first().map_or(1, |a| a.output.len());
    let (names, standardise) = match preprocess.values() {
        Some((names, standardise)) => (names.to_vec(), standardise.clone()),
        None => ((0..width).map(|k| format!("output {k}")).collect(), Default::default()),
    };
    let units = |a: &Answer| {
        let mut values = a.output.clone();
        standardise.undo(&mut values);
        values
    };
    if term.json {
        let one = |a: &Answer| {
            let values: serde_json::Map<String, Value> =
                names.iter().cloned().zip(units(a)).map(|(n, v)| (n, json!(v))).collect();
            json!({ "input": a.name, "values": values })
        };
        term.result(&json!(answers.iter().map(one).collect::<Vec<_>>()).to_string());
        return;
    }
    let mut rows = vec![std::iter::once("input".to_owned()).chain(names.iter().cloned()).collect::<Vec<_>>()];
    for a in answers {
        let values = units(a).into_iter().map(|v| figure(f64::from(v)));
        rows.push(std::iter::once(a.name.clone()).chain(values).collect());
    }
    term.result(&table(term, &rows, None));
}
