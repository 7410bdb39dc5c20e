//! What can be wrong with a file.

use std::fmt;
use std::path::PathBuf;

/// Result of reading or writing a file.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file whose contents are at fault.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        problem: Box<Error>,
    },
    /// The bytes are not what the format asks for.
    #[error("{place}: found {found}, expected {expected}")]
    Format {
        /// The part of the file, such as `safetensors header`.
        place: String,
        /// What stands there.
        found: String,
        /// What the format asks for, and where it helps what to do.
        expected: String,
    },
    /// The parameters don't fit the architecture; everything that is wrong, at once.
    #[error("{0}")]
    Params(Box<ParamReport>),
    /// The architecture that the file carries is at fault.
    #[error(transparent)]
    Graph(#[from] kessen_graph::Error),
    /// A shape that does not fit the address space.
    #[error(transparent)]
    Tensor(#[from] kessen_tensor::Error),
}

impl Error {
    pub(crate) fn format(
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Format { place: place.into(), found: found.into(), expected: expected.into() }
    }

    /// The same error with the file that it was found in.
    pub(crate) fn of(self, path: &std::path::Path) -> Self {
        match self {
            Self::Io { .. } | Self::File { .. } => self,
            problem => Self::File { path: path.to_owned(), problem: Box::new(problem) },
        }
    }
}

/// How a set of parameters differs from what an architecture needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamReport {
    /// Name of the architecture.
    pub architecture: String,
    /// Paths that the architecture has and the file lacks.
    pub missing: Vec<String>,
    /// Paths that the file has and the architecture lacks.
    pub unexpected: Vec<String>,
    /// Parameters of another shape or element type: path, found, expected.
    pub misfit: Vec<(String, String, String)>,
}

impl ParamReport {
    /// Whether everything fits.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misfit.is_empty()
    }
}

impl fmt::Display for ParamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.architecture;
        write!(f, "the parameters don't fit the architecture `{name}`")?;
        for (what, paths) in [("missing", &self.missing), ("unexpected", &self.unexpected)] {
            if !paths.is_empty() {
                write!(f, "\n  {what} ({}): {}", paths.len(), paths.join(", "))?;
            }
        }
        for (path, found, expected) in &self.misfit {
            write!(f, "\n  `{path}` is {found}, expected {expected}")?;
        }
        f.write_str("\n  use the weights of this architecture, or the architecture of these weights")
    }
}

impl std::error::Error for ParamReport {}
