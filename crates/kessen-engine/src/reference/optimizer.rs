//! One step of an optimiser for one parameter.
//!
//! p parameter, g = grad_scale·gradient, η = lr·lr_scale, t step from 1, λ weight decay. Operands are parameter,
//! gradient, the scalars lr, grad_scale, step, and the state; results the new parameter and the new state.

use kessen_graph::ops::optimizer::{AdamStep, RmspropStep, SgdStep};

use super::array::Array;

/// What every step reads at element `i`: p, g, η, t.
fn element(operands: &[&Array], lr_scale: f64, i: usize) -> (f64, f64, f64, f64) {
    let [lr, grad_scale, step] = [2, 3, 4].map(|k| operands[k].data[0]);
    (operands[0].data[i], grad_scale * operands[1].data[i], lr * lr_scale, step)
}

/// g ← g + λ·p; b′ = g at t = 1, else μ·b + (1 − dampening)·g; g ← g + μ·b′ (Nesterov) or b′; p′ = p − η·g.
pub(super) fn sgd_step(op: &SgdStep, operands: &[&Array], results: &mut [&mut Array]) {
    for i in 0..operands[0].data.len() {
        let (p, mut g, lr, t) = element(operands, op.lr_scale, i);
        g += op.weight_decay * p;
        if op.momentum != 0.0 {
            let b = operands[5].data[i];
            let new = if t <= 1.0 { g } else { op.momentum * b + (1.0 - op.dampening) * g };
            results[1].data[i] = new;
            g = if op.nesterov { g + op.momentum * new } else { new };
        }
        results[0].data[i] = p - lr * g;
    }
}

/// m′ = β₁·m + (1 − β₁)·g; v′ = β₂·v + (1 − β₂)·g²; u = v′ or max(v_max, v′);
/// p′ = p − η/(1 − β₁ᵗ)·m′/(√u/√(1 − β₂ᵗ) + eps). Decay: g ← g + λ·p, or decoupled p ← (1 − η·λ)·p.
pub(super) fn adam_step(op: &AdamStep, operands: &[&Array], results: &mut [&mut Array]) {
    for i in 0..operands[0].data.len() {
        let (mut p, mut g, lr, t) = element(operands, op.lr_scale, i);
        if op.decoupled {
            p *= 1.0 - lr * op.weight_decay;
        } else {
            g += op.weight_decay * p;
        }
        let m = op.beta1 * operands[5].data[i] + (1.0 - op.beta1) * g;
        let v = op.beta2 * operands[6].data[i] + (1.0 - op.beta2) * g * g;
        let mut u = v;
        if op.amsgrad {
            u = v.max(operands[7].data[i]);
            results[3].data[i] = u;
        }
        let denominator = u.sqrt() / (1.0 - op.beta2.powf(t)).sqrt() + op.eps;
        results[0].data[i] = p - lr / (1.0 - op.beta1.powf(t)) * m / denominator;
        results[1].data[i] = m;
        results[2].data[i] = v;
    }
}

/// v′ = α·v + (1 − α)·g²; centred: a′ = α·a + (1 − α)·g and u = √(v′ − a′²), else u = √v′; d = g/(u + eps);
/// with momentum b′ = μ·b + d and p′ = p − η·b′, else p′ = p − η·d.
pub(super) fn rmsprop_step(op: &RmspropStep, operands: &[&Array], results: &mut [&mut Array]) {
    for i in 0..operands[0].data.len() {
        let (p, mut g, lr, _) = element(operands, op.lr_scale, i);
        g += op.weight_decay * p;
        let v = op.alpha * operands[5].data[i] + (1.0 - op.alpha) * g * g;
        results[1].data[i] = v;
        let (mut variance, mut next) = (v, 2);
        if op.centered {
            let a = op.alpha * operands[6].data[i] + (1.0 - op.alpha) * g;
            results[2].data[i] = a;
            variance = v - a * a;
            next = 3;
        }
        let mut d = g / (variance.sqrt() + op.eps);
        if op.momentum != 0.0 {
            d += op.momentum * operands[next + 4].data[i];
            results[next].data[i] = d;
        }
        results[0].data[i] = p - lr * d;
    }
}
