//! What a value is: element type and shape.

use std::fmt;

use kessen_tensor::DType;

use crate::Dim;

/// Element type and shape of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<Dim>,
}

impl Type {
    /// A value of real numbers.
    pub fn f32(shape: Vec<Dim>) -> Self {
        Self { dtype: DType::F32, shape }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The same element type under another shape.
    pub fn with_shape(&self, shape: Vec<Dim>) -> Self {
        Self { dtype: self.dtype, shape }
    }
}

impl fmt::Display for Type {
    /// `batch×16×14×14`, with the element type in front where it is not `f32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dtype != DType::F32 {
            write!(f, "{} ", self.dtype)?;
        }
        if self.shape.is_empty() {
            return f.write_str("scalar");
        }
        f.write_str(&self.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×"))
    }
}

/// A shape from numbers, names and dimensions: `shape!["batch", 3, 32, 32]`.
#[macro_export]
macro_rules! shape {
    ($($d:expr),* $(,)?) => { vec![$($crate::Dim::from($d)),*] };
}
