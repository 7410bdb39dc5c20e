//! GoogLeNet (Szegedy et al. 2014) as torchvision has it: with batch normalisation, and 3×3 convolutions in the
//! branch that is 5×5 in the paper.

use kessen_graph::ops::batch_norm::BatchNorm;
use kessen_graph::ops::conv::{ConvSpec, conv};
use kessen_graph::ops::max_pool::MaxPool;
use kessen_graph::{DEFAULT_WEIGHT, Graph, GraphBuilder, Init, Wire, shape};

use crate::argument::{Argument, CHANNELS, CLASSES, SIZE};
use crate::{Architecture, Result, Values};

pub(crate) const ALL: &[Architecture] = &[Architecture {
    name: "googlenet",
    about: "GoogLeNet, Inception v1 (Szegedy et al. 2014), with batch normalisation",
    arguments: &[
        CLASSES,
        CHANNELS,
        SIZE,
        Argument {
            name: "aux_logits",
            default: "false",
            about: "auxiliary classifiers, as outputs aux1 and aux2",
        },
        Argument {
            name: "transform_input",
            default: "false",
            about: "turns ImageNet's normalisation into (x−0.5)/0.5",
        },
        Argument {
            name: "init_weights",
            default: "true",
            about: "weights from N(0, 0.01²); else PyTorch's defaults",
        },
        Argument { name: "dropout", default: "0.2", about: "share left out before the last layer" },
        Argument { name: "dropout_aux", default: "0.7", about: "the same in the auxiliary classifiers" },
    ],
    build,
}];

/// Filters of a module: 1×1; reduction and 3×3; reduction and second 3×3; behind the pooling.
type Filters = [usize; 6];

struct Maker {
    weight: Init,
}

fn build(values: &Values) -> Result<Graph> {
    let (classes, channels) = (values.count("classes")?, values.count("channels")?);
    let [height, width] = values.size("size")?;
    let (aux, transform): (bool, bool) = (values.get("aux_logits")?, values.get("transform_input")?);
    let (dropout, dropout_aux) = (values.rate("dropout")?, values.rate("dropout_aux")?);
    if transform && channels != 3 {
        return Err(values.wrong("transform_input", "false, or 3 channels"));
    }
    let m = Maker { weight: if values.get("init_weights")? { Init::Normal(0.01) } else { DEFAULT_WEIGHT } };
    let net = Graph::build(values.name(), |g| {
        let image = g.input("image", shape!["batch", channels, height, width]);
        let x = if transform { normalised(g, &image) } else { image };
        let h = pool(&m.conv(&x, "conv1", conv(64, 7).stride(2).padding(3)), 3);
        let h = m.conv(&h, "conv2", conv(64, 1));
        let h = pool(&m.conv(&h, "conv3", conv(192, 3).padding(1)), 3);
        let h = m.inception(&h, "inception3a", [64, 96, 128, 16, 32, 32]);
        let h = pool(&m.inception(&h, "inception3b", [128, 128, 192, 32, 96, 64]), 3);
        let a = m.inception(&h, "inception4a", [192, 96, 208, 16, 48, 64]);
        let h = m.inception(&a, "inception4b", [160, 112, 224, 24, 64, 64]);
        let h = m.inception(&h, "inception4c", [128, 128, 256, 24, 64, 64]);
        let d = m.inception(&h, "inception4d", [112, 144, 288, 32, 64, 64]);
        let h = pool(&m.inception(&d, "inception4e", [256, 160, 320, 32, 128, 128]), 2);
        let h = m.inception(&h, "inception5a", [256, 160, 320, 32, 128, 128]);
        let h = m.inception(&h, "inception5b", [384, 192, 384, 48, 128, 128]);
        let auxiliary: Vec<Wire> = [("aux1", &a), ("aux2", &d)]
            .into_iter()
            .filter(|_| aux)
            .map(|(path, x)| m.auxiliary(x, path, classes, dropout_aux))
            .collect();
        let h = drop(h.global_avg_pool().flatten(), dropout);
        let logits = m.linear(&h, "fc", classes);
        std::iter::once(logits)
            .chain(auxiliary)
            .zip(["logits", "aux1", "aux2"])
            .map(|(w, n)| (n, w))
            .collect::<Vec<_>>()
    });
    Ok(net?)
}

/// From ImageNet's mean and deviation to 0.5 and 0.5, per channel.
fn normalised(g: &GraphBuilder, image: &Wire) -> Wire {
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let channels = [0, 1, 2].map(|c| {
        let x = image.slice(1, c, c + 1).mul(&g.scalar((std[c] / 0.5) as f32));
        x.add(&g.scalar(((mean[c] - 0.5) / 0.5) as f32))
    });
    channels[0].concat(&[&channels[1], &channels[2]], 1)
}

fn drop(h: Wire, rate: f64) -> Wire {
    if rate > 0.0 { h.dropout(rate) } else { h }
}

fn pool(h: &Wire, kernel: usize) -> Wire {
    h.max_pool_with(MaxPool { kernel: [kernel; 2], ceil_mode: true, ..MaxPool::default() })
}

impl Maker {
    fn conv(&self, x: &Wire, path: &str, spec: ConvSpec) -> Wire {
        let y = x.conv(&format!("{path}.conv"), spec.no_bias().init(self.weight));
        y.batch_norm_with(&format!("{path}.bn"), BatchNorm { eps: 0.001, ..BatchNorm::default() }).relu()
    }

    fn linear(&self, x: &Wire, path: &str, outputs: usize) -> Wire {
        x.linear_with(path, outputs, self.weight, true)
    }

    fn inception(&self, x: &Wire, path: &str, filters: Filters) -> Wire {
        let [f1, r2, f2, r3, f3, f4] = filters;
        let b1 = self.conv(x, &format!("{path}.branch1"), conv(f1, 1));
        let b2 = self.conv(x, &format!("{path}.branch2.0"), conv(r2, 1));
        let b2 = self.conv(&b2, &format!("{path}.branch2.1"), conv(f2, 3).padding(1));
        let b3 = self.conv(x, &format!("{path}.branch3.0"), conv(r3, 1));
        let b3 = self.conv(&b3, &format!("{path}.branch3.1"), conv(f3, 3).padding(1));
        let same = MaxPool {
            kernel: [3, 3],
            stride: [1, 1],
            padding: 1.into(),
            ceil_mode: true,
            ..MaxPool::default()
        };
        let b4 = self.conv(&x.max_pool_with(same), &format!("{path}.branch4.1"), conv(f4, 1));
        b1.concat(&[&b2, &b3, &b4], 1)
    }

    fn auxiliary(&self, x: &Wire, path: &str, classes: usize, dropout: f64) -> Wire {
        let h = self.conv(&x.adaptive_avg_pool(4, 4), &format!("{path}.conv"), conv(128, 1)).flatten();
        let h = drop(self.linear(&h, &format!("{path}.fc1"), 1024).relu(), dropout);
        self.linear(&h, &format!("{path}.fc2"), classes)
    }
}
