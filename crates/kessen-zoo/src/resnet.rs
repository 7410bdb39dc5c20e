//! ResNet (He, Zhang, Ren, Sun 2015), with the stride of a bottleneck on its 3×3 convolution, as in torchvision.

use std::f64::consts::SQRT_2;

use kessen_graph::ops::conv::{ConvSpec, conv};
use kessen_graph::ops::max_pool::MaxPool;
use kessen_graph::{Graph, Init, Wire, shape};

use crate::argument::{Argument, CHANNELS, CLASSES, SIZE};
use crate::{Architecture, Result, Values};

const ARGUMENTS: &[Argument] = &[CLASSES, CHANNELS, SIZE];

macro_rules! resnet {
    ($name:literal, $about:literal, $blocks:expr, $bottleneck:literal) => {
        Architecture {
            name: $name,
            about: $about,
            arguments: ARGUMENTS,
            build: |values| build(values, $blocks, $bottleneck),
        }
    };
}

pub(crate) const ALL: &[Architecture] = &[
    resnet!("resnet18", "ResNet with 18 layers (He et al. 2015)", [2, 2, 2, 2], false),
    resnet!("resnet34", "ResNet with 34 layers (He et al. 2015)", [3, 4, 6, 3], false),
    resnet!("resnet50", "ResNet with 50 layers, bottlenecks (He et al. 2015)", [3, 4, 6, 3], true),
    resnet!("resnet101", "ResNet with 101 layers, bottlenecks (He et al. 2015)", [3, 4, 23, 3], true),
    resnet!("resnet152", "ResNet with 152 layers, bottlenecks (He et al. 2015)", [3, 8, 36, 3], true),
];

fn build(values: &Values, blocks: [usize; 4], bottleneck: bool) -> Result<Graph> {
    let (classes, channels) = (values.count("classes")?, values.count("channels")?);
    let [height, width] = values.size("size")?;
    let net = Graph::build(values.name(), |g| {
        let image = g.input("image", shape!["batch", channels, height, width]);
        let h = image.conv("conv1", plain(64, 7).stride(2).padding(3)).batch_norm("bn1").relu();
        let pool = MaxPool { kernel: [3, 3], stride: [2, 2], padding: 1.into(), ..MaxPool::default() };
        let mut h = h.max_pool_with(pool);
        let mut features = 64;
        for (stage, count) in blocks.into_iter().enumerate() {
            let width = 64 << stage;
            let expanded = if bottleneck { 4 * width } else { width };
            for i in 0..count {
                let path = format!("layer{}.{i}", stage + 1);
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let y = if bottleneck {
                    bottleneck_branch(&h, &path, width, stride)
                } else {
                    basic_branch(&h, &path, width, stride)
                };
                let shortcut = if stride == 1 && features == expanded {
                    h
                } else {
                    let y = h.conv(&format!("{path}.downsample.0"), plain(expanded, 1).stride(stride));
                    y.batch_norm(&format!("{path}.downsample.1"))
                };
                h = y.add(&shortcut).relu();
                features = expanded;
            }
        }
        [("logits", h.global_avg_pool().flatten().linear("fc", classes))]
    });
    Ok(net?)
}

fn plain(filters: usize, kernel: usize) -> ConvSpec {
    conv(filters, kernel).no_bias().init(Init::KaimingNormalFanOut(SQRT_2))
}

fn basic_branch(x: &Wire, path: &str, width: usize, stride: usize) -> Wire {
    let y = x.conv(&format!("{path}.conv1"), plain(width, 3).stride(stride).padding(1));
    let y = y.batch_norm(&format!("{path}.bn1")).relu();
    y.conv(&format!("{path}.conv2"), plain(width, 3).padding(1)).batch_norm(&format!("{path}.bn2"))
}

fn bottleneck_branch(x: &Wire, path: &str, width: usize, stride: usize) -> Wire {
    let y = x.conv(&format!("{path}.conv1"), plain(width, 1)).batch_norm(&format!("{path}.bn1")).relu();
    let y = y.conv(&format!("{path}.conv2"), plain(width, 3).stride(stride).padding(1));
    let y = y.batch_norm(&format!("{path}.bn2")).relu();
    y.conv(&format!("{path}.conv3"), plain(4 * width, 1)).batch_norm(&format!("{path}.bn3"))
}
