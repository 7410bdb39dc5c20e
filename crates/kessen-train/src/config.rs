//! Everything that a run can be told, as data.

use kessen_data::Augment;
use kessen_engine::Precision;
use serde::{Deserialize, Serialize};

use crate::{Bytes, Error, Evaluation, Result, Schedule, StepSpec, Warmup};

/// Which figure decides what the best epoch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// Loss; less is better.
    #[default]
    Loss,
    /// Accuracy; more is better.
    Accuracy,
    /// Root mean squared error; less is better.
    Rmse,
}

impl Monitor {
    /// The figure, turned so that less is better.
    pub(crate) fn value(self, evaluation: &Evaluation) -> f64 {
        match self {
            Self::Loss => evaluation.loss,
            Self::Accuracy => -evaluation.accuracy,
            Self::Rmse => evaluation.rmse,
        }
    }
}

/// Ends a run that no longer gets better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Epochs without improvement that are let pass.
    pub patience: usize,
    /// Smallest change that counts as an improvement.
    #[serde(default)]
    pub min_delta: f64,
}

/// When checkpoints are written, besides at the end, at an interruption and at a failure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointEvery {
    /// Seconds between checkpoints.
    pub seconds: f64,
    /// Steps between checkpoints; 0 counts no steps.
    pub steps: u64,
}

impl Default for CheckpointEvery {
    fn default() -> Self {
        Self { seconds: 60.0, steps: 0 }
    }
}

/// A run: the training step and everything around it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Loss, optimiser, clipping, accumulation, averages, groups.
    pub step: StepSpec,
    /// Learning rate over time.
    #[serde(default)]
    pub schedule: Schedule,
    /// Rise of the learning rate at the start.
    #[serde(default)]
    pub warmup: Warmup,
    /// Passes over the training part.
    #[serde(default = "default_epochs")]
    pub epochs: usize,
    /// Samples of a batch. Batches that would not be full are left out; the next epoch's order is another one.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// Keys first values, order, augmentation and dropout.
    #[serde(default)]
    pub seed: u64,
    /// Which algorithms training, validation and test may use.
    #[serde(default)]
    pub precision: Precision,
    /// Random changes of the inputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub augment: Vec<Augment>,
    /// Which figure decides what the best epoch is.
    #[serde(default)]
    pub monitor: Monitor,
    /// Ends a run that no longer gets better; looks at the validation part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// Whether the best epoch's weights are kept, where there is a validation part, or the last ones.
    #[serde(default = "yes")]
    pub keep_best: bool,
    /// When checkpoints are written.
    #[serde(default)]
    pub checkpoint: CheckpointEvery,
    /// Steps between recorded steps; 0 for about a thousand records in the run.
    #[serde(default)]
    pub log_every: u64,
    /// Threads that make batches.
    #[serde(default = "one")]
    pub workers: usize,
    /// What the training step may take: parameters with the optimiser's state, the batch, values and scratch. Where it
    /// needs more, part of the forward computation is repeated in the backward pass; results are the same bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Bytes>,
}

fn default_epochs() -> usize {
    10
}
fn default_batch() -> usize {
    64
}
fn yes() -> bool {
    true
}
fn one() -> usize {
    1
}

impl Config {
    /// A run of ten epochs with batches of 64.
    pub fn new(step: StepSpec) -> Self {
        Self {
            step,
            schedule: Schedule::default(),
            warmup: Warmup::default(),
            epochs: default_epochs(),
            batch: default_batch(),
            seed: 0,
            precision: Precision::default(),
            augment: Vec::new(),
            monitor: Monitor::default(),
            early_stopping: None,
            keep_best: true,
            checkpoint: CheckpointEvery::default(),
            log_every: 0,
            workers: 1,
            memory_limit: None,
        }
    }

    /// Refuses settings outside their ranges.
    ///
    /// # Errors
    /// [`Error::Option`] with the range.
    pub fn check(&self) -> Result<()> {
        self.step.check()?;
        self.schedule.check(self.warmup)?;
        for (name, n) in [("epochs", self.epochs), ("batch", self.batch)] {
            if n == 0 {
                return Err(Error::option(name, 0, "at least 1"));
            }
        }
        if self.checkpoint.seconds.is_nan() || self.checkpoint.seconds <= 0.0 {
            return Err(Error::option("checkpoint.seconds", self.checkpoint.seconds, "a number above 0"));
        }
        if self.monitor == Monitor::Accuracy && !self.step.loss.is_classification() {
            let expected = "loss or rmse, unless the loss is cross-entropy";
            return Err(Error::option("monitor", "accuracy", expected));
        }
        Ok(())
    }
}
