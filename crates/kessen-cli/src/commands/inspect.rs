//! `kessen inspect`: an architecture as a table, as JSON, as a drawing.

use std::path::PathBuf;

use anyhow::Result;

use crate::models;
use crate::term::Term;

const EXAMPLES: &str = "\
Examples:
  kessen inspect runs/digits
  kessen inspect digits --draw digits.svg         the recipe's architecture as a drawing (.svg or .png)
  kessen inspect resnet34 --input 3x224x224 --batch 16
  kessen inspect net.txt --json";

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A model file, a run folder, a recipe, a file with a wiring, or a name of the zoo.
    model: String,
    /// Draw the architecture into this file, .svg or .png.
    #[arg(long, value_name = "FILE")]
    draw: Option<PathBuf>,
    /// Print the wiring as text, which `inspect`, recipes and model files read.
    #[arg(long)]
    text: bool,
}

/// Inspects.
pub fn run(term: &Term, args: Args) -> Result<()> {
    let found = models::find(&args.model)?;
    let graph = found.graph();
    if let Some(path) = &args.draw {
        kessen_view::draw(graph).save(path)?;
        term.note(&format!("drawn into {}", path.display()));
    }
    if args.text {
        term.result(graph.to_text().trim_end());
    }
    Ok(())
}
