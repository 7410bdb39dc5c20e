//! A run's state in one file, so that it is whole or not there at all.
//!
//! `checkpoint/last.safetensors` holds every parameter and state under its path, the best epoch's parameters under
//! `best/` + path, and the progress as JSON in the metadata. One file is replaced atomically; a folder of several
//! files could be half old and half new after a kill.

use std::path::{Path, PathBuf};

use kessen_engine::Precision;
use kessen_formats::SafeTensors;
use kessen_graph::{Graph, ParamKind};
use kessen_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::metrics::Sums;
use crate::schedule::PlateauState;
use crate::{Error, History, Result};

const KEY: &str = "kessen.progress";
const BEST: &str = "best/";

/// Where a run stands, besides its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// What the position in the data depends on.
    pub data: DataKey,
    /// Which algorithms the steps were computed with.
    #[serde(default)]
    pub precision: Precision,
    /// Steps done.
    pub step: u64,
    /// Figures of the epoch that is under way.
    pub sums: Sums,
    /// What the plateau schedule remembers.
    pub plateau: PlateauState,
    /// Best figure so far, less being better.
    pub best: Option<f64>,
    /// Epochs since then.
    pub stale: usize,
    /// Whether early stopping has ended the run.
    pub stopped: bool,
    /// Seconds of training so far.
    pub seconds: f64,
    /// What happened so far.
    pub history: History,
}

/// What the position in the data depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DataKey {
    pub seed: u64,
    pub batch: usize,
    pub samples: usize,
}

/// Named parameters.
pub(crate) type Params = Vec<(String, Tensor)>;

/// What a checkpoint holds.
pub(crate) struct Checkpoint {
    pub progress: Progress,
    pub params: Params,
    pub best: Option<Params>,
}

/// The checkpoint of a run folder.
pub(crate) fn path(run: &Path) -> PathBuf {
    run.join("checkpoint").join("last.safetensors")
}

/// Writes the checkpoint of `run`, atomically.
pub(crate) fn save(run: &Path, progress: &Progress, params: Params, best: Option<&Params>) -> Result<()> {
    let path = path(run);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| kessen_formats::Error::Io {
            action: "create",
            path: folder.to_owned(),
            source,
        })?;
    }
    let mut file = SafeTensors { tensors: params, ..SafeTensors::default() };
    let best = best.into_iter().flatten();
    file.tensors.extend(best.map(|(name, value)| (format!("{BEST}{name}"), value.clone())));
    let json = serde_json::to_string(progress);
    let json = json.map_err(|e| Error::Checkpoint { path: path.clone(), reason: e.to_string() })?;
    file.metadata.insert(KEY.to_owned(), json);
    file.write(&path)?;
    Ok(())
}

/// Reads the checkpoint of `run` for the training step `graph`, which begins as `fresh`.
///
/// # Errors
/// [`Error::Checkpoint`] where it was made with other data or settings, [`Error::Formats`] where it is damaged or
/// its parameters are others.
pub(crate) fn load(run: &Path, graph: &Graph, fresh: &Progress) -> Result<Checkpoint> {
    let path = path(run);
    let file = SafeTensors::read(&path)?;
    let refuse = |reason: String| Error::Checkpoint { path: path.clone(), reason };
    let json = file.metadata.get(KEY).ok_or_else(|| refuse("it holds no progress".to_owned()))?;
    let progress: Progress = serde_json::from_str(json).map_err(|e| refuse(e.to_string()))?;
    if progress.data != fresh.data {
        return Err(refuse(format!(
            "it was made with {:?}, this run has {:?}; use the same data, batch size and seed",
            progress.data, fresh.data
        )));
    }
    if progress.precision != fresh.precision {
        return Err(refuse(format!(
            "it was made with precision = {}, this run has {}; use the same",
            progress.precision, fresh.precision
        )));
    }
    let (best, params): (Params, Params) = file.tensors.into_iter().partition(|(n, _)| n.starts_with(BEST));
    let kinds = [ParamKind::Weight, ParamKind::Buffer, ParamKind::State];
    let params = kessen_formats::match_params(graph, &kinds, &params)?;
    let best: Params = best.into_iter().map(|(n, t)| (n[BEST.len()..].to_owned(), t)).collect();
    Ok(Checkpoint { progress, params, best: (!best.is_empty()).then_some(best) })
}
