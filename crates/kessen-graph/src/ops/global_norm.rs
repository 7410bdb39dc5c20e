//! Length of many gradients as one vector, √(Σ_i ‖g_i‖²), for clipping (Pascanu et al. 2013).

use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::{Result, Type, Wire, operator};

operator! {
    /// √ of the sum of the squares of all elements of all operands; result a scalar. It has no gradient.
    GlobalNorm "global_norm" {}
}

impl Operator for GlobalNorm {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        match inputs {
            [first, rest @ ..] if first.dtype.is_float() && rest.iter().all(|t| t.dtype == first.dtype) => {
                Ok(vec![first.with_shape(Vec::new())])
            }
            _ => Err("expected one or more operands of real numbers of one element type".into()),
        }
    }

    fn field(&self) -> Field {
        Field::Whole
    }
}

impl Wire {
    /// Euclidean length of this value and `others` as one vector.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("n", |g| {
    ///     let (a, b) = (g.input("a", shape![3, 4]), g.input("b", shape![5]));
    ///     a.global_norm(&[&b])
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "scalar");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn global_norm(&self, others: &[&Wire]) -> Wire {
        self.apply(GlobalNorm {}, others)
    }
}
