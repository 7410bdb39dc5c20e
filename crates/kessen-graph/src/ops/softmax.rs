//! Softmax and its logarithm over one dimension.
//!
//! y_k = e^(x_k − m) / Σ_j e^(x_j − m) with m the largest x of the line; with `log`
//! y_k = x_k − m − ln Σ_j e^(x_j − m).

use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::{GradContext, Result, Type, Wire, operator};

operator! {
    /// Softmax over dimension `dim`, or its natural logarithm.
    Softmax "softmax" {
        /// Dimension whose lines add up to 1, from 0.
        dim: usize = 1,
        /// Gives the logarithm.
        log: bool = false,
    }
}

operator! {
    /// Gradient of [`Softmax`]: operands dy, y. dx_k = y_k·(dy_k − Σ_j dy_j·y_j); with `log`
    /// dx_k = dy_k − e^(y_k)·Σ_j dy_j.
    SoftmaxGrad "softmax_grad" {
        /// As in [`Softmax`].
        dim: usize = 1,
        /// As in [`Softmax`].
        log: bool = false,
    }
}

fn check(x: &Type, dim: usize) -> Result<(), Misfit> {
    match x.shape.get(dim) {
        _ if !x.dtype.is_float() => Err("expected real numbers".into()),
        None => Err(format!("there is no dimension {dim}; the operand has {}", x.rank()).into()),
        Some(d) if d.as_fixed() == Some(0) => Err(format!("dimension {dim} is empty").into()),
        Some(_) => Ok(()),
    }
}

impl Operator for Softmax {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        check(x, self.dim)?;
        Ok(vec![(*x).clone()])
    }

    fn word(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn kinds(&self) -> Vec<crate::Op> {
        [false, true].map(|log| Self { log, ..Self::default() }.into()).to_vec()
    }

    fn field(&self) -> Field {
        if self.dim < 2 { Field::Point } else { Field::Whole }
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let y = context.output(0);
        let dx = context.emit1(SoftmaxGrad { dim: self.dim, log: self.log }, &[dy, y])?;
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        if self.log { &["LogSoftmax"] } else { &["Softmax"] }
    }
}

impl Operator for SoftmaxGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        match inputs {
            [dy, y] if dy == y => check(y, self.dim).map(|()| vec![(*y).clone()]),
            _ => Err("expected dy and y of the same type".into()),
        }
    }
}

impl Wire {
    /// Softmax over dimension `dim`.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("s", |g| g.input("logits", shape!["batch", 10]).softmax(1))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×10");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn softmax(&self, dim: usize) -> Wire {
        self.apply(Softmax { dim, log: false }, &[])
    }

    /// Natural logarithm of the softmax over dimension `dim`.
    pub fn log_softmax(&self, dim: usize) -> Wire {
        self.apply(Softmax { dim, log: true }, &[])
    }
}
