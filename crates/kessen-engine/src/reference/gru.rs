//! Gated recurrent unit, with the reset gate behind the recurrent product as in PyTorch.
//!
//! Forward, with a = W^(in)·x^t + b and s = W·h^{t−1} + b′ in three parts each: r = σ(a_r + s_r), z = σ(a_z + s_z),
//! m = s_n, n = tanh(a_n + r·m); h^t = (1 − z)·n + z·h^{t−1}.
//!
//! Back-propagation through time, with δ = ∂L/∂a and ε = ∂L/∂s, which differ in the part of n:
//! δ_n = ∂L/∂h·(1 − z)·(1 − n²), ε_n = δ_n·r; δ_r = ε_r = δ_n·m·r·(1 − r);
//! δ_z = ε_z = ∂L/∂h·(h^{t−1} − n)·z·(1 − z); ∂L/∂h^{t−1} = ∂L/∂h^t·z + Wᵀ·ε.

use super::array::Array;
use super::recurrent::{Backward, Gradients, Sequences, set_state, state};
use super::unary::sigmoid;

/// y, the last h, and gates r, z, n, m `[B, T, 4·H]`.
pub(super) fn forward(s: &Sequences<'_>, [y, last, gates]: [&mut Array; 3]) {
    let units = s.hidden_size();
    for sequence in 0..s.x.shape[0] {
        let mut h = state(s.h0, sequence, units);
        for t in s.steps(sequence) {
            let from_state: Vec<f64> = (0..3 * units).map(|row| s.state_sum(&h, row)).collect();
            for j in 0..units {
                let row = |gate: usize| gate * units + j;
                let [r, z] = [0, 1].map(|g| sigmoid(s.input_sum(sequence, t, row(g)) + from_state[row(g)]));
                let m = from_state[row(2)];
                let n = (s.input_sum(sequence, t, row(2)) + r * m).tanh();
                h[j] = (1.0 - z) * n + z * h[j];
                y[[sequence, t, j]] = h[j];
                for (gate, value) in [r, z, n, m].into_iter().enumerate() {
                    gates[[sequence, t, row(gate)]] = value;
                }
            }
        }
        set_state(Some(last), sequence, &h);
    }
}

/// The gradients, from the last step to the first.
pub(super) fn backward(b: &Backward<'_>, mut d: Gradients<'_>) {
    let (s, units) = (&b.forward, b.forward.hidden_size());
    let Some(gates) = b.gates else { return };
    for sequence in 0..s.x.shape[0] {
        let steps = s.steps(sequence);
        let mut dh = state(b.dh, sequence, units);
        for (k, &t) in steps.iter().enumerate().rev() {
            let before = b.hidden_before(sequence, &steps, k);
            let (mut delta, mut epsilon) = (vec![0.0; 3 * units], vec![0.0; 3 * units]);
            for j in 0..units {
                let [r, z, n, m] = [0, 1, 2, 3].map(|gate| gates[[sequence, t, gate * units + j]]);
                dh[j] += b.dy(sequence, t, j);
                let delta_n = dh[j] * (1.0 - z) * (1.0 - n * n);
                let delta_r = delta_n * m * r * (1.0 - r);
                let delta_z = dh[j] * (before[j] - n) * z * (1.0 - z);
                for (gate, value) in [delta_r, delta_z, delta_n].into_iter().enumerate() {
                    delta[gate * units + j] = value;
                    epsilon[gate * units + j] = if gate == 2 { value * r } else { value };
                }
                dh[j] *= z;
            }
            d.add_input(s, sequence, t, &delta);
            let through_state = d.add_state(s, &before, &epsilon);
            dh.iter_mut().zip(through_state).for_each(|(dh, v)| *dh += v);
        }
        set_state(d.dh0.as_deref_mut(), sequence, &dh);
    }
}
