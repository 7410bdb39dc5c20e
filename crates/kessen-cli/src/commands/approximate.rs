//! `kessen approximate`: universal approximation, seen: the error against the number of hidden units.

use std::path::PathBuf;

use anyhow::Result;
use kessen_data::Expression;
use kessen_train::{Fit, approximate_widths};
use kessen_view::{Approximation, Report, Section, Snapshot, Table, WidthError, error_by_width};
use serde_json::json;

use crate::failure::usage;
use crate::run_folder::RunFolder;
use crate::term::{Term, figure, table};

const EXAMPLES: &str = "\
Examples:
  kessen approximate \"abs(x)\"
  kessen approximate \"sin(2*pi*x)\" --units 1,2,4,8,16
  kessen approximate \"exp(-x)*sin(5*x)\" --from 0 --to 3 --out damped
  kessen approximate \"step(x)\" --units 1,4,16 --json

A perceptron with one input, one hidden layer of sigmoids and one output, fitted for every width. The folder gets
error.svg, error.png, error.csv and report.html with each fit and its basis functions.";

/// Places at which curves are drawn.
const PLACES: usize = 601;
/// More hidden units than this would be a thicket.
const SHOWN: usize = 64;

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A formula in x: + - * / ^, sin, exp, abs, step, min, max …
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    expression: String,
    /// Numbers of hidden units.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
    units: Vec<usize>,
    /// The interval's left end.
    #[arg(long, default_value_t = -1.0, allow_hyphen_values = true)]
    from: f64,
    /// The interval's right end.
    #[arg(long, default_value_t = 1.0, allow_hyphen_values = true)]
    to: f64,
    /// The folder for the table and the pictures [default: runs/approximate, runs/approximate-2, …].
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Fits every width.
pub fn run(term: &Term, args: Args) -> Result<()> {
    let f = Expression::parse(&args.expression).map_err(|e| usage(e.to_string()))?;
    let mut widths = args.units.clone();
    widths.sort_unstable();
    widths.dedup();
    if widths.first().is_none_or(|&w| w == 0) || widths.last().is_some_and(|&w| w > 4096) {
        return Err(usage("--units: expected numbers from 1 to 4096, such as 1,2,4,8"));
    }
    let folder = RunFolder::create(args.out.as_deref(), "approximate")?;
    let domain = [args.from, args.to];
    term.note(&format!("fitting y = {} on [{}, {}]", args.expression, args.from, args.to));
    let fits = approximate_widths(&|x| f.eval(x), domain, &widths)?;
    let errors: Vec<WidthError> = widths
        .iter()
        .zip(&fits)
        .map(|(&units, fit)| WidthError { units, worst: fit.worst, rms: fit.rms })
        .collect();
    save(&args, &f, &folder, &errors, &fits)?;
    if term.json {
        let one = |e: &WidthError| json!({ "units": e.units, "worst": e.worst, "rms": e.rms });
        let list: Vec<_> = errors.iter().map(one).collect();
        let path = folder.path().display().to_string();
        term.result(&json!({ "expression": args.expression, "folder": path, "errors": list }).to_string());
        return Ok(());
    }
    let mut rows = vec![["units", "worst error", "RMS error"].map(str::to_owned).to_vec()];
    rows.extend(errors.iter().map(|e| vec![e.units.to_string(), figure(e.worst), figure(e.rms)]));
    term.result(&table(term, &rows, None));
    term.say(&format!("Next: open {}", folder.report().display()));
    Ok(())
}

fn save(args: &Args, f: &Expression, folder: &RunFolder, errors: &[WidthError], fits: &[Fit]) -> Result<()> {
    let name = &args.expression;
    let picture = error_by_width(format!("y = {name} by a 1–H–1 perceptron"), errors);
    picture.save(folder.path().join("error.svg"))?;
    picture.save(folder.path().join("error.png"))?;
    let lines = errors.iter().map(|e| format!("{},{},{}\n", e.units, e.worst, e.rms));
    let csv = std::iter::once("units,worst,rms\n".to_owned()).chain(lines).collect::<String>();
    crate::files::write(&folder.path().join("error.csv"), csv.as_bytes())?;
    let mut rows = Table::new(["hidden units", "worst error", "RMS error"]);
    for e in errors {
        rows = rows.row([e.units.to_string(), figure(e.worst), figure(e.rms)]);
    }
    let text = "With one hidden layer of sigmoids, any continuous function can be approximated as closely as one likes \
                by increasing the number of units. Errors are measured on ten thousand points, most of them between \
                the points that the network was fitted to.";
    let mut report = Report::new(format!("y = {name}"))
        .subtitle(format!(
            "approximated on [{}, {}] by perceptrons with one hidden layer",
            args.from, args.to
        ))
        .section(Section::new("Error against width").text(text).picture(picture, "").table(rows));
    for (error, fit) in errors.iter().zip(fits).filter(|(e, _)| e.units <= SHOWN) {
        let title = format!("{} hidden unit{}", error.units, if error.units == 1 { "" } else { "s" });
        let caption = format!("worst error {}, RMS error {}", figure(error.worst), figure(error.rms));
        report = report.section(Section::new(title).picture(fit_picture(args, f, fit)?.picture(), caption));
    }
    report.provenance("made by", concat!("kessen ", env!("CARGO_PKG_VERSION"))).save(folder.report())?;
    Ok(())
}

/// The fit at its beginning, in the middle and at the end.
fn fit_picture(args: &Args, f: &Expression, fit: &Fit) -> Result<Approximation> {
    let at = |i: usize| args.from + (args.to - args.from) * i as f64 / (PLACES - 1) as f64;
    let x: Vec<f64> = (0..PLACES).map(at).collect();
    let target: Vec<f64> = x.iter().map(|&x| f.eval(x)).collect();
    let mut picture = Approximation::new("", x.clone()).target(target)?;
    let last = fit.snapshots.len().saturating_sub(1);
    let moments = [0, last / 2, last];
    for (k, moment) in
        moments.iter().enumerate().filter(|(k, m)| moments[..*k].iter().all(|before| before != *m))
    {
        let Some(snapshot) = fit.snapshots.get(*moment) else { continue };
        let perceptron = if *moment == last { &fit.perceptron } else { &snapshot.perceptron };
        let unit = |u: &kessen_train::Unit| kessen_view::Unit {
            basis: x.iter().map(|&x| u.basis(x)).collect(),
            weight: u.v,
        };
        let title = format!("{}: {}", ["first", "on the way", "last"][k], snapshot.stage);
        let units = perceptron.units.iter().map(unit).collect();
        picture = picture.snapshot(Snapshot { title, units, bias: perceptron.c })?;
    }
    Ok(picture)
}
