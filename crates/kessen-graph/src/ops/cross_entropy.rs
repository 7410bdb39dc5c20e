//! Cross-entropy of class labels with the softmax of logits, −Σ_k d_k·log y_k, in one operator.
//!
//! Dimensions: `N` samples, `K` classes, `…` positions (time, pixels). For a sample n (and position) with target t,
//! p = softmax(logits over the classes), class weights w (1 where there are none) and label smoothing ε:
//!
//! l_n = (1 − ε)·w_t·(−ln p_t) + ε/K·Σ_k w_k·(−ln p_k), and l_n = 0 where t = `ignore_index`.
//!
//! `sum` gives Σ l_n; `mean` gives Σ l_n / W with W = Σ w_t over the samples that are not ignored: PyTorch's
//! `torch.nn.functional.cross_entropy`, also in that the mean over no sample at all is 0/0 = NaN (its gradient is 0).

use kessen_tensor::DType;

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::loss::{Reduction, check_dloss, loss_type};
use crate::{GradContext, Result, Type, Wire, operator};

operator! {
    /// Cross-entropy: operands logits `[N, K, …]`, target `[N, …]` (`i64`, 0 ≤ t < K or `ignore_index`), and perhaps
    /// class weights `[K]`; result a scalar.
    CrossEntropy "cross_entropy" {
        /// ε, the share of the target spread evenly over all classes.
        label_smoothing: f64 = 0.0,
        /// Target whose samples don't count.
        ignore_index: Option<i64> = Some(-100),
        /// How single losses become one number.
        reduction: Reduction = Reduction::Mean,
    }
}

operator! {
    /// Gradient of [`CrossEntropy`]: operands dloss, logits, target, and class weights where there are; result
    /// dlogits.
    ///
    /// dlogits_k = s·((1 − ε)·w_t·(p_k − [k = t]) + ε/K·(p_k·Σ_j w_j − w_k)) with s = dloss (`sum`) or dloss/W
    /// (`mean`), and 0 for ignored samples.
    CrossEntropyGrad "cross_entropy_grad" {
        /// As in [`CrossEntropy`].
        label_smoothing: f64 = 0.0,
        /// As in [`CrossEntropy`].
        ignore_index: Option<i64> = Some(-100),
        /// As in [`CrossEntropy`].
        reduction: Reduction = Reduction::Mean,
    }
}

/// Checks logits, target and perhaps class weights.
fn check(label_smoothing: f64, operands: &[&Type]) -> Result<(), Misfit> {
    if !(0.0..=1.0).contains(&label_smoothing) {
        return Err(format!("label_smoothing is {label_smoothing}, expected a number from 0 to 1").into());
    }
    let [logits, target, weights @ ..] = operands else { return Err("expected logits and target".into()) };
    if logits.rank() < 2 || !logits.dtype.is_float() {
        return Err("expected logits [N, K, …] of real numbers".into());
    }
    if target.dtype != DType::I64 {
        return Err(format!(
            "the target is {target}; expected class labels (i64): declare the input with input_ids, or use a \
             regression loss for real numbers"
        )
        .into());
    }
    let mut positions = logits.shape.clone();
    let classes = positions.remove(1);
    if target.shape != positions {
        return Err(format!("the target is {target}, expected {}", target.with_shape(positions)).into());
    }
    match weights {
        [] => Ok(()),
        [w] if **w == logits.with_shape(vec![classes.clone()]) => Ok(()),
        [w] => Err(format!("the class weights are {w}, expected {classes}").into()),
        _ => Err("expected logits, target and perhaps class weights".into()),
    }
}

impl Operator for CrossEntropy {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        check(self.label_smoothing, inputs)?;
        Ok(vec![loss_type(inputs[0])])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dloss) = context.doutput(0) else { return Ok(()) };
        if context.wants(2) {
            return context.not_differentiable_to(2, "class weights are given, not learnt");
        }
        let Self { label_smoothing, ignore_index, reduction } = self.clone();
        let mut operands = vec![dloss];
        operands.extend((0..context.input_count()).map(|i| context.input(i)));
        let op = CrossEntropyGrad { label_smoothing, ignore_index, reduction };
        let dlogits = context.emit1(op, &operands)?;
        context.set(0, dlogits);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["SoftmaxCrossEntropyLoss"]
    }
}

impl Operator for CrossEntropyGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [dloss, operands @ ..] = inputs else { return Err("expected dloss, logits and target".into()) };
        check(self.label_smoothing, operands)?;
        check_dloss(dloss, operands[0])?;
        Ok(vec![operands[0].clone()])
    }
}

impl Wire {
    /// Mean cross-entropy of these logits `[N, K, …]` with class labels `[N, …]`.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let loss = Graph::build("loss", |g| {
    ///     let logits = g.input("x", shape!["batch", 64]).linear("fc", 10);
    ///     logits.cross_entropy(&g.input_ids("target", shape!["batch"]))
    /// })?;
    /// assert_eq!(loss.ty(loss.outputs()[0].1).to_string(), "scalar");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn cross_entropy(&self, target: &Wire) -> Wire {
        self.cross_entropy_with(target, None, CrossEntropy::default())
    }

    /// As [`Wire::cross_entropy`], with class weights `[K]` and all attributes.
    pub fn cross_entropy_with(&self, target: &Wire, class_weights: Option<&Wire>, op: CrossEntropy) -> Wire {
        match class_weights {
            Some(w) => self.apply(op, &[target, w]),
            None => self.apply(op, &[target]),
        }
    }
}
