//! MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov, Chen 2018): inverted residuals with depthwise convolutions.

use std::f64::consts::SQRT_2;

use kessen_graph::ops::conv::{ConvSpec, conv};
use kessen_graph::{Graph, Init, Wire, shape};

use crate::argument::{Argument, CHANNELS, CLASSES, SIZE};
use crate::{Architecture, Result, Values};

pub(crate) const ALL: &[Architecture] = &[Architecture {
    name: "mobilenet_v2",
    about: "MobileNetV2 (Sandler et al. 2018): inverted residuals, depthwise convolutions",
    arguments: &[
        CLASSES,
        CHANNELS,
        SIZE,
        Argument { name: "width_mult", default: "1", about: "multiple of all numbers of filters" },
        Argument { name: "dropout", default: "0.2", about: "share left out before the last layer" },
    ],
    build,
}];

/// Expansion, filters, repetitions and stride of each group of blocks (the paper's table 2).
const BLOCKS: [[usize; 4]; 7] = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
];

fn build(values: &Values) -> Result<Graph> {
    let (classes, channels) = (values.count("classes")?, values.count("channels")?);
    let ([height, width], dropout) = (values.size("size")?, values.rate("dropout")?);
    let multiple: f64 = values.get("width_mult")?;
    if !(0.01..=100.0).contains(&multiple) {
        return Err(values.wrong("width_mult", "a number from 0.01 to 100"));
    }
    let net = Graph::build(values.name(), |g| {
        let image = g.input("image", shape!["batch", channels, height, width]);
        let mut features = divisible(32.0 * multiple);
        let mut h = conv_bn_relu6(&image, "features.0", plain(features, 3).stride(2).padding(1));
        let mut index = 1;
        for [expansion, filters, count, stride] in BLOCKS {
            let filters = divisible(filters as f64 * multiple);
            for i in 0..count {
                let stride = if i == 0 { stride } else { 1 };
                let path = format!("features.{index}.conv");
                let y = inverted_residual(&h, &path, features, features * expansion, filters, stride);
                h = if stride == 1 && features == filters { h.add(&y) } else { y };
                features = filters;
                index += 1;
            }
        }
        let last = divisible(1280.0 * multiple.max(1.0));
        let mut h =
            conv_bn_relu6(&h, &format!("features.{index}"), plain(last, 1)).global_avg_pool().flatten();
        if dropout > 0.0 {
            h = h.dropout(dropout);
        }
        let logits = h.linear_with("classifier.1", classes, Init::Normal(0.01), true);
        g.set_init("classifier.1.bias", Init::Constant(0.0));
        [("logits", logits)]
    });
    Ok(net?)
}

/// The multiple of 8 nearest to `filters`, at least 8 and no less than 0.9·`filters`.
fn divisible(filters: f64) -> usize {
    let rounded = (((filters + 4.0) / 8.0).floor() * 8.0).max(8.0);
    (if rounded < 0.9 * filters { rounded + 8.0 } else { rounded }) as usize
}

fn plain(filters: usize, kernel: usize) -> ConvSpec {
    conv(filters, kernel).no_bias().init(Init::KaimingNormalFanOut(SQRT_2))
}

fn conv_bn_relu6(x: &Wire, path: &str, spec: ConvSpec) -> Wire {
    x.conv(&format!("{path}.0"), spec).batch_norm(&format!("{path}.1")).clamp(0.0, 6.0)
}

fn inverted_residual(
    x: &Wire,
    path: &str,
    inputs: usize,
    hidden: usize,
    filters: usize,
    stride: usize,
) -> Wire {
    let mut h = x.clone();
    let mut at = 0;
    if hidden != inputs {
        h = conv_bn_relu6(&h, &format!("{path}.0"), plain(hidden, 1));
        at = 1;
    }
    let depthwise = plain(hidden, 3).stride(stride).padding(1).groups(hidden);
    h = conv_bn_relu6(&h, &format!("{path}.{at}"), depthwise);
    h.conv(&format!("{path}.{}", at + 1), plain(filters, 1)).batch_norm(&format!("{path}.{}", at + 2))
}
