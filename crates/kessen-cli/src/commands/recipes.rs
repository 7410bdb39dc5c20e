//! `kessen recipes`: what can be trained at once, and a recipe to start one's own from.

use clap::Subcommand;
use serde_json::json;

use crate::recipe::{SHIPPED, find};
use crate::term::{Term, table};

const EXAMPLES: &str = "\
Examples:
  kessen recipes                          list them
  kessen recipes show digits              print one, with its comments
  kessen recipes show digits > mine.toml  start one of your own
  kessen train mine.toml";

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the recipes.
    List,
    /// Print a recipe.
    Show {
        /// Its name.
        name: String,
    },
}

/// Lists or prints.
pub fn run(term: &Term, args: Args) -> anyhow::Result<()> {
    if let Some(Action::Show { name }) = args.action {
        let recipe = find(&name)?;
        term.result(&match term.json {
            true => json!({ "name": recipe.name, "about": recipe.about(), "text": recipe.text }).to_string(),
            false => recipe.text.trim_end().to_owned(),
        });
        return Ok(());
    }
    if term.json {
        let list: Vec<_> = SHIPPED.iter().map(|r| json!({ "name": r.name, "about": r.about() })).collect();
        term.result(&serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    let mut rows = vec![vec!["recipe".to_owned(), "what it trains".to_owned()]];
    rows.extend(SHIPPED.iter().map(|r| vec![r.name.to_owned(), r.about()]));
    term.result(&table(term, &rows, None));
    term.say("\nNext: `kessen train NAME`, or `kessen recipes show NAME > mine.toml` to change one.");
    Ok(())
}
