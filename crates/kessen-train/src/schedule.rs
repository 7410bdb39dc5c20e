//! Learning rate over time.
//!
//! `t` step from 0, `T` steps of the whole run, `W` steps of warm-up, `e` whole epochs done, `base` the optimiser's
//! learning rate. A schedule is a pure function of these (but `plateau`, which also looks at the metric), so a
//! resumed run needs no state to continue it. Formulas are PyTorch's (`torch.optim.lr_scheduler`).

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the learning rate changes over the run.
///
/// ```
/// use kessen_train::{Schedule, Warmup, Moment};
///
/// let at = |step| Moment { step, steps: 100, steps_per_epoch: 10 };
/// let cosine = Schedule::cosine();
/// assert_eq!(cosine.factor(Warmup::default(), at(0)), 1.0);
/// assert!((cosine.factor(Warmup::default(), at(50)) - 0.5).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// base.
    Constant {},
    /// base·factorⁿ, n = ⌊e / every⌋ (`StepLR`).
    Step {
        /// Epochs between changes.
        every: usize,
        /// Factor at each change.
        #[serde(default = "tenth")]
        factor: f64,
    },
    /// base·factorⁿ, n = how many of `at` are ≤ e (`MultiStepLR`).
    MultiStep {
        /// Epochs after which the rate changes.
        at: Vec<usize>,
        /// Factor at each change.
        #[serde(default = "tenth")]
        factor: f64,
    },
    /// base·factor^e (`ExponentialLR`).
    Exponential {
        /// Factor per epoch.
        factor: f64,
    },
    /// base·(floor + (1 − floor)·(1 + cos(πt/T))/2) (`CosineAnnealingLR`; Loshchilov & Hutter 2017).
    Cosine {
        /// Share of base at the end.
        #[serde(default)]
        floor: f64,
    },
    /// Cosine from base·start up to base at t = rise·T − 1, then down to base·start·end at T − 1 (`OneCycleLR`,
    /// two phases; Smith & Topin 2018).
    OneCycle {
        /// Share of base at the start (1 / `div_factor`).
        #[serde(default = "one_cycle_start")]
        start: f64,
        /// Share of the steps that rise (`pct_start`).
        #[serde(default = "one_cycle_rise")]
        rise: f64,
        /// Share of the start at the end (1 / `final_div_factor`).
        #[serde(default = "one_cycle_end")]
        end: f64,
    },
    /// base·(floor + (1 − floor)·(1 − t/T)^power) (`PolynomialLR`).
    Polynomial {
        /// Exponent; 1 is a straight line.
        #[serde(default = "one")]
        power: f64,
        /// Share of base at the end.
        #[serde(default)]
        floor: f64,
    },
    /// Times `factor` whenever the monitored metric has not improved for `patience` epochs (`ReduceLROnPlateau`).
    Plateau {
        /// Factor at each change.
        #[serde(default = "tenth")]
        factor: f64,
        /// Epochs without improvement that are let pass.
        #[serde(default = "ten")]
        patience: usize,
        /// Relative change that counts as an improvement.
        #[serde(default = "plateau_threshold")]
        threshold: f64,
        /// Epochs after a change during which nothing is counted.
        #[serde(default)]
        cooldown: usize,
        /// Share of base that the rate does not fall below.
        #[serde(default)]
        floor: f64,
    },
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Constant {}
    }
}

fn tenth() -> f64 {
    0.1
}
fn one() -> f64 {
    1.0
}
fn ten() -> usize {
    10
}
fn one_cycle_start() -> f64 {
    0.04
}
fn one_cycle_rise() -> f64 {
    0.3
}
fn one_cycle_end() -> f64 {
    1e-4
}
fn plateau_threshold() -> f64 {
    1e-4
}

/// A rise from `start`·rate to the rate over the first steps (`LinearLR`), before the schedule begins (as by
/// `SequentialLR`). Schedules by epoch count from the run's start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Warmup {
    /// Length in epochs; a fraction is rounded to steps.
    pub epochs: f64,
    /// Share of the rate at the first step.
    pub start: f64,
}

impl Default for Warmup {
    fn default() -> Self {
        Self { epochs: 0.0, start: 0.01 }
    }
}

/// A step's place in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Step, from 0.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
}

impl Warmup {
    /// Length in steps.
    pub fn steps(&self, steps_per_epoch: u64) -> u64 {
        (self.epochs * steps_per_epoch as f64).round() as u64
    }
}

impl Schedule {
    /// Cosine down to 0.
    pub fn cosine() -> Self {
        Self::Cosine { floor: 0.0 }
    }

    /// One cycle with PyTorch's defaults.
    pub fn one_cycle() -> Self {
        Self::OneCycle { start: one_cycle_start(), rise: one_cycle_rise(), end: one_cycle_end() }
    }

    /// Refuses settings outside their ranges.
    ///
    /// # Errors
    /// [`Error::Option`] with the range.
    pub fn check(&self, warmup: Warmup) -> Result<()> {
        let share = |name: &str, v: f64| match (0.0..=1.0).contains(&v) {
            true => Ok(()),
            false => Err(Error::option(format!("schedule.{name}"), v, "0 to 1")),
        };
        let positive = |name: &str, v: f64| match v > 0.0 && v.is_finite() {
            true => Ok(()),
            false => Err(Error::option(format!("schedule.{name}"), v, "a number above 0")),
        };
        if !(warmup.epochs >= 0.0 && warmup.epochs.is_finite()) {
            return Err(Error::option("warmup.epochs", warmup.epochs, "0 or more"));
        }
        share("warmup.start", warmup.start)?;
        match *self {
            Self::Constant {} => Ok(()),
            Self::Step { every: 0, .. } => Err(Error::option("schedule.every", 0, "at least 1 epoch")),
            Self::Step { factor, .. } | Self::MultiStep { factor, .. } | Self::Exponential { factor } => {
                positive("factor", factor)
            }
            Self::Cosine { floor } => share("floor", floor),
            Self::OneCycle { start, rise, end } => {
                positive("start", start)?;
                share("rise", rise)?;
                share("end", end)
            }
            Self::Polynomial { power, floor } => {
                positive("power", power)?;
                share("floor", floor)
            }
            Self::Plateau { factor, threshold, floor, .. } => {
                share("factor", factor)?;
                share("threshold", threshold)?;
                share("floor", floor)
            }
        }
    }

    /// The learning rate at a moment, as a factor of base; for `plateau` what its [`PlateauState`] multiplies.
    pub fn factor(&self, warmup: Warmup, at: Moment) -> f64 {
        let w = warmup.steps(at.steps_per_epoch);
        if at.step < w {
            return warmup.start + (1.0 - warmup.start) * at.step as f64 / w as f64;
        }
        let (t, total) = ((at.step - w) as f64, at.steps.saturating_sub(w).max(1) as f64);
        let epoch = (at.step / at.steps_per_epoch.max(1)) as usize;
        let cosine =
            |from: f64, to: f64, x: f64| to + (from - to) * (1.0 + (std::f64::consts::PI * x).cos()) / 2.0;
        match self {
            Self::Constant {} | Self::Plateau { .. } => 1.0,
            Self::Step { every, factor } => factor.powi((epoch / every.max(&1)) as i32),
            Self::MultiStep { at, factor } => factor.powi(at.iter().filter(|&&m| m <= epoch).count() as i32),
            Self::Exponential { factor } => factor.powi(epoch as i32),
            Self::Cosine { floor } => cosine(1.0, *floor, (t / total).min(1.0)),
            Self::OneCycle { start, rise, end } => {
                let (peak, last) = ((rise * total - 1.0).max(0.0), (total - 1.0).max(1.0));
                match t <= peak && peak > 0.0 {
                    true => cosine(*start, 1.0, t / peak),
                    false => cosine(1.0, start * end, ((t - peak) / (last - peak).max(1.0)).min(1.0)),
                }
            }
            Self::Polynomial { power, floor } => {
                floor + (1.0 - floor) * (1.0 - (t / total).min(1.0)).powf(*power)
            }
        }
    }
}

/// What `plateau` remembers; part of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauState {
    /// Factor so far.
    pub factor: f64,
    best: Option<f64>,
    bad_epochs: usize,
    cooldown: usize,
}

impl Default for PlateauState {
    fn default() -> Self {
        Self { factor: 1.0, best: None, bad_epochs: 0, cooldown: 0 }
    }
}

impl PlateauState {
    /// Takes an epoch's metric, of which less is better (negate one of which more is better).
    pub fn observe(&mut self, schedule: &Schedule, metric: f64) {
        let Schedule::Plateau { factor, patience, threshold, cooldown, floor } = *schedule else { return };
        // PyTorch's relative threshold assumes a positive metric; |best| makes it right for a negated one too.
        if self.best.is_none_or(|best| metric < best - threshold * best.abs()) {
            self.best = Some(metric);
            self.bad_epochs = 0;
        } else {
            self.bad_epochs += 1;
        }
        if self.cooldown > 0 {
            self.cooldown -= 1;
            self.bad_epochs = 0;
        }
        if self.bad_epochs > patience {
            self.factor = (self.factor * factor).max(floor);
            self.cooldown = cooldown;
            self.bad_epochs = 0;
        }
    }
}
