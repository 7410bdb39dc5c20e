//! The taggers that the benchmark of all frameworks runs, with its sizes and parameter names: `e` the embedding, `r` the
//! recurrent layer, `o` the output layer. Inputs are `ids` `[batch, time]` and, where asked for, `lengths` `[batch]`.

use kessen_graph::ops::recurrent_layer::{RecurrentInputs, RecurrentSpec, elman, gru, lstm};
use kessen_graph::{Graph, shape};

use crate::argument::Argument;
use crate::{Architecture, Result, Values};

const VOCABULARY: Argument = Argument { name: "vocab", default: "10000", about: "number of tokens" };
const CLASSES: Argument = Argument { name: "classes", default: "17", about: "number of classes" };
const LENGTHS: Argument =
    Argument { name: "lengths", default: "false", about: "whether each sequence has its own length" };

const fn embed(default: &'static str) -> Argument {
    Argument { name: "embed", default, about: "features of a token" }
}

const fn hidden(default: &'static str) -> Argument {
    Argument { name: "hidden", default, about: "hidden units" }
}

const GATED: &[Argument] = &[VOCABULARY, embed("256"), hidden("512"), CLASSES, LENGTHS];

pub(crate) const ALL: &[Architecture] = &[
    Architecture {
        name: "elman_tagger",
        about: "a class for each token, by an Elman network (Elman 1990)",
        arguments: &[VOCABULARY, embed("128"), hidden("256"), CLASSES, LENGTHS],
        build: |values| build(values, elman),
    },
    Architecture {
        name: "lstm_tagger",
        about: "a class for each token, by an LSTM (Hochreiter & Schmidhuber 1997)",
        arguments: GATED,
        build: |values| build(values, lstm),
    },
    Architecture {
        name: "gru_tagger",
        about: "a class for each token, by a GRU (Cho et al. 2014)",
        arguments: GATED,
        build: |values| build(values, gru),
    },
];

fn build(values: &Values, layer: fn(usize) -> RecurrentSpec) -> Result<Graph> {
    let (vocabulary, features) = (values.count("vocab")?, values.count("embed")?);
    let (hidden, classes) = (values.count("hidden")?, values.count("classes")?);
    let with_lengths: bool = values.get("lengths")?;
    let net = Graph::build(values.name(), |g| {
        let ids = g.input_ids("ids", shape!["batch", "time"]);
        let lengths = with_lengths.then(|| g.input_ids("lengths", shape!["batch"]));
        let inputs = RecurrentInputs { lengths, ..RecurrentInputs::default() };
        let h = ids.embedding("e", vocabulary, features).recurrent_with("r", layer(hidden), inputs);
        [("logits", h.output.linear("o", classes))]
    });
    Ok(net?)
}
