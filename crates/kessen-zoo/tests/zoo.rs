//! Published counts, torchvision's names, sizes that fit and requests that don't.

use kessen_graph::analysis::ReceptiveField;
use kessen_graph::{Bindings, Graph, Op, ParamKind, gradients};
use kessen_zoo::{Error, from_text, list};

#[test]
fn parameter_counts_are_the_published_ones() {
    // https://pytorch.org/vision/stable/models.html, `num_params` of the weights.
    let cases = [
        ("alexnet", 61_100_840),
        ("vgg11", 132_863_336),
        ("vgg11_bn", 132_868_840),
        ("vgg13", 133_047_848),
        ("vgg13_bn", 133_053_736),
        ("vgg16", 138_357_544),
        ("vgg16_bn", 138_365_992),
        ("vgg19", 143_667_240),
        ("vgg19_bn", 143_678_248),
        ("googlenet", 6_624_904),
        ("googlenet(aux_logits=true)", 13_004_888),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("mobilenet_v2", 3_504_872),
        ("lenet", 61_706),
        ("perceptron(units=8)", 25),
        // Embedding, W^(in), W, two biases, output.
        ("tagger(cell=elman)", 10_000 * 128 + 256 * (128 + 256 + 2) + 17 * 257),
        ("tagger(cell=lstm, features=256, hidden_size=512)", 2_560_000 + 2048 * (256 + 512 + 2) + 17 * 513),
        ("text_classifier(cell=gru)", 1_280_000 + 2 * 384 * (128 + 128 + 2) + 2 * 257),
        ("mlp(inputs=4, hidden=[8, 8], outputs=3)", 40 + 72 + 27),
        ("elman_tagger", 1_280_000 + 256 * (128 + 256 + 2) + 257 * 17),
        ("lstm_tagger", 2_560_000 + 2048 * (256 + 512 + 2) + 513 * 17),
        ("gru_tagger", 2_560_000 + 1536 * (256 + 512 + 2) + 513 * 17),
        ("transformer", 2_560_000 + 128 * 256 + 4 * 789_760 + 257 * 17),
        ("transformer(positions=sinusoidal)", 2_560_000 + 4 * 789_760 + 257 * 17),
    ];
    for (text, count) in cases {
        assert_eq!(from_text(text).unwrap().weight_count(), count, "{text}");
    }
}

#[test]
fn parameters_have_torchvisions_paths_shapes_and_order() {
    // Of each network: the number of tensors and the hash of all paths and shapes in order.
    for line in include_str!("../../../golden/zoo_parameters.txt").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let net = from_text(words[0]).unwrap();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for p in net.params() {
            let shape: Vec<String> = p.shape.iter().map(ToString::to_string).collect();
            for byte in format!("{} {}\n", p.path, shape.join("x")).bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        assert_eq!(format!("{} {} {hash:016x}", words[0], net.params().len()), line);
    }
    let of = |text: &str| -> Vec<String> {
        let net = from_text(text).unwrap();
        net.params().iter().map(|p| format!("{} {:?}", p.path, p.shape)).collect()
    };
    let resnet = of("resnet50");
    assert_eq!(
        resnet[..6],
        [
            "conv1.weight [64, 3, 7, 7]",
            "bn1.weight [64]",
            "bn1.bias [64]",
            "bn1.running_mean [64]",
            "bn1.running_var [64]",
            "layer1.0.conv1.weight [64, 64, 1, 1]"
        ]
    );
    let cases = [
        ("resnet50", "layer1.0.downsample.0.weight [256, 64, 1, 1]"),
        ("resnet34", "layer4.0.downsample.1.running_var [512]"),
        ("vgg16_bn", "features.41.weight [512]"),
        ("vgg19", "features.34.weight [512, 512, 3, 3]"),
        ("alexnet", "classifier.6.bias [1000]"),
        ("googlenet", "inception4e.branch3.1.conv.weight [128, 32, 3, 3]"),
        ("googlenet(aux_logits=true)", "aux2.fc1.weight [1024, 2048]"),
        ("mobilenet_v2", "features.1.conv.0.0.weight [32, 1, 3, 3]"),
        ("mobilenet_v2", "features.17.conv.2.weight [320, 960, 1, 1]"),
        ("mobilenet_v2", "features.18.1.running_mean [1280]"),
    ];
    for (text, parameter) in cases {
        assert!(of(text).iter().any(|p| p == parameter), "{text}: {parameter}");
    }
    let position = |name: &str| resnet.iter().position(|p| p.starts_with(name));
    assert!(position("layer1.0.downsample.0") > position("layer1.0.bn3"));
}

#[test]
fn every_architecture_checks_and_its_text_reads_back() {
    for architecture in list() {
        let net = from_text(architecture.name).unwrap();
        net.check().unwrap();
        assert_eq!(net.name(), architecture.name);
        let text = net.to_text();
        assert!(Graph::from_text(&text).unwrap() == net, "{text}");
        // Attention's layer and a decoder that begins with given states have parameters of their own.
        let several = |op: &Op| matches!(op, Op::Attention(_)) || matches!(op, Op::Recurrent(r) if r.initial);
        let single = !net.nodes().iter().any(|n| several(&n.op));
        assert!(!(single && text.contains("\nparam ")), "every layer is printed as one: {text}");
    }
}

#[test]
fn sinusoidal_positions_follow_the_formula_and_stay_as_they_are() {
    let cases = [
        ("transformer(width=8, heads=2, time=6, positions=sinusoidal)", &[("p", 6)][..]),
        (
            "transformer_seq2seq(width=8, heads=2, source_time=5, time=4, positions=sinusoidal)",
            &[("source.p", 5), ("target.p", 4)],
        ),
    ];
    for (text, tables) in cases {
        let net = from_text(text).unwrap();
        assert!(Graph::from_text(&net.to_text()).unwrap() == net, "{text}");
        for &(path, time) in tables {
            let p = net.params().iter().find(|p| p.path == path).unwrap();
            assert_eq!((p.kind, p.shape.as_slice()), (ParamKind::Buffer, [1, time, 8].as_slice()), "{text}");
            let values = p.init.sample(&p.shape, 7, path).unwrap().to_f64_vec();
            for (i, found) in values.iter().enumerate() {
                let (t, k) = ((i / 8) as f64, i % 8);
                // Vaswani et al. 2017, section 3.5.
                let angle = t / 10_000f64.powf((k / 2 * 2) as f64 / 8.0);
                let expected = if k % 2 == 0 { angle.sin() } else { angle.cos() };
                assert!((found - expected).abs() < 1e-7, "{text} {path} {t} {k}: {found}");
            }
        }
    }
}

#[test]
fn training_steps_read_back() {
    for text in [
        "tagger(cell=gru, lengths=true, layers=2)",
        "text_classifier",
        "digits_cnn",
        "googlenet(aux_logits=true, transform_input=true)",
        "mobilenet_v2(size=64)",
    ] {
        let net = from_text(text).unwrap().for_training().unwrap();
        let mut step = net.extend(|g, outputs| g.wire_of(outputs[0]).square().mean(&[])).unwrap();
        let loss = step.outputs()[0].1;
        let params = step.params().iter().filter(|p| p.kind == ParamKind::Weight);
        let wrt: Vec<_> = params.map(|p| p.value).collect();
        gradients(&mut step, loss, &wrt).unwrap();
        assert!(Graph::from_text(&step.to_text()).unwrap() == step, "{text}");
    }
}

#[test]
fn sizes_classes_and_channels_can_be_chosen() {
    let cases = [
        ("vgg16(classes=10, channels=1, size=32)", 10),
        ("resnet18(classes=5, size=33x65)", 5),
        ("alexnet(classes=7, size=63)", 7),
        ("mobilenet_v2(classes=3, size=32, width_mult=0.5)", 3),
        ("googlenet(classes=4, size=64)", 4),
        ("lenet(classes=26, channels=3, size=32x28)", 26),
    ];
    for (text, classes) in cases {
        let net = from_text(text).unwrap();
        let (name, logits) = &net.outputs()[0];
        assert_eq!(name, "logits");
        let shapes = net.shapes(&Bindings::from([("batch", 2)])).unwrap();
        assert_eq!(shapes[logits.index()], [2, classes], "{text}");
    }
}

#[test]
fn wrong_requests_say_what_would_be_right() {
    let cases = [
        ("resnet35", "did you mean `resnet34`?"),
        ("vgg16(clases=10)", "did you mean `classes`?"),
        ("vgg16(classes=0)", "expected a whole number ≥ 1"),
        ("vgg16(classes=ten)", "found `ten`"),
        ("vgg16(classes)", "argument=value"),
        ("vgg16(classes=1", "`)` at the end"),
        ("mlp(hidden=[8,0])", "units ≥ 1"),
        ("alexnet(size=16)", "`max_pool"),
        ("alexnet(dropout=1)", "below 1"),
        ("perceptron(activation=sigmod)", "a function such as"),
        ("googlenet(channels=1, transform_input=true)", "3 channels"),
        ("tagger(cell=ltsm)", "elman, lstm or gru"),
        ("transformer(positions=sinusoid)", "learnt or sinusoidal"),
        ("lenet(classes=1, classes=2)", "each argument once"),
        ("mobilenet_v2(width_mult=nan)", "from 0.01"),
        ("mlp(inputs=4294967295, hidden=[4294967295])", "too large"),
    ];
    for (text, part) in cases {
        let error: Error = from_text(text).unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn operations_and_receptive_fields_are_the_published_ones() {
    // GMACs of torchvision's page of models; receptive fields before the last pooling of Araujo et al., "Computing
    // receptive fields of convolutional neural networks" (2019), for AlexNet and VGG.
    let cases = [
        ("alexnet", 0.71, Some(("max_pool_2", 195))),
        ("vgg11", 7.61, None),
        ("vgg13", 11.31, None),
        ("vgg16", 15.47, Some(("max_pool_4", 212))),
        ("vgg19", 19.63, None),
        ("googlenet", 1.50, None),
        ("resnet18", 1.81, Some(("relu_16", 435))),
        ("resnet34", 3.66, Some(("relu_32", 899))),
        ("resnet50", 4.09, None),
        ("resnet101", 7.80, None),
        ("resnet152", 11.51, None),
        ("mobilenet_v2", 0.30, None),
    ];
    for (name, giga, field) in cases {
        let summary = from_text(name).unwrap().summary([("batch", 1)]).unwrap();
        let found = summary.total.macs as f64 / 1e9;
        assert!((found - giga).abs() < 0.006, "{name}: {found}");
        if let Some((path, size)) = field {
            let row = summary.rows.iter().find(|r| r.path == path).unwrap();
            match row.receptive_field {
                Some(ReceptiveField::Window(w)) => assert_eq!(w.size, [size; 2], "{name}"),
                other => panic!("{name} {path}: {other:?}"),
            }
        }
    }
    let vgg16 = from_text("vgg16").unwrap().summary([("batch", 1)]).unwrap();
    assert_eq!(vgg16.total.macs, 15_470_264_320);
}

/// A whole architecture as text.
const RESNET34: &str = "
graph resnet34
block basic(width)
  x: in
  conv conv1 $width 3 pad 1 nobias init kaiming_normal_fan_out | bn bn1 | relu
  conv conv2 $width 3 pad 1 nobias init kaiming_normal_fan_out | bn bn2 | add(_, x) | relu
end
block down(width)
  x: in
  conv conv1 $width 3 stride 2 pad 1 nobias init kaiming_normal_fan_out | bn bn1 | relu
  conv conv2 $width 3 pad 1 nobias init kaiming_normal_fan_out | bn bn2
  x | conv downsample.0 $width 1 stride 2 nobias init kaiming_normal_fan_out | bn downsample.1
  add(bn2, _) | relu
end
image: input batch 3 224 224
conv conv1 64 7 stride 2 pad 3 nobias init kaiming_normal_fan_out | bn bn1 | relu | max_pool 3 stride 2 pad 1
basic layer1.{0..2} 64
down layer2.0 128 | basic layer2.{1..3} 128
down layer3.0 256 | basic layer3.{1..5} 256
down layer4.0 512 | basic layer4.{1..2} 512
global_avg_pool | flatten | linear fc 1000 | output logits";

#[test]
fn blocks_write_a_residual_network_in_a_few_lines() {
    assert!(Graph::from_text(RESNET34).unwrap() == from_text("resnet34").unwrap());
}
