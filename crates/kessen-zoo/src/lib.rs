//! Reference architectures, one file each, by name and with arguments.
//!
//! ```
//! let lenet = kessen_zoo::build("lenet", &kessen_zoo::arguments("classes=26")?)?;
//! let same = kessen_zoo::from_text("lenet(classes=26)")?;
//! assert_eq!(lenet, same);
//! # Ok::<(), kessen_zoo::Error>(())
//! ```
//!
//! The image classifiers that torchvision has too carry its names, parameter paths, shapes, order and initialisers, so
//! that its weights load unchanged. Image inputs are named `image`, `[batch, C, H, W]`; the output is `logits`. They
//! are wired for inference, as every model; `Graph::for_training` turns batch normalisation and dropout on.

mod alexnet;
mod argument;
mod digits_cnn;
mod error;
mod googlenet;
mod lenet;
mod mlp;
mod mobilenet;
mod named_tagger;
mod perceptron;
mod resnet;
mod seq2seq;
mod tagger;
mod text_classifier;
mod transformer;
mod vgg;

use kessen_graph::{Graph, nearest};

pub use argument::{Argument, Arguments, Values, arguments};
pub use error::{Error, Result};

/// An architecture of the zoo.
#[derive(Debug)]
pub struct Architecture {
    /// Its name, as in torchvision where that has it.
    pub name: &'static str,
    /// What it is, in one line, with its source.
    pub about: &'static str,
    /// What can be chosen.
    pub arguments: &'static [Argument],
    build: fn(&Values) -> Result<Graph>,
}

/// Every architecture: functions, images, sequences; each from the smallest family to the largest.
pub fn list() -> impl Iterator<Item = &'static Architecture> {
    let families = [
        perceptron::ALL,
        mlp::ALL,
        lenet::ALL,
        digits_cnn::ALL,
        alexnet::ALL,
        vgg::ALL,
        googlenet::ALL,
        resnet::ALL,
        mobilenet::ALL,
        tagger::ALL,
        named_tagger::ALL,
        seq2seq::ALL,
        text_classifier::ALL,
        transformer::ALL,
    ];
    families.into_iter().flatten()
}

/// The architecture of that name.
///
/// # Errors
/// [`Error::UnknownArchitecture`], with the nearest name.
pub fn find(name: &str) -> Result<&'static Architecture> {
    list().find(|a| a.name == name).ok_or_else(|| Error::UnknownArchitecture {
        name: name.to_owned(),
        nearest: nearest(name, list().map(|a| a.name)),
    })
}

/// Builds an architecture with `arguments`, the others being as [`Architecture::arguments`] says.
///
/// # Errors
/// Unknown names and values out of range, with what would be right; sizes that don't fit, with the node's path.
pub fn build(name: &str, arguments: &Arguments) -> Result<Graph> {
    let architecture = find(name)?;
    let values = Values::new(architecture, arguments)?;
    (architecture.build)(&values)
}

/// Builds what a text such as `vgg16(classes=10, size=64)` or `lenet` names.
///
/// # Errors
/// As [`build`] and [`parse`].
pub fn from_text(text: &str) -> Result<Graph> {
    let (name, arguments) = parse(text)?;
    build(name, &arguments)
}

/// Name and arguments of a text such as `vgg16(classes=10, size=64)` or `lenet`.
///
/// # Errors
/// [`Error::Syntax`].
pub fn parse(text: &str) -> Result<(&str, Arguments)> {
    let text = text.trim();
    let (name, inner) = match text.split_once('(') {
        None => (text, ""),
        Some((name, rest)) => match rest.strip_suffix(')') {
            Some(inner) => (name.trim(), inner),
            None => {
                return Err(Error::Syntax {
                    text: text.to_owned(),
                    expected: "`)` at the end: NAME(argument=value, …)".to_owned(),
                });
            }
        },
    };
    Ok((name, arguments(inner)?))
}
