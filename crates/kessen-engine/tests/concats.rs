//! Concatenations and slices of channels, which the cpu backend lays out without copies where it can: fused and not,
//! against the reference, for inference and for training with every gradient.

mod cases;

use cases::model::agree;
use kessen_engine::{Backend, CompileOptions, Cpu, Session};
use kessen_graph::ops::avg_pool::AvgPool;
use kessen_graph::ops::conv::conv;
use kessen_graph::ops::max_pool::MaxPool;
use kessen_graph::{Bindings, Graph, GraphBuilder, Wire, shape};
use kessen_tensor::Rng;

fn image(g: &GraphBuilder, channels: usize) -> Wire {
    g.input("x", shape!["batch", channels, 7, 6])
}

/// Convolution, batch normalisation and ReLU.
fn block(x: &Wire, path: &str, filters: usize, kernel: usize) -> Wire {
    let spec = conv(filters, kernel).padding(kernel / 2).no_bias();
    x.conv(path, spec).batch_norm(&format!("{path}_bn")).relu()
}

fn pooled(x: &Wire) -> Wire {
    x.max_pool_with(MaxPool { kernel: [3, 3], stride: [1, 1], padding: 1.into(), ..MaxPool::default() })
}

fn inception(g: &GraphBuilder) -> Wire {
    let module = |x: &Wire, path: &str| {
        let b = block(&block(x, &format!("{path}b1"), 16, 1), &format!("{path}b2"), 48, 3);
        let c = block(&pooled(x), &format!("{path}c"), 16, 1);
        block(x, &format!("{path}a"), 32, 1).concat(&[&b, &c], 1)
    };
    module(&module(&image(g, 3), "one"), "two").global_avg_pool()
}

fn fire(g: &GraphBuilder) -> Wire {
    let squeezed = image(g, 5).conv("squeeze", conv(16, 1)).relu();
    let wide = squeezed.conv("three", conv(32, 3).padding(1)).relu();
    squeezed.conv("one", conv(32, 1)).relu().concat(&[&wide], 1).conv("out", conv(10, 1))
}

fn without_activation(g: &GraphBuilder) -> Wire {
    let x = image(g, 16);
    let b = x.conv("b", conv(32, 3).padding(1)).concat(&[&x.conv("a", conv(16, 1))], 1);
    b.conv("out", conv(16, 3).padding(1))
}

fn reduction(g: &GraphBuilder) -> Wire {
    let x = block(&image(g, 3), "stem", 32, 3);
    let a = x.conv("a", conv(16, 3).stride(2).no_bias()).batch_norm("a_bn").relu();
    let b = x.max_pool_with(MaxPool { kernel: [3, 3], stride: [2, 2], ..MaxPool::default() });
    let c = x.avg_pool_with(AvgPool { kernel: [3, 3], stride: [2, 2], ..AvgPool::default() });
    a.concat(&[&b, &c], 1).conv("out", conv(16, 1))
}

fn odd_channels(g: &GraphBuilder) -> Wire {
    let x = image(g, 16);
    block(&x, "a", 16, 1).concat(&[&block(&x, "b", 5, 3), &block(&x, "c", 19, 1)], 1)
}

fn nested(g: &GraphBuilder) -> Wire {
    let x = image(g, 4);
    let inner = block(&x, "a", 16, 1).concat(&[&block(&x, "b", 32, 3)], 1);
    let outer = block(&x, "c", 16, 1).concat(&[&inner, &block(&inner, "d", 16, 1)], 1);
    block(&outer, "out", 16, 3).add(&block(&inner, "skip", 16, 1))
}

/// The convolution would read and write one buffer.
fn part_made_of_its_neighbour(g: &GraphBuilder) -> Wire {
    let x = image(g, 3);
    let inner = block(&x, "a", 16, 1).concat(&[&block(&x, "b", 16, 3)], 1);
    let c = inner.conv("c", conv(16, 3).padding(1)).relu();
    inner.concat(&[&c, &pooled(&inner)], 1).conv("out", conv(16, 1))
}

fn dense_block(g: &GraphBuilder) -> Wire {
    let mut x = block(&image(g, 3), "stem", 16, 3);
    for k in 0..3 {
        let h = x.batch_norm(&format!("norm{k}")).relu().conv(&format!("conv{k}"), conv(16, 3).padding(1));
        x = x.concat(&[&h], 1);
    }
    x.batch_norm("end").relu().avg_pool(2)
}

fn value_twice(g: &GraphBuilder) -> Wire {
    let x = image(g, 3);
    let (a, b) = (block(&x, "a", 16, 1), block(&x, "b", 32, 3));
    a.concat(&[&b, &a], 1).conv("out", conv(16, 1))
}

fn value_in_two_wholes(g: &GraphBuilder) -> Wire {
    let x = image(g, 3);
    let [a, b, c] = ["a", "b", "c"].map(|path| block(&x, path, 16, 1));
    let left = b.concat(&[&a], 1).conv("left", conv(16, 3).padding(1));
    let right = a.concat(&[&c], 1).conv("right", conv(16, 1));
    left.add(&right).add(&a.silu())
}

fn residual_part(g: &GraphBuilder) -> Wire {
    let x = block(&image(g, 3), "stem", 32, 1);
    let h = x.conv("a", conv(32, 3).padding(1).no_bias()).batch_norm("a_bn").add(&x).relu();
    let k = x.conv("b", conv(32, 1)).add(&h).relu();
    h.concat(&[&x, &k], 1).conv("out", conv(16, 1))
}

fn shuffle(g: &GraphBuilder) -> Wire {
    let x = block(&image(g, 3), "stem", 64, 3);
    let (left, right) = (x.slice(1, 0, 32), x.slice(1, 32, 64));
    let right = block(&right, "p", 32, 1).conv("dw", conv(32, 3).padding(1).groups(32)).batch_norm("dw_bn");
    let y = left.concat(&[&block(&right, "q", 32, 1)], 1);
    let quarter = y.slice(1, 16, 48).slice(1, 16, 32);
    y.conv("out", conv(16, 3).stride(2)).global_avg_pool().add(&quarter.global_avg_pool())
}

/// Values that element-wise steps could overwrite while slices of them are read.
fn in_place(g: &GraphBuilder) -> Wire {
    let x = block(&image(g, 3), "stem", 32, 1);
    let halves = x.slice(1, 16, 32).concat(&[&x.slice(1, 0, 16)], 1);
    let sum = x.add(&halves).tanh();
    let (a, b) = (sum.slice(1, 0, 16), sum.slice(1, 16, 32));
    a.mul(&b.sigmoid()).add(&pooled(&a)).concat(&[&b], 1).silu()
}

fn part_is_result(g: &GraphBuilder) -> [(&'static str, Wire); 3] {
    let x = image(g, 3);
    let a = block(&x, "a", 16, 1);
    let whole = a.concat(&[&block(&x, "b", 16, 1)], 1);
    [("slice", whole.slice(1, 16, 32)), ("part", a), ("whole", whole)]
}

fn single_pixels(g: &GraphBuilder) -> Wire {
    let x = image(g, 3).global_avg_pool();
    let whole = x.conv("a", conv(16, 1)).tanh().concat(&[&x.conv("b", conv(32, 1)).tanh()], 1);
    whole.slice(1, 16, 48).flatten().linear("fc", 5).add(&whole.flatten().linear("fc2", 5))
}

const WIRINGS: [(&str, fn(&GraphBuilder) -> Wire); 14] = [
    ("inception", inception),
    ("fire", fire),
    ("without_activation", without_activation),
    ("reduction", reduction),
    ("odd_channels", odd_channels),
    ("nested", nested),
    ("part_made_of_its_neighbour", part_made_of_its_neighbour),
    ("dense_block", dense_block),
    ("value_twice", value_twice),
    ("value_in_two_wholes", value_in_two_wholes),
    ("residual_part", residual_part),
    ("shuffle", shuffle),
    ("in_place", in_place),
    ("single_pixels", single_pixels),
];

/// Six steps, each on values drawn from those before it.
fn random(g: &GraphBuilder, seed: u64) -> Wire {
    let mut rng = Rng::new(seed, 1);
    let mut values = vec![block(&image(g, 3), "stem", 32, 1)];
    for k in 0..6 {
        let drawn: Vec<Wire> = (0..3).map(|_| values[rng.below(values.len())].clone()).collect();
        let x = &drawn[0];
        let channels = x.ty().shape[1].as_fixed().unwrap_or(16);
        let path = format!("c{k}");
        let next = match rng.below(8) {
            0 | 1 => x.concat(&[&drawn[1], &drawn[2]][..1 + rng.below(2)], 1),
            2 if channels > 16 => x.slice(1, channels - 16, channels),
            3 => x.conv(&path, conv(32, 3).padding(1)),
            4 => x.conv(&path, conv(16, 1).no_bias()).batch_norm(&format!("{path}n")).tanh(),
            5 => x.avg_pool_with(AvgPool {
                kernel: [3, 3],
                stride: [1, 1],
                padding: 1.into(),
                ..AvgPool::default()
            }),
            6 => x.silu(),
            _ => x.conv(&path, conv(48, 1).no_bias()).batch_norm(&format!("{path}n")),
        };
        values.push(next);
    }
    let last = values[values.len() - 2..].to_vec();
    last[0].concat(&[&last[1]], 1).conv("end", conv(8, 1))
}

fn every_wiring_agrees(backend: &dyn Backend) {
    let mut failures = Vec::new();
    let mut check = |name: &str, model: Graph| {
        for batch in [1, 3] {
            if let Err(error) = agree(name, &model, batch, backend) {
                failures.push(format!("{name}, batch {batch}: {error}"));
            }
        }
    };
    for (name, wiring) in WIRINGS {
        check(name, Graph::build(name, wiring).unwrap_or_else(|e| panic!("{name}: {e}")));
    }
    check("part_is_result", Graph::build("part_is_result", part_is_result).unwrap());
    for seed in 0..40 {
        let model =
            Graph::build("random", |g| random(g, seed)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        check(&format!("random{seed}"), model);
    }
    assert!(failures.is_empty(), "{} fail\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn cpu_agrees_with_the_reference() {
    every_wiring_agrees(&Cpu::new());
}

#[test]
fn cpu_without_fusion_agrees_with_the_reference() {
    every_wiring_agrees(&Cpu::unfused());
}

/// The steps of a wiring for inference.
fn plan(wiring: fn(&GraphBuilder) -> Wire) -> String {
    let graph = Graph::build("n", wiring).unwrap().for_inference().unwrap();
    let bindings = Bindings::from([("batch", 3)]);
    Session::new(&Cpu::new(), &graph, &bindings, &CompileOptions::inference())
        .unwrap()
        .executable()
        .describe()
}

#[test]
fn parts_of_whole_blocks_are_not_copied() {
    for wiring in [inception, fire, without_activation, reduction] {
        let plan = plan(wiring);
        assert!(!plan.contains("concat") && !plan.contains("copy of slice"), "{plan}");
    }
    assert!(plan(odd_channels).contains("concat"));
    assert!(plan(part_made_of_its_neighbour).contains("concat part"));
}
