//! A model from a file that answers.

use std::path::Path;

use kessen_data::{Preprocess, Table};
use kessen_formats::Model;
use kessen_tensor::Tensor;
use kessen_train::{Loss, Predictor, default_backend, trained_precision};

use crate::{Error, Result};

/// A model from a file, ready to answer raw inputs with its own preprocessing.
#[derive(Debug)]
pub struct SavedModel {
    /// What the file holds.
    pub model: Model,
    /// How raw inputs come before the model.
    pub preprocess: Preprocess,
    /// The model on its backend.
    pub predictor: Predictor,
}

impl SavedModel {
    /// Reads a model file.
    ///
    /// # Errors
    /// A file that is missing, damaged, or holds parameters of another architecture.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(Model::read(path.as_ref())?)
    }

    /// A model that was read already; it answers in the precision that it was trained with, where the file says so.
    ///
    /// # Errors
    /// [`Error::Notes`] where its preprocessing is of another form.
    pub fn new(model: Model) -> Result<Self> {
        let preprocess = match &model.preprocess {
            None => Preprocess::default(),
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|e| Error::Notes { what: "preprocessing", problem: e.to_string() })?,
        };
        let precision = trained_precision(&model).unwrap_or_default();
        let predictor = Predictor::new(default_backend(), &model.graph, &model.params)?.precision(precision);
        Ok(Self { model, preprocess, predictor })
    }

    /// The class names, where the model answers with classes.
    pub fn labels(&self) -> Option<&[String]> {
        match self.preprocess.labels() {
            Some(labels) => Some(labels),
            None => (!self.model.labels.is_empty()).then_some(self.model.labels.as_slice()),
        }
    }

    /// The loss that the model was trained for, where the file says so.
    pub fn loss(&self) -> Option<Loss> {
        self.model.provenance.get("loss").and_then(|text| serde_json::from_str(text).ok())
    }

    /// The network's input \[1, C, H, W\] for an image file's bytes; `name` stands for the file in messages.
    ///
    /// # Errors
    /// A damaged image; a model that takes none.
    pub fn image(&self, bytes: &[u8], name: &str) -> Result<Tensor> {
        Ok(self.preprocess.image(bytes, name)?)
    }

    /// The network's inputs \[rows, features\] for a table, whose columns are found by name.
    ///
    /// # Errors
    /// A column that is missing; a value that is no number or not known from training.
    pub fn rows(&self, table: &Table) -> Result<Tensor> {
        Ok(table.inputs(&self.preprocess)?)
    }

    /// The first output's rows, one per sample of `inputs`, in the data's own units where the target was standardised.
    ///
    /// # Errors
    /// Inputs of another shape.
    pub fn values(&mut self, inputs: &Tensor) -> Result<Vec<Vec<f32>>> {
        let mut rows = self.outputs(inputs)?;
        if let Some((_, standardise)) = self.preprocess.values() {
            rows.iter_mut().for_each(|row| standardise.undo(row));
        }
        Ok(rows)
    }

    /// For each sample of `inputs` the classes with their probabilities, the likeliest first.
    ///
    /// # Errors
    /// Inputs of another shape; [`Error::Unsuited`] for a model without class names.
    pub fn classes(&mut self, inputs: &Tensor) -> Result<Vec<Vec<(String, f64)>>> {
        let Some(labels) = self.labels().map(<[String]>::to_vec) else {
            return Err(Error::Unsuited("the model has no class names; ask it for `values`".to_owned()));
        };
        let name = |k: usize| labels.get(k).cloned().unwrap_or_else(|| k.to_string());
        let rank = |logits: Vec<f32>| {
            let mut all: Vec<_> =
                softmax(&logits).into_iter().enumerate().map(|(k, p)| (name(k), p)).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            all
        };
        Ok(self.outputs(inputs)?.into_iter().map(rank).collect())
    }

    fn outputs(&mut self, inputs: &Tensor) -> Result<Vec<Vec<f32>>> {
        let graph = &self.model.graph;
        let Some(&input) = graph.inputs().first() else {
            return Err(Error::Unsuited("the model has no input".to_owned()));
        };
        let name = graph.value(input).name.clone();
        let outputs = self.predictor.predict(&[(name.as_str(), inputs)])?;
        let Some((_, output)) = outputs.first() else {
            return Err(Error::Unsuited("the model has no output".to_owned()));
        };
        let samples = inputs.shape().first().copied().unwrap_or(1).max(1);
        let values: &[f32] = output.as_slice()?;
        Ok(values.chunks((values.len() / samples).max(1)).map(<[f32]>::to_vec).collect())
    }
}

/// e^z / Σ e^z, without overflow.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = logits.iter().map(|&z| f64::from(z - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|v| v / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn probabilities_sum_to_one_whatever_the_logits() {
        for logits in [[0.0f32, 0.0, 0.0], [1e30, -1e30, 0.0], [-800.0, -801.0, -802.0]] {
            let p = softmax(&logits);
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && p.iter().all(|v| v.is_finite()), "{p:?}");
        }
    }

    #[test]
    fn a_saved_model_answers_as_the_trained_one() {
        let iris = data::iris().unwrap();
        let net = Graph::from_text("x: input batch 4\nlinear hidden 8 | tanh | linear out 3").unwrap();
        let trained = Trainer::new(&net).optimizer(adam(0.02)).epochs(20).batch(16).fit(&iris).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iris.safetensors");
        trained.save(&path).unwrap();
        let mut saved = SavedModel::load(&path).unwrap();
        assert_eq!(saved.loss(), Some(cross_entropy()));
        let table = Table::csv("5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n", "new", None).unwrap();
        let x = saved.rows(&table).unwrap();
        let answers = saved.classes(&x).unwrap();
        assert_eq!((answers[0][0].0.as_str(), answers[1][0].0.as_str()), ("Iris-setosa", "Iris-virginica"));
        let logits = trained.predict(&[("x", &x)]).unwrap()[0].1.clone();
        assert_eq!(saved.values(&x).unwrap().concat(), logits.as_slice::<f32>().unwrap());
    }
}
