//! Transformers (Vaswani et al. 2017): an encoder with a class for each token, one for each sequence, and an encoder
//! with a decoder.
//!
//! Parameters are named as in PyTorch: `e` the embedding, `p` the positions, `t.layers.0` … the layers, `o` the output
//! layer. Positions are weights, or the paper's sines and cosines, which are kept as a buffer.

use kessen_graph::ops::attention_layer::AttentionMasks;
use kessen_graph::ops::transformer_layer::{TransformerSpec, transformer as layer};
use kessen_graph::ops::unary::UnaryKind;
use kessen_graph::{Graph, GraphBuilder, Init, Wire, choice, shape};

use crate::argument::Argument;
use crate::{Architecture, Result, Values};

choice! {
    /// How a token knows its place.
    Positions, "learnt or sinusoidal" {
        /// A weight for each place, as in BERT.
        Learnt = "learnt",
        /// Sines and cosines of Vaswani et al. 2017.
        Sinusoidal = "sinusoidal",
    }
}

const WIDTH: Argument = Argument { name: "width", default: "256", about: "features of a token" };
const LAYERS: Argument = Argument { name: "layers", default: "4", about: "number of layers" };
const HEADS: Argument = Argument { name: "heads", default: "4", about: "heads of the attention" };
const FEEDFORWARD: Argument =
    Argument { name: "feedforward", default: "none", about: "hidden units of a layer; 4 x width where none" };
const TIME: Argument = Argument { name: "time", default: "128", about: "tokens of a sequence" };
const POSITIONS: Argument = Argument {
    name: "positions",
    default: "learnt",
    about: "how tokens know their places, learnt or sinusoidal",
};
const NORM_FIRST: Argument =
    Argument { name: "norm_first", default: "true", about: "whether normalisations come first" };
const ACTIVATION: Argument =
    Argument { name: "activation", default: "relu", about: "function of the hidden units, relu or gelu" };
const CAUSAL: Argument =
    Argument { name: "causal", default: "false", about: "whether a token sees those before it only" };
const LENGTHS: Argument =
    Argument { name: "lengths", default: "false", about: "whether each sequence has its own length" };
const DROPOUT: Argument =
    Argument { name: "dropout", default: "0", about: "share of elements left out in training" };

const TAGGER: &[Argument] = &[
    Argument { name: "vocab", default: "10000", about: "number of tokens" },
    WIDTH,
    LAYERS,
    HEADS,
    FEEDFORWARD,
    TIME,
    Argument { name: "classes", default: "17", about: "number of classes" },
    POSITIONS,
    NORM_FIRST,
    ACTIVATION,
    CAUSAL,
    LENGTHS,
    DROPOUT,
];
const SEQ2SEQ: &[Argument] = &[
    Argument { name: "source_vocab", default: "10000", about: "number of tokens of the source" },
    Argument { name: "target_vocab", default: "10000", about: "number of tokens of the target" },
    WIDTH,
    LAYERS,
    HEADS,
    FEEDFORWARD,
    Argument { name: "source_time", default: "128", about: "tokens of a source sequence" },
    TIME,
    POSITIONS,
    NORM_FIRST,
    ACTIVATION,
    LENGTHS,
    DROPOUT,
];

pub(crate) const ALL: &[Architecture] = &[
    Architecture {
        name: "transformer",
        about: "Transformer encoder (Vaswani et al. 2017) with a class for each token",
        arguments: TAGGER,
        build: tagger,
    },
    Architecture {
        name: "transformer_seq2seq",
        about: "Transformer encoder and decoder (Vaswani et al. 2017)",
        arguments: SEQ2SEQ,
        build: seq2seq,
    },
];

/// Builds with a wiring that may refuse its arguments.
fn build_with(values: &Values, wiring: impl FnOnce(&GraphBuilder) -> Result<Wire>) -> Result<Graph> {
    let mut refused = None;
    let net = Graph::build(values.name(), |g| match wiring(g) {
        Ok(logits) => vec![("logits", logits)],
        Err(error) => {
            refused = Some(error);
            Vec::new()
        }
    });
    match refused {
        Some(error) => Err(error),
        None => Ok(net?),
    }
}

fn spec(values: &Values) -> Result<TransformerSpec> {
    let width = values.count("width")?;
    let feedforward: Option<usize> = values.get("feedforward")?;
    let activation: UnaryKind = values.get("activation")?;
    let spec = layer(values.count("heads")?, feedforward.unwrap_or(4 * width));
    let spec = spec.activation(activation).dropout(values.rate("dropout")?);
    Ok(if values.get("norm_first")? { spec.norm_first() } else { spec })
}

fn layers(values: &Values) -> Result<usize> {
    match values.count("layers")? {
        n if n > 100 => Err(values.wrong("layers", "1 to 100")),
        n => Ok(n),
    }
}

/// Embedded tokens with their positions added.
fn tokens(g: &GraphBuilder, values: &Values, names: [&str; 3], sizes: [usize; 2]) -> Result<Wire> {
    let [vocabulary, time] = sizes;
    let width = values.count("width")?;
    let [input, embedding, positions] = names;
    let ids = g.input_ids(input, shape!["batch", time]);
    let shape = [1, time, width];
    let positions = match values.get("positions")? {
        Positions::Learnt => g.param(positions, &shape, Init::Normal(0.02)),
        Positions::Sinusoidal => g.buffer(positions, &shape, Init::Sinusoidal(10_000.0)),
    };
    Ok(ids.embedding(embedding, vocabulary, width).add(&positions))
}

fn lengths(g: &GraphBuilder, values: &Values) -> Result<AttentionMasks> {
    let lengths = values.get::<bool>("lengths")?.then(|| g.input_ids("lengths", shape!["batch"]));
    Ok(AttentionMasks { lengths, ..AttentionMasks::default() })
}

fn tagger(values: &Values) -> Result<Graph> {
    build_with(values, |g| {
        let spec = if values.get("causal")? { spec(values)?.causal() } else { spec(values)? };
        let classes = values.count("classes")?;
        let sizes = [values.count("vocab")?, values.count("time")?];
        let mut h = tokens(g, values, ["ids", "e", "p"], sizes)?;
        let spec = spec.masks(lengths(g, values)?);
        for i in 0..layers(values)? {
            h = h.transformer_encoder_layer(&format!("t.layers.{i}"), spec.clone());
        }
        Ok(h.linear("o", classes))
    })
}

/// Inputs `ids` (source) and `target_ids` (the target's tokens so far, one behind the logits). The norms behind
/// encoder and decoder are those of `torch.nn.Transformer`.
fn seq2seq(values: &Values) -> Result<Graph> {
    build_with(values, |g| {
        let (spec, layers) = (spec(values)?, layers(values)?);
        let (source, target) = (values.count("source_vocab")?, values.count("target_vocab")?);
        let source = [source, values.count("source_time")?];
        let names = ["ids", "source.e", "source.p"];
        let mut memory = tokens(g, values, names, source)?;
        let masks = lengths(g, values)?;
        for i in 0..layers {
            let spec = spec.clone().masks(masks.clone());
            memory = memory.transformer_encoder_layer(&format!("t.encoder.layers.{i}"), spec);
        }
        memory = memory.layer_norm("t.encoder.norm");
        let names = ["target_ids", "target.e", "target.p"];
        let mut h = tokens(g, values, names, [target, values.count("time")?])?;
        for i in 0..layers {
            let spec = spec.clone().causal().memory_masks(masks.clone());
            h = h.transformer_decoder_layer(&format!("t.decoder.layers.{i}"), &memory, spec);
        }
        Ok(h.layer_norm("t.decoder.norm").linear("o", target))
    })
}
