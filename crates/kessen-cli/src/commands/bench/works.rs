//! The networks of the board: the same wiring, loss and optimiser as PyTorch's side of it.

use anyhow::Result;
use kessen_graph::Graph;
use kessen_train::{Loss, Optimizer, adam, cross_entropy, mse, sgd};
use kessen_zoo::from_text;

/// A row of the board.
pub struct Work {
    /// Its name.
    pub name: &'static str,
    /// The network.
    pub wire: fn() -> Result<Graph>,
    /// What is minimised.
    pub loss: fn() -> Loss,
    /// How.
    pub optimizer: fn() -> Optimizer,
    /// Samples of a training step.
    pub batch: usize,
    /// Vocabulary of the inputs.
    pub below: usize,
}

const VOCABULARY: usize = 10_000;

fn descent() -> Optimizer {
    sgd(1e-3).momentum(0.9)
}

fn adaptive() -> Optimizer {
    adam(1e-4)
}

const fn image(name: &'static str, wire: fn() -> Result<Graph>, batch: usize) -> Work {
    Work { name, wire, loss: cross_entropy, optimizer: descent, batch, below: 1 }
}

const fn tagger(name: &'static str, wire: fn() -> Result<Graph>, batch: usize) -> Work {
    Work { name, wire, loss: cross_entropy, optimizer: adaptive, batch, below: VOCABULARY }
}

/// Every row.
pub const WORKS: &[Work] = &[
    Work {
        name: "mlp-fit",
        wire: || Ok(from_text("perceptron(units=64)")?),
        loss: mse,
        optimizer: descent,
        batch: 64,
        below: 1,
    },
    Work {
        name: "mlp-mnist",
        wire: || Ok(from_text("mlp(inputs=784,hidden=[512,512],outputs=10)")?),
        loss: cross_entropy,
        optimizer: adaptive,
        batch: 128,
        below: 1,
    },
    tagger("elman", || Ok(from_text("elman_tagger")?), 32),
    tagger("lstm", || Ok(from_text("lstm_tagger")?), 32),
    tagger("gru", || Ok(from_text("gru_tagger")?), 32),
    tagger("transformer", || Ok(from_text("transformer")?), 16),
    image("lenet", || Ok(from_text("lenet")?), 64),
    image("alexnet", || Ok(from_text("alexnet")?), 16),
    image("vgg16", || Ok(from_text("vgg16")?), 4),
    image("googlenet", || Ok(from_text("googlenet(aux_logits=false)")?), 16),
    image("resnet34", || Ok(from_text("resnet34")?), 16),
];
