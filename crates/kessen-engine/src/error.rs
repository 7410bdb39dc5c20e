//! What can go wrong between a wiring and its numbers.

/// Result of compiling or running a graph.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a graph could not be compiled or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The wiring itself is at fault.
    #[error(transparent)]
    Graph(#[from] kessen_graph::Error),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] kessen_tensor::Error),
    /// Nothing has that name.
    #[error("the model has no {kind} `{name}`; it has {known}")]
    Unknown {
        /// Input, output or parameter.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Data of another shape or element type than the plan was compiled for.
    #[error("{kind} `{name}` expects {expected}, found {found}")]
    Mismatch {
        /// Input or parameter.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the plan expects.
        expected: String,
        /// What was given.
        found: String,
    },
    /// An index outside its operand: a class label, a token id.
    #[error("node `{path}` ({operator}): index {index} at position {position} is outside 0..{limit}")]
    Index {
        /// Path of the node.
        path: String,
        /// Operator's name.
        operator: String,
        /// The index found.
        index: i64,
        /// Where it stands in its operand.
        position: usize,
        /// The first index that is too large.
        limit: usize,
    },
    /// The backend can't run an operator.
    #[error("node `{path}`: the {backend} backend can't run `{operator}`: {reason}")]
    Unsupported {
        /// Path of the node.
        path: String,
        /// Backend's name.
        backend: &'static str,
        /// Operator's name.
        operator: String,
        /// What is missing.
        reason: String,
    },
    /// The plan needs more memory than it may have, however much is computed again.
    #[error(
        "the plan needs {} at least ({} of it for parameters, their state and inputs), the limit is {}; use a smaller \
         batch or a larger limit",
        bytes(*needed), bytes(*lasting), bytes(*limit)
    )]
    Memory {
        /// The fewest bytes with which it could run.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
        /// Bytes of `needed` that last from run to run.
        lasting: usize,
    },
}

/// Bytes in words: rounded up, so that a limit of that size suffices.
fn bytes(n: usize) -> String {
    match n {
        0..10_000 => format!("{n} bytes"),
        10_000..10_000_000 => format!("{} kB", n.div_ceil(1000)),
        _ => format!("{} MB", n.div_ceil(1_000_000)),
    }
}
