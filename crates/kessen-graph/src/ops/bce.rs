//! Binary cross-entropy of targets in 0 … 1 with the sigmoid σ of logits, in one operator.
//!
//! For each element with logit x, target y and weight of the positive class w (1 where there is none):
//!
//! l = −(w·y·ln σ(x) + (1 − y)·ln(1 − σ(x))) = (1 − y)·x + (1 + (w − 1)·y)·(ln(1 + e^−|x|) + max(−x, 0)),
//!
//! the second form being the one that neither overflows nor loses digits (PyTorch's
//! `binary_cross_entropy_with_logits`).

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::binary::broadcast_shapes;
use crate::ops::loss::{Reduction, check_dloss, loss_type};
use crate::{GradContext, Result, Type, Wire, operator};

operator! {
    /// Binary cross-entropy: operands logits `[…]`, target `[…]`, and perhaps pos_weight, broadcast to them; result a
    /// scalar.
    BceWithLogits "bce_with_logits" {
        /// How single losses become one number.
        reduction: Reduction = Reduction::Mean,
    }
}

operator! {
    /// Gradient of [`BceWithLogits`]: operands dloss, logits, target, and pos_weight where there is one; result
    /// dlogits = s·((1 − y) − (1 + (w − 1)·y)·σ(−x)), with s = dloss (`sum`) or dloss/number of elements (`mean`).
    BceWithLogitsGrad "bce_with_logits_grad" {
        /// As in [`BceWithLogits`].
        reduction: Reduction = Reduction::Mean,
    }
}

fn check(operands: &[&Type]) -> Result<(), Misfit> {
    let [logits, target, weight @ ..] = operands else { return Err("expected logits and target".into()) };
    if logits != target || !logits.dtype.is_float() {
        return Err(format!("the target is {target}, expected real numbers like the logits, {logits}").into());
    }
    match weight {
        [] => Ok(()),
        [w] if w.dtype == logits.dtype && broadcast_shapes(&logits.shape, &w.shape)? == logits.shape => {
            Ok(())
        }
        [w] => Err(format!("pos_weight is {w}, which can't be broadcast to {logits}").into()),
        _ => Err("expected logits, target and perhaps pos_weight".into()),
    }
}

impl Operator for BceWithLogits {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        check(inputs)?;
        Ok(vec![loss_type(inputs[0])])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dloss) = context.doutput(0) else { return Ok(()) };
        if let Some(i) = [1, 2].into_iter().find(|&i| context.wants(i)) {
            return context.not_differentiable_to(i, "targets and weights are given, not learnt");
        }
        let mut operands = vec![dloss];
        operands.extend((0..context.input_count()).map(|i| context.input(i)));
        let dlogits = context.emit1(BceWithLogitsGrad { reduction: self.reduction }, &operands)?;
        context.set(0, dlogits);
        Ok(())
    }
}

impl Operator for BceWithLogitsGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [dloss, operands @ ..] = inputs else { return Err("expected dloss, logits and target".into()) };
        check(operands)?;
        check_dloss(dloss, operands[0])?;
        Ok(vec![operands[0].clone()])
    }
}

impl Wire {
    /// Mean binary cross-entropy of these logits with targets in 0 … 1 of the same shape.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let loss = Graph::build("loss", |g| {
    ///     let logits = g.input("x", shape!["batch", 8]).linear("fc", 1);
    ///     logits.bce_with_logits(&g.input("target", shape!["batch", 1]))
    /// })?;
    /// assert_eq!(loss.ty(loss.outputs()[0].1).to_string(), "scalar");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn bce_with_logits(&self, target: &Wire) -> Wire {
        self.bce_with_logits_with(target, None, BceWithLogits::default())
    }

    /// As [`Wire::bce_with_logits`], with a weight of the positive class and all attributes.
    pub fn bce_with_logits_with(&self, target: &Wire, pos_weight: Option<&Wire>, op: BceWithLogits) -> Wire {
        match pos_weight {
            Some(w) => self.apply(op, &[target, w]),
            None => self.apply(op, &[target]),
        }
    }
}
