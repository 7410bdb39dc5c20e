//! VGG (Simonyan & Zisserman 2014): 3×3 convolutions in five stages, each halving the image.

use std::f64::consts::SQRT_2;

use kessen_graph::ops::conv::conv;
use kessen_graph::{Graph, Init, Wire, shape};

use crate::argument::{Argument, CHANNELS, CLASSES, SIZE};
use crate::{Architecture, Result, Values};

const ARGUMENTS: &[Argument] = &[
    CLASSES,
    CHANNELS,
    SIZE,
    Argument { name: "dropout", default: "0.5", about: "share left out behind the first two linear layers" },
];

/// Convolutions of each stage (the paper's A, B, D and E); filters are 64, 128, 256, 512, 512.
const DEPTHS: [[usize; 5]; 4] = [[1, 1, 2, 2, 2], [2, 2, 2, 2, 2], [2, 2, 3, 3, 3], [2, 2, 4, 4, 4]];
const FILTERS: [usize; 5] = [64, 128, 256, 512, 512];

macro_rules! vgg {
    ($name:literal, $about:literal, $depth:literal, $norm:literal) => {
        Architecture {
            name: $name,
            about: $about,
            arguments: ARGUMENTS,
            build: |values| build(values, DEPTHS[$depth], $norm),
        }
    };
}

pub(crate) const ALL: &[Architecture] = &[
    vgg!("vgg11", "VGG with 11 layers (Simonyan & Zisserman 2014, A)", 0, false),
    vgg!("vgg11_bn", "VGG with 11 layers and batch normalisation", 0, true),
    vgg!("vgg13", "VGG with 13 layers (Simonyan & Zisserman 2014, B)", 1, false),
    vgg!("vgg13_bn", "VGG with 13 layers and batch normalisation", 1, true),
    vgg!("vgg16", "VGG with 16 layers (Simonyan & Zisserman 2014, D)", 2, false),
    vgg!("vgg16_bn", "VGG with 16 layers and batch normalisation", 2, true),
    vgg!("vgg19", "VGG with 19 layers (Simonyan & Zisserman 2014, E)", 3, false),
    vgg!("vgg19_bn", "VGG with 19 layers and batch normalisation", 3, true),
];

fn build(values: &Values, depths: [usize; 5], norm: bool) -> Result<Graph> {
    let (classes, channels) = (values.count("classes")?, values.count("channels")?);
    let ([height, width], dropout) = (values.size("size")?, values.rate("dropout")?);
    let drop = |h: Wire| if dropout > 0.0 { h.dropout(dropout) } else { h };
    let net = Graph::build(values.name(), |g| {
        let mut h = g.input("image", shape!["batch", channels, height, width]);
        // Index in torchvision's nn.Sequential, which counts activations and pooling, too.
        let mut index = 0;
        for (depth, filters) in depths.into_iter().zip(FILTERS) {
            for _ in 0..depth {
                let path = format!("features.{index}");
                h = h.conv(&path, conv(filters, 3).padding(1).init(Init::KaimingNormalFanOut(SQRT_2)));
                g.set_init(&format!("{path}.bias"), Init::Constant(0.0));
                if norm {
                    h = h.batch_norm(&format!("features.{}", index + 1));
                }
                h = h.relu();
                index += if norm { 3 } else { 2 };
            }
            h = h.max_pool(2);
            index += 1;
        }
        let linear = |h: Wire, path: &str, outputs: usize| {
            let y = h.linear_with(path, outputs, Init::Normal(0.01), true);
            g.set_init(&format!("{path}.bias"), Init::Constant(0.0));
            y
        };
        let h = linear(h.adaptive_avg_pool(7, 7).flatten(), "classifier.0", 4096);
        let h = linear(drop(h.relu()), "classifier.3", 4096);
        [("logits", linear(drop(h.relu()), "classifier.6", classes))]
    });
    Ok(net?)
}
