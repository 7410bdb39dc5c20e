use super::*;
use crate::testing::{Guarded, assert_close, everywhere, numbers, wide};

const STEPS: usize = 4;

/// One parameter over some steps in f64: `step(t, p, g, state)` changes p and state.
fn history(n: usize, step: impl Fn(u64, &mut f64, f64, &mut [f64; 3])) -> [Vec<f64>; 2] {
    let p0 = numbers(1, n);
    let (mut p, mut average) = (wide(&p0), wide(&p0));
    let mut state = vec![[0.0; 3]; n];
    for t in 1..=STEPS {
        for (i, g) in gradient(t, n).into_iter().enumerate() {
            let g = (0.5 * f64::from(g)).clamp(-0.3, 0.3);
            step(t as u64, &mut p[i], g, &mut state[i]);
            average[i] += 0.1 * (p[i] - average[i]);
        }
    }
    [p, average]
}

fn gradient(t: usize, n: usize) -> Vec<f32> {
    numbers(10 + t as u64, n)
}

type Step<'a> = dyn Fn(u64, &mut [f32], &[f32], &mut [Vec<f32>; 3], Common<'_>) + 'a;

fn check(what: &str, exact: impl Fn(u64, &mut f64, f64, &mut [f64; 3]) + Copy, step: &Step<'_>) {
    for n in [1, 15, 16, 33, 40_000] {
        let want = history(n, exact);
        let run = || {
            let (mut p, mut average) = (Guarded::of(&numbers(1, n)), Guarded::of(&numbers(1, n)));
            let mut state = [vec![0.0; n], vec![0.0; n], vec![0.0; n]];
            for t in 1..=STEPS {
                let average = Some((average.slice(), 0.9));
                let common = Common { grad_scale: 0.5, clip: 0.3, average };
                step(t as u64, p.slice(), &gradient(t, n), &mut state, common);
            }
            vec![p.done(), average.done()]
        };
        everywhere(run, |isa, got| {
            assert_close(&format!("{what} of {n} on {isa}"), &got[0], &want[0], 2e-6, 3e-6);
            assert_close(&format!("{what}'s average of {n} on {isa}"), &got[1], &want[1], 2e-6, 3e-6);
        });
    }
}

#[test]
fn sgd_follows_torch() {
    for (momentum, dampening, nesterov) in
        [(0.0, 0.0, false), (0.9, 0.0, false), (0.9, 0.0, true), (0.8, 0.5, false)]
    {
        let o = Sgd { lr: 0.1, momentum, dampening, weight_decay: 0.02, nesterov, first: false };
        let (mu, damp) = (f64::from(momentum), f64::from(dampening));
        let exact = |t, p: &mut f64, g: f64, s: &mut [f64; 3]| {
            let g = g + 0.02 * *p;
            s[0] = if t == 1 { g } else { mu * s[0] + (1.0 - damp) * g };
            *p -= 0.1
                * if momentum == 0.0 {
                    g
                } else if nesterov {
                    g + mu * s[0]
                } else {
                    s[0]
                };
        };
        check(&format!("{o:?}"), exact, &|t, p, g, s, common| {
            let velocity = if momentum == 0.0 { &mut [][..] } else { &mut s[0] };
            Sgd { first: t == 1, ..o }.step(p, g, velocity, common);
        });
    }
}

#[test]
fn adam_and_adamw_follow_torch() {
    for decoupled in [false, true] {
        let o = Adam { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-3, weight_decay: 0.1, decoupled, step: 0 };
        let exact = |t: u64, p: &mut f64, mut g: f64, s: &mut [f64; 3]| {
            if decoupled {
                *p *= 1.0 - 0.01 * 0.1;
            } else {
                g += 0.1 * *p;
            }
            s[0] = 0.9 * s[0] + 0.1 * g;
            s[1] = 0.99 * s[1] + 0.01 * g * g;
            let (c1, c2) = (1.0 - 0.9f64.powi(t as i32), 1.0 - 0.99f64.powi(t as i32));
            *p -= 0.01 / c1 * s[0] / (s[1].sqrt() / c2.sqrt() + 1e-3);
        };
        check(&format!("{o:?}"), exact, &|t, p, g, s, common| {
            let [m, v, _] = s;
            Adam { step: t, ..o }.step(p, g, m, v, common);
        });
    }
}

#[test]
fn rmsprop_follows_torch() {
    for (centered, momentum) in [(false, 0.0), (true, 0.0), (false, 0.9), (true, 0.9)] {
        let o = RmsProp { lr: 0.01, alpha: 0.9, eps: 1e-2, weight_decay: 0.1, momentum, centered };
        let exact = |_, p: &mut f64, g: f64, s: &mut [f64; 3]| {
            let g = g + 0.1 * *p;
            s[0] = 0.9 * s[0] + 0.1 * g * g;
            s[1] = 0.9 * s[1] + 0.1 * g;
            let centre = if centered { s[1] * s[1] } else { 0.0 };
            s[2] = f64::from(momentum) * s[2] + g / ((s[0] - centre).sqrt() + 1e-2);
            *p -= 0.01 * s[2];
        };
        check(&format!("{o:?}"), exact, &|_, p, g, s, common| {
            let [v, a, b] = s;
            o.step(
                p,
                g,
                v,
                if centered { a } else { &mut [] },
                if momentum > 0.0 { b } else { &mut [] },
                common,
            );
        });
    }
}

#[test]
fn denormal_state_becomes_zero() {
    let o = Adam { lr: 0.1, beta1: 0.5, beta2: 0.5, eps: 1e-8, weight_decay: 0.0, decoupled: false, step: 3 };
    for isa in Isa::available() {
        crate::isa::with(isa, || {
            let (mut p, mut m, mut v) = ([1.0; 20], [1e-38; 20], [2e-38; 20]);
            o.step(&mut p, &[0.0; 20], &mut m, &mut v, Common::default());
            assert_eq!((m, v), ([0.0; 20], [0.0; 20]), "{isa}");
        });
    }
}

/// With an average nothing is left out, so the two must agree to the bit.
#[test]
fn parameters_that_no_gradient_has_reached_are_left_out_with_the_same_bits() {
    let sgd =
        Sgd { lr: 0.1, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, first: false };
    let nesterov = Sgd { momentum: 0.9, nesterov: true, ..sgd };
    let adam =
        Adam { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, decoupled: false, step: 3 };
    let rms = RmsProp { lr: 0.01, alpha: 0.9, eps: 1e-8, weight_decay: 0.0, momentum: 0.9, centered: true };
    let steps: [(&str, &Step<'_>); 6] = [
        ("sgd", &|_, p, g, _, common| sgd.step(p, g, &mut [], common)),
        ("nesterov", &|_, p, g, [v, ..], common| nesterov.step(p, g, v, common)),
        ("adam", &|_, p, g, [m, v, _], common| adam.step(p, g, m, v, common)),
        ("adamw", &|_, p, g, [m, v, _], common| {
            Adam { weight_decay: 0.1, decoupled: true, ..adam }.step(p, g, m, v, common);
        }),
        ("sgd with decay", &|_, p, g, _, common| {
            Sgd { weight_decay: 0.1, ..sgd }.step(p, g, &mut [], common);
        }),
        ("rmsprop", &|_, p, g, [v, a, b], common| rms.step(p, g, v, a, b, common)),
    ];
    let n = 100;
    let mut start = numbers(1, n);
    (start[3], start[4]) = (0.0, -0.0);
    let mut g = numbers(2, n);
    g[..40].fill(0.0);
    g[60..90].fill(0.0);
    g[7] = -0.0;
    let mut moved = numbers(3, n).iter().map(|s| s * s).collect::<Vec<_>>();
    moved[..55].fill(0.0);
    for (name, step) in steps {
        let run = || {
            let all = [true, false].map(|averaged| {
                let (mut p, mut average) = (Guarded::of(&start), start.clone());
                let mut state = [moved.clone(), moved.clone(), moved.clone()];
                let average = averaged.then_some((&mut average[..], 0.9));
                step(3, p.slice(), &g, &mut state, Common { average, ..Common::default() });
                [p.done(), state.concat()].concat()
            });
            Vec::from(all)
        };
        everywhere(run, |isa, got| {
            let same = got[0].iter().zip(&got[1]).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{name} on {isa}: leaving parameters out changes them");
            assert!(got[1][..n].iter().zip(&start).any(|(a, b)| a != b), "{name} on {isa} moves nothing");
        });
    }
}
