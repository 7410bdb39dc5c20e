//! Values joined along one dimension.

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::slice::Slice;
use crate::{Dim, GradContext, Result, Type, Wire, operator};

operator! {
    /// One or more operands, one after the other along `dim`; their other dimensions are equal.
    Concat "concat" {
        /// Dimension along which they are joined, from 0.
        dim: usize = 1,
    }
}

impl Operator for Concat {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let Some((first, rest)) = inputs.split_first() else {
            return Err("expected at least one operand".into());
        };
        let dim = self.dim;
        if dim >= first.rank() {
            return Err(format!("there is no dimension {dim}; the first operand has {}", first.rank()).into());
        }
        let mut shape = first.shape.clone();
        for (k, t) in rest.iter().enumerate() {
            let alike = t.dtype == first.dtype
                && t.rank() == first.rank()
                && (0..t.rank()).all(|i| i == dim || t.shape[i] == first.shape[i]);
            if !alike {
                return Err(format!(
                    "operand {} is {t}; it must equal the first, {first}, in all dimensions but {dim}",
                    k + 1
                )
                .into());
            }
            shape[dim] = shape[dim].clone() + t.shape[dim].clone();
        }
        Ok(vec![first.with_shape(shape)])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let mut start = Dim::fixed(0);
        for i in 0..context.input_count() {
            let size = context.ty(context.input(i)).shape[self.dim].clone();
            let end = start.clone() + size;
            if context.wants(i) {
                let op = Slice { dim: self.dim, start, end: end.clone(), step: 1 };
                let dx = context.emit1(op, &[dy])?;
                context.set(i, dx);
            }
            start = end;
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Concat"]
    }
}

impl Wire {
    /// This value and `others`, joined along dimension `dim`.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::conv::conv, shape};
    /// let net = Graph::build("branches", |g| {
    ///     let x = g.input("x", shape!["batch", 3, 8, 8]);
    ///     let (a, b) = (x.conv("a", conv(4, 1)), x.conv("b", conv(6, 3).padding(1)));
    ///     a.concat(&[&b], 1)
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×10×8×8");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn concat(&self, others: &[&Wire], dim: usize) -> Wire {
        self.apply(Concat { dim }, others)
    }
}
