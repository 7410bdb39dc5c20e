//! The crate's one error type.

/// What can be wrong with the environment the kernels are asked to run in, or with what they are asked to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `KESSEN_ISA` names no instruction set.
    #[error("KESSEN_ISA={found:?} is no instruction set{hint}; this CPU has: {available}")]
    UnknownIsa {
        /// The value found.
        found: String,
        /// "; did you mean …?", or empty.
        hint: String,
        /// The names this CPU can run.
        available: String,
    },
    /// `KESSEN_ISA` names an instruction set that this CPU lacks.
    #[error(
        "KESSEN_ISA={found} is not available on this CPU, which has: {available}; \
         choose one of these or unset KESSEN_ISA"
    )]
    MissingIsa {
        /// The name found.
        found: String,
        /// The names this CPU can run.
        available: String,
    },
    /// `KESSEN_BF16` names no way to multiply bf16.
    #[error("KESSEN_BF16={found:?} is neither \"native\" nor \"emulated\"; correct it or unset KESSEN_BF16")]
    UnknownBf16 {
        /// The value found.
        found: String,
    },
    /// `KESSEN_BF16` asks for instructions that this CPU lacks.
    #[error(
        "KESSEN_BF16=native needs AVX512_BF16, which this CPU lacks; choose emulated or unset KESSEN_BF16"
    )]
    MissingBf16,
    /// `KESSEN_THREADS` is no usable number of threads.
    #[error("KESSEN_THREADS={found:?} is not a number from 1 to {max}; correct it or unset KESSEN_THREADS")]
    BadThreadCount {
        /// The value found.
        found: String,
        /// The largest number allowed.
        max: usize,
    },
    /// A descriptor that no kernel can carry out; the text says what was found, what is allowed and what to do.
    #[error("{0}")]
    Descriptor(String),
    /// A class that a loss cannot count.
    #[error(
        "the target at place {place} is {found}, but there are {classes} classes, 0 to {}; correct the labels, or name \
         the label to be ignored",
        .classes.saturating_sub(1)
    )]
    Class {
        /// Index into the targets.
        place: usize,
        /// The value found.
        found: String,
        /// Number of classes.
        classes: usize,
    },
    /// A convolution's shape cannot be computed.
    #[error("convolution: {reason}")]
    Convolution {
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// An index into a table that has no such row.
    #[error("the index at place {place} is {found}, but the table has {rows} rows, 0 to {}", .rows.saturating_sub(1))]
    Row {
        /// Place among the indices.
        place: usize,
        /// The value found.
        found: String,
        /// Number of rows.
        rows: usize,
    },
}
