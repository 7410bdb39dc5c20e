//! A constant around a value.

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::slice::Slice;
use crate::{Dim, GradContext, Result, Type, Wire, operator};

operator! {
    /// `value` before and after the operand along each dimension.
    Pad "pad" {
        /// Elements before, one number per dimension.
        before: Vec<Dim> = Vec::new(),
        /// Elements after, one number per dimension.
        after: Vec<Dim> = Vec::new(),
        /// What is put there.
        value: f64 = 0.0,
    }
}

impl Operator for Pad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        if self.before.len() != x.rank() || self.after.len() != x.rank() {
            return Err(format!(
                "found {} numbers before and {} after; expected one per dimension, {}",
                self.before.len(),
                self.after.len(),
                x.rank()
            )
            .into());
        }
        let ends = self.before.iter().zip(&self.after);
        let shape = x.shape.iter().zip(ends).map(|(d, (b, a))| d.clone() + b.clone() + a.clone()).collect();
        Ok(vec![x.with_shape(shape)])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(mut d) = context.doutput(0) else { return Ok(()) };
        let shape = context.ty(context.input(0)).shape.clone();
        for (dim, size) in shape.into_iter().enumerate() {
            if context.ty(d).shape[dim] != size {
                let start = self.before[dim].clone();
                let end = start.clone() + size;
                d = context.emit1(Slice { dim, start, end, step: 1 }, &[d])?;
            }
        }
        context.set(0, d);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Pad"]
    }
}

impl Wire {
    /// Zeros around the value: `before[i]` and `after[i]` along dimension i.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("p", |g| {
    ///     g.input("x", shape!["batch", 3, 5]).pad(shape![0, 0, 1], shape![0, 0, 2])
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×3×8");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn pad(&self, before: Vec<Dim>, after: Vec<Dim>) -> Wire {
        self.apply(Pad { before, after, value: 0.0 }, &[])
    }
}
