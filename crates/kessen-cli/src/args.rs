//! The command line as data: help, completion and suggestions come from it.

use std::num::NonZeroUsize;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

use crate::commands;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  kessen train digits                 learn handwritten digits; the data are in the binary
  kessen predict runs/digits 5.png    ask the trained network
  kessen train sine --set model.units=32
  kessen approximate \"abs(x)\" --units 1,2,4,8,16,32,64
  kessen inspect runs/digits --draw digits.svg

`kessen COMMAND --help` shows examples for each command.
Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// Neural networks whose wiring is a value: build, check, draw, train and run them.
#[derive(Debug, Parser)]
#[command(name = "kessen", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 110)]
#[command(propagate_version = true, arg_required_else_help = true, infer_subcommands = false)]
pub struct Args {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Print results and errors only.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print the result as JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
    /// Threads to compute with; the result does not depend on it [default: all cores].
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a network as a recipe describes it.
    Train(commands::train::Args),
    /// Fit a function of x by perceptrons of several widths: universal approximation.
    Approximate(commands::approximate::Args),
    /// Ask a trained model about images or rows of a table.
    Predict(commands::predict::Args),
    /// Measure a trained model on data.
    Eval(commands::eval::Args),
    /// Print or draw an architecture: shapes, receptive fields, parameters, costs.
    Inspect(commands::inspect::Args),
    /// Run any model on raw arrays.
    Run(commands::run::Args),
    /// List the shipped recipes, or print one.
    Recipes(commands::recipes::Args),
    /// List the data sets that are known by name.
    Data(commands::data::Args),
    /// Measure the time of a training step or an inference call.
    Bench(commands::bench::Args),
    /// Print a completion script for a shell.
    Completions(commands::completions::Args),
}
