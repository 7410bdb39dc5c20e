//! What can be wrong with a wiring.

/// Result of building, checking or transforming a graph.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a graph was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operands of a node don't fit its operator.
    #[error("node `{path}` ({operator}): {reason}; operands: {operands}")]
    Misfit {
        /// Path of the node.
        path: String,
        /// Operator's name.
        operator: String,
        /// What does not fit, with the formula's values, and what would.
        reason: String,
        /// The operands' types.
        operands: String,
    },
    /// A name is used twice.
    #[error("the name `{name}` is used twice in the graph; give one of the two another name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A name that holds characters the text form has a meaning for.
    #[error(
        "`{name}` can't be a name; use letters, digits, `_`, `-`, `.` and `#`, beginning with a letter or `_`"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// Nothing has that name.
    #[error("unknown {kind} `{name}`{}", hint(.nearest))]
    Unknown {
        /// What was looked for: operator, value, attribute.
        kind: &'static str,
        /// The name that was found.
        name: String,
        /// The nearest right name.
        nearest: Option<String>,
    },
    /// An attribute's value can't be read.
    #[error("attribute `{key}` of `{operator}`: found `{found}`, expected {expected}")]
    Attribute {
        /// Operator's name.
        operator: &'static str,
        /// Attribute's name.
        key: String,
        /// The text found.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A named dimension without a number.
    #[error("dimension `{name}` has no number; bind it (bound: {bound})")]
    Unbound {
        /// The dimension.
        name: String,
        /// The names that are bound.
        bound: String,
    },
    /// A dimension that comes out below zero.
    #[error("dimension {dim} comes out as {value}; the input is too small for this architecture")]
    NegativeDim {
        /// The dimension.
        dim: String,
        /// Its value.
        value: i64,
    },
    /// A text that is no dimension.
    #[error(
        "`{text}` is no dimension (character {at}); write a number, a name or a sum of products of these"
    )]
    DimText {
        /// The text.
        text: String,
        /// Character where reading stopped, from 1.
        at: usize,
    },
    /// A gradient was asked for through an operator that has none.
    #[error("node `{path}` ({operator}) has no gradient to its input {input}; {advice}")]
    NotDifferentiable {
        /// Path of the node.
        path: String,
        /// Operator's name.
        operator: String,
        /// Which input, from 0.
        input: usize,
        /// What to do.
        advice: String,
    },
    /// The text form can't be read.
    #[error("line {line}, column {column}: {message}")]
    Text {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A graph breaks one of its own rules.
    #[error("the graph is inconsistent: {0}")]
    Inconsistent(String),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] kessen_tensor::Error),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default()
}

/// The candidate nearest to `name`, where one is near enough to be a slip of the pen.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&name.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= 1 + c.len().max(name.len()) / 4)
        .min()
        .map(|(_, c)| c.to_owned())
}

/// Why operands don't fit an operator: found, expected, next step. The graph adds the node's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit(pub String);

impl<S: Into<String>> From<S> for Misfit {
    fn from(reason: S) -> Self {
        Self(reason.into())
    }
}
