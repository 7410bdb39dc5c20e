//! The lecture's recurrent network (Elman 1990).
//!
//! Forward, with z^0 given or zero: u^t = W^(in)·x^t + W·z^{t−1} + b, z^t = f(u^t).
//!
//! Back-propagation through time, with δ_j^t ≡ ∂L/∂u_j^t: δ_j^t = (∂L/∂z_j^t + Σ_j′ w_j′j·δ_j′^{t+1})·f′(u_j^t), where
//! ∂L/∂z_j^t is what comes from outside the layer (Σ_k w_kj^(out)·δ_k^{out,t}) and δ^{T+1} = 0; then
//! ∂L/∂w_ji^(in) = Σ_t δ_j^t·x_i^t and ∂L/∂w_jj′ = Σ_t δ_j^t·z_j′^{t−1}.

use kessen_graph::ops::recurrent::RecurrentActivation;

use super::array::Array;
use super::recurrent::{Backward, Gradients, Sequences, set_state, state};

/// f(u).
fn f(activation: RecurrentActivation, u: f64) -> f64 {
    match activation {
        RecurrentActivation::Tanh => u.tanh(),
        RecurrentActivation::Relu => u.max(0.0),
        RecurrentActivation::Sigmoid => 1.0 / (1.0 + (-u).exp()),
        RecurrentActivation::LeakyRelu => {
            if u > 0.0 {
                u
            } else {
                0.01 * u
            }
        }
        RecurrentActivation::Elu => {
            if u > 0.0 {
                u
            } else {
                u.exp_m1()
            }
        }
        RecurrentActivation::Softplus => u.max(0.0) + (-u.abs()).exp().ln_1p(),
        RecurrentActivation::Identity => u,
    }
}

/// f′(u), from z = f(u).
fn f_prime(activation: RecurrentActivation, z: f64) -> f64 {
    match activation {
        RecurrentActivation::Tanh => 1.0 - z * z,
        RecurrentActivation::Relu => {
            if z > 0.0 {
                1.0
            } else {
                0.0
            }
        }
        RecurrentActivation::Sigmoid => z * (1.0 - z),
        RecurrentActivation::LeakyRelu => {
            if z > 0.0 {
                1.0
            } else {
                0.01
            }
        }
        RecurrentActivation::Elu => {
            if z > 0.0 {
                1.0
            } else {
                z + 1.0
            }
        }
        RecurrentActivation::Softplus => -(-z).exp_m1(),
        RecurrentActivation::Identity => 1.0,
    }
}

/// y `[B, T, H]` and the last z `[B, H]`.
pub(super) fn forward(activation: RecurrentActivation, s: &Sequences<'_>, [y, last]: [&mut Array; 2]) {
    for n in 0..s.x.shape[0] {
        let mut z = state(s.h0, n, s.hidden_size());
        for t in s.steps(n) {
            let u: Vec<f64> = (0..z.len()).map(|j| s.input_sum(n, t, j) + s.state_sum(&z, j)).collect();
            for j in 0..z.len() {
                z[j] = f(activation, u[j]);
                y[[n, t, j]] = z[j];
            }
        }
        set_state(Some(last), n, &z);
    }
}

/// The gradients, from the last step to the first.
pub(super) fn backward(activation: RecurrentActivation, b: &Backward<'_>, mut d: Gradients<'_>) {
    let s = &b.forward;
    for n in 0..s.x.shape[0] {
        let steps = s.steps(n);
        // Σ_j′ w_j′j·δ_j′^{t+1}; at the last step, what comes from z^T used as a result.
        let mut carried = state(b.dh, n, s.hidden_size());
        for (k, &t) in steps.iter().enumerate().rev() {
            let delta: Vec<f64> = (0..carried.len())
                .map(|j| (b.dy(n, t, j) + carried[j]) * f_prime(activation, b.y[[n, t, j]]))
                .collect();
            d.add_input(s, n, t, &delta);
            carried = d.add_state(s, &b.hidden_before(n, &steps, k), &delta);
        }
        set_state(d.dh0.as_deref_mut(), n, &carried);
    }
}
