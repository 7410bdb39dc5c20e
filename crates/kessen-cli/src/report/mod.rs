//! The page about a run: learning curves, what it gets wrong, the architecture, the recipe.

mod answers;
pub mod basis;
mod images;

pub use answers::softmax;

use anyhow::Result;
use kessen_data::{Input, Splits};
use kessen_graph::Bindings;
use kessen_graph::analysis::ReceptiveField;
use kessen_train::{EpochRecord, Evaluation, Trained};
use kessen_view::{
    Axis, BarChart, Confusion, Mark, Report, Scale, Section, Series, Table, XyChart, draw, learning_curve,
};

use crate::recipe::Recipe;
use crate::term::{bytes, duration, figure, grouped};

use self::answers::Answers;
use self::basis::Snapshots;

/// At most this many points in a curve of epochs.
const POINTS: usize = 1000;
/// Up to this many classes a confusion matrix can be read.
const CLASSES: usize = 40;

/// The page of a finished run.
///
/// # Errors
/// Where the test samples can't be read or the model can't be run on them.
pub fn page(
    recipe: &Recipe,
    splits: &Splits,
    trained: &mut Trained,
    snapshots: Option<&Snapshots>,
) -> Result<Report> {
    let mut report = figures(Report::new(&recipe.name).subtitle(&recipe.about), trained);
    if let Some(snapshots) = snapshots {
        report = report.section(basis::section(recipe, splits, trained, snapshots)?);
    }
    report = report.section(learning(trained));
    if !splits.test.is_empty() {
        let answers = Answers::of(trained, &splits.test)?;
        if let Some(section) = mistakes(splits, trained, &answers)? {
            report = report.section(section);
        }
        if snapshots.is_none()
            && let Some(section) = values(splits, &answers)
        {
            report = report.section(section);
        }
    }
    if let Some(sheet) = images::filters(trained)? {
        report = report.section(Section::new("What the first layer looks for").picture(
            sheet,
            "The first convolution's filters: vermilion counts for a feature, blue against it.",
        ));
    }
    report = report.section(architecture(trained)?);
    let recipe_text = recipe.to_toml()?;
    report = report.section(Section::new("Recipe").code("recipe.toml, with every default", recipe_text));
    Ok(provenance(report, recipe, splits))
}

fn figures(mut report: Report, trained: &Trained) -> Report {
    if let Some(test) = &trained.test {
        for (name, value) in headline(test) {
            report = report.figure(format!("test {name}"), value);
        }
    }
    report = report.figure("weights", grouped(trained.model.weight_count() as u64));
    if let Some(last) = trained.history.last() {
        report =
            report.figure("epochs", grouped(last.epoch as u64)).figure("training", duration(last.seconds));
    }
    report
}

/// The figures that a person asks for first.
fn headline(e: &Evaluation) -> Vec<(&'static str, String)> {
    match e.accuracy.is_nan() {
        false => vec![("accuracy", format!("{:.2} %", 100.0 * e.accuracy)), ("loss", figure(e.loss))],
        true => vec![("RMSE", figure(e.rmse)), ("R²", figure(e.r2))],
    }
}

/// The epochs, thinned out where they are many.
fn thinned(epochs: &[EpochRecord]) -> impl Iterator<Item = &EpochRecord> {
    let every = epochs.len().div_ceil(POINTS).max(1);
    epochs
        .iter()
        .enumerate()
        .filter(move |(i, _)| i.is_multiple_of(every) || i + 1 == epochs.len())
        .map(|(_, e)| e)
}

fn learning(trained: &Trained) -> Section {
    let epochs = &trained.history.epochs;
    let curve = |f: &dyn Fn(&EpochRecord) -> Option<f64>| -> Vec<(f64, f64)> {
        thinned(epochs).filter_map(|e| Some((e.epoch as f64, f(e)?))).filter(|p| p.1.is_finite()).collect()
    };
    let mut pictures = Vec::new();
    let loss = [
        ("train", curve(&|e| Some(e.train.loss))),
        ("validation", curve(&|e| e.validation.as_ref().map(|v| v.loss))),
    ];
    let kept = |curves: [(&'static str, Vec<(f64, f64)>); 2]| curves.into_iter().filter(|c| !c.1.is_empty());
    let wide = trained.test.as_ref().is_some_and(|t| t.accuracy.is_nan());
    let mut chart = learning_curve("Loss per epoch", "epoch", "loss", kept(loss));
    if wide {
        chart = chart.y(Axis::new("loss").scale(Scale::Log10));
    }
    pictures.push((chart.picture(), "Over an epoch's batches, each before its update."));
    let accuracy = [
        ("train", curve(&|e| Some(100.0 * e.train.accuracy))),
        ("validation", curve(&|e| e.validation.as_ref().map(|v| 100.0 * v.accuracy))),
    ];
    if accuracy[0].1.len() > 1 {
        let chart = learning_curve("Accuracy per epoch", "epoch", "accuracy in %", kept(accuracy));
        pictures.push((chart.picture(), "On augmented samples in training, on plain ones elsewhere."));
    }
    let steps = &trained.history.steps;
    let rate = steps.iter().map(|s| (s.step as f64, s.lr)).collect::<Vec<_>>();
    let rate = XyChart::new("Learning rate").x_label("step").y_label("learning rate").line("", rate);
    pictures.push((rate.picture(), ""));
    let norms = steps.iter().map(|s| (s.step as f64, s.grad_norm)).collect::<Vec<_>>();
    let norms = learning_curve("Length of the gradient", "step", "‖g‖", [("", norms)]);
    pictures.push((norms.y(Axis::new("‖g‖").scale(Scale::Log10)).picture(), "Before clipping."));
    Section::new("Learning").pictures(pictures)
}

/// Confusion matrix, figures per class, and the worst answers as images where the input is an image.
fn mistakes(splits: &Splits, trained: &Trained, answers: &Answers) -> Result<Option<Section>> {
    let Some(confusion) = trained.test.as_ref().and_then(|t| t.confusion.as_ref()) else { return Ok(None) };
    let labels = names(splits, confusion.classes);
    let mut section = Section::new("What it gets right and wrong");
    if confusion.classes <= CLASSES {
        let picture = Confusion::new(labels.clone(), &confusion.counts)?.picture();
        section =
            section.picture(picture, "Rows: what it is. Columns: what it was taken for. On the test part.");
    }
    let share = |v: f64| if v.is_nan() { "–".to_owned() } else { format!("{:.1} %", 100.0 * v) };
    let mut table = Table::new(["class", "test samples", "recall", "precision"]);
    for (k, label) in labels.iter().enumerate() {
        let samples: u64 = (0..confusion.classes).map(|j| confusion.at(k, j)).sum();
        let (recall, precision) = (share(confusion.recall(k)), share(confusion.precision(k)));
        table = table.row([label.clone(), grouped(samples), recall, precision]);
    }
    section = section.table(table);
    if let Input::Image(input) = &splits.test.preprocess().input {
        let sheet = images::worst(splits, answers, input, &labels)?;
        section = section.picture(
            sheet,
            "The test images with the lowest probability of the right class: what they are → what they were taken for, \
             and that probability.",
        );
    }
    Ok(Some(section))
}

/// Class names, or numbers where the data have none.
fn names(splits: &Splits, classes: usize) -> Vec<String> {
    match splits.test.labels() {
        Some(labels) if labels.len() == classes => labels.to_vec(),
        _ => (0..classes).map(|k| k.to_string()).collect(),
    }
}

/// Predicted against true values, and the errors.
fn values(splits: &Splits, answers: &Answers) -> Option<Section> {
    let (names, _) = splits.test.preprocess().values()?;
    let pairs = answers.values()?;
    let points: Vec<(f64, f64)> = pairs.iter().map(|&(t, p)| (t, p)).collect();
    let low = points.iter().flat_map(|p| [p.0, p.1]).fold(f64::INFINITY, f64::min);
    let high = points.iter().flat_map(|p| [p.0, p.1]).fold(f64::NEG_INFINITY, f64::max);
    let name = names.first().map_or("value", String::as_str);
    let chart = XyChart::new("Predicted against true")
        .x_label(format!("{name}, true"))
        .y_label(format!("{name}, predicted"))
        .series(Series::new("right answers", Mark::Line, [(low, low), (high, high)]).dashed())
        .series(Series::new("test samples", Mark::Points, points.iter().copied()));
    let (edges, counts) = histogram(&points.iter().map(|(t, p)| p - t).collect::<Vec<_>>());
    let errors = BarChart::new("Errors", edges).value_label("test samples").series("", counts);
    Some(Section::new("Predictions").pictures([
        (chart.picture(), "On the line the prediction is right."),
        (errors.picture(), "Predicted minus true."),
    ]))
}

/// Eleven equal bins around zero.
fn histogram(errors: &[f64]) -> (Vec<String>, Vec<f64>) {
    const BINS: usize = 11;
    let reach = errors.iter().fold(0.0f64, |m, e| m.max(e.abs())).max(f64::MIN_POSITIVE);
    let width = 2.0 * reach / BINS as f64;
    let mut counts = vec![0.0; BINS];
    for e in errors {
        counts[(((e + reach) / width) as usize).min(BINS - 1)] += 1.0;
    }
    let middle = |k: usize| (k as f64 + 0.5) * width - reach;
    ((0..BINS).map(|k| if k == BINS / 2 { "0".to_owned() } else { figure(middle(k)) }).collect(), counts)
}

/// Size of a receptive field, in pixels.
fn field(field: &ReceptiveField) -> String {
    match field {
        ReceptiveField::Window(w) => format!("{}×{}", w.size[0], w.size[1]),
        ReceptiveField::Whole => "all".to_owned(),
    }
}

fn architecture(trained: &Trained) -> Result<Section> {
    let model = &trained.model;
    let mut bindings = Bindings::default();
    for name in model.dim_names() {
        bindings.set(&name, 1);
    }
    let summary = model.summary(bindings)?;
    let shape = |s: &[usize]| s.iter().skip(1).map(ToString::to_string).collect::<Vec<_>>().join("×");
    let mut table =
        Table::new(["layer", "operator", "output", "receptive field", "parameters", "MACs", "activations"]);
    for row in &summary.rows {
        table = table.row([
            row.path.clone(),
            row.phrase.clone(),
            shape(&row.shape),
            row.receptive_field.as_ref().map_or_else(|| "–".to_owned(), field),
            grouped(row.parameters as u64),
            grouped(row.macs),
            bytes(row.activation_bytes),
        ]);
    }
    let total = &summary.total;
    let mut last = ["total for one sample", "", "", ""].map(str::to_owned).to_vec();
    last.extend([grouped(total.parameters as u64), grouped(total.macs), bytes(total.activation_bytes)]);
    let section = Section::new("Architecture").picture(draw(model), "").table(table.total(last));
    Ok(section.code("the wiring as text", model.to_text()))
}

fn provenance(report: Report, recipe: &Recipe, splits: &Splits) -> Report {
    let source = kessen_data::data::find(&splits.name).map(|e| format!("{} ({})", e.source, e.licence));
    let samples = format!(
        "{} to train, {} to validate, {} to test",
        splits.train.len(),
        splits.validation.len(),
        splits.test.len()
    );
    let mut report = report
        .provenance("made by", concat!("kessen ", env!("CARGO_PKG_VERSION")))
        .provenance("seed", recipe.config.seed.to_string())
        .provenance("data", source.unwrap_or_else(|_| splits.name.clone()))
        .provenance("samples", samples)
        .provenance("machine", crate::term::machine());
    for note in &splits.notes {
        report = report.provenance("note", note);
    }
    report
}
