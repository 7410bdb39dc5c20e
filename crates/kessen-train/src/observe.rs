//! What a progress bar, a report or a test hears of a run.

use kessen_tensor::Tensor;

use crate::{EpochRecord, Result};

/// Size of a run, known before its first step.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Epochs.
    pub epochs: usize,
    /// Samples of a batch.
    pub batch: usize,
    /// Samples to train on.
    pub samples: usize,
    /// Learnt numbers.
    pub weights: usize,
    /// Steps that were done before, in a run that is resumed.
    pub done: u64,
    /// Bytes of the plan's values and scratch.
    pub memory: usize,
}

/// A finished step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepEvent {
    /// Steps done.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Steps done in the epoch.
    pub step_in_epoch: u64,
    /// Samples of the batch.
    pub samples: usize,
    /// Loss of the batch.
    pub loss: f64,
    /// Mean loss of the epoch so far.
    pub mean_loss: f64,
    /// Accuracy of the epoch so far; NaN where it does not apply.
    pub accuracy: f64,
    /// Learning rate.
    pub lr: f64,
    /// Length of the gradient before clipping.
    pub grad_norm: f64,
}

/// Reads the parameters as they are now, by path: weights and buffers.
pub type ReadParams<'a> = dyn Fn() -> Result<Vec<(String, Tensor)>> + 'a;

/// Hears of a run. Every method may be left out.
pub trait Observer {
    /// Before the first step. `params` reads the first values.
    ///
    /// # Errors
    /// An error ends the run.
    fn on_start(&mut self, _start: &Start, _params: &ReadParams<'_>) -> Result<()> {
        Ok(())
    }

    /// After each step.
    fn on_step(&mut self, _event: &StepEvent) {}

    /// After each epoch.
    ///
    /// # Errors
    /// An error ends the run.
    fn on_epoch(&mut self, _record: &EpochRecord, _params: &ReadParams<'_>) -> Result<()> {
        Ok(())
    }

    /// Something that a user should know.
    fn on_warning(&mut self, _message: &str) {}
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
