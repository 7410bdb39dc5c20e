//! `kessen completions`: a script that completes commands and flags.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::term::Term;

const EXAMPLES: &str = "\
Examples:
  kessen completions bash > ~/.local/share/bash-completion/completions/kessen
  kessen completions zsh  > ~/.zfunc/_kessen
  kessen completions fish > ~/.config/fish/completions/kessen.fish";

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
pub fn run(term: &Term, args: Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::Args::command(), "kessen", &mut script);
    term.result(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}
