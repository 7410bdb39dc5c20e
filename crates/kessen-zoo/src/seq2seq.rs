//! One sequence from another by recurrent networks (Sutskever et al. 2014): the states after the source's last token
//! are those before the target's first.
//!
//! Inputs are `ids` `[batch, source]`, where asked for `lengths` `[batch]` of the sources, and `target_ids`
//! `[batch, time]`, the target's tokens so far; `logits` `[batch, time, target_vocab]` are for the token behind each.

use kessen_graph::ops::recurrent::RecurrentKind;
use kessen_graph::ops::recurrent_layer::{RecurrentInputs, elman, gru, lstm};
use kessen_graph::{Graph, shape};

use crate::argument::Argument;
use crate::{Architecture, Result, Values};

pub(crate) const ALL: &[Architecture] = &[Architecture {
    name: "seq2seq",
    about: "one sequence from another: an encoder's last states begin a decoder (Sutskever et al. 2014)",
    arguments: &[
        Argument { name: "cell", default: "gru", about: "elman, lstm or gru" },
        Argument { name: "source_vocab", default: "10000", about: "number of tokens of the source" },
        Argument { name: "target_vocab", default: "10000", about: "number of tokens of the target" },
        Argument { name: "embed", default: "128", about: "features of a token" },
        Argument { name: "hidden", default: "256", about: "hidden units" },
        Argument { name: "layers", default: "1", about: "recurrent layers on top of each other" },
        Argument { name: "lengths", default: "false", about: "whether each source has its own length" },
        Argument { name: "dropout", default: "0", about: "share left out between layers in training" },
    ],
    build,
}];

fn build(values: &Values) -> Result<Graph> {
    let (source, target) = (values.count("source_vocab")?, values.count("target_vocab")?);
    let (features, hidden) = (values.count("embed")?, values.count("hidden")?);
    let spec = match values.get("cell")? {
        RecurrentKind::Elman => elman(hidden),
        RecurrentKind::Lstm => lstm(hidden),
        RecurrentKind::Gru => gru(hidden),
    };
    let layers = values.count("layers")?;
    if layers > 100 {
        return Err(values.wrong("layers", "1 to 100"));
    }
    let spec = spec.layers(layers).dropout(values.rate("dropout")?);
    let with_lengths: bool = values.get("lengths")?;
    let net = Graph::build(values.name(), |g| {
        let ids = g.input_ids("ids", shape!["batch", "source"]);
        let lengths = with_lengths.then(|| g.input_ids("lengths", shape!["batch"]));
        let target_ids = g.input_ids("target_ids", shape!["batch", "time"]);
        let x = ids.embedding("encoder.e", source, features);
        let read = RecurrentInputs { lengths, ..RecurrentInputs::default() };
        let encoded = x.recurrent_with("encoder.r", spec.clone(), read);
        let y = target_ids.embedding("decoder.e", target, features);
        let begin = RecurrentInputs { lengths: None, hidden: encoded.hidden, cell: encoded.cell };
        [("logits", y.recurrent_with("decoder.r", spec, begin).output.linear("o", target))]
    });
    Ok(net?)
}
