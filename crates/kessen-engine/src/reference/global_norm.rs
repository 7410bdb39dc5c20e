//! Length of many gradients as one vector.

use super::array::Array;

/// √(Σ g²) over all elements of all operands.
pub(super) fn global_norm(operands: &[&Array], norm: &mut Array) {
    let squares = operands.iter().flat_map(|g| &g.data).map(|g| g * g);
    norm.data[0] = squares.sum::<f64>().sqrt();
}
