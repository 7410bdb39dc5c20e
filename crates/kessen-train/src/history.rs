//! What happened in a run, as plain data, and the file it goes to.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use kessen_formats::write_atomic;
use serde::{Deserialize, Serialize};

use crate::{Evaluation, Result};

/// One recorded step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Step, from 1.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Loss of the step's batch.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Length of the gradient before clipping.
    pub grad_norm: f64,
}

/// One finished epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Steps done.
    pub step: u64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Seconds of training since the run began, without interruptions.
    pub seconds: f64,
    /// Figures over the epoch's batches, each before its update.
    pub train: Evaluation,
    /// Figures on the validation part, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Evaluation>,
    /// Whether it is the best epoch so far.
    pub best: bool,
}

/// A run's records.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Some thousand steps at most, evenly spaced.
    pub steps: Vec<StepRecord>,
    /// Every epoch.
    pub epochs: Vec<EpochRecord>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line<'a> {
    Step(&'a StepRecord),
    Epoch(&'a EpochRecord),
}

impl History {
    /// The last epoch's record.
    pub fn last(&self) -> Option<&EpochRecord> {
        self.epochs.last()
    }

    /// The best epoch's record; the last one where none was chosen.
    pub fn best(&self) -> Option<&EpochRecord> {
        self.epochs.iter().rev().find(|e| e.best).or(self.last())
    }

    /// Lines from the given records on, in the order of their steps.
    fn lines(&self, steps: usize, epochs: usize, w: &mut dyn Write) -> std::io::Result<()> {
        let mut next = steps;
        let mut write = |line: &Line<'_>| -> std::io::Result<()> {
            serde_json::to_writer(&mut *w, line)?;
            w.write_all(b"\n")
        };
        for epoch in &self.epochs[epochs..] {
            while let Some(step) = self.steps.get(next).filter(|s| s.step <= epoch.step) {
                write(&Line::Step(step))?;
                next += 1;
            }
            write(&Line::Epoch(epoch))?;
        }
        self.steps[next..].iter().try_for_each(|s| write(&Line::Step(s)))
    }
}

/// `metrics.jsonl`: one JSON object per line, with `kind` `step` or `epoch`.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    steps: usize,
    epochs: usize,
}

impl Log {
    /// Begins the file with the records so far; lines of steps after a resumed checkpoint go.
    pub(crate) fn start(path: &Path, history: &History) -> Result<Self> {
        write_atomic(path, |w| history.lines(0, 0, w))?;
        Ok(Self { path: path.to_owned(), steps: history.steps.len(), epochs: history.epochs.len() })
    }

    /// Appends what is new.
    pub(crate) fn append(&mut self, history: &History) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let file: File = OpenOptions::new().append(true).open(&self.path)?;
            let mut w = BufWriter::new(file);
            history.lines(self.steps, self.epochs, &mut w)?;
            w.flush()
        };
        write().map_err(|source| kessen_formats::Error::Io {
            action: "write",
            path: self.path.clone(),
            source,
        })?;
        (self.steps, self.epochs) = (history.steps.len(), history.epochs.len());
        Ok(())
    }
}
