//! `kessen inspect`: an architecture as a table, as JSON, as text, as a drawing.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kessen_engine::{Backend, CompileOptions, Cpu, Precision};
use kessen_graph::{Bindings, Graph};
use kessen_train::{GUARD, StepSpec, TrainStep};
use serde_json::json;

use crate::models;
use crate::sizes::SizeFlags;
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
    /// Its sizes.
    #[command(flatten)]
    sizes: SizeFlags,
    /// Samples per batch [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Which algorithms the plans whose memory is shown may use [default: those of a model's training, or `fast`].
    #[arg(long, value_name = "PRECISION", value_parser = models::precision())]
    precision: Option<Precision>,
}

/// Inspects.
pub fn run(term: &Term, args: Args) -> Result<()> {
    let mut sizes = args.sizes.read()?;
    let found = models::find_sized(&args.model, &mut sizes)?;
    let graph = found.graph();
    let bindings = sizes.bindings(graph, args.batch.map(|n| n as usize), None)?;
    let precision = args.precision.or_else(|| found.precision()).unwrap_or_default();
    if let Some(path) = &args.draw {
        kessen_view::draw(graph).save(path)?;
        term.note(&format!("drawn into {}", path.display()));
    }
    if args.text {
        term.result(graph.to_text().trim_end());
        return Ok(());
    }
    let summary = graph.summary(bindings.clone())?;
    let plans = [
        ("inference", inference(graph, &bindings, precision)),
        ("training", training(graph, &bindings, precision)),
    ];
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

fn inference(graph: &Graph, bindings: &Bindings, precision: Precision) -> Result<usize> {
    let graph = graph.for_inference()?;
    Ok(Cpu::new().compile(&graph, bindings, &CompileOptions::inference().precision(precision))?.memory())
}

fn training(graph: &Graph, bindings: &Bindings, precision: Precision) -> Result<usize> {
    let loss = models::usual_loss(graph).context("no output to compare with a target")?;
    let target = loss.target_type(graph.ty(graph.outputs()[0].1))?.dtype;
    let step = TrainStep::new(graph, &StepSpec::new(loss, kessen_train::adam(1e-3)), target)?;
    let options = CompileOptions::training(GUARD).precision(precision);
    Ok(Cpu::new().compile(&step.graph, bindings, &options)?.memory())
}
