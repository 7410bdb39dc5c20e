//! Random wirings: the cpu backend, fused and not, against the reference. What no list foresees: values used twice,
//! passes that meet each other, odd channel counts next to whole blocks.

mod cases;

use cases::model::agree;
use kessen_engine::{Backend, Cpu};
use kessen_graph::ops::avg_pool::AvgPool;
use kessen_graph::ops::conv::conv;
use kessen_graph::ops::max_pool::MaxPool;
use kessen_graph::{Dim, Graph, GraphBuilder, Wire, shape};
use kessen_tensor::Rng;

/// Grows a wiring step by step; every step takes the newest value and sometimes an older one too.
struct Grower {
    rng: Rng,
    /// Values so far, the newest last.
    values: Vec<Wire>,
}

impl Grower {
    fn chance(&mut self, n: usize) -> bool {
        self.rng.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.below(choices.len())]
    }

    fn newest(&self) -> Wire {
        self.values[self.values.len() - 1].clone()
    }

    /// An older value of the same shape, where there is one.
    fn companion(&mut self) -> Option<Wire> {
        let shape = self.newest().ty().shape;
        let alike: Vec<Wire> =
            self.values.iter().rev().skip(1).filter(|w| w.ty().shape == shape).cloned().collect();
        if alike.is_empty() { None } else { Some(alike[self.rng.below(alike.len())].clone()) }
    }

    /// Mostly smooth functions: near a kink, rounding alone would change a gradient.
    fn function(&mut self, x: &Wire) -> Wire {
        match self.rng.below(8) {
            0 => x.relu(),
            1 => x.silu(),
            2 => x.tanh(),
            3 => x.gelu(),
            4 => x.sigmoid(),
            5 => x.softplus(),
            6 => x.scale(0.7),
            _ => x.square().add(&x.builder().scalar(1.0)).log(),
        }
    }

    fn combine(&mut self, x: &Wire) -> Wire {
        match self.companion() {
            Some(other) => match self.rng.below(3) {
                0 => x.add(&other),
                1 => x.sub(&other),
                _ => x.mul(&other.tanh()),
            },
            None => x.add(&x.sigmoid()),
        }
    }

    fn image_step(&mut self, k: usize) -> Wire {
        let x = self.newest();
        let [channels, height, width] = [1, 2, 3].map(|i| x.ty().shape[i].as_fixed().unwrap_or(1));
        let small = height.min(width) < 4;
        match self.rng.below(10) {
            0..3 => {
                let (filters, kernel) = (self.pick(&[3, 8, 16, 17, 32, 33]), self.pick(&[1, 1, 3, 3, 5]));
                let stride = if small || self.chance(2) { 1 } else { 2 };
                let spec = conv(filters, kernel).padding(kernel / 2).stride(stride);
                x.conv(&format!("conv{k}"), if self.chance(2) { spec.no_bias() } else { spec })
            }
            3 => x.conv(&format!("conv{k}"), conv(channels, 3).padding(1).groups(channels)),
            4 => x.batch_norm(&format!("norm{k}")),
            5 if !small => {
                x.avg_pool_with(AvgPool { kernel: [3, 3], padding: 1.into(), ..AvgPool::default() })
            }
            6 if !small => x.max_pool_with(MaxPool { kernel: [2, 2], ..MaxPool::default() }),
            7 => {
                let half = channels.div_ceil(2);
                x.slice(1, 0, half).concat(&[&x], 1)
            }
            8 => self.combine(&x),
            _ => self.function(&x),
        }
    }

    fn row_step(&mut self, k: usize) -> Wire {
        let x = self.newest();
        match self.rng.below(8) {
            0..3 => {
                let outputs = self.pick(&[1, 5, 16, 31, 48]);
                x.linear(&format!("linear{k}"), outputs)
            }
            3 => x.layer_norm(&format!("norm{k}")),
            4 => x.softmax(1),
            5 => x.dropout(0.25),
            6 => self.combine(&x),
            _ => self.function(&x),
        }
    }
}

fn wiring(g: &GraphBuilder, seed: u64) -> Wire {
    let mut rng = Rng::new(seed, 0);
    let (channels, size) = ([1, 3, 16, 20][rng.below(4)], 6 + rng.below(7));
    let x = g.input("x", shape!["batch", channels, size, size + 1]);
    let mut grower = Grower { rng, values: vec![x] };
    for k in 0..6 {
        let next = grower.image_step(k);
        grower.values.push(next);
    }
    let rows = match grower.chance(2) {
        true => grower.newest().global_avg_pool().flatten(),
        false => grower.newest().flatten(),
    };
    let features = rows.ty().shape[1].as_fixed().map_or(1, |n| n);
    grower.values.push(rows.slice(1, 0, Dim::from(features.min(64))));
    for k in 6..11 {
        let next = grower.row_step(k);
        grower.values.push(next);
    }
    grower.newest()
}

fn random_wirings_agree(backend: &dyn Backend) {
    let mut failures = Vec::new();
    for seed in 0..60 {
        let model =
            Graph::build("random", |g| wiring(g, seed)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        if let Err(error) = agree(&format!("random{seed}"), &model, 3, backend) {
            failures.push(format!("seed {seed}: {error}"));
        }
    }
    assert!(failures.is_empty(), "{} fail\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn cpu_agrees_with_the_reference() {
    random_wirings_agree(&Cpu::new());
}

#[test]
fn cpu_without_fusion_agrees_with_the_reference() {
    random_wirings_agree(&Cpu::unfused());
}
