//! The model file: one `.safetensors` file that says everything about a model.
//!
//! Tensors are the weights and buffers under PyTorch's names, so Python's `safetensors` opens it as it is. The
//! metadata carry the rest: `kessen.format` (the version of this layout), `kessen.architecture` (the text form),
//! `kessen.preprocess` and `kessen.labels` (JSON), `kessen.provenance` (JSON object of texts).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kessen_graph::{CustomOperator, Graph, ParamKind};
use kessen_tensor::Tensor;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result, SafeTensors, match_params};

const FORMAT: &str = "kessen.format";
const ARCHITECTURE: &str = "kessen.architecture";
const PREPROCESS: &str = "kessen.preprocess";
const LABELS: &str = "kessen.labels";
const PROVENANCE: &str = "kessen.provenance";
const VERSION: &str = "1";
const KINDS: [ParamKind; 2] = [ParamKind::Weight, ParamKind::Buffer];

/// A model: wiring, parameters, and how raw inputs and answers are to be read.
///
/// ```
/// use kessen_formats::Model;
/// use kessen_graph::Graph;
///
/// let graph = Graph::from_text("x: input batch 4\nlinear fc 2")?;
/// let params = graph.params().iter().map(|p| Ok((p.path.clone(), p.init.sample(&p.shape, 0, &p.path)?)));
/// let model = Model::new(graph.clone(), params.collect::<Result<_, kessen_graph::Error>>()?)?;
/// let path = tempfile::tempdir()?.keep().join("model.safetensors");
/// model.write(&path)?;
/// assert_eq!(Model::read(&path)?.graph, graph);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Model {
    /// The wiring, without the training step.
    pub graph: Graph,
    /// Weights and buffers by path, in the graph's order, as f32.
    pub params: Vec<(String, Tensor)>,
    /// How raw inputs come before the model.
    pub preprocess: Option<Value>,
    /// Names of the classes, or the vocabulary.
    pub labels: Vec<String>,
    /// Where the model comes from: recipe, data, date, figures.
    pub provenance: BTreeMap<String, String>,
}

impl Model {
    /// A model without notes.
    ///
    /// # Errors
    /// [`Error::Params`] with all parameters that are missing, unexpected or of another shape.
    pub fn new(graph: Graph, params: Vec<(String, Tensor)>) -> Result<Self> {
        let params = match_params(&graph, &KINDS, &params)?;
        Ok(Self { graph, params, preprocess: None, labels: Vec::new(), provenance: BTreeMap::new() })
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// [`Error::Io`] where it can't be read; [`Error::File`] where it is damaged, carries no architecture, or its
    /// parameters don't fit it.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, &[])
    }

    /// As [`Model::read`], with operators written outside this house under their names.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub fn read_with(path: &Path, custom: &[Arc<dyn CustomOperator>]) -> Result<Self> {
        Self::from_file(SafeTensors::read(path)?, custom).map_err(|e| e.of(path))
    }

    /// Reads the bytes of a model file.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::from_file(SafeTensors::decode(bytes)?, &[])
    }

    fn from_file(file: SafeTensors, custom: &[Arc<dyn CustomOperator>]) -> Result<Self> {
        let text = file.metadata.get(ARCHITECTURE).ok_or_else(|| {
            let expected = format!("`{ARCHITECTURE}`; give the architecture and these weights apart");
            Error::format("model metadata", "no architecture", expected)
        })?;
        match file.metadata.get(FORMAT).map(String::as_str) {
            None | Some(VERSION) => {}
            Some(other) => {
                let expected = format!("{VERSION}; use a newer release for this file");
                return Err(Error::format("model format", format!("version `{other}`"), expected));
            }
        }
        let graph = Graph::from_text_with(text, custom)?;
        let mut model = Self::new(graph, file.tensors)?;
        model.preprocess = json(&file.metadata, PREPROCESS)?;
        model.labels = json(&file.metadata, LABELS)?.unwrap_or_default();
        model.provenance = json(&file.metadata, PROVENANCE)?.unwrap_or_default();
        Ok(model)
    }

    /// Writes a model file, atomically.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        self.to_file().write(path)
    }

    /// The bytes of a model file: the same model gives the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.to_file().encode()
    }

    fn to_file(&self) -> SafeTensors {
        let mut metadata = BTreeMap::from([
            ("format".to_owned(), "pt".to_owned()),
            (FORMAT.to_owned(), VERSION.to_owned()),
            (ARCHITECTURE.to_owned(), self.graph.to_text()),
        ]);
        if let Some(preprocess) = &self.preprocess {
            metadata.insert(PREPROCESS.to_owned(), preprocess.to_string());
        }
        if !self.labels.is_empty() {
            metadata.insert(LABELS.to_owned(), serde_json::json!(self.labels).to_string());
        }
        if !self.provenance.is_empty() {
            metadata.insert(PROVENANCE.to_owned(), serde_json::json!(self.provenance).to_string());
        }
        SafeTensors { metadata, tensors: self.params.clone() }
    }
}

/// A metadata entry that holds JSON.
fn json<T: DeserializeOwned>(metadata: &BTreeMap<String, String>, key: &str) -> Result<Option<T>> {
    let Some(text) = metadata.get(key) else { return Ok(None) };
    let bad = |e: serde_json::Error| Error::format(format!("`{key}`"), e.to_string(), "JSON of another form");
    serde_json::from_str(text).map(Some).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let graph = Graph::from_text("x: input batch 3\nlinear a 4 | relu | linear b 2").unwrap();
        let params = graph.params().iter().map(|p| {
            let value = p.init.sample(&p.shape, 1, &p.path).unwrap();
            (p.path.clone(), value)
        });
        let params = params.collect();
        let mut model = Model::new(graph, params).unwrap();
        model.preprocess = Some(serde_json::json!({"input": {"kind": "array"}}));
        model.labels = vec!["yes".to_owned(), "いいえ".to_owned()];
        model.provenance.insert("data".to_owned(), "none".to_owned());
        model
    }

    #[test]
    fn everything_round_trips_and_the_bytes_repeat() {
        let (model, bytes) = (model(), model().encode());
        let back = Model::decode(&bytes).unwrap();
        assert_eq!(back.graph, model.graph);
        assert_eq!((&back.preprocess, &back.labels), (&model.preprocess, &model.labels));
        assert_eq!(back.provenance, model.provenance);
        let pairs = back.params.iter().zip(&model.params);
        assert!(pairs.clone().count() == 4 && pairs.into_iter().all(|(a, b)| a.1.bytes() == b.1.bytes()));
        assert_eq!(back.encode(), bytes);
    }

    #[test]
    fn files_that_are_no_model_are_refused_with_the_reason() {
        let change = |f: fn(&mut SafeTensors)| {
            let mut file = model().to_file();
            f(&mut file);
            Model::decode(&file.encode()).unwrap_err().to_string()
        };
        let cases: [(&str, fn(&mut SafeTensors), &str); 5] = [
            ("no architecture", |f| drop(f.metadata.remove(ARCHITECTURE)), "no architecture"),
            ("newer", |f| drop(f.metadata.insert(FORMAT.into(), "2".into())), "version `2`"),
            ("text", |f| drop(f.metadata.insert(ARCHITECTURE.into(), "x: inptu 3".into())), "line 1"),
            ("labels", |f| drop(f.metadata.insert(LABELS.into(), "{".into())), LABELS),
            ("a tensor less", |f| drop(f.tensors.pop()), "missing (1)"),
        ];
        for (name, f, part) in cases {
            let error = change(f);
            assert!(error.contains(part), "{name}: {error}");
        }
    }
}
