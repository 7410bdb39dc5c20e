//! `kessen data`: the data sets that are known by name.

use std::path::PathBuf;

use clap::Subcommand;
use kessen_data::{Splits, data};
use serde_json::json;

use crate::term::{Term, grouped, table};

const EXAMPLES: &str = "\
Examples:
  kessen data                            list them
  kessen data show digits                sizes, fields, classes, source and licence
  kessen data show mnist --path ~/mnist  the same for one that lies in a folder";

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the data sets.
    List,
    /// Say what a data set holds.
    Show {
        /// Its name.
        name: String,
        /// The folder that it lies in, where it is not in the binary.
        #[arg(long, value_name = "FOLDER")]
        path: Option<PathBuf>,
    },
}

/// Lists or describes.
pub fn run(term: &Term, args: Args) -> anyhow::Result<()> {
    match args.action {
        None | Some(Action::List) => list(term),
        Some(Action::Show { name, path }) => show(term, &name, path),
    }
}

fn list(term: &Term) -> anyhow::Result<()> {
    let place = |open: &data::Open| match open {
        data::Open::Embedded(_) => "in the binary",
        data::Open::Folder(_) => "in a folder",
    };
    if term.json {
        let entry = |e: &data::Entry| {
            json!({
                "name": e.name, "summary": e.summary, "source": e.source, "licence": e.licence,
                "embedded": matches!(e.open, data::Open::Embedded(_)),
            })
        };
        let list: Vec<_> = data::list().iter().map(entry).collect();
        term.result(&serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    let mut rows = vec![["data set", "what it holds", "where", "licence"].map(str::to_owned).to_vec()];
    let row = |e: &data::Entry| [e.name, e.summary, place(&e.open), e.licence].map(str::to_owned).to_vec();
    rows.extend(data::list().iter().map(row));
    term.result(&table(term, &rows, None));
    term.say(
        "\nA recipe names one as `data.name`. Besides these: `function` (a formula in x), `table` (CSV or ARFF) and \
         `images`\n(a folder with a folder per class).",
    );
    Ok(())
}

fn show(term: &Term, name: &str, path: Option<PathBuf>) -> anyhow::Result<()> {
    let entry = data::find(name).map_err(|e| crate::failure::usage(e.to_string()))?;
    let splits = entry.open(path.as_deref())?;
    let fields: Vec<_> =
        splits.train.fields().iter().map(|f| (f.name.clone(), f.dtype, f.shape.clone())).collect();
    let labels = splits.train.labels().unwrap_or_default();
    if term.json {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, dtype, shape)| json!({ "name": name, "dtype": dtype.name(), "shape": shape }))
            .collect();
        let value = json!({
            "name": entry.name, "summary": entry.summary, "source": entry.source, "licence": entry.licence,
            "train": splits.train.len(), "validation": splits.validation.len(), "test": splits.test.len(),
            "fields": fields, "labels": labels, "notes": splits.notes,
        });
        term.result(&serde_json::to_string_pretty(&value)?);
        return Ok(());
    }
    let count = |n: usize| grouped(n as u64);
    let Splits { train, validation, test, notes, .. } = &splits;
    term.result(&format!("{}: {}", entry.name, entry.summary));
    term.result(&format!("  source      {}", entry.source));
    term.result(&format!("  licence     {}", entry.licence));
    term.result(&format!(
        "  samples     {} to train, {} to validate, {} to test",
        count(train.len()),
        count(validation.len()),
        count(test.len())
    ));
    for (name, dtype, shape) in &fields {
        term.result(&format!("  field       {name}: {dtype} {shape:?}"));
    }
    if !labels.is_empty() {
        term.result(&format!("  classes     {}: {}", labels.len(), labels.join(", ")));
    }
    notes.iter().for_each(|note| term.result(&format!("  note        {note}")));
    Ok(())
}
