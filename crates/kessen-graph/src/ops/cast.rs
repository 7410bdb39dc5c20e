//! Another element type.

use kessen_tensor::DType;

use crate::error::Misfit;
use crate::op::Operator;
use crate::{GradContext, Result, Type, Wire, operator};

operator! {
    /// The elements as another type: rounded to nearest even between kinds of real numbers, towards zero to whole
    /// numbers.
    Cast "cast" {
        /// Element type of the result.
        to: DType = DType::F32,
    }
}

impl Operator for Cast {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        Ok(vec![Type { dtype: self.to, shape: x.shape.clone() }])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let to = context.ty(context.input(0)).dtype;
        let dx = if to == self.to { dy } else { context.emit1(Self { to }, &[dy])? };
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Cast"]
    }
}

impl Wire {
    /// The elements as `to`.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// use kessen_tensor::DType;
    /// let net = Graph::build("c", |g| g.input_ids("x", shape!["batch"]).cast(DType::F32).scale(0.1))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn cast(&self, to: DType) -> Wire {
        self.apply(Cast { to }, &[])
    }
}
