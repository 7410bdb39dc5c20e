//! One error for programs that use several stages.

/// Result of an operation of any stage.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of any stage, for `?`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor of another type or shape.
    #[error(transparent)]
    Tensor(#[from] kessen_tensor::Error),
    /// A wiring that does not fit.
    #[error(transparent)]
    Graph(#[from] kessen_graph::Error),
    /// A plan that can't be made or run.
    #[error(transparent)]
    Engine(#[from] kessen_engine::Error),
    /// Data that can't be read.
    #[error(transparent)]
    Data(#[from] kessen_data::Error),
    /// A training that can't go on.
    #[error(transparent)]
    Train(Box<kessen_train::Error>),
    /// A file that can't be read or written.
    #[error(transparent)]
    Formats(#[from] kessen_formats::Error),
    /// An architecture that is not in the zoo.
    #[error(transparent)]
    Zoo(#[from] kessen_zoo::Error),
    /// A picture that can't be drawn or written.
    #[error(transparent)]
    View(#[from] kessen_view::Error),
    /// Notes in a model file that can't be read.
    #[error("the model file's {what} can't be read: {problem}")]
    Notes {
        /// Which of them.
        what: &'static str,
        /// Why.
        problem: String,
    },
    /// A model that does not give what was asked for.
    #[error("{0}")]
    Unsuited(String),
}

impl From<kessen_train::Error> for Error {
    fn from(error: kessen_train::Error) -> Self {
        Self::Train(Box::new(error))
    }
}
