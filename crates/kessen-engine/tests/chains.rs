//! Small wirings that give the passes something to fuse, fold, alias and reorder: the cpu backend, fused and not,
//! against the reference, for inference and for training, with every gradient and every updated statistic.

mod cases;

use cases::compare::relative_error;
use cases::model::{agree, run, with_gradients};
use kessen_engine::{Backend, CompileOptions, Cpu, Mode, Reference};
use kessen_graph::ops::conv::conv;
use kessen_graph::ops::linear::MatMul;
use kessen_graph::ops::max_pool::MaxPool;
use kessen_graph::ops::recurrent_layer::{gru, lstm};
use kessen_graph::{Bindings, Graph, GraphBuilder, Wire, gradients, shape};

fn image(g: &GraphBuilder, channels: usize, size: usize) -> Wire {
    g.input("x", shape!["batch", channels, size, size])
}

fn conv_relu(g: &GraphBuilder) -> Wire {
    image(g, 3, 9).conv("c", conv(17, 3).padding(1)).relu()
}

fn conv_batch_norm_relu(g: &GraphBuilder) -> Wire {
    image(g, 16, 8).conv("c", conv(32, 3).padding(1).no_bias()).batch_norm("bn").relu()
}

fn conv_bias_batch_norm_silu(g: &GraphBuilder) -> Wire {
    image(g, 5, 7).conv("c", conv(19, 3).stride(2)).batch_norm("bn").silu()
}

/// The convolution's result is used before the normalisation too, so it can't be folded away.
fn batch_norm_beside_its_operand(g: &GraphBuilder) -> Wire {
    let c = image(g, 4, 6).conv("c", conv(16, 3).padding(1));
    c.batch_norm("bn").relu().add(&c)
}

fn batch_norm_before_conv(g: &GraphBuilder) -> Wire {
    image(g, 6, 7).batch_norm("bn").relu().conv("c", conv(20, 3).padding(1))
}

fn pools(g: &GraphBuilder) -> Wire {
    let pool = MaxPool { kernel: [3, 3], padding: 1.into(), ..MaxPool::default() };
    let h = image(g, 3, 20).conv("c1", conv(16, 5).padding(2)).relu().max_pool_with(pool);
    h.conv("c2", conv(33, 3)).relu().avg_pool(2).global_avg_pool().flatten().linear("fc", 7)
}

/// Values that lie as NCHW from the input through convolutions of both kinds of output.
fn few_channels(g: &GraphBuilder) -> Wire {
    let x = image(g, 2, 20).conv("c1", conv(6, 3).padding(1)).relu();
    let h = x.conv("c2", conv(6, 5).padding(2)).add(&x).relu().max_pool(2);
    let h = h.conv("c3", conv(10, 3).padding(1).no_bias()).batch_norm("bn").relu();
    h.add(&h.conv("c4", conv(10, 1))).conv("c5", conv(20, 3).stride(2)).relu()
}

fn residual_block(g: &GraphBuilder) -> Wire {
    let x = image(g, 16, 8);
    let h = x.conv("c1", conv(16, 3).padding(1).no_bias()).batch_norm("bn1").relu();
    h.conv("c2", conv(16, 3).padding(1).no_bias()).batch_norm("bn2").add(&x).relu()
}

fn residual_block_with_projection(g: &GraphBuilder) -> Wire {
    let x = image(g, 17, 9);
    let h = x.conv("c1", conv(24, 1).no_bias()).batch_norm("bn1").relu();
    let h = h.conv("c2", conv(24, 3).stride(2).padding(1).no_bias()).batch_norm("bn2").relu();
    let h = h.conv("c3", conv(48, 1).no_bias()).batch_norm("bn3");
    let skip = x.conv("down", conv(48, 1).stride(2).no_bias()).batch_norm("down_bn");
    h.add(&skip).relu()
}

fn inception(g: &GraphBuilder) -> Wire {
    let x = image(g, 19, 7);
    let a = x.conv("a", conv(16, 1)).relu();
    let b = x.conv("b1", conv(8, 1)).relu().conv("b2", conv(24, 3).padding(1)).relu();
    let pool = MaxPool { kernel: [3, 3], stride: [1, 1], padding: 1.into(), ..MaxPool::default() };
    let c = x.max_pool_with(pool).conv("c", conv(5, 1)).relu();
    a.concat(&[&b, &c], 1).conv("out", conv(16, 1))
}

fn inverted_residual(g: &GraphBuilder) -> Wire {
    let x = image(g, 16, 7);
    let h = x.conv("expand", conv(40, 1).no_bias()).batch_norm("bn1").clamp(0.0, 6.0);
    let depthwise = conv(40, 3).padding(1).groups(40).no_bias();
    let h = h.conv("depthwise", depthwise).batch_norm("bn2").clamp(0.0, 6.0);
    h.conv("project", conv(16, 1).no_bias()).batch_norm("bn3").add(&x)
}

fn clamp_beside_its_operand(g: &GraphBuilder) -> Wire {
    let h = image(g, 5, 6).conv("c", conv(16, 1).no_bias()).batch_norm("bn");
    h.clamp(-0.5, 0.5).mul(&h).conv("d", conv(18, 3)).clamp(-0.2, 0.2)
}

fn squeeze_and_excite(g: &GraphBuilder) -> Wire {
    let h = image(g, 3, 6).conv("c", conv(18, 3)).relu();
    let s = h.global_avg_pool().flatten().linear("s1", 5).relu().linear("s2", 18).sigmoid();
    h.mul(&s.reshape(shape!["batch", 18, 1, 1]))
}

fn perceptron(g: &GraphBuilder) -> Wire {
    let h = g.input("x", shape!["batch", 37]).linear("a", 65).gelu();
    h.linear("b", 33).tanh().linear("c", 3).softmax(1)
}

fn transformer_block(g: &GraphBuilder) -> Wire {
    let x = g.input("x", shape!["batch", 5, 24]);
    let n = x.layer_norm("norm1");
    let heads = |name: &str| n.linear(name, 24).reshape(shape!["batch", 5, 3, 8]).transpose(&[0, 2, 1, 3]);
    let (q, k, v) = (heads("q"), heads("k"), heads("v"));
    let scores = q.apply(MatMul { trans_a: false, trans_b: true }, &[&k]).scale(8f32.sqrt().recip());
    let mixed = scores.softmax(3).matmul(&v).transpose(&[0, 2, 1, 3]).reshape(shape!["batch", 5, 24]);
    let h = x.add(&mixed.linear("out", 24));
    h.add(&h.layer_norm("norm2").linear("up", 50).gelu().linear("down", 24))
}

fn long_elementwise(g: &GraphBuilder) -> Wire {
    let x = g.input("x", shape!["batch", 11, 13]);
    let row = g.param("row", &[13], kessen_graph::Init::Normal(1.0));
    let column = g.param("column", &[11, 1], kessen_graph::Init::Normal(1.0));
    let h = x.mul(&row).add(&column).tanh().square().add(&x.abs()).scale(0.3);
    h.exp().div(&h.square().add(&g.scalar(2.0))).sub(&x.max(&column)).sigmoid()
}

/// One weight at two places: its gradient is a sum.
fn shared_weight(g: &GraphBuilder) -> Wire {
    let w = g.param("w", &[20, 20], kessen_graph::Init::Normal(0.2));
    let h = g.input("x", shape!["batch", 20]).apply(kessen_graph::ops::linear::Linear {}, &[&w]).tanh();
    h.apply(kessen_graph::ops::linear::Linear {}, &[&w])
}

fn dropouts(g: &GraphBuilder) -> Wire {
    let h = image(g, 3, 6).conv("c", conv(16, 3)).relu().dropout(0.25);
    h.flatten().linear("a", 40).relu().dropout(0.5).linear("b", 5)
}

fn slices_and_pads(g: &GraphBuilder) -> Wire {
    let x = image(g, 8, 6).conv("c", conv(20, 3).padding(1));
    let (a, b) = (x.slice(1, 0, 7), x.slice(1, 7, 20));
    let b = b.slice(2, 1, 5).pad(shape![0, 0, 2, 0], shape![0, 0, 0, 0]);
    a.concat(&[&b.relu(), &a], 1).sum(&[2])
}

/// Nothing to compute between input and reshaped output.
fn only_views(g: &GraphBuilder) -> Wire {
    g.input("x", shape!["batch", 6, 4]).reshape(shape!["batch", 24]).reshape(shape!["batch", 4, 6])
}

const CHAINS: [(&str, fn(&GraphBuilder) -> Wire); 20] = [
    ("conv_relu", conv_relu),
    ("conv_batch_norm_relu", conv_batch_norm_relu),
    ("conv_bias_batch_norm_silu", conv_bias_batch_norm_silu),
    ("batch_norm_beside_its_operand", batch_norm_beside_its_operand),
    ("batch_norm_before_conv", batch_norm_before_conv),
    ("pools", pools),
    ("few_channels", few_channels),
    ("residual_block", residual_block),
    ("residual_block_with_projection", residual_block_with_projection),
    ("inception", inception),
    ("inverted_residual", inverted_residual),
    ("clamp_beside_its_operand", clamp_beside_its_operand),
    ("squeeze_and_excite", squeeze_and_excite),
    ("perceptron", perceptron),
    ("transformer_block", transformer_block),
    ("long_elementwise", long_elementwise),
    ("shared_weight", shared_weight),
    ("dropouts", dropouts),
    ("slices_and_pads", slices_and_pads),
    ("only_views", only_views),
];

fn every_chain_agrees(backend: &dyn Backend) {
    let mut failures = Vec::new();
    for (name, wiring) in CHAINS {
        let model = Graph::build(name, wiring).unwrap_or_else(|e| panic!("{name}: {e}"));
        for batch in [2, 3] {
            if let Err(error) = agree(name, &model, batch, backend) {
                failures.push(format!("{name}, batch {batch}: {error}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} fail\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn cpu_agrees_with_the_reference() {
    every_chain_agrees(&Cpu::new());
}

#[test]
fn cpu_without_fusion_agrees_with_the_reference() {
    every_chain_agrees(&Cpu::unfused());
}

/// The kernels of a model, in inference or with a loss and its gradients.
fn kernels(model: &Graph, options: &CompileOptions) -> Vec<String> {
    let plan = Cpu::new().compile(model, &Bindings::from([("batch", 2)]), options).unwrap();
    plan.steps().into_iter().map(|step| step.kernel).collect()
}

#[test]
fn bounds_are_kept_by_the_step_before() {
    let model = Graph::build("m", inverted_residual).unwrap();
    let alone = |kernels: &[String]| kernels.iter().filter(|k| k.starts_with("map clamp")).count();
    let inference = kernels(&model, &CompileOptions::inference());
    assert_eq!(alone(&inference), 0, "{inference:?}");
    let training = kernels(&with_gradients(&model).unwrap(), &CompileOptions::training("loss"));
    assert_eq!(alone(&training), 0, "{training:?}");
    let both =
        training.iter().filter(|k| k.starts_with("batch norm gradient") && k.ends_with("clamp gradient"));
    assert_eq!(both.count(), 2, "{training:?}");
}

/// The gradient of a recurrent layer overwrites what the forward pass kept, but not for another gradient that needs it, too.
#[test]
fn two_gradients_of_one_recurrent_layer() {
    for spec in [lstm(20), gru(20)] {
        let model = Graph::build("m", |g| {
            let y = g.input("x", shape!["batch", 6, 9]).recurrent("r", spec);
            [("first", y.square().mean(&[])), ("second", y.sum(&[]))]
        });
        let mut graph = model.unwrap().for_training().unwrap();
        let weight = graph.params().iter().find(|p| p.path.ends_with("weight_hh_l0")).unwrap().value;
        for k in 0..2 {
            let loss = graph.outputs()[k].1;
            let d = gradients(&mut graph, loss, &[weight]).unwrap()[0].unwrap();
            graph.add_output(&format!("d{k}"), d).unwrap();
        }
        let options = CompileOptions { mode: Mode::Training, ..CompileOptions::inference() };
        let plan = Cpu::new().compile(&graph, &Bindings::from([("batch", 3)]), &options).unwrap();
        assert!(plan.steps().iter().any(|step| step.kernel == "copy"), "the first gradient works on a copy");
        let expected = run("two", &graph, 3, &options, &Reference, |v| v).unwrap();
        let found = run("two", &graph, 3, &options, &Cpu::new(), |v| v).unwrap();
        for ((name, a), (_, b)) in found.iter().zip(&expected) {
            let error = relative_error(&a.data, &b.data);
            assert!(error < 1e-5, "{name}: {error:e}");
        }
    }
}

#[test]
fn few_channels_stay_row_major() {
    let model = Graph::build("few_channels", few_channels).unwrap();
    let plan =
        Cpu::new().compile(&model, &Bindings::from([("batch", 2)]), &CompileOptions::inference()).unwrap();
    let kernels: Vec<String> = plan.steps().into_iter().map(|step| step.kernel).collect();
    let both = kernels.iter().filter(|kernel| kernel.contains("nchw both")).count();
    assert_eq!(both, 4, "{kernels:?}");
    assert!(!kernels.iter().any(|kernel| kernel == "reorder nchw → nChw16c"), "{kernels:?}");
}
