//! LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998) in today's form: ReLU, maximum pooling, no partial connections.

use kessen_graph::ops::conv::conv;
use kessen_graph::{Graph, shape};

use crate::argument::Argument;
use crate::{Architecture, Result, Values};

pub(crate) const ALL: &[Architecture] = &[Architecture {
    name: "lenet",
    about: "LeNet-5 (LeCun et al. 1998) with ReLU and maximum pooling",
    arguments: &[
        Argument { name: "classes", default: "10", about: "number of classes" },
        Argument { name: "channels", default: "1", about: "channels of the image" },
        Argument { name: "size", default: "28", about: "side of the image, or height x width" },
    ],
    build,
}];

fn build(values: &Values) -> Result<Graph> {
    let (classes, channels) = (values.count("classes")?, values.count("channels")?);
    let [height, width] = values.size("size")?;
    let net = Graph::build(values.name(), |g| {
        let image = g.input("image", shape!["batch", channels, height, width]);
        let h = image.conv("c1", conv(6, 5).padding(2)).relu().max_pool(2);
        let h = h.conv("c2", conv(16, 5)).relu().max_pool(2).flatten();
        [("logits", h.linear("f3", 120).relu().linear("f4", 84).relu().linear("f5", classes))]
    });
    Ok(net?)
}
