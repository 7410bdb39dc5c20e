//! The networks of the board: the same wiring, loss and optimiser as PyTorch's side of it.

use anyhow::Result;
use kessen_graph::{Graph, Init, Wire, shape};
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
const TAGS: usize = 17;

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
    tagger("transformer", transformer, 16),
    image("lenet", || Ok(from_text("lenet")?), 64),
    image("alexnet", || Ok(from_text("alexnet")?), 16),
    image("vgg16", || Ok(from_text("vgg16")?), 4),
    image("googlenet", || Ok(from_text("googlenet(aux_logits=false)")?), 16),
    image("resnet34", || Ok(from_text("resnet34")?), 16),
];

/// Pre-norm Transformer encoder: 4 layers of 4 heads, 256 wide, 128 tokens.
fn transformer() -> Result<Graph> {
    const T: usize = 128;
    const D: usize = 256;
    let net = Graph::build("transformer", |g| {
        let ids = g.input_ids("ids", shape!["batch", T]);
        let places = g.param("p", &[1, T, D], Init::Normal(0.02));
        let mut h = ids.embedding("e", VOCABULARY, D).add(&places);
        for layer in 0..4 {
            h = encoder_layer(&h, &format!("t.layers.{layer}"), T, D, 4);
        }
        h.linear("o", TAGS)
    });
    Ok(net?)
}

fn encoder_layer(x: &Wire, path: &str, t: usize, d: usize, heads: usize) -> Wire {
    let at = |name: &str| format!("{path}.{name}");
    let part = d / heads;
    let qkv = x.layer_norm(&at("norm1")).linear(&at("self_attn.in_proj"), 3 * d);
    let head = |i: usize| {
        let one = qkv.slice(2, i * d, (i + 1) * d);
        one.reshape(shape!["batch", t, heads, part]).transpose(&[0, 2, 1, 3])
    };
    let (q, k, v) = (head(0), head(1), head(2));
    let scores = q.matmul(&k.transpose(&[0, 1, 3, 2])).scale(1.0 / (part as f32).sqrt());
    let mixed = scores.softmax(3).matmul(&v).transpose(&[0, 2, 1, 3]).reshape(shape!["batch", t, d]);
    let h = x.add(&mixed.linear(&at("self_attn.out_proj"), d));
    let inner = h.layer_norm(&at("norm2")).linear(&at("linear1"), 4 * d).relu().linear(&at("linear2"), d);
    h.add(&inner)
}
