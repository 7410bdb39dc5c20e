//! Losses of real-valued predictions. With the error e = prediction − target of each element:
//!
//! - `mse`: l = e²;
//! - `mae`: l = |e|, slope 0 at e = 0;
//! - `huber`: l = e²/2 where |e| ≤ delta, else delta·(|e| − delta/2) (PyTorch's `huber_loss`).

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::loss::{Reduction, check_dloss, loss_type};
use crate::{GradContext, Result, Type, Wire, choice, operator};

choice! {
    /// Which loss.
    RegressionKind, "mse, mae or huber" {
        /// Squared error.
        Mse = "mse",
        /// Absolute error.
        Mae = "mae",
        /// Squared near 0, absolute beyond.
        Huber = "huber",
    }
}

operator! {
    /// Loss of real numbers: operands prediction `[…]`, target `[…]`; result a scalar.
    RegressionLoss "regression_loss" {
        /// The loss.
        kind: RegressionKind = RegressionKind::Mse,
        /// Where `huber` goes from squared to absolute; without meaning for the others.
        delta: f64 = 1.0,
        /// How single losses become one number.
        reduction: Reduction = Reduction::Mean,
    }
}

operator! {
    /// Gradient of [`RegressionLoss`]: operands dloss, prediction, target; result dprediction = s·f with s = dloss
    /// (`sum`) or dloss/number of elements (`mean`) and f = 2e (`mse`), sign(e) (`mae`) or e held between ±delta
    /// (`huber`).
    RegressionLossGrad "regression_loss_grad" {
        /// As in [`RegressionLoss`].
        kind: RegressionKind = RegressionKind::Mse,
        /// As in [`RegressionLoss`].
        delta: f64 = 1.0,
        /// As in [`RegressionLoss`].
        reduction: Reduction = Reduction::Mean,
    }
}

fn check(delta: f64, prediction: &Type, target: &Type) -> Result<(), Misfit> {
    if !(delta > 0.0 && delta.is_finite()) {
        return Err(format!("delta is {delta}, expected a number above 0").into());
    }
    if prediction != target || !prediction.dtype.is_float() {
        return Err(format!(
            "the target is {target}, expected real numbers like the prediction, {prediction}; reshape one of them"
        )
        .into());
    }
    Ok(())
}

impl Operator for RegressionLoss {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [prediction, target] = inputs else { return Err("expected prediction and target".into()) };
        check(self.delta, prediction, target)?;
        Ok(vec![loss_type(prediction)])
    }

    fn word(&self) -> &'static str {
        self.kind.word()
    }

    fn kinds(&self) -> Vec<crate::Op> {
        RegressionKind::ALL.iter().map(|&kind| Self { kind, ..Self::default() }.into()).collect()
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dloss) = context.doutput(0) else { return Ok(()) };
        let Self { kind, delta, reduction } = self.clone();
        let (prediction, target) = (context.input(0), context.input(1));
        // Each loss is an even function of the error, so the two operands may change places.
        for (i, operands) in [[dloss, prediction, target], [dloss, target, prediction]].iter().enumerate() {
            if context.wants(i) {
                let d = context.emit1(RegressionLossGrad { kind, delta, reduction }, operands)?;
                context.set(i, d);
            }
        }
        Ok(())
    }
}

impl Operator for RegressionLossGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [dloss, prediction, target] = inputs else {
            return Err("expected dloss, prediction and target".into());
        };
        check(self.delta, prediction, target)?;
        check_dloss(dloss, prediction)?;
        Ok(vec![(*prediction).clone()])
    }
}

impl Wire {
    /// Mean squared error of this prediction.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let loss = Graph::build("loss", |g| {
    ///     let y = g.input("x", shape!["batch", 1]).linear("hidden", 16).sigmoid().linear("out", 1);
    ///     y.mse_loss(&g.input("target", shape!["batch", 1]))
    /// })?;
    /// assert_eq!(loss.ty(loss.outputs()[0].1).to_string(), "scalar");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn mse_loss(&self, target: &Wire) -> Wire {
        self.regression_loss(target, RegressionLoss::default())
    }

    /// Mean absolute error of this prediction.
    pub fn mae_loss(&self, target: &Wire) -> Wire {
        self.regression_loss(target, RegressionLoss { kind: RegressionKind::Mae, ..Default::default() })
    }

    /// Mean Huber loss of this prediction.
    pub fn huber_loss(&self, target: &Wire, delta: f64) -> Wire {
        self.regression_loss(
            target,
            RegressionLoss { kind: RegressionKind::Huber, delta, ..Default::default() },
        )
    }

    /// A loss of this prediction, with all attributes.
    pub fn regression_loss(&self, target: &Wire, op: RegressionLoss) -> Wire {
        self.apply(op, &[target])
    }
}
