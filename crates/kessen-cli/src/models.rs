//! What a user may name where a model is wanted: a model file, a run folder, a recipe, a file with a wiring, the zoo.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use kessen_data::Preprocess;
use kessen_engine::{Backend, Cpu, Precision, Reference};
use kessen_formats::Model;
use kessen_graph::{Dim, Graph};
use kessen_train::{Loss, Predictor, cross_entropy, default_backend, mse, trained_precision};

use crate::failure::{unknown, usage};
use crate::files;
use crate::recipe::{Recipe, SHIPPED};
use crate::sizes::Sizes;

/// What a name stands for.
pub enum Found {
    /// A model with its parameters.
    Model(Box<Model>),
    /// A wiring without parameters.
    Wiring(Box<Graph>),
}

impl Found {
    /// The wiring.
    pub fn graph(&self) -> &Graph {
        match self {
            Self::Model(model) => &model.graph,
            Self::Wiring(graph) => graph,
        }
    }

    /// The precision that a model was trained with.
    pub fn precision(&self) -> Option<Precision> {
        match self {
            Self::Model(model) => trained_precision(model),
            Self::Wiring(_) => None,
        }
    }
}

/// The model, recipe, wiring or architecture called `name`.
///
/// # Errors
/// A file that is none of these, with what is wrong in it; a name that does not exist, with the nearest.
pub fn find(name: &str) -> Result<Found> {
    find_sized(name, &mut Sizes::default())
}

/// As [`find`]; an architecture of the zoo is built for the sizes that it can be told.
///
/// # Errors
/// As [`find`].
pub fn find_sized(name: &str, sizes: &mut Sizes) -> Result<Found> {
    let path = Path::new(name);
    if path.is_dir() || name.ends_with(".safetensors") {
        return Ok(Found::Model(Box::new(model(path)?)));
    }
    if name.ends_with(".toml") {
        return recipe(name);
    }
    if path.is_file() {
        let text = files::read_text(path)?;
        let graph = Graph::from_text(&text).with_context(|| format!("in the wiring {name}"))?;
        return Ok(Found::Wiring(Box::new(graph)));
    }
    if name.contains(['/', '\\']) || name.contains('.') && !name.contains('(') {
        return Err(usage(format!("{name} does not exist")));
    }
    if SHIPPED.iter().any(|s| s.name == name) {
        return recipe(name);
    }
    Ok(Found::Wiring(Box::new(zoo_sized(name, sizes)?)))
}

fn recipe(name: &str) -> Result<Found> {
    let recipe = Recipe::open(name, &[])?;
    let data = recipe.open_data().context("the data decide the model's size")?;
    Ok(Found::Wiring(Box::new(recipe.build_model(&data)?)))
}

/// The model in a file, or in a run folder.
///
/// # Errors
/// Where there is none, or it is damaged.
pub fn model(path: &Path) -> Result<Model> {
    let file = match path.is_dir() {
        true => path.join("model.safetensors"),
        false => path.to_owned(),
    };
    if !file.is_file() {
        let hint = match path.is_dir() {
            true => {
                "\n  = the folder of a finished run holds one; an interrupted run goes on with `kessen train --resume`"
            }
            false => "\n  = name a .safetensors file or a run folder, such as runs/digits",
        };
        return Err(usage(format!("{} does not exist{hint}", file.display())));
    }
    Ok(Model::read(&file)?)
}

/// How a model's raw inputs come before it.
///
/// # Errors
/// A model file with notes of another form.
pub fn preprocess(model: &Model) -> Result<Preprocess> {
    match &model.preprocess {
        Some(value) => {
            serde_json::from_value(value.clone()).context("the model's preprocessing can't be read")
        }
        None => Ok(Preprocess::default()),
    }
}

/// A model that answers in the precision given, or else in that of its training.
///
/// # Errors
/// Parameters that are missing or of another shape.
pub fn predictor(model: &Model, precision: Option<Precision>) -> Result<Predictor> {
    let precision = precision.or_else(|| trained_precision(model)).unwrap_or_default();
    Ok(Predictor::new(default_backend(), &model.graph, &model.params)?.precision(precision))
}

/// Reads `--precision`; help, completion and suggestions list the words there are.
pub fn precision() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::WORDS).map(|word| Precision::from_word(&word).unwrap_or_default())
}

/// The loss that suits a model's first output: cross-entropy where it may be logits of classes, squares otherwise.
pub fn usual_loss(graph: &Graph) -> Option<Loss> {
    let output = graph.ty(graph.outputs().first()?.1);
    let several = output.shape.last().and_then(Dim::as_fixed) > Some(1);
    let classes = several && output.rank() > 1 && cross_entropy().target_type(output).is_ok();
    Some(if classes { cross_entropy() } else { mse() })
}

/// An architecture of the zoo with its arguments, such as `resnet18(classes=10)`, built for these sizes.
///
/// # Errors
/// As [`zoo`].
pub fn zoo_sized(name: &str, sizes: &mut Sizes) -> Result<Graph> {
    let arguments = kessen_zoo::find(stem(name)).map(|a| sizes.arguments(a)).unwrap_or_default();
    zoo(name, &arguments)
}

/// The name without its arguments.
fn stem(name: &str) -> &str {
    name.split('(').next().unwrap_or(name).trim()
}

/// An architecture of the zoo with its arguments: those in the name, as in `resnet18(classes=10)`, and `arguments` for
/// the others.
///
/// # Errors
/// A usage error: an unknown name, with the nearest; an argument that does not exist or fit.
pub fn zoo(name: &str, arguments: &[(String, String)]) -> Result<Graph> {
    let stem = stem(name);
    if kessen_zoo::find(stem).is_err() {
        let recipes = SHIPPED.iter().map(|s| s.name);
        let known: Vec<&str> = kessen_zoo::list().map(|a| a.name).chain(recipes).collect();
        let next = "a model may also be a run folder, a .safetensors file, a recipe or a file with a wiring";
        return Err(unknown("model", stem, &known, next));
    }
    let built = kessen_zoo::parse(name).and_then(|(stem, mut given)| {
        for (key, value) in arguments {
            given.entry(key.clone()).or_insert_with(|| value.clone());
        }
        kessen_zoo::build(stem, &given)
    });
    built.map_err(|e| usage(e.to_string()))
}

/// The backend of that name.
///
/// # Errors
/// A usage error with the nearest name.
pub fn backend(name: &str) -> Result<Arc<dyn Backend>> {
    match name {
        "cpu" => Ok(Arc::new(Cpu::new())),
        "reference" => Ok(Arc::new(Reference)),
        _ => Err(unknown("backend", name, &["cpu", "reference"], "`cpu` is the fast one")),
    }
}
