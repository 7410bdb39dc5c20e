//! The folder that a run leaves behind.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::failure::usage;
use crate::files;

/// `model.safetensors`, `recipe.toml`, `metrics.jsonl`, `checkpoint/`, `report.html` in one folder.
#[derive(Debug, Clone)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// A new folder: `out` where it is given, otherwise `runs/NAME`, `runs/NAME-2` and so on.
    ///
    /// # Errors
    /// A usage error where `out` holds something already; what the operating system says.
    pub fn create(out: Option<&Path>, name: &str) -> Result<Self> {
        let path = match out {
            Some(out) => {
                let taken = out.exists() && std::fs::read_dir(out).map_or(true, |mut d| d.next().is_some());
                if taken {
                    return Err(usage(format!(
                        "{} exists already and is not empty\n  = choose another folder with --out, or continue that \
                         run with `--resume {}`",
                        out.display(),
                        out.display()
                    )));
                }
                out.to_owned()
            }
            None => free(Path::new("runs"), name),
        };
        files::create_folder(&path)?;
        Ok(Self(path))
    }

    /// The folder of an earlier run.
    ///
    /// # Errors
    /// A usage error where there is no recipe or no checkpoint in it.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = Self(path.to_owned());
        for file in [folder.recipe(), folder.checkpoint()] {
            if !file.is_file() {
                return Err(usage(format!(
                    "{} is no run that can be continued: {} is missing\n  = name the folder that `kessen train` wrote",
                    path.display(),
                    file.display()
                )));
            }
        }
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The trained model.
    pub fn model(&self) -> PathBuf {
        self.0.join("model.safetensors")
    }

    /// The recipe with all defaults.
    pub fn recipe(&self) -> PathBuf {
        self.0.join("recipe.toml")
    }

    /// The page about the run.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// What `--resume` continues from.
    pub fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint").join("last.safetensors")
    }
}

fn free(parent: &Path, name: &str) -> PathBuf {
    let first = parent.join(name);
    if !first.exists() {
        return first;
    }
    let mut k = 2;
    loop {
        let path = parent.join(format!("{name}-{k}"));
        if !path.exists() {
            return path;
        }
        k += 1;
    }
}
