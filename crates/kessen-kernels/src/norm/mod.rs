//! Normalisation: over the batch ([`BatchNorm`]), over rows ([`RowNorm`]: layer and RMS norm) and over groups of
//! channels ([`GroupNorm`]), forward and backward.
//!
//! Means and variances are computed in two passes over blocks that stay in cache and joined by Chan's formula, so
//! that they are as accurate as two passes over everything at the cost of one. Work is split by its size alone.

mod batch;
mod group;
mod row;
mod walk;

pub use crate::pool::Layout;
pub use batch::{Affine, BatchNorm, Bounds, Function, Fused, Saved, Steps};
pub use group::GroupNorm;
pub use row::{RowKind, RowNorm};

#[cfg(test)]
mod tests;
