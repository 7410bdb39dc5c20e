//! A small convolutional network for 8×8 grey digits.
//!
//! Two stages of two 3×3 convolutions with batch normalisation; each stage halves the image and doubles the channels.

use kessen_graph::ops::conv::conv;
use kessen_graph::{Graph, shape};

use crate::argument::Argument;
use crate::{Architecture, Result, Values};

pub(crate) const ALL: &[Architecture] = &[Architecture {
    name: "digits_cnn",
    about: "small CNN with batch normalisation for 8×8 grey digits",
    arguments: &[
        Argument { name: "classes", default: "10", about: "number of classes" },
        Argument { name: "channels", default: "1", about: "channels of the image" },
        Argument { name: "size", default: "8", about: "side of the image, or height x width" },
        Argument { name: "width", default: "32", about: "filters of the first stage" },
        Argument {
            name: "dropout",
            default: "0.3",
            about: "share of features left out before the last layer in training",
        },
    ],
    build,
}];

fn build(values: &Values) -> Result<Graph> {
    let (classes, channels, first) =
        (values.count("classes")?, values.count("channels")?, values.count("width")?);
    let ([height, width], dropout) = (values.size("size")?, values.rate("dropout")?);
    let net = Graph::build(values.name(), |g| {
        let mut h = g.input("image", shape!["batch", channels, height, width]);
        for (stage, filters) in [(1, first), (2, first.saturating_mul(2))] {
            for layer in 1..=2 {
                let spec = conv(filters, 3).padding(1).no_bias();
                h = h.conv(&format!("stage{stage}.conv{layer}"), spec);
                h = h.batch_norm(&format!("stage{stage}.bn{layer}")).relu();
            }
            h = h.max_pool(2);
        }
        h = h.flatten();
        if dropout > 0.0 {
            h = h.dropout(dropout);
        }
        [("logits", h.linear("fc", classes))]
    });
    Ok(net?)
}
