//! Training: losses, optimisers, schedules, the fit loop, metrics, checkpoints.
//!
//! A training step is a graph ([`TrainStep`]) that the engine plans like any other; [`Trainer`] runs it over the data.
//! Settings are plain data ([`Config`]) that a recipe writes down; what happens is told to an [`Observer`] and kept in
//! a [`History`].

mod approximate;
mod bytes;
mod checkpoint;
mod config;
mod error;
mod feed;
mod group;
mod history;
mod loss;
mod metrics;
mod observe;
mod optimizer;
mod predictor;
mod run;
mod schedule;
mod step;
mod trained;
mod trainer;

pub use approximate::{Fit, Perceptron, Snapshot, Unit, approximate, approximate_widths, perceptron, spread};
pub use bytes::Bytes;
pub use config::{CheckpointEvery, Config, EarlyStopping, Monitor};
pub use error::{Error, Result};
pub use group::Group;
pub use history::{EpochRecord, History, StepRecord};
pub use loss::{Loss, bce, cross_entropy, huber, mae, mse};
pub use metrics::{Confusion, Evaluation};
pub use observe::{Observer, ReadParams, Silent, Start, StepEvent};
pub use optimizer::{Optimizer, adam, adamw, rmsprop, sgd};
pub use predictor::Predictor;
pub use schedule::{Moment, PlateauState, Schedule, Warmup};
pub use step::{Clip, GRAD_NORM, GUARD, LOSS, PREDICTION, StepSpec, TrainStep, Watch};
pub use trained::{Trained, trained_precision};
pub use trainer::{Trainer, default_backend};
