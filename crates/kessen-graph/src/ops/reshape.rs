//! The same elements under another shape, and a value repeated to a larger shape.

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::binary::broadcast_shapes;
use crate::ops::reduce::SumTo;
use crate::{Dim, Field, GradContext, Result, Type, Wire, operator};

operator! {
    /// The elements in row-major order under `shape`; no element moves.
    Reshape "reshape" {
        /// Shape of the result.
        shape: Vec<Dim> = Vec::new(),
    }
}

operator! {
    /// Repeats dimensions of 1 (and missing leading ones) to `shape`.
    Broadcast "broadcast" {
        /// Shape of the result.
        shape: Vec<Dim> = Vec::new(),
    }
}

/// Product of dimensions.
pub fn element_count(shape: &[Dim]) -> Dim {
    shape.iter().fold(Dim::fixed(1), |product, d| product * d.clone())
}

impl Operator for Reshape {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        let (found, expected) = (element_count(&x.shape), element_count(&self.shape));
        if found != expected {
            return Err(format!("the operand has {found} elements, the new shape {expected}").into());
        }
        Ok(vec![x.with_shape(self.shape.clone())])
    }

    fn field(&self) -> Field {
        Field::Whole
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let shape = context.ty(context.input(0)).shape.clone();
        let dx = context.emit1(Self { shape }, &[dy])?;
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Reshape", "Flatten", "Squeeze", "Unsqueeze"]
    }
}

impl Operator for Broadcast {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        if broadcast_shapes(&x.shape, &self.shape)? != self.shape {
            return Err(format!("{x} can't be repeated to the smaller shape asked for").into());
        }
        Ok(vec![x.with_shape(self.shape.clone())])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let shape = context.ty(context.input(0)).shape.clone();
        let dx = context.emit1(SumTo { shape }, &[dy])?;
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Expand"]
    }
}

impl Wire {
    /// The same elements under `shape`; see [`shape!`](crate::shape).
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("r", |g| g.input("x", shape!["batch", 12]).reshape(shape!["batch", 3, 4]))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×3×4");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn reshape(&self, shape: Vec<Dim>) -> Wire {
        self.apply(Reshape { shape }, &[])
    }

    /// All dimensions but the first as one.
    pub fn flatten(&self) -> Wire {
        let shape = self.ty().shape;
        let Some((first, rest)) = shape.split_first() else { return self.reshape(crate::shape![1]) };
        let shape = vec![first.clone(), element_count(rest)];
        let path = self.builder().with(|g| Ok(g.fresh_name("flatten")));
        self.apply_named(&path.unwrap_or_default(), Reshape { shape }, &[])
    }

    /// Repeats dimensions of 1 to `shape`.
    pub fn broadcast(&self, shape: Vec<Dim>) -> Wire {
        self.apply(Broadcast { shape }, &[])
    }
}
