//! What a training leaves: a model that answers, and how it came about.

use std::path::Path;

use kessen_data::{Dataset, Preprocess};
use kessen_engine::Precision;
use kessen_formats::Model;
use kessen_graph::Graph;
use kessen_tensor::Tensor;

use crate::{Config, Evaluation, History, Predictor, Result};

/// The note of a model file that says which precision it was trained with.
const PRECISION_NOTE: &str = "precision";

/// The precision that a model was trained with, where its file says so.
pub fn trained_precision(model: &Model) -> Option<Precision> {
    model.provenance.get(PRECISION_NOTE).and_then(|word| Precision::from_word(word))
}

/// A trained model with its history.
#[derive(Debug)]
pub struct Trained {
    /// The model, ready to answer.
    pub predictor: Predictor,
    /// The wiring that was trained.
    pub model: Graph,
    /// How raw inputs come before the model.
    pub preprocess: Preprocess,
    /// What happened.
    pub history: History,
    /// Figures on the test part, where there is one and the run was not interrupted.
    pub test: Option<Evaluation>,
    /// Whether the run was interrupted; it can be resumed.
    pub interrupted: bool,
    /// The settings of the run.
    pub config: Config,
}

impl Trained {
    /// The figures on a data set, under the loss of the training.
    ///
    /// # Errors
    /// Data that don't fit the model; samples that can't be read.
    pub fn evaluate(&self, set: &Dataset) -> Result<Evaluation> {
        self.predictor.evaluate(&self.config.step.loss, set, self.config.batch)
    }

    /// The outputs by name for inputs by name, as the network sees them (after preprocessing).
    ///
    /// # Errors
    /// An input that is missing, unknown or of another shape.
    pub fn predict(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>> {
        self.predictor.predict(inputs)
    }

    /// The model as a file holds it: wiring, parameters, preprocessing, labels, and the loss and precision it was
    /// trained with.
    ///
    /// # Errors
    /// None for a model that was trained.
    pub fn to_model(&self) -> Result<Model> {
        let mut model = Model::new(self.model.clone(), self.params().to_vec())?;
        model.preprocess = serde_json::to_value(&self.preprocess).ok();
        model.labels = self.preprocess.labels().map(<[String]>::to_vec).unwrap_or_default();
        if let Ok(loss) = serde_json::to_string(&self.config.step.loss) {
            model.provenance.insert("loss".to_owned(), loss);
        }
        model.provenance.insert(PRECISION_NOTE.to_owned(), self.config.precision.to_string());
        model
            .provenance
            .insert("made by".to_owned(), concat!("kessen ", env!("CARGO_PKG_VERSION")).to_owned());
        Ok(model)
    }

    /// Writes the model file, atomically.
    ///
    /// # Errors
    /// [`crate::Error::Formats`] where the file can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(self.to_model()?.write(path.as_ref())?)
    }

    /// Weights and buffers by path.
    pub fn params(&self) -> &[(String, Tensor)] {
        self.predictor.params()
    }
}
