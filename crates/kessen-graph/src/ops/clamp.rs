//! Values held between two bounds.

use crate::error::Misfit;
use crate::op::Operator;
use crate::{GradContext, Result, Type, Wire, operator};

operator! {
    /// y = min(max(x, `min`), `max`), element by element.
    Clamp "clamp" {
        /// Lower bound.
        min: f64 = f64::NEG_INFINITY,
        /// Upper bound.
        max: f64 = f64::INFINITY,
    }
}

operator! {
    /// Gradient of [`Clamp`]: operands dy, x; dx = dy where `min` ≤ x ≤ `max`, else 0 (PyTorch's rule).
    ClampGrad "clamp_grad" {
        /// As in [`Clamp`].
        min: f64 = f64::NEG_INFINITY,
        /// As in [`Clamp`].
        max: f64 = f64::INFINITY,
    }
}

impl Operator for Clamp {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        if self.min > self.max || self.min.is_nan() || self.max.is_nan() {
            return Err(format!("min is {}, max is {}; expected min ≤ max", self.min, self.max).into());
        }
        match inputs {
            [x] if x.dtype.is_float() => Ok(vec![(*x).clone()]),
            _ => Err("expected one operand of real numbers".into()),
        }
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let op = ClampGrad { min: self.min, max: self.max };
        let dx = context.emit1(op, &[dy, context.input(0)])?;
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Clip"]
    }
}

impl Operator for ClampGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        match inputs {
            [dy, x] if dy == x => Ok(vec![(*x).clone()]),
            _ => Err("expected dy and x of the same type".into()),
        }
    }
}

impl Wire {
    /// The value held between `min` and `max`; infinite where there is no bound.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let relu6 = Graph::build("c", |g| g.input("x", shape!["batch", 4]).clamp(0.0, 6.0))?;
    /// assert_eq!(relu6.nodes()[0].path, "clamp");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn clamp(&self, min: f64, max: f64) -> Wire {
        self.apply(Clamp { min, max }, &[])
    }
}
