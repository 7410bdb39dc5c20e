//! What is seen of a training: a live bar on a terminal, a line per epoch elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kessen_train::{EpochRecord, Evaluation, Observer, ReadParams, Result, Start, StepEvent};

use crate::term::{Style, Term, bytes, duration, figure, grouped};

/// Seconds between plain lines.
const PAUSE: Duration = Duration::from_secs(5);

/// Shows a run and collects what the report needs of it.
pub struct Progress<'a> {
    term: &'a Term,
    bar: ProgressBar,
    start: Option<Start>,
    begun: Instant,
    /// Samples seen since `begun`.
    samples: u64,
    shown: Option<Instant>,
    redrawn: Instant,
    /// Hears of parameters at the start and after epochs.
    pub watch: Box<dyn Watch + 'a>,
}

/// Looks at parameters during the training.
pub trait Watch {
    /// Before the first step (`epoch` 0) and after each epoch.
    ///
    /// # Errors
    /// Where parameters can't be read.
    fn look(&mut self, _epoch: usize, _params: &ReadParams<'_>) -> Result<()> {
        Ok(())
    }
}

/// Looks at nothing.
pub struct Blind;

impl Watch for Blind {}

impl<'a> Progress<'a> {
    /// For a run that is about to begin.
    pub fn new(term: &'a Term, watch: Box<dyn Watch + 'a>) -> Self {
        let target =
            if term.live() { ProgressDrawTarget::stderr_with_hz(12) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let template =
            if term.colours() { "{prefix} {bar:24.cyan/dim} {msg}" } else { "{prefix} {bar:24} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━─"));
        }
        let now = Instant::now();
        Self { term, bar, start: None, begun: now, samples: 0, shown: None, redrawn: now, watch }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn rate(&self) -> f64 {
        self.samples as f64 / self.begun.elapsed().as_secs_f64().max(1e-9)
    }

    fn line(&self, e: &StepEvent, start: &Start) -> String {
        let accuracy = match e.accuracy.is_nan() {
            true => String::new(),
            false => format!(" · accuracy {:.1} %", 100.0 * e.accuracy),
        };
        let done = (e.step - start.done).max(1);
        let left =
            self.begun.elapsed().as_secs_f64() / done as f64 * (start.steps - e.step.min(start.steps)) as f64;
        format!(
            "step {}/{} · loss {}{accuracy} · {} samples/s · {} left",
            e.step,
            start.steps,
            figure(e.mean_loss),
            grouped(self.rate() as u64),
            duration(left)
        )
    }
}

/// The figures that matter, in a few words.
pub fn figures(e: &Evaluation) -> String {
    let mut parts = vec![format!("loss {}", figure(e.loss))];
    if !e.accuracy.is_nan() {
        parts.push(format!("accuracy {:.2} %", 100.0 * e.accuracy));
    }
    for (name, v) in [("RMSE", e.rmse), ("R²", e.r2)] {
        if !v.is_nan() {
            parts.push(format!("{name} {}", figure(v)));
        }
    }
    parts.join(" · ")
}

impl Observer for Progress<'_> {
    fn on_start(&mut self, start: &Start, params: &ReadParams<'_>) -> Result<()> {
        self.term.note(&format!(
            "{} samples, batches of {}, {} weights, {} epochs of {} steps, {} of working memory",
            grouped(start.samples as u64),
            start.batch,
            grouped(start.weights as u64),
            start.epochs,
            start.steps_per_epoch,
            bytes(start.memory as u64)
        ));
        self.bar.set_length(start.steps);
        self.bar.set_position(start.done);
        self.begun = Instant::now();
        self.start = Some(start.clone());
        self.watch.look((start.done / start.steps_per_epoch.max(1)) as usize, params)
    }

    fn on_step(&mut self, event: &StepEvent) {
        self.samples += event.samples as u64;
        let Some(start) = &self.start else { return };
        // Small networks take microseconds per step: the text is made only as often as it can be seen.
        if self.term.live() && self.redrawn.elapsed() > Duration::from_millis(80) {
            self.redrawn = Instant::now();
            self.bar.set_prefix(format!("epoch {}/{}", event.epoch, start.epochs));
            self.bar.set_message(self.line(event, start));
            self.bar.set_position(event.step);
        }
    }

    fn on_epoch(&mut self, record: &EpochRecord, params: &ReadParams<'_>) -> Result<()> {
        let (epochs, last) = self.start.as_ref().map_or((0, false), |s| (s.epochs, record.step == s.steps));
        let due = self.shown.is_none_or(|at| at.elapsed() >= PAUSE) || last;
        if due && !self.term.quiet {
            let measured = match &record.validation {
                Some(v) => format!(" · validation {}", figures(v)),
                None => String::new(),
            };
            let line = format!(
                "epoch {:>3}/{epochs} · {}{measured} · {} samples/s",
                record.epoch,
                figures(&record.train),
                grouped(self.rate() as u64)
            );
            self.shown = Some(Instant::now());
            self.bar.suspend(|| self.term.note(&line));
        }
        self.watch.look(record.epoch, params)
    }

    fn on_warning(&mut self, message: &str) {
        self.bar.suspend(|| self.term.warn(message));
    }
}

/// A heading of a step of the command.
pub fn heading(term: &Term, text: &str) {
    term.note(&term.paint(Style::Strong, text));
}
