//! `kessen inspect`: an architecture as a table, as JSON, as text, as a drawing.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kessen_engine::{Backend, CompileOptions, Cpu};
use kessen_graph::{Bindings, Graph};
use kessen_train::{GUARD, StepSpec, TrainStep};
use serde_json::json;

use crate::failure::usage;
use crate::models;
use crate::term::{Style, Term, bytes};

const EXAMPLES: &str = "\
Examples:
  kessen inspect runs/digits
  kessen inspect digits --draw digits.svg         the recipe's architecture as a drawing (.svg or .png)
  kessen inspect resnet34 --input 3x192x192 --batch 16
  kessen inspect 'vgg16(classes=10)' --json
  kessen inspect net.txt --dim time=64

Receptive fields are counted along every path: size, stride and padding in pixels of the input.";

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A model file, a run folder, a recipe, a file with a wiring, or a name of the zoo.
    model: String,
    /// Draw the architecture into this file, .svg or .png.
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
    /// Print the wiring as text, as recipes and model files hold it.
    #[arg(long)]
    text: bool,
    /// The size of one input sample, such as 3x224x224.
    #[arg(long, value_name = "CxHxW")]
    input: Option<String>,
    /// Samples per batch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// The number of another named dimension; may be given several times.
    #[arg(long, value_name = "NAME=N")]
    dim: Vec<String>,
}

/// Inspects.
pub fn run(term: &Term, args: Args) -> Result<()> {
    let size = args.input.as_deref().map(size).transpose()?;
    let graph = models::find_sized(&args.model, size.as_deref())?.graph().clone();
    let bindings = bindings(&args, &graph, size.as_deref())?;
    if let Some(path) = &args.draw {
        kessen_view::draw(&graph).save(path)?;
        term.note(&format!("drawn into {}", path.display()));
    }
    if args.text {
        term.result(graph.to_text().trim_end());
        return Ok(());
    }
    let summary = graph.summary(bindings.clone())?;
    let plans = [("inference", inference(&graph, &bindings)), ("training", training(&graph, &bindings))];
    if term.json {
        let mut value = serde_json::to_value(&summary)?;
        let memory = |plan: &Result<usize>| plan.as_ref().ok().copied();
        value["plan_bytes"] = json!({ "inference": memory(&plans[0].1), "training": memory(&plans[1].1) });
        term.result(&serde_json::to_string_pretty(&value)?);
        return Ok(());
    }
    term.result(summary.to_string().trim_end());
    for (mode, memory) in &plans {
        let text = match memory {
            Ok(n) => bytes(*n as u64),
            Err(error) => format!("no plan: {error:#}"),
        };
        term.result(&format!("{:<28}{text}", format!("plan's memory, {mode}:")));
    }
    if args.draw.is_none() {
        let next = format!(
            "Next: `kessen inspect {} --draw FILE.svg` draws it, `--text` prints the wiring.",
            args.model
        );
        term.note(&term.paint(Style::Faint, &next));
    }
    Ok(())
}

/// `3x224x224` as numbers.
fn size(text: &str) -> Result<Vec<usize>> {
    let parts = text.split(['x', '×', ',']).map(|p| p.trim().parse::<usize>().ok().filter(|&n| n > 0));
    let wrong = || usage(format!("--input {text}: expected sizes above 0 of one sample, such as 3x224x224"));
    parts.collect::<Option<Vec<_>>>().ok_or_else(wrong)
}

/// A number for every named dimension.
fn bindings(args: &Args, graph: &Graph, size: Option<&[usize]>) -> Result<Bindings> {
    let mut bindings = Bindings::default();
    bindings.set("batch", args.batch as usize);
    for text in &args.dim {
        let parsed = text.split_once('=').and_then(|(name, n)| Some((name.trim(), n.trim().parse().ok()?)));
        let (name, n) =
            parsed.ok_or_else(|| usage(format!("--dim {text}: expected NAME=N, such as time=64")))?;
        bindings.set(name, n);
    }
    if let (Some(size), Some(&input)) = (size, graph.inputs().first()) {
        let ty = graph.ty(input);
        let sample = ty.shape.get(1..).unwrap_or_default();
        let fits = sample.len() == size.len()
            && sample.iter().zip(size).all(|(d, &n)| match d.as_name() {
                Some(name) => {
                    bindings.set(name, n);
                    true
                }
                None => d.eval(&bindings).is_ok_and(|found| found == n),
            });
        if !fits {
            let name = &graph.value(input).name;
            let given = args.input.as_deref().unwrap_or_default();
            return Err(usage(format!(
                "--input {given}: the model's input `{name}` is {ty}, the batch first"
            )));
        }
    }
    let open: Vec<String> = graph.dim_names().into_iter().filter(|n| bindings.find(n).is_none()).collect();
    if let Some(name) = open.first() {
        let list = open.join(", ");
        return Err(usage(format!(
            "the wiring has the named dimensions {list}\n  = give each a number: --dim {name}=64"
        )));
    }
    Ok(bindings)
}

fn inference(graph: &Graph, bindings: &Bindings) -> Result<usize> {
    let graph = graph.for_inference()?;
    Ok(Cpu::new().compile(&graph, bindings, &CompileOptions::inference())?.memory())
}

fn training(graph: &Graph, bindings: &Bindings) -> Result<usize> {
    let loss = models::usual_loss(graph).context("no output to compare with a target")?;
    let target = loss.target_type(graph.ty(graph.outputs()[0].1))?.dtype;
    let step = TrainStep::new(graph, &StepSpec::new(loss, kessen_train::adam(1e-3)), target)?;
    Ok(Cpu::new().compile(&step.graph, bindings, &CompileOptions::training(GUARD))?.memory())
}
