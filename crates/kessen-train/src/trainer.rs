//! The builder that a user writes a training with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kessen_data::{Augment, Splits};
use kessen_engine::{Backend, Precision};
use kessen_graph::Graph;
use kessen_tensor::Tensor;

use crate::config::{Config, EarlyStopping, Monitor};
use crate::run::Run;
use crate::{
    Bytes, Clip, Group, Loss, Observer, Optimizer, Result, Schedule, Silent, StepSpec, Trained, Warmup, adam,
    cross_entropy,
};

/// A training, written as a chain; [`Trainer::fit`] runs it.
///
/// What a run computes depends on the model, the data and the [`Config`] alone: any number of threads gives the same
/// bits, and so does a run that was killed and resumed.
///
/// ```
/// use kessen_data::{Dataset, Splits, Tensor};
/// use kessen_graph::{Graph, shape};
/// use kessen_train::{Trainer, adam, cross_entropy};
///
/// let net = Graph::build("xor", |g| {
///     g.input("x", shape!["batch", 2]).linear("hidden", 8).tanh().linear("out", 2)
/// })?;
/// let x = Tensor::from_vec(&[4, 2], vec![0.0f32, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])?;
/// let xor = Dataset::from_tensors([("x", x), ("target", Tensor::from_vec(&[4], vec![0i64, 1, 1, 0])?)])?;
/// let splits = Splits::new("xor", xor.clone(), xor.clone())?;
/// let trainer = Trainer::new(&net).loss(cross_entropy()).optimizer(adam(0.05)).epochs(200).batch(4);
/// let model = trainer.fit(&splits)?;
/// assert_eq!(model.evaluate(&xor)?.accuracy, 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Trainer {
    pub(crate) model: Graph,
    pub(crate) config: Config,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) resume: bool,
    pub(crate) interrupt: Option<Arc<AtomicBool>>,
    pub(crate) initial: Vec<(String, Tensor)>,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trainer({}, {:?})", self.model.name(), self.config)
    }
}

impl Trainer {
    /// Cross-entropy by Adam, ten epochs, batches of 64, on the default backend.
    pub fn new(model: &Graph) -> Self {
        Self::from_config(model, Config::new(StepSpec::new(cross_entropy(), adam(1e-3))))
    }

    /// A training as a recipe describes it.
    pub fn from_config(model: &Graph, config: Config) -> Self {
        Self {
            model: model.clone(),
            config,
            backend: default_backend(),
            folder: None,
            resume: false,
            interrupt: None,
            initial: Vec::new(),
        }
    }

    /// The settings so far.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is minimised.
    pub fn loss(mut self, loss: Loss) -> Self {
        self.config.step.loss = loss;
        self
    }

    /// How parameters follow their gradients.
    pub fn optimizer(mut self, optimizer: Optimizer) -> Self {
        self.config.step.optimizer = optimizer;
        self
    }

    /// Learning rate over time.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.config.schedule = schedule;
        self
    }

    /// Epochs over which the learning rate rises first.
    pub fn warmup(mut self, epochs: f64) -> Self {
        self.config.warmup = Warmup { epochs, ..self.config.warmup };
        self
    }

    /// Passes over the training part.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.config.epochs = epochs;
        self
    }

    /// Samples of a batch.
    pub fn batch(mut self, samples: usize) -> Self {
        self.config.batch = samples;
        self
    }

    /// Keys everything random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// Which algorithms training, validation and test may use, as `precision` of a recipe's `[run]`.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.config.precision = precision;
        self
    }

    /// Random changes of the inputs.
    pub fn augment(mut self, steps: &[Augment]) -> Self {
        self.config.augment = steps.to_vec();
        self
    }

    /// Largest length of the gradient.
    pub fn clip_norm(mut self, norm: f64) -> Self {
        self.config.step.clip = Clip { norm: Some(norm), ..self.config.step.clip };
        self
    }

    /// Largest magnitude of each gradient's elements.
    pub fn clip_value(mut self, value: f64) -> Self {
        self.config.step.clip = Clip { value: Some(value), ..self.config.step.clip };
        self
    }

    /// Batches whose gradients are averaged for one update.
    pub fn accumulate(mut self, batches: usize) -> Self {
        self.config.step.accumulate = batches;
        self
    }

    /// Keeps an exponential moving average of the weights, which the trained model then has.
    pub fn ema(mut self, decay: f64) -> Self {
        self.config.step.ema = Some(decay);
        self
    }

    /// Parameters with settings of their own; the first group that matches counts.
    pub fn group(mut self, group: Group) -> Self {
        self.config.step.groups.push(group);
        self
    }

    /// Ends the run after `patience` epochs without improvement on the validation part.
    pub fn early_stopping(mut self, patience: usize) -> Self {
        self.config.early_stopping = Some(EarlyStopping { patience, min_delta: 0.0 });
        self
    }

    /// Which figure decides what the best epoch is.
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.config.monitor = monitor;
        self
    }

    /// The most memory that a training step may take; see [`Config::memory_limit`].
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.config.memory_limit = Some(Bytes(bytes));
        self
    }

    /// What computes.
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = backend;
        self
    }

    /// The folder that `metrics.jsonl` and `checkpoint/` go to; it is made where it does not exist.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Continues from the folder's checkpoint.
    pub fn resume(mut self) -> Self {
        self.resume = true;
        self
    }

    /// Where the flag becomes true, the run ends after the step, with a checkpoint.
    pub fn interrupt(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = Some(flag);
        self
    }

    /// First values for some of the parameters instead of their initialisers' draws.
    pub fn initial(mut self, params: Vec<(String, Tensor)>) -> Self {
        self.initial = params;
        self
    }

    /// Trains on `splits.train`; after each epoch measures on `splits.validation`, at the end on `splits.test`,
    /// where they have samples.
    ///
    /// # Errors
    /// Settings out of range, a model or data that don't fit, unreadable samples, a loss that is not finite, files
    /// that can't be written.
    pub fn fit(&self, splits: &Splits) -> Result<Trained> {
        self.fit_observed(splits, &mut Silent)
    }

    /// As [`Trainer::fit`], with someone to watch.
    ///
    /// # Errors
    /// As [`Trainer::fit`], and the observer's.
    pub fn fit_observed(&self, splits: &Splits, observer: &mut dyn Observer) -> Result<Trained> {
        Run::start(self, splits, observer)?.finish(splits, observer)
    }
}

/// The backend that is used where none is named.
pub fn default_backend() -> Arc<dyn Backend> {
    Arc::new(kessen_engine::Cpu::new())
}
