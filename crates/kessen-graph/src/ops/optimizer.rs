//! One step of an optimiser for one parameter, as an operator: the training step is one graph.
//!
//! Every step has the operands param, grad (of one shape), and the scalars lr (learning rate), grad_scale (what the
//! gradient is multiplied with: clipping, loss scaling) and step (1 for the first step), then the optimiser's state,
//! of the parameter's shape and zero before the first step. Results are the new parameter and the new state, in the
//! same order. With `lr_scale` a parameter's learning rate is a multiple of lr.
//!
//! In all formulas p param, g = grad_scale·grad, η = lr·lr_scale, t step, λ weight_decay.

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::check_range;
use crate::{Result, Type, operator};

operator! {
    /// Stochastic gradient descent: state velocity b where `momentum` is not 0.
    ///
    /// PyTorch's `torch.optim.SGD`: g ← g + λ·p; with momentum μ: b′ = g at t = 1, else μ·b + (1 − dampening)·g, and
    /// g ← g + μ·b′ (`nesterov`) or b′; p′ = p − η·g.
    ///
    /// ```
    /// use kessen_graph::{Graph, Init, ParamKind, gradients, ops::optimizer::SgdStep, shape};
    /// let mut step = Graph::build("step", |g| {
    ///     let x = g.input("x", shape!["batch", 3]).linear_with("fc", 2, Init::Constant(0.1), false);
    ///     [("loss", x.square().mean(&[])), ("lr", g.input("lr", shape![])), ("t", g.input("t", shape![]))]
    /// })?;
    /// let [loss, lr, t] = [0, 1, 2].map(|i| step.outputs()[i].1);
    /// let w = step.params()[0].value;
    /// let dw = gradients(&mut step, loss, &[w])?[0].unwrap();
    /// let one = step.add_scalar(1.0)?;
    /// let b = step.add_param("fc.weight.velocity", &[2, 3], Init::Constant(0.0), ParamKind::State)?;
    /// let op = SgdStep { momentum: 0.9, ..SgdStep::default() };
    /// let new = step.add_node("fc.weight.step", op, &[w, dw, lr, one, t, b])?;
    /// let ids: Vec<_> = step.param_ids().collect();
    /// step.add_update(ids[0], new[0])?;
    /// step.add_update(ids[1], new[1])?;
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    SgdStep "sgd_step" {
        /// μ.
        momentum: f64 = 0.0,
        /// Part of the gradient kept out of the velocity.
        dampening: f64 = 0.0,
        /// Looks ahead along the velocity.
        nesterov: bool = false,
        /// λ.
        weight_decay: f64 = 0.0,
        /// Multiple of the learning rate.
        lr_scale: f64 = 1.0,
    }
}

operator! {
    /// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019): state m, v, and v_max with `amsgrad`.
    ///
    /// PyTorch's `torch.optim.Adam` and `AdamW`: g ← g + λ·p, or with `decoupled` p ← (1 − η·λ)·p;
    /// m′ = β₁·m + (1 − β₁)·g; v′ = β₂·v + (1 − β₂)·g²; u = v′, or with `amsgrad` u = v_max′ = max(v_max, v′);
    /// p′ = p − η/(1 − β₁ᵗ) · m′ / (√u/√(1 − β₂ᵗ) + eps).
    AdamStep "adam_step" {
        /// β₁.
        beta1: f64 = 0.9,
        /// β₂.
        beta2: f64 = 0.999,
        /// Added to the root.
        eps: f64 = 1e-8,
        /// λ.
        weight_decay: f64 = 0.0,
        /// Decays the weight itself (AdamW) instead of adding to the gradient.
        decoupled: bool = false,
        /// Divides by the largest v so far (Reddi et al. 2018).
        amsgrad: bool = false,
        /// Multiple of the learning rate.
        lr_scale: f64 = 1.0,
    }
}

operator! {
    /// RMSprop (Hinton, Coursera lecture 6e): state v, then a with `centered`, then velocity b where `momentum` is not
    /// 0.
    ///
    /// PyTorch's `torch.optim.RMSprop`: g ← g + λ·p; v′ = α·v + (1 − α)·g²; with `centered`
    /// a′ = α·a + (1 − α)·g and u = √(v′ − a′²), else u = √v′; d = g/(u + eps); with momentum b′ = μ·b + d and
    /// p′ = p − η·b′, else p′ = p − η·d.
    RmspropStep "rmsprop_step" {
        /// α.
        alpha: f64 = 0.99,
        /// Added to the root.
        eps: f64 = 1e-8,
        /// μ.
        momentum: f64 = 0.0,
        /// Divides by the standard deviation instead of the root mean square.
        centered: bool = false,
        /// λ.
        weight_decay: f64 = 0.0,
        /// Multiple of the learning rate.
        lr_scale: f64 = 1.0,
    }
}

/// The shape rule of all steps: `state` names the state's operands.
fn step_types(inputs: &[&Type], state: &[&str]) -> Result<Vec<Type>, Misfit> {
    let names: Vec<&str> =
        ["param", "grad", "lr", "grad_scale", "step"].into_iter().chain(state.iter().copied()).collect();
    let [param, ..] = inputs else { return Err(format!("expected {}", names.join(", ")).into()) };
    if inputs.len() != names.len() || !param.dtype.is_float() {
        return Err(format!("expected {} (real numbers)", names.join(", ")).into());
    }
    let scalar = Type::f32(Vec::new());
    for (i, (&found, name)) in inputs.iter().zip(&names).enumerate() {
        let expected = if (2..5).contains(&i) { &scalar } else { *param };
        if found != expected {
            return Err(format!("{name} is {found}, expected {expected}").into());
        }
    }
    Ok(vec![(*param).clone(); 1 + state.len()])
}

impl Operator for SgdStep {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        check_range("momentum", self.momentum, f64::INFINITY)?;
        check_range("weight_decay", self.weight_decay, f64::INFINITY)?;
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err("nesterov needs a momentum above 0 and no dampening".into());
        }
        step_types(inputs, if self.momentum == 0.0 { &[] } else { &["velocity"] })
    }
}

impl Operator for AdamStep {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        check_range("beta1", self.beta1, 1.0)?;
        check_range("beta2", self.beta2, 1.0)?;
        check_range("eps", self.eps, f64::INFINITY)?;
        check_range("weight_decay", self.weight_decay, f64::INFINITY)?;
        step_types(inputs, if self.amsgrad { &["m", "v", "v_max"] } else { &["m", "v"] })
    }
}

impl RmspropStep {
    /// Names of the state's operands, in order.
    pub fn state(&self) -> &'static [&'static str] {
        match (self.centered, self.momentum == 0.0) {
            (false, true) => &["v"],
            (false, false) => &["v", "velocity"],
            (true, true) => &["v", "a"],
            (true, false) => &["v", "a", "velocity"],
        }
    }
}

impl Operator for RmspropStep {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        check_range("alpha", self.alpha, f64::INFINITY)?;
        check_range("eps", self.eps, f64::INFINITY)?;
        check_range("momentum", self.momentum, f64::INFINITY)?;
        check_range("weight_decay", self.weight_decay, f64::INFINITY)?;
        step_types(inputs, self.state())
    }
}
