//! The networks of the board: the same wiring, loss and optimiser as PyTorch's side of it.

use kessen_train::{Loss, Optimizer, adam, cross_entropy, mse, sgd};

/// A row of the board.
pub struct Work {
    /// Its name.
    pub name: &'static str,
    /// The network, as the zoo has it.
    pub zoo: &'static str,
    /// What is minimised.
    pub loss: fn() -> Loss,
    /// How.
    pub optimizer: fn() -> Optimizer,
    /// Samples of a training step.
    pub batch: usize,
}

fn descent() -> Optimizer {
    sgd(1e-3).momentum(0.9)
}

fn adaptive() -> Optimizer {
    adam(1e-4)
}

const fn image(name: &'static str, zoo: &'static str, batch: usize) -> Work {
    Work { name, zoo, loss: cross_entropy, optimizer: descent, batch }
}

const fn tagger(name: &'static str, zoo: &'static str, batch: usize) -> Work {
    Work { name, zoo, loss: cross_entropy, optimizer: adaptive, batch }
}

/// Every row.
pub const WORKS: &[Work] = &[
    Work { name: "mlp-fit", zoo: "perceptron(units=64)", loss: mse, optimizer: descent, batch: 64 },
    Work {
        name: "mlp-mnist",
        zoo: "mlp(inputs=784,hidden=[512,512],outputs=10)",
        loss: cross_entropy,
        optimizer: adaptive,
        batch: 128,
    },
    tagger("elman", "elman_tagger", 32),
    tagger("lstm", "lstm_tagger", 32),
    tagger("gru", "gru_tagger", 32),
    tagger("transformer", "transformer", 16),
    image("lenet", "lenet", 64),
    image("alexnet", "alexnet", 16),
    image("vgg16", "vgg16", 4),
    image("googlenet", "googlenet(aux_logits=false)", 16),
    image("resnet34", "resnet34", 16),
];
