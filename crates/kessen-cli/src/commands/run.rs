//! `kessen run`: any model on raw arrays.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kessen_engine::Precision;
use kessen_formats::{SafeTensors, npy};
use kessen_graph::{Graph, ParamKind};
use kessen_tensor::{DType, Tensor};
use kessen_train::Predictor;
use serde_json::json;

use crate::failure::{unknown, usage};
use crate::files;
use crate::models::{self, Found};
use crate::term::{Style, Term};

const EXAMPLES: &str = "\
Examples:
  kessen run runs/digits --input image.npy --output out
  kessen run resnet34 --weights resnet34.safetensors --input x.npy --output out
  kessen run net.txt --seed 1 --input a=a.npy --input b=b.npy --output out --backend reference

Each output of the model becomes DIR/NAME.npy. Weights come from the model file, from --weights (a .safetensors file
with PyTorch's names), or from the seed.";

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A model file, a run folder, a recipe, a file with a wiring, or a name of the zoo.
    model: String,
    /// Parameters from this .safetensors file.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// An input's values; the name may be left out where the model has one input.
    #[arg(long, value_name = "[NAME=]FILE.npy", required = true)]
    input: Vec<String>,
    /// The folder that the outputs are written to.
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// What computes: `cpu`, or `reference` (naive loops in double precision).
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    backend: String,
    /// Which algorithms the plan may use [default: those of a model's training, otherwise the fastest].
    #[arg(long, value_name = "PRECISION", value_parser = models::precision())]
    precision: Option<Precision>,
    /// Draws the parameters where no file gives them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Runs.
pub fn run(term: &Term, args: Args) -> Result<()> {
    let found = models::find(&args.model)?;
    let graph = found.graph().clone();
    let precision = args.precision.or_else(|| found.precision()).unwrap_or_default();
    let params = params(term, &args, found)?;
    let inputs = args.input.iter().map(|text| read_input(&graph, text)).collect::<Result<Vec<_>>>()?;
    let predictor = Predictor::new(models::backend(&args.backend)?, &graph, &params)?.precision(precision);
    let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let outputs = predictor.predict(&given)?;
    files::create_folder(&args.output)?;
    let mut written = Vec::new();
    for (name, value) in &outputs {
        let path = args.output.join(format!("{}.npy", name.replace(['/', '\\'], "_")));
        npy::write(&path, value)?;
        if !term.json {
            let shape: Vec<String> = value.shape().iter().map(ToString::to_string).collect();
            term.say(&format!("{}: {} [{}]", path.display(), value.dtype(), shape.join(", ")));
        }
        written.push(json!({ "name": name, "file": path.display().to_string(), "shape": value.shape() }));
    }
    if term.json {
        term.result(&json!({ "outputs": written }).to_string());
    }
    Ok(())
}

fn params(term: &Term, args: &Args, found: Found) -> Result<Vec<(String, Tensor)>> {
    if let Some(path) = &args.weights {
        return Ok(SafeTensors::read(path)?.tensors);
    }
    let graph = match found {
        Found::Model(model) => return Ok(model.params),
        Found::Wiring(graph) => *graph,
    };
    term.note(
        &term.paint(Style::Faint, &format!("no --weights: parameters are drawn from seed {}", args.seed)),
    );
    draw(&graph, args.seed)
}

/// First values of every weight and buffer.
pub fn draw(graph: &Graph, seed: u64) -> Result<Vec<(String, Tensor)>> {
    let kept = graph.params().iter().filter(|p| p.kind != ParamKind::State);
    kept.map(|p| Ok((p.path.clone(), p.init.sample(&p.shape, seed, &p.path)?))).collect()
}

/// An input's name and values.
fn read_input(graph: &Graph, text: &str) -> Result<(String, Tensor)> {
    let names: Vec<&str> = graph.inputs().iter().map(|&v| graph.value(v).name.as_str()).collect();
    let split = text.split_once('=').filter(|(name, _)| !Path::new(text).exists() && !name.contains('/'));
    let (name, file) = match (split, names.as_slice()) {
        (Some((name, file)), _) => (name, file),
        (None, [only]) => (*only, text),
        (None, _) => {
            let list = names.join(", ");
            return Err(usage(format!("--input {text}: the model has the inputs {list}; write NAME={text}")));
        }
    };
    if !names.contains(&name) {
        return Err(unknown("input", name, &names, "`kessen inspect` shows a model's inputs"));
    }
    let value = npy::read(Path::new(file)).with_context(|| format!("input `{name}`"))?;
    // NumPy's default types are double precision and, for bytes, u8; the model's own type is what counts.
    let wanted = graph.ty(graph.find(name)?).dtype;
    let value = match (wanted, value.dtype()) {
        (DType::I64, found) if found.is_float() => {
            return Err(usage(format!(
                "input `{name}`: found {found} in {file}, expected integers (class or token ids)"
            )));
        }
        _ => value.cast(wanted)?,
    };
    Ok((name.to_owned(), value))
}
