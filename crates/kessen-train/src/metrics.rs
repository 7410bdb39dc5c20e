//! What is measured: loss, accuracy, top-5, confusion matrix, RMSE, MAE, R².
//!
//! Dimensions: `K` classes, `D` numbers per target.

use kessen_data::Preprocess;
use kessen_engine::Data;
use serde::{Deserialize, Serialize};

use crate::Loss;

/// Up to this many classes a confusion matrix is kept.
const CONFUSION_LIMIT: usize = 256;

/// Figures of a model on a data set. A figure that does not apply (accuracy of a regression) is NaN, and left out of
/// JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluation {
    /// Samples measured.
    pub samples: u64,
    /// Mean loss per sample.
    pub loss: f64,
    /// Share of classes that are right; for binary targets, of logits on the right side of 0.
    #[serde(default = "nan", skip_serializing_if = "is_nan")]
    pub accuracy: f64,
    /// Share of targets among the five likeliest classes, where there are more than five.
    #[serde(default = "nan", skip_serializing_if = "is_nan")]
    pub top5: f64,
    /// Root of the mean squared error, in the target's own units.
    #[serde(default = "nan", skip_serializing_if = "is_nan")]
    pub rmse: f64,
    /// Mean absolute error, in the target's own units.
    #[serde(default = "nan", skip_serializing_if = "is_nan")]
    pub mae: f64,
    /// 1 − Σe²/Σ(t − mean t)², the mean over the target's numbers.
    #[serde(default = "nan", skip_serializing_if = "is_nan")]
    pub r2: f64,
    /// How often which class was taken for which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
}

/// Bit for bit, so that a figure that does not apply equals itself.
impl PartialEq for Evaluation {
    fn eq(&self, other: &Self) -> bool {
        let bits = |e: &Self| [e.loss, e.accuracy, e.top5, e.rmse, e.mae, e.r2].map(f64::to_bits);
        (self.samples, bits(self), &self.confusion) == (other.samples, bits(other), &other.confusion)
    }
}

fn nan() -> f64 {
    f64::NAN
}

fn is_nan(v: &f64) -> bool {
    v.is_nan()
}

/// Counts by target class (row) and predicted class (column).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// K.
    pub classes: usize,
    /// K·K counts, row by row.
    pub counts: Vec<u64>,
}

impl Confusion {
    /// How often `target` was taken for `predicted`.
    pub fn at(&self, target: usize, predicted: usize) -> u64 {
        self.counts[target * self.classes + predicted]
    }

    /// Share of a class's samples that were recognised; NaN for a class without samples.
    pub fn recall(&self, class: usize) -> f64 {
        let row: u64 = (0..self.classes).map(|k| self.at(class, k)).sum();
        self.at(class, class) as f64 / row as f64
    }

    /// Share of right ones among the samples taken for a class; NaN where there are none.
    pub fn precision(&self, class: usize) -> f64 {
        let column: u64 = (0..self.classes).map(|k| self.at(k, class)).sum();
        self.at(class, class) as f64 / column as f64
    }
}

/// What a target is.
#[derive(Debug, Clone, PartialEq)]
enum Task {
    /// Classes: how many, their stride in the logits, and the class that does not count.
    Classes { classes: usize, inner: usize, ignore: i64 },
    /// Logits of yes or no.
    Binary,
    /// Real numbers, with the factor of each of the D to its own units.
    Values { scale: Vec<f64> },
}

/// Sums over samples; part of a checkpoint, so that a resumed epoch's figures are those of an uninterrupted one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    samples: u64,
    loss: f64,
    /// Targets that count: samples times positions.
    targets: u64,
    correct: u64,
    top5: u64,
    absolute: f64,
    /// Per number of the target: Σe², Σt, Σt².
    square: Vec<f64>,
    target: Vec<f64>,
    target_square: Vec<f64>,
}

/// Collects figures batch by batch without allocating.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    task: Task,
    detailed: bool,
    pub(crate) sums: Sums,
    confusion: Vec<u64>,
}

/// A batch's targets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Targets<'a> {
    F32(&'a [f32]),
    I64(&'a [i64]),
}

impl Targets<'_> {
    fn at(&self, i: usize) -> f64 {
        match self {
            Self::F32(t) => f64::from(t[i]),
            Self::I64(t) => t[i] as f64,
        }
    }
}

impl Metrics {
    /// For predictions of shape `prediction` (first dimension: samples) under `loss`. `detailed` adds what costs
    /// more: top-5 and the confusion matrix.
    pub(crate) fn new(
        loss: &Loss,
        class_dim: usize,
        prediction: &[usize],
        preprocess: &Preprocess,
        detailed: bool,
    ) -> Self {
        let task = match loss {
            Loss::CrossEntropy { ignore, .. } => Task::Classes {
                classes: prediction.get(class_dim).copied().unwrap_or(1),
                inner: prediction.iter().skip(class_dim + 1).product(),
                ignore: *ignore,
            },
            Loss::Bce { .. } => Task::Binary,
            _ => {
                let numbers: usize = prediction.iter().skip(1).product();
                let std = preprocess.values().map(|(_, s)| s.std.as_slice()).unwrap_or_default();
                let scale = |i: usize| std.get(i).or(std.first()).map_or(1.0, |&s| f64::from(s));
                Task::Values { scale: (0..numbers.max(1)).map(scale).collect() }
            }
        };
        let classes = if let Task::Classes { classes, .. } = task { classes } else { 0 };
        let confusion = if detailed && classes <= CONFUSION_LIMIT { classes * classes } else { 0 };
        let mut metrics = Self { task, detailed, sums: Sums::default(), confusion: vec![0; confusion] };
        metrics.reset();
        metrics
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        let mut sums = std::mem::take(&mut self.sums);
        let numbers = if let Task::Values { scale } = &self.task { scale.len() } else { 0 };
        for list in [&mut sums.square, &mut sums.target, &mut sums.target_square] {
            list.resize(numbers, 0.0);
            list.fill(0.0);
        }
        let Sums { square, target, target_square, .. } = sums;
        self.sums = Sums { square, target, target_square, ..Sums::default() };
        self.confusion.fill(0);
    }

    /// Adds a batch.
    pub(crate) fn add(&mut self, samples: usize, loss: f64, prediction: Data<'_>, targets: Targets<'_>) {
        self.sums.samples += samples as u64;
        self.sums.loss += loss * samples as f64;
        match prediction {
            Data::F32(p) => self.add_predictions(p, targets),
            Data::F64(p) => self.add_predictions(p, targets),
            Data::I64(_) => {}
        }
    }

    fn add_predictions<T: Copy + PartialOrd + Into<f64>>(&mut self, p: &[T], targets: Targets<'_>) {
        match (&self.task, targets) {
            (&Task::Classes { classes, inner, ignore }, Targets::I64(t)) => {
                for (i, &target) in t.iter().enumerate().filter(|(_, t)| **t != ignore) {
                    let at = i / inner * inner * classes + i % inner;
                    self.add_class(p, at, inner, classes, target as usize);
                }
            }
            (Task::Classes { .. }, Targets::F32(_)) => {}
            (Task::Binary, targets) => {
                for (i, &p) in p.iter().enumerate() {
                    self.sums.correct += u64::from((p.into() > 0.0) == (targets.at(i) > 0.5));
                }
                self.sums.targets += p.len() as u64;
            }
            (Task::Values { scale }, targets) => {
                let sums = &mut self.sums;
                for (i, &p) in p.iter().enumerate() {
                    let k = i % scale.len();
                    let (t, e) = (targets.at(i) * scale[k], (p.into() - targets.at(i)) * scale[k]);
                    sums.square[k] += e * e;
                    sums.absolute += e.abs();
                    sums.target[k] += t;
                    sums.target_square[k] += t * t;
                }
                sums.targets += p.len() as u64;
            }
        }
    }

    /// One target; its logits stand at `at`, `at + stride`, ….
    fn add_class<T: Copy + PartialOrd>(
        &mut self,
        p: &[T],
        at: usize,
        stride: usize,
        classes: usize,
        target: usize,
    ) {
        self.sums.targets += 1;
        let Some(&own) = p.get(at + target * stride) else { return };
        let (mut best, mut rank) = (0, 0);
        for k in 0..classes {
            let z = p[at + k * stride];
            rank += usize::from(z > own || (z == own && k < target));
            if z > p[at + best * stride] {
                best = k;
            }
        }
        self.sums.correct += u64::from(rank == 0);
        self.sums.top5 += u64::from(rank < 5);
        if !self.confusion.is_empty() {
            self.confusion[target * classes + best] += 1;
        }
    }

    /// Loss so far.
    pub(crate) fn loss(&self) -> f64 {
        self.sums.loss / self.sums.samples as f64
    }

    /// Accuracy so far; NaN where it does not apply.
    pub(crate) fn accuracy(&self) -> f64 {
        match self.task {
            Task::Values { .. } => f64::NAN,
            _ => self.sums.correct as f64 / self.sums.targets as f64,
        }
    }

    /// The figures.
    pub(crate) fn evaluation(&self) -> Evaluation {
        let s = &self.sums;
        let mut evaluation = Evaluation {
            samples: s.samples,
            loss: self.loss(),
            accuracy: self.accuracy(),
            top5: f64::NAN,
            rmse: f64::NAN,
            mae: f64::NAN,
            r2: f64::NAN,
            confusion: None,
        };
        match &self.task {
            Task::Classes { classes, .. } if self.detailed => {
                if *classes > 5 {
                    evaluation.top5 = s.top5 as f64 / s.targets as f64;
                }
                let counts = self.confusion.clone();
                evaluation.confusion =
                    (!counts.is_empty()).then_some(Confusion { classes: *classes, counts });
            }
            Task::Values { scale } => {
                let n = s.targets as f64 / scale.len() as f64;
                evaluation.rmse = (s.square.iter().sum::<f64>() / s.targets as f64).sqrt();
                evaluation.mae = s.absolute / s.targets as f64;
                let r2 = |k: usize| 1.0 - s.square[k] / (s.target_square[k] - s.target[k] * s.target[k] / n);
                evaluation.r2 = (0..scale.len()).map(r2).sum::<f64>() / scale.len() as f64;
            }
            _ => {}
        }
        evaluation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bce, cross_entropy, mse};

    #[test]
    fn classes_are_counted_with_ties_to_the_lower_class() {
        let mut m = Metrics::new(&cross_entropy(), 1, &[4, 3], &Preprocess::default(), true);
        let logits = [0.0f32, 1.0, 2.0, 3.0, 3.0, 0.0, 5.0, 1.0, 1.0, 9.0, 9.0, 9.0];
        m.add(4, 0.5, Data::F32(&logits), Targets::I64(&[2, 1, -100, 0]));
        let e = m.evaluation();
        assert_eq!((e.samples, e.accuracy, e.loss), (4, 2.0 / 3.0, 0.5));
        let confusion = e.confusion.unwrap();
        assert_eq!((confusion.at(1, 0), confusion.at(2, 2), confusion.recall(1)), (1, 1, 0.0));
        assert_eq!(confusion.precision(0), 0.5);
    }

    #[test]
    fn positions_may_come_after_the_classes() {
        // [1 sample, 2 classes, 3 positions]
        let logits = [1.0f64, 0.0, 5.0, 0.0, 1.0, 9.0];
        let mut m = Metrics::new(&cross_entropy(), 1, &[1, 2, 3], &Preprocess::default(), true);
        m.add(1, 1.0, Data::F64(&logits), Targets::I64(&[0, 1, 0]));
        assert_eq!(m.evaluation().accuracy, 2.0 / 3.0);
        assert_eq!(m.evaluation().confusion.unwrap().at(0, 1), 1);
    }

    #[test]
    fn regression_figures_match_their_formulas() {
        let mut m = Metrics::new(&mse(), 0, &[4, 1], &Preprocess::default(), true);
        m.add(2, 0.0, Data::F32(&[1.0, 2.0]), Targets::F32(&[1.0, 3.0]));
        m.add(2, 0.0, Data::F32(&[5.0, 8.0]), Targets::F32(&[5.0, 7.0]));
        let e = m.evaluation();
        assert_eq!((e.rmse, e.mae), (0.5f64.sqrt(), 0.5));
        assert!((e.r2 - (1.0 - 2.0 / 20.0)).abs() < 1e-12 && e.accuracy.is_nan());
        m.reset();
        assert_eq!(m.sums.samples, 0);
    }

    #[test]
    fn binary_targets_may_be_integers() {
        let mut m = Metrics::new(&bce(), 0, &[3, 1], &Preprocess::default(), true);
        m.add(3, 0.0, Data::F32(&[0.5, -0.5, 2.0]), Targets::I64(&[1, 0, 0]));
        assert_eq!(m.evaluation().accuracy, 2.0 / 3.0);
    }
}
