//! What can be wrong with a request to the zoo.

/// Result of building an architecture.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an architecture was not built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No architecture has that name.
    #[error("no architecture is named `{name}`{}", hint(.nearest))]
    UnknownArchitecture {
        /// The name.
        name: String,
        /// The nearest right one.
        nearest: Option<String>,
    },
    /// The architecture has no such argument.
    #[error("`{architecture}` has no argument `{name}`{}; it has: {known}", hint(.nearest))]
    UnknownArgument {
        /// The architecture.
        architecture: &'static str,
        /// The argument.
        name: String,
        /// The nearest right one.
        nearest: Option<String>,
        /// All of them, with their usual values.
        known: String,
    },
    /// An argument's value is not what it has to be.
    #[error("argument `{name}` of `{architecture}`: found `{found}`, expected {expected}")]
    Argument {
        /// The architecture.
        architecture: &'static str,
        /// The argument.
        name: &'static str,
        /// The value.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A text that is no call of an architecture.
    #[error("`{text}`: expected {expected}")]
    Syntax {
        /// The text.
        text: String,
        /// What would be right.
        expected: String,
    },
    /// The sizes don't fit.
    #[error(transparent)]
    Graph(#[from] kessen_graph::Error),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default()
}
