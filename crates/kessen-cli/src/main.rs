//! The `kessen` command: flags, recipes, progress, exit codes. What it does is done by the libraries.
//!
//! One file per command under [`commands`]; what several of them need stands beside it.

mod args;
mod commands;
mod failure;
mod files;
mod models;
mod progress;
mod recipe;
mod report;
mod run_folder;
mod sizes;
mod term;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::failure::usage;
use crate::term::Term;

fn main() -> ExitCode {
    let args = Args::parse();
    let term = Term::new(args.common.quiet, args.common.json);
    match run(&term, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&term, &error),
    }
}

fn run(term: &Term, args: Args) -> anyhow::Result<()> {
    kessen_kernels::isa::init().map_err(|e| usage(e.to_string()))?;
    match args.common.threads {
        Some(threads) => kessen_kernels::threads::set_count(threads.get()),
        None => drop(kessen_kernels::threads::init().map_err(|e| usage(e.to_string()))?),
    }
    match args.command {
        Command::Train(args) => commands::train::run(term, args),
        Command::Approximate(args) => commands::approximate::run(term, args),
        Command::Predict(args) => commands::predict::run(term, args),
        Command::Eval(args) => commands::eval::run(term, args),
        Command::Inspect(args) => commands::inspect::run(term, args),
        Command::Run(args) => commands::run::run(term, args),
        Command::Recipes(args) => commands::recipes::run(term, args),
        Command::Data(args) => commands::data::run(term, args),
        Command::Bench(args) => commands::bench::run(term, args),
        Command::Completions(args) => commands::completions::run(term, args),
    }
}
