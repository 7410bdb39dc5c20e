//! Dimensions in another order.

use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::{GradContext, Result, Type, Wire, operator};

operator! {
    /// Dimension i of the result is dimension `dims[i]` of the operand; the elements move accordingly.
    Transpose "transpose" {
        /// A permutation of the dimensions.
        dims: Vec<usize> = Vec::new(),
    }
}

impl Transpose {
    /// The permutation that undoes this one.
    pub fn inverse(&self) -> Self {
        let mut dims = vec![0; self.dims.len()];
        self.dims.iter().enumerate().for_each(|(i, &d)| dims[d] = i);
        Self { dims }
    }
}

impl Operator for Transpose {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        let mut sorted = self.dims.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..x.rank()) {
            return Err(format!(
                "{:?} is no order of the operand's dimensions; expected each of 0 to {} once",
                self.dims,
                x.rank().saturating_sub(1)
            )
            .into());
        }
        Ok(vec![x.with_shape(self.dims.iter().map(|&d| x.shape[d].clone()).collect())])
    }

    fn field(&self) -> Field {
        Field::Whole
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let dx = context.emit1(self.inverse(), &[dy])?;
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Transpose"]
    }
}

impl Wire {
    /// The dimensions in the order `dims`.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("t", |g| g.input("x", shape!["batch", "time", 8]).transpose(&[1, 0, 2]))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "time×batch×8");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn transpose(&self, dims: &[usize]) -> Wire {
        self.apply(Transpose { dims: dims.to_vec() }, &[])
    }
}
