//! Dropout (Srivastava et al. 2014), "inverted": the scaling is done in training.
//!
//! In training y = x·mask/(1 − p), where each element of mask is 0 with probability p, else 1; otherwise y = x.
//! mask comes from the counter-based generator keyed by the run's seed, the node's `key`, the step and the
//! element's index, so it is drawn again, not kept, for the gradient dx = dy·mask/(1 − p), which is the same operator.

use crate::error::Misfit;
use crate::op::Operator;
use crate::{GradContext, Result, Type, Wire, operator};

operator! {
    /// y = x·mask/(1 − p) in training, else y = x. With p = 1 every y is 0.
    Dropout "dropout" {
        /// Probability that an element is dropped.
        p: f64 = 0.5,
        /// Stream of random numbers; [`crate::Graph::for_training`] derives it from the node's path.
        key: u64 = 0,
        /// Whether elements are dropped.
        training: bool = false,
    }
}

impl Operator for Dropout {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err(format!("p is {}, expected a probability from 0 to 1", self.p).into());
        }
        match inputs {
            [x] if x.dtype.is_float() => Ok(vec![(*x).clone()]),
            _ => Err("expected one operand of real numbers".into()),
        }
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let dx = if self.training { context.emit1(self.clone(), &[dy])? } else { dy };
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Dropout"]
    }
}

impl Wire {
    /// Drops each element with probability `p` in training; the identity otherwise.
    ///
    /// ```
    /// use kessen_graph::{Graph, Op, shape};
    /// let net = Graph::build("d", |g| g.input("x", shape!["batch", 8]).dropout(0.5).linear("fc", 2))?;
    /// assert!(matches!(&net.for_training()?.nodes()[0].op, Op::Dropout(d) if d.training));
    /// assert_eq!(net.for_inference()?.nodes().len(), 1);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn dropout(&self, p: f64) -> Wire {
        self.apply(Dropout { p, ..Dropout::default() }, &[])
    }
}
