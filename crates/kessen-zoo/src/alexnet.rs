//! AlexNet (Krizhevsky, Sutskever, Hinton 2012) in the one-column form of Krizhevsky (2014) that torchvision has.

use kessen_graph::ops::conv::conv;
use kessen_graph::ops::max_pool::MaxPool;
use kessen_graph::{Graph, Wire, shape};

use crate::argument::{Argument, CHANNELS, CLASSES, SIZE};
use crate::{Architecture, Result, Values};

pub(crate) const ALL: &[Architecture] = &[Architecture {
    name: "alexnet",
    about: "AlexNet (Krizhevsky et al. 2012, 2014): five convolutions, three fully connected layers",
    arguments: &[
        CLASSES,
        CHANNELS,
        SIZE,
        Argument {
            name: "dropout",
            default: "0.5",
            about: "share left out before the first two linear layers",
        },
    ],
    build,
}];

fn build(values: &Values) -> Result<Graph> {
    let (classes, channels) = (values.count("classes")?, values.count("channels")?);
    let ([height, width], dropout) = (values.size("size")?, values.rate("dropout")?);
    let drop = |h: Wire| if dropout > 0.0 { h.dropout(dropout) } else { h };
    let net = Graph::build(values.name(), |g| {
        let pool =
            |h: Wire| h.max_pool_with(MaxPool { kernel: [3, 3], stride: [2, 2], ..MaxPool::default() });
        let image = g.input("image", shape!["batch", channels, height, width]);
        let h = pool(image.conv("features.0", conv(64, 11).stride(4).padding(2)).relu());
        let h = pool(h.conv("features.3", conv(192, 5).padding(2)).relu());
        let h = h.conv("features.6", conv(384, 3).padding(1)).relu();
        let h = h.conv("features.8", conv(256, 3).padding(1)).relu();
        let h = pool(h.conv("features.10", conv(256, 3).padding(1)).relu());
        let h = drop(h.adaptive_avg_pool(6, 6).flatten()).linear("classifier.1", 4096).relu();
        let h = drop(h).linear("classifier.4", 4096).relu();
        [("logits", h.linear("classifier.6", classes))]
    });
    Ok(net?)
}
