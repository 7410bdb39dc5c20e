//! Recurrent tagger: T inputs, T outputs, such as the part of speech of each word.
//!
//! The lecture's network with a learnt vector per word in front: z^t = f(W^(in) x^t + W z^{t−1}) (or an LSTM, or a
//! GRU), v^t = W^(out) z^t; `logits` holds v^t of every step.

use kessen_graph::ops::embedding::Embedding;
use kessen_graph::ops::recurrent::{RecurrentActivation, RecurrentKind};
use kessen_graph::ops::recurrent_layer::{RecurrentInputs, RecurrentSpec, elman, gru, lstm};
use kessen_graph::{Graph, GraphBuilder, Init, Wire, shape};

use crate::{Architecture, Argument, Result, Values};

pub(crate) const ALL: &[Architecture] = &[Architecture {
    name: "tagger",
    about: "recurrent tagger: embedding, Elman/LSTM/GRU layers, a class for each step",
    arguments: &[
        Argument { name: "vocabulary", default: "10000", about: "number of different tokens" },
        Argument { name: "features", default: "128", about: "length of a token's vector" },
        Argument { name: "cell", default: "lstm", about: "elman, lstm or gru" },
        Argument { name: "hidden_size", default: "256", about: "hidden units, in each direction" },
        Argument { name: "layers", default: "1", about: "recurrent layers on top of each other" },
        Argument { name: "bidirectional", default: "false", about: "also from the last step to the first" },
        Argument {
            name: "activation",
            default: "tanh",
            about: "function of the hidden units of an Elman network",
        },
        Argument { name: "dropout", default: "0", about: "share left out before each layer but the first" },
        Argument { name: "padding", default: "none", about: "token whose vector stays zero" },
        Argument {
            name: "lengths",
            default: "false",
            about: "an input `lengths` with the steps of each sequence",
        },
        Argument { name: "classes", default: "17", about: "number of classes" },
    ],
    build,
}];

fn build(values: &Values) -> Result<Graph> {
    let words = Words::read(values)?;
    let (spec, classes, dropout) = (spec(values)?, values.count("classes")?, values.rate("dropout")?);
    let net = Graph::build(values.name(), |g| {
        let (x, inputs) = words.embed(g);
        let mut h = x.recurrent_with("rnn", spec, inputs).output;
        if dropout > 0.0 {
            h = h.dropout(dropout);
        }
        [("logits", h.linear("output", classes))]
    });
    Ok(net?)
}

/// The recurrent layers that the arguments ask for.
pub(crate) fn spec(values: &Values) -> Result<RecurrentSpec> {
    let hidden_size = values.count("hidden_size")?;
    let spec = match values.get("cell")? {
        RecurrentKind::Elman => {
            elman(hidden_size).activation(values.get::<RecurrentActivation>("activation")?)
        }
        RecurrentKind::Lstm => lstm(hidden_size),
        RecurrentKind::Gru => gru(hidden_size),
    };
    let layers = values.count("layers")?;
    if layers > 100 {
        return Err(values.wrong("layers", "1 to 100"));
    }
    let spec = spec.layers(layers).dropout(values.rate("dropout")?);
    Ok(if values.get("bidirectional")? { spec.bidirectional() } else { spec })
}

/// Tokens in, vectors out.
pub(crate) struct Words {
    vocabulary: usize,
    features: usize,
    op: Embedding,
    lengths: bool,
}

impl Words {
    pub(crate) fn read(values: &Values) -> Result<Self> {
        Ok(Self {
            vocabulary: values.count("vocabulary")?,
            features: values.count("features")?,
            op: Embedding { padding_index: values.get("padding")? },
            lengths: values.get("lengths")?,
        })
    }

    /// The inputs `ids` `[batch, time]` and, where asked for, `lengths` `[batch]`.
    pub(crate) fn embed(self, g: &GraphBuilder) -> (Wire, RecurrentInputs) {
        let ids = g.input_ids("ids", shape!["batch", "time"]);
        let lengths = self.lengths.then(|| g.input_ids("lengths", shape!["batch"]));
        let init = Init::Normal(1.0);
        let x = ids.embedding_with("embedding", self.vocabulary, self.features, self.op, init);
        (x, RecurrentInputs { lengths, ..RecurrentInputs::default() })
    }
}
