//! Long short-term memory.
//!
//! Forward, with u^t = W^(in)·x^t + b + W·h^{t−1} + b′ in four parts: i, f, o = σ(u_i), σ(u_f), σ(u_o), g = tanh(u_g);
//! c^t = f·c^{t−1} + i·g; h^t = o·tanh(c^t).
//!
//! Back-propagation through time: ∂L/∂h^t comes from outside and as Wᵀ·δ^{t+1}; then ∂L/∂o = ∂L/∂h·tanh(c);
//! ∂L/∂c^t = ∂L/∂h·o·(1 − tanh²(c)) + f^{t+1}·∂L/∂c^{t+1}; ∂L/∂i = ∂L/∂c·g, ∂L/∂g = ∂L/∂c·i, ∂L/∂f = ∂L/∂c·c^{t−1};
//! and δ = ∂L/∂u by σ′ = σ·(1 − σ), tanh′ = 1 − tanh².

use super::array::Array;
use super::recurrent::{Backward, Gradients, Sequences, set_state, state};
use super::unary::sigmoid;

/// y, the last h and c, gates i, f, g, o `[B, T, 4·H]` and cells `[B, T, H]`.
pub(super) fn forward(s: &Sequences<'_>, [y, last_h, last_c, gates, cells]: [&mut Array; 5]) {
    let units = s.hidden_size();
    for n in 0..s.x.shape[0] {
        let (mut h, mut c) = (state(s.h0, n, units), state(s.c0, n, units));
        for t in s.steps(n) {
            let u: Vec<f64> =
                (0..4 * units).map(|row| s.input_sum(n, t, row) + s.state_sum(&h, row)).collect();
            for j in 0..units {
                let [i, f, o] = [0, 1, 3].map(|gate| sigmoid(u[gate * units + j]));
                let g = u[2 * units + j].tanh();
                c[j] = f * c[j] + i * g;
                h[j] = o * c[j].tanh();
                y[[n, t, j]] = h[j];
                cells[[n, t, j]] = c[j];
                for (gate, value) in [i, f, g, o].into_iter().enumerate() {
                    gates[[n, t, gate * units + j]] = value;
                }
            }
        }
        set_state(Some(last_h), n, &h);
        set_state(Some(last_c), n, &c);
    }
}

/// The gradients, from the last step to the first.
pub(super) fn backward(b: &Backward<'_>, mut d: Gradients<'_>) {
    let (s, units) = (&b.forward, b.forward.hidden_size());
    let (Some(gates), Some(cells)) = (b.gates, b.cells) else { return };
    for n in 0..s.x.shape[0] {
        let steps = s.steps(n);
        let (mut dh, mut dc) = (state(b.dh, n, units), state(b.dc, n, units));
        for (k, &t) in steps.iter().enumerate().rev() {
            let c_before = b.cells_before(cells, n, &steps, k);
            let mut delta = vec![0.0; 4 * units];
            for j in 0..units {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[[n, t, gate * units + j]]);
                let tanh_c = cells[[n, t, j]].tanh();
                dh[j] += b.dy(n, t, j);
                dc[j] += dh[j] * o * (1.0 - tanh_c * tanh_c);
                delta[j] = dc[j] * g * i * (1.0 - i);
                delta[units + j] = dc[j] * c_before[j] * f * (1.0 - f);
                delta[2 * units + j] = dc[j] * i * (1.0 - g * g);
                delta[3 * units + j] = dh[j] * tanh_c * o * (1.0 - o);
                dc[j] *= f;
            }
            d.add_input(s, n, t, &delta);
            dh = d.add_state(s, &b.hidden_before(n, &steps, k), &delta);
        }
        set_state(d.dh0.as_deref_mut(), n, &dh);
        set_state(d.dc0.as_deref_mut(), n, &dc);
    }
}
