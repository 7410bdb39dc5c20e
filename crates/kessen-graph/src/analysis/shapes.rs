//! Sizes: output ⌊(J + 2P − M)/S⌋ + 1 and its kind, for numbers in place of the named dimensions.

use crate::{Bindings, Error, Graph, Result};

impl Graph {
    /// Shapes of all values as numbers, by value index.
    ///
    /// # Errors
    /// [`Error::Unbound`] for a name without a number; [`Error::Misfit`] with the node's path and the formula's values
    /// for sizes that don't fit.
    pub fn shapes(&self, bindings: &Bindings) -> Result<Vec<Vec<usize>>> {
        let mut shapes = Vec::with_capacity(self.values().len());
        let mut checked = false;
        for value in self.values() {
            let shape = value.ty.shape.iter().map(|d| d.eval(bindings)).collect::<Result<Vec<_>>>();
            // A dimension that comes out as 0 or less: the shape rules, applied to numbers, say why.
            let suspect = match &shape {
                Ok(shape) => {
                    shape.iter().zip(&value.ty.shape).any(|(&n, d)| n == 0 && d.as_fixed().is_none())
                }
                Err(error) => matches!(error, Error::NegativeDim { .. }),
            };
            if suspect && !checked {
                self.bind(bindings)?;
                checked = true;
            }
            let shape = shape?;
            kessen_tensor::element_count(&shape)?;
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// Names of the dimensions that need a number, in the order of the inputs.
    pub fn dim_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for value in self.values() {
            for d in &value.ty.shape {
                d.for_each_name(&mut |n| {
                    if !names.iter().any(|m| m == n) {
                        names.push(n.to_owned());
                    }
                });
            }
        }
        names
    }
}
