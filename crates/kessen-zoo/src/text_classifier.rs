//! Recurrent classifier: T inputs, one output, such as the sentiment of a sentence.
//!
//! The last layer's hidden units after the last step (in both directions, side by side) are classified.

use kessen_graph::Graph;

use crate::tagger::{Words, spec};
use crate::{Architecture, Argument, Result, Values};

pub(crate) const ALL: &[Architecture] = &[Architecture {
    name: "text_classifier",
    about: "recurrent classifier: embedding, Elman/LSTM/GRU layers, one class for the whole sequence",
    arguments: &[
        Argument { name: "vocabulary", default: "10000", about: "number of different tokens" },
        Argument { name: "features", default: "128", about: "length of a token's vector" },
        Argument { name: "cell", default: "lstm", about: "elman, lstm or gru" },
        Argument { name: "hidden_size", default: "128", about: "hidden units, in each direction" },
        Argument { name: "layers", default: "1", about: "recurrent layers on top of each other" },
        Argument { name: "bidirectional", default: "true", about: "also from the last step to the first" },
        Argument {
            name: "activation",
            default: "tanh",
            about: "function of the hidden units of an Elman network",
        },
        Argument { name: "dropout", default: "0.3", about: "share left out before each layer but the first" },
        Argument { name: "padding", default: "none", about: "token whose vector stays zero" },
        Argument {
            name: "lengths",
            default: "true",
            about: "an input `lengths` with the steps of each sequence",
        },
        Argument { name: "classes", default: "2", about: "number of classes" },
    ],
    build,
}];

fn build(values: &Values) -> Result<Graph> {
    let words = Words::read(values)?;
    let (spec, classes, dropout) = (spec(values)?, values.count("classes")?, values.rate("dropout")?);
    let both: bool = values.get("bidirectional")?;
    let net = Graph::build(values.name(), |g| {
        let (x, inputs) = words.embed(g);
        let states = x.recurrent_with("rnn", spec, inputs).hidden;
        let last = &states[states.len() - 1];
        let mut h = if both { states[states.len() - 2].concat(&[last], 1) } else { last.clone() };
        if dropout > 0.0 {
            h = h.dropout(dropout);
        }
        [("logits", h.linear("output", classes))]
    });
    Ok(net?)
}
