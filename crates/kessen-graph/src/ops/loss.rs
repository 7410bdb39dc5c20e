//! What the losses share: how single losses become one number.

use crate::error::Misfit;
use crate::{Type, choice};

choice! {
    /// How single losses become one number.
    Reduction, "mean or sum" {
        /// Their mean (weighted, where the loss has weights).
        Mean = "mean",
        /// Their sum.
        Sum = "sum",
    }
}

/// The type of a loss of operands like `like`.
pub(crate) fn loss_type(like: &Type) -> Type {
    like.with_shape(Vec::new())
}

/// Checks that `dloss` is the gradient of a loss of operands like `like`.
///
/// # Errors
/// The type found.
pub(crate) fn check_dloss(dloss: &Type, like: &Type) -> Result<(), Misfit> {
    match *dloss == loss_type(like) {
        true => Ok(()),
        false => Err(format!("the loss's gradient is {dloss}, expected a scalar").into()),
    }
}
