//! The loop.

use std::sync::atomic::Ordering;
use std::time::Instant;

use kessen_data::{Loader, Prefetch, Splits};
use kessen_engine::{Clock, CompileOptions, Given, Outcome, Precision, Session};
use kessen_graph::{ParamId, ParamKind};
use kessen_tensor::DType;

use crate::checkpoint::{self, DataKey, Params, Progress};
use crate::feed::{Feed, targets};
use crate::history::Log;
use crate::metrics::Metrics;
use crate::observe::{Observer, Start, StepEvent};
use crate::predictor::{Predictor, target_dtype, write_params};
use crate::schedule::{Moment, PlateauState};
use crate::step::{EMA, GRAD_NORM, GUARD, LOSS, PREDICTION, TrainStep};
use crate::trained::Trained;
use crate::{Config, EpochRecord, Error, History, Result, StepRecord, Trainer};

/// A run under way.
pub(crate) struct Run<'a> {
    trainer: &'a Trainer,
    config: Config,
    step: TrainStep,
    session: Session,
    feed: Feed,
    target: DType,
    metrics: Metrics,
    progress: Progress,
    best: Option<Params>,
    log: Option<Log>,
    /// Parameters of the finished model, and where their values are (averages where those are kept).
    sources: Vec<(String, ParamId)>,
    steps_per_epoch: u64,
    log_every: u64,
    begun: Instant,
    saved: Instant,
    seconds_before: f64,
}

/// What a step gave.
struct Taken {
    event: StepEvent,
    epoch_ends: bool,
}

impl<'a> Run<'a> {
    /// Plans the step, draws or loads the first values, begins the log.
    pub(crate) fn start(trainer: &'a Trainer, splits: &Splits, observer: &mut dyn Observer) -> Result<Self> {
        let mut config = trainer.config.clone();
        config.check()?;
        let samples = splits.train.len();
        if config.batch > samples {
            observer.on_warning(&format!(
                "the batch of {} is larger than the {samples} samples; using {samples}",
                config.batch
            ));
            config.batch = samples;
        }
        let target = target_dtype(&splits.train)?;
        let step = TrainStep::new(&trainer.model, &config.step, target)?;
        for path in &step.unused {
            observer.on_warning(&format!("the loss does not depend on `{path}`; it keeps its first values"));
        }
        let feed = Feed::new(&step.graph, splits.train.fields(), config.batch)?;
        let limit = config.memory_limit.map(|limit| limit.0);
        let options = CompileOptions::training(GUARD).precision(config.precision).memory_limit(limit);
        let mut session = Session::new(&*trainer.backend, &step.graph, &feed.bindings, &options)?;
        let data = DataKey { seed: config.seed, batch: config.batch, samples };
        let metrics = {
            let ty = step.graph.ty(step.graph.outputs()[PREDICTION].1).clone();
            let shape = session.executable().output_shape(PREDICTION).to_vec();
            let class_dim = config.step.loss.class_dim(&ty);
            Metrics::new(&config.step.loss, class_dim, &shape, splits.train.preprocess(), false)
        };
        let mut run = Self {
            sources: sources(&step, &trainer.model),
            steps_per_epoch: (samples / config.batch) as u64,
            log_every: 1,
            progress: fresh(data, config.precision, &metrics),
            best: None,
            log: None,
            begun: Instant::now(),
            saved: Instant::now(),
            seconds_before: 0.0,
            trainer,
            config,
            step,
            session,
            feed,
            target,
            metrics,
        };
        run.log_every = match run.config.log_every {
            0 => (run.steps() / 1000).max(1),
            n => n,
        };
        run.first_values()?;
        run.begin_log()?;
        let room = (run.steps() / run.log_every + 2) as usize;
        run.progress.history.steps.reserve(room);
        Ok(run)
    }

    fn steps(&self) -> u64 {
        self.steps_per_epoch * self.config.epochs as u64
    }

    fn first_values(&mut self) -> Result<()> {
        if self.trainer.resume {
            let Some(folder) = &self.trainer.folder else {
                return Err(Error::option("resume", "true", "a run folder to resume from"));
            };
            let found = checkpoint::load(folder, &self.step.graph, &self.progress)?;
            write_params(&mut self.session, &found.params)?;
            self.seconds_before = found.progress.seconds;
            self.metrics.sums = found.progress.sums.clone();
            self.progress = found.progress;
            self.best = found.best;
            return Ok(());
        }
        let graph = &self.step.graph;
        for (id, param) in graph.param_ids().zip(graph.params()) {
            // An average begins at the first values of what it averages.
            let source = param.path.strip_prefix(EMA).filter(|_| param.kind == ParamKind::State);
            let path = source.unwrap_or(&param.path);
            let given = self.trainer.initial.iter().find(|(p, _)| p == path);
            let origin = graph.params().iter().find(|p| p.path == path).unwrap_or(param);
            let value = match given {
                Some((_, value)) if value.shape() == param.shape => value.cast(DType::F32)?,
                Some((_, value)) => {
                    let (found, expected) = (format!("{:?}", value.shape()), format!("{:?}", param.shape));
                    return Err(Error::mismatch(format!("first values of `{path}`"), found, expected));
                }
                None => origin.init.sample(&origin.shape, self.config.seed, path)?,
            };
            self.session.executable().write_param(id, &value)?;
        }
        Ok(())
    }

    fn begin_log(&mut self) -> Result<()> {
        let Some(folder) = &self.trainer.folder else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(|source| kessen_formats::Error::Io {
            action: "create",
            path: folder.clone(),
            source,
        })?;
        self.log = Some(Log::start(&folder.join("metrics.jsonl"), &self.progress.history)?);
        Ok(())
    }

    /// Runs to the end.
    pub(crate) fn finish(mut self, splits: &Splits, observer: &mut dyn Observer) -> Result<Trained> {
        let start = Start {
            steps: self.steps(),
            steps_per_epoch: self.steps_per_epoch,
            epochs: self.config.epochs,
            batch: self.config.batch,
            samples: splits.train.len(),
            weights: self.trainer.model.weight_count(),
            done: self.progress.step,
            memory: self.session.executable().memory(),
        };
        observer.on_start(&start, &|| self.model_params())?;
        let mut predictor =
            Predictor::new(self.trainer.backend.clone(), &self.trainer.model, &self.model_params()?)?
                .precision(self.config.precision);
        let interrupted = self.train(splits, observer, &mut predictor)?;
        self.save()?;
        if let (Some(best), true) = (&self.best, self.config.keep_best) {
            predictor.set_params(best.clone())?;
        } else {
            predictor.set_params(self.model_params()?)?;
        }
        let test = match splits.test.is_empty() || interrupted {
            true => None,
            false => Some(predictor.evaluate(&self.config.step.loss, &splits.test, self.config.batch)?),
        };
        Ok(Trained {
            predictor,
            model: self.trainer.model.clone(),
            preprocess: splits.train.preprocess().clone(),
            history: self.progress.history,
            test,
            interrupted,
            config: self.config,
        })
    }

    /// The epochs; true where the run was interrupted.
    fn train(
        &mut self,
        splits: &Splits,
        observer: &mut dyn Observer,
        predictor: &mut Predictor,
    ) -> Result<bool> {
        if self.progress.step >= self.steps() || self.progress.stopped {
            return Ok(false);
        }
        let mut batches = self.batches(splits)?;
        while self.progress.step < self.steps() && !self.progress.stopped {
            let taken = self.take_step(&mut batches)?;
            observer.on_step(&taken.event);
            if taken.epoch_ends {
                let record = self.end_epoch(splits, predictor)?;
                observer.on_epoch(&record, &|| self.model_params())?;
            }
            if self.checkpoint_is_due() {
                self.save()?;
            }
            if self.trainer.interrupt.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Ok(self.progress.step < self.steps());
            }
        }
        Ok(false)
    }

    fn batches(&self, splits: &Splits) -> Result<Prefetch> {
        let loader = Loader::new(&splits.train, self.config.batch)?.shuffle(self.config.seed);
        let loader = loader.augment(&self.config.augment)?.drop_last()?;
        let (epoch, step) =
            (self.progress.step / self.steps_per_epoch, self.progress.step % self.steps_per_epoch);
        Ok(loader.prefetch(self.config.workers, epoch, step as usize)?)
    }

    /// Learning rate of the update that the current step belongs to.
    fn lr(&self) -> f64 {
        let k = self.config.step.accumulate as u64;
        let step = self.progress.step / k * k;
        let at = Moment { step, steps: self.steps(), steps_per_epoch: self.steps_per_epoch };
        let factor = self.config.schedule.factor(self.config.warmup, at);
        self.config.step.optimizer.lr() * factor * self.progress.plateau.factor
    }

    fn take_step(&mut self, batches: &mut Prefetch) -> Result<Taken> {
        let batch = batches.next()?;
        let (done, lr) = (self.progress.step, self.lr());
        let k = self.config.step.accumulate as u64;
        let (update, applies) = (done / k, (done + 1).is_multiple_of(k));
        let executable = self.session.executable();
        let handed = self.feed.hand_over(executable, batch)?;
        let mut scalar = |at: Option<usize>, value: f64| -> Result<()> {
            match at {
                Some(at) => Ok(executable.write_input(at, kessen_engine::Data::F32(&[value as f32]))?),
                None => Ok(()),
            }
        };
        scalar(Some(self.step.lr), lr)?;
        scalar(Some(self.step.step), (update + 1) as f64)?;
        scalar(self.step.apply, f64::from(u8::from(applies)))?;
        // The average's window grows with the run, so that a short run's average is not its first values.
        let decay = self.config.step.ema.unwrap_or(0.0).min((1 + update) as f64 / (10 + update) as f64);
        scalar(self.step.ema_decay, if applies { decay } else { 1.0 })?;
        let clock = Clock { seed: self.config.seed, step: done };
        if executable.run_on(handed.given(), clock)? == Outcome::NonFinite {
            return Err(self.not_finite(handed.given(), clock, lr));
        }
        let number = |output: usize| executable.output(output).at(0);
        let (loss, grad_norm) = (number(LOSS), number(GRAD_NORM));
        let samples = batch.len();
        self.metrics.add(samples, loss, executable.output(PREDICTION), targets(batch, self.target)?);
        self.progress.step += 1;
        let step = self.progress.step;
        let epoch = (done / self.steps_per_epoch) as usize + 1;
        if step.is_multiple_of(self.log_every) || step == 1 {
            self.progress.history.steps.push(StepRecord { step, epoch, loss, lr, grad_norm });
        }
        let step_in_epoch = done % self.steps_per_epoch + 1;
        let (mean_loss, accuracy) = (self.metrics.loss(), self.metrics.accuracy());
        let event =
            StepEvent { step, epoch, step_in_epoch, samples, loss, mean_loss, accuracy, lr, grad_norm };
        Ok(Taken { event, epoch_ends: step_in_epoch == self.steps_per_epoch })
    }

    /// What to say of a step whose loss or gradient is not finite; the parameters, which are as before it, are kept.
    #[cold]
    fn not_finite(&mut self, given: &[Given<'_>], clock: Clock, lr: f64) -> Error {
        let node = match self.session.executable().first_non_finite(given, clock) {
            Ok(Some(path)) => path,
            Ok(None) => "loss".to_owned(),
            Err(error) => return error.into(),
        };
        let kept = match (&self.trainer.folder, self.save()) {
            (Some(folder), Ok(())) => {
                format!("; the parameters of before the step are in {}", checkpoint::path(folder).display())
            }
            (_, Err(error)) => format!("; the checkpoint could not be written: {error}"),
            (None, Ok(())) => String::new(),
        };
        let epoch = (clock.step / self.steps_per_epoch) as usize + 1;
        Error::NonFinite { step: clock.step, epoch, node, lr, kept }
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.begun.elapsed().as_secs_f64()
    }

    /// Measures, compares with the best epoch, records.
    fn end_epoch(&mut self, splits: &Splits, predictor: &mut Predictor) -> Result<EpochRecord> {
        let train = self.metrics.evaluation();
        self.metrics.reset();
        let validation = match splits.validation.is_empty() {
            true => None,
            false => {
                predictor.set_params(self.model_params()?)?;
                let loss = &self.config.step.loss;
                Some(predictor.evaluate(loss, &splits.validation, self.config.batch)?)
            }
        };
        let figure = self.config.monitor.value(validation.as_ref().unwrap_or(&train));
        self.progress.plateau.observe(&self.config.schedule, figure);
        let delta = self.config.early_stopping.map_or(0.0, |e| e.min_delta);
        let best = self.progress.best.is_none_or(|best| figure < best - delta);
        if best {
            (self.progress.best, self.progress.stale) = (Some(figure), 0);
            if validation.is_some() && self.config.keep_best {
                self.best = Some(self.model_params()?);
            }
        } else {
            self.progress.stale += 1;
        }
        let patience = self.config.early_stopping.map(|e| e.patience);
        self.progress.stopped = patience.is_some_and(|p| self.progress.stale > p);
        let step = self.progress.step;
        let epoch = (step / self.steps_per_epoch) as usize;
        let lr = self.progress.history.steps.last().map_or(0.0, |s| s.lr);
        let record = EpochRecord { epoch, step, lr, seconds: self.seconds(), train, validation, best };
        self.progress.history.epochs.push(record.clone());
        if let Some(log) = &mut self.log {
            log.append(&self.progress.history)?;
        }
        Ok(record)
    }

    fn checkpoint_is_due(&self) -> bool {
        let every = self.config.checkpoint;
        self.trainer.folder.is_some()
            && (self.saved.elapsed().as_secs_f64() >= every.seconds
                || every.steps > 0 && self.progress.step.is_multiple_of(every.steps))
    }

    /// Writes a checkpoint, where there is a folder, and the log up to it.
    fn save(&mut self) -> Result<()> {
        let Some(folder) = &self.trainer.folder else { return Ok(()) };
        self.progress.seconds = self.seconds_before + self.begun.elapsed().as_secs_f64();
        self.progress.sums = self.metrics.sums.clone();
        let kinds = [ParamKind::Weight, ParamKind::Buffer, ParamKind::State];
        let params = self.session.read_params(&kinds)?;
        checkpoint::save(folder, &self.progress, params, self.best.as_ref())?;
        if let Some(log) = &mut self.log {
            log.append(&self.progress.history)?;
        }
        self.saved = Instant::now();
        Ok(())
    }

    /// The finished model's weights and buffers as they are now.
    fn model_params(&self) -> Result<Params> {
        let read = |(path, id): &(String, ParamId)| Ok((path.clone(), self.session.read_param(*id)?));
        self.sources.iter().map(read).collect()
    }
}

/// For each of the model's parameters where the training step keeps the value that counts: its average, if it has
/// one, else itself.
fn sources(step: &TrainStep, model: &kessen_graph::Graph) -> Vec<(String, ParamId)> {
    let graph = &step.graph;
    let find = |path: &str| graph.param_ids().find(|&id| graph.param(id).path == path);
    let params = model.params().iter().filter(|p| p.kind != ParamKind::State);
    params
        .filter_map(|p| {
            let id = find(&format!("{EMA}{}", p.path)).or_else(|| find(&p.path))?;
            Some((p.path.clone(), id))
        })
        .collect()
}

fn fresh(data: DataKey, precision: Precision, metrics: &Metrics) -> Progress {
    Progress {
        data,
        precision,
        step: 0,
        sums: metrics.sums.clone(),
        plateau: PlateauState::default(),
        best: None,
        stale: 0,
        stopped: false,
        seconds: 0.0,
        history: History::default(),
    }
}
