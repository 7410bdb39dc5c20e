//! What can go wrong in training.

use std::path::PathBuf;

/// Result of a training operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a training could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting outside its range.
    #[error("{option} = {found} is out of range; expected {expected}")]
    Option {
        /// The setting's name, as in a recipe.
        option: String,
        /// The value found.
        found: String,
        /// The values that are allowed.
        expected: String,
    },
    /// The data don't fit the model.
    #[error("{what}: found {found}, expected {expected}")]
    Mismatch {
        /// The input, target or parameter.
        what: String,
        /// What was found.
        found: String,
        /// What was expected, and what to do.
        expected: String,
    },
    /// A loss or gradient that is infinite or not a number. The parameters are as before the step.
    #[error(
        "step {step} (epoch {epoch}): the loss or its gradient is not finite; first at node `{node}`, learning rate \
         {lr}. Lower the learning rate, clip gradients (clip.norm = 1), or check the data for extreme values{kept}"
    )]
    NonFinite {
        /// The step, from 0.
        step: u64,
        /// The epoch, from 1.
        epoch: usize,
        /// Path of the first node whose result is not finite.
        node: String,
        /// The learning rate of the step.
        lr: f64,
        /// Where the parameters were kept, as a clause.
        kept: String,
    },
    /// A checkpoint that belongs to another run.
    #[error("the checkpoint {} does not belong to this run: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The model or the training step is at fault.
    #[error(transparent)]
    Graph(#[from] kessen_graph::Error),
    /// A plan could not be made or run.
    #[error(transparent)]
    Engine(#[from] kessen_engine::Error),
    /// A sample could not be read.
    #[error(transparent)]
    Data(#[from] kessen_data::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    Formats(#[from] kessen_formats::Error),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] kessen_tensor::Error),
}

impl Error {
    pub(crate) fn option(
        option: impl Into<String>,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self::Option { option: option.into(), found: found.to_string(), expected: expected.into() }
    }

    pub(crate) fn mismatch(
        what: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Mismatch { what: what.into(), found: found.into(), expected: expected.into() }
    }
}
