//! What can go wrong with a tensor.

use crate::DType;

/// Result of a tensor operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a tensor could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data's length is not the product of the shape's dimensions.
    #[error(
        "shape {shape:?} needs {expected} elements, found {found}; pass data of that length or another shape"
    )]
    Length {
        /// The shape asked for.
        shape: Vec<usize>,
        /// The elements that the shape holds.
        expected: usize,
        /// The elements found.
        found: usize,
    },
    /// The product of the dimensions does not fit the address space.
    #[error("shape {shape:?} is too large for this machine's address space")]
    TooLarge {
        /// The shape asked for.
        shape: Vec<usize>,
    },
    /// The tensor holds another element type than the one asked for.
    #[error(
        "expected elements of type {expected}, found {found}; convert with `Tensor::cast({expected})` first"
    )]
    DType {
        /// The type asked for.
        expected: DType,
        /// The type that the tensor holds.
        found: DType,
    },
    /// A name that is no element type.
    #[error("unknown element type `{0}`; known are f32, f64, f16, bf16, i64, i32, u8 and bool")]
    UnknownDType(String),
}
