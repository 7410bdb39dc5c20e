//! Losses with their gradients in one pass: [`CrossEntropy`] over classes and [`Pointwise`] losses between equal
//! shapes. Formulas and reductions are PyTorch's.

mod cross_entropy;
mod pointwise;

/// The classes of the places, `[N, inner]`.
pub use crate::Indices as Classes;
pub use cross_entropy::CrossEntropy;
pub use pointwise::{Pointwise, pointwise, pointwise_scratch};

/// How the elements' losses are made one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean (weighted by the targets' class weights for [`CrossEntropy`]).
    Mean,
    /// Their sum.
    Sum,
}

#[cfg(test)]
mod tests;
