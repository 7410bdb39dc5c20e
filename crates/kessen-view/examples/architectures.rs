//! Draws well-known architectures into a folder, as SVG and PNG:
//! `cargo run -p kessen-view --example architectures -- FOLDER`.

use kessen_graph::ops::conv::conv;
use kessen_graph::ops::max_pool::MaxPool;
use kessen_graph::{Graph, Wire, shape};
use kessen_view::Drawing;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "architectures".into()));
    std::fs::create_dir_all(&folder)?;
    let (resnet, inception) = (resnet34()?, inception()?);
    let pictures = [
        ("mlp", Drawing::default().picture(&mlp()?)),
        ("lenet", Drawing::default().picture(&lenet()?)),
        ("resnet34", Drawing::default().picture(&resnet)),
        ("resnet34_stages", Drawing::default().collapse(1).picture(&resnet)),
        ("resnet34_whole", Drawing::default().fold(false).picture(&resnet)),
        ("inception", Drawing::default().picture(&inception)),
        ("inception_stages", Drawing::default().collapse(1).picture(&inception)),
    ];
    for (name, picture) in pictures {
        picture.save(folder.join(name).with_extension("svg"))?;
        picture.save(folder.join(name).with_extension("png"))?;
    }
    Ok(())
}

fn mlp() -> kessen_graph::Result<Graph> {
    Graph::build("MLP", |g| {
        let x = g.input("x", shape!["batch", 784]);
        x.linear("hidden1", 256).relu().linear("hidden2", 128).relu().linear("logits", 10)
    })
}

fn lenet() -> kessen_graph::Result<Graph> {
    Graph::build("LeNet", |g| {
        let image = g.input("image", shape!["batch", 1, 28, 28]);
        let h = image.conv("c1", conv(6, 5).padding(2)).relu().max_pool(2);
        let h = h.conv("c2", conv(16, 5)).relu().max_pool(2).flatten();
        h.linear("f3", 120).relu().linear("f4", 84).relu().linear("f5", 10)
    })
}

fn resnet34() -> kessen_graph::Result<Graph> {
    Graph::build("ResNet-34", |g| {
        let image = g.input("image", shape!["batch", 3, 224, 224]);
        let stem = image.conv("conv1", conv(64, 7).stride(2).padding(3).no_bias()).batch_norm("bn1").relu();
        let mut h = stem.max_pool_with(pool(3, 2, 1));
        for (k, (blocks, width)) in [(3, 64), (4, 128), (6, 256), (3, 512)].into_iter().enumerate() {
            for block in 0..blocks {
                let stride = if k > 0 && block == 0 { 2 } else { 1 };
                h = basic_block(h, &format!("layer{}.{block}", k + 1), width, stride);
            }
        }
        h.global_avg_pool().flatten().linear("fc", 1000)
    })
}

fn basic_block(x: Wire, path: &str, width: usize, stride: usize) -> Wire {
    let name = |part: &str| format!("{path}.{part}");
    let h = x.conv(&name("conv1"), conv(width, 3).stride(stride).padding(1).no_bias());
    let h = h.batch_norm(&name("bn1")).relu().conv(&name("conv2"), conv(width, 3).padding(1).no_bias());
    let h = h.batch_norm(&name("bn2"));
    let skip = match stride {
        1 => x,
        _ => {
            let skip = x.conv(&name("downsample.0"), conv(width, 1).stride(stride).no_bias());
            skip.batch_norm(&name("downsample.1"))
        }
    };
    h.add(&skip).relu()
}

fn inception() -> kessen_graph::Result<Graph> {
    Graph::build("GoogLeNet, first modules", |g| {
        let image = g.input("image", shape!["batch", 3, 224, 224]);
        let h = image.conv("conv1", conv(64, 7).stride(2).padding(3)).relu().max_pool_with(pool(3, 2, 0));
        let h = h.conv("conv2", conv(64, 1)).relu().conv("conv3", conv(192, 3).padding(1)).relu();
        let h = h.max_pool_with(pool(3, 2, 0));
        let h = module(h, "inception3a", [64, 96, 128, 16, 32, 32]);
        let h = module(h, "inception3b", [128, 128, 192, 32, 96, 64]);
        h.global_avg_pool().flatten().linear("fc", 1000).softmax(1)
    })
}

fn module(x: Wire, path: &str, [a, b1, b2, c1, c2, d]: [usize; 6]) -> Wire {
    let layer = |x: &Wire, part: &str, width, kernel: usize| {
        x.conv(&format!("{path}.{part}"), conv(width, kernel).padding(kernel / 2)).relu()
    };
    let one = layer(&x, "1x1", a, 1);
    let three = layer(&layer(&x, "3x3_reduce", b1, 1), "3x3", b2, 3);
    let five = layer(&layer(&x, "5x5_reduce", c1, 1), "5x5", c2, 5);
    let pooled = layer(&x.max_pool_with(pool(3, 1, 1)), "pool_proj", d, 1);
    one.concat(&[&three, &five, &pooled], 1)
}

fn pool(kernel: usize, stride: usize, padding: usize) -> MaxPool {
    MaxPool {
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: padding.into(),
        ceil_mode: padding == 0,
        ..MaxPool::default()
    }
}
