//! What the model says to every test sample.

use anyhow::Result;
use kessen_data::{Dataset, Loader};
use kessen_train::Trained;

/// Samples per run of the model.
const BATCH: usize = 256;

/// Logits or values of every sample, with the targets.
pub struct Answers {
    /// N·K numbers, as the model gives them.
    outputs: Vec<f32>,
    /// K.
    width: usize,
    /// Class numbers; empty for values.
    pub classes: Vec<i64>,
    /// Values as the model sees them; empty for classes.
    targets: Vec<f32>,
    /// How values come back to the data's own units.
    undo: Option<kessen_data::Standardise>,
}

impl Answers {
    /// Runs the model over `set`.
    pub fn of(trained: &mut Trained, set: &Dataset) -> Result<Self> {
        let mut loader = Loader::new(set, BATCH.min(set.len()))?;
        let mut batch = loader.batch()?;
        let input =
            trained.model.inputs().first().map(|&v| trained.model.value(v).name.clone()).unwrap_or_default();
        let field = set.fields()[0].name.clone();
        let is_class = set.classes()?.is_some();
        let mut answers = Self {
            outputs: Vec::new(),
            width: 1,
            classes: Vec::new(),
            targets: Vec::new(),
            undo: set.preprocess().values().map(|(_, s)| s.clone()),
        };
        for step in 0..loader.steps_per_epoch() {
            loader.fill(0, step, &mut batch)?;
            let outputs = trained.predict(&[(input.as_str(), &batch.tensor(&field)?)])?;
            let output = &outputs[0].1;
            answers.width = output.len() / batch.len().max(1);
            answers.outputs.extend_from_slice(output.as_slice()?);
            match is_class {
                true => answers.classes.extend_from_slice(batch.i64("target")?),
                false => answers.targets.extend_from_slice(batch.f32("target").unwrap_or_default()),
            }
        }
        Ok(answers)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.outputs.len() / self.width.max(1)
    }

    /// Softmax of sample `i`'s logits.
    pub fn probabilities(&self, i: usize) -> Vec<f64> {
        softmax(&self.outputs[i * self.width..(i + 1) * self.width])
    }

    /// `(true, predicted)` of a target of one number, in its own units.
    pub fn values(&self) -> Option<Vec<(f64, f64)>> {
        if self.targets.is_empty() || self.width != 1 {
            return None;
        }
        let own_units = |v: f32| {
            let mut v = [v];
            self.undo.iter().for_each(|s| s.undo(&mut v));
            f64::from(v[0])
        };
        Some(self.targets.iter().zip(&self.outputs).map(|(&t, &p)| (own_units(t), own_units(p))).collect())
    }
}

/// e^z / Σ e^z, without overflow.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = logits.iter().map(|&z| f64::from(z - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|v| v / sum).collect()
}
