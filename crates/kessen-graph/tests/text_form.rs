//! The text form as a user writes it, and its errors.

use kessen_graph::ops::avg_pool::AvgPool;
use kessen_graph::ops::batch_norm::BatchNorm;
use kessen_graph::ops::conv::conv;
use kessen_graph::ops::embedding::Embedding;
use kessen_graph::ops::layer_norm::LayerNorm;
use kessen_graph::ops::max_pool::MaxPool;
use kessen_graph::{Error, Graph, Init, ParamKind, gradients, shape};

fn round_trip(graph: &Graph) -> String {
    let text = graph.to_text();
    match Graph::from_text(&text) {
        Ok(again) => assert!(again == *graph, "another graph:\n{text}\n{again}"),
        Err(error) => panic!("{error}\n{text}"),
    }
    text
}

#[test]
fn lenet_is_four_lines() {
    let net = Graph::build("", |g| {
        let image = g.input("image", shape!["batch", 1, 28, 28]);
        let h = image.conv("c1", conv(6, 5).padding(2)).relu().max_pool(2);
        let h = h.conv("c2", conv(16, 5)).relu().max_pool(2).flatten();
        let logits = h.linear("f3", 120).relu().linear("f4", 84).relu().linear("f5", 10);
        [("logits", logits)]
    })
    .unwrap();
    let text = "image: input batch 1 28 28\n\
                conv c1 6 5x5 pad 2 | relu | max_pool 2\n\
                conv c2 16 5x5 | relu | max_pool 2 | flatten\n\
                linear f3 120 | relu | linear f4 84 | relu | linear f5 10 | output logits\n";
    assert_eq!(net.to_text(), text);
    assert_eq!(Graph::from_text(text).unwrap(), net);
    let by_hand = text.replace("max_pool", "maxpool").replace("5x5", "5").replace("\nconv c2", " | conv c2");
    assert_eq!(Graph::from_text(&by_hand).unwrap(), net);
}

#[test]
fn layers_print_in_their_words() {
    let net = Graph::build("", |g| {
        let ids = g.input_ids("ids", shape!["batch", 12]);
        let e = Embedding { padding_index: Some(0) };
        let x = ids.embedding_with("e", 100, 8, e, Init::Normal(0.02)).layer_norm("n");
        let x =
            x.layer_norm_with("m", LayerNorm { dims: 2, eps: 1e-6 }, false).reshape(shape!["batch", 8, 3, 4]);
        let x = x.batch_norm("b").conv("c", conv(4, 3).padding(1).init(Init::Normal(0.01)));
        let x = x.batch_norm_with("d", BatchNorm { eps: 1e-3, ..BatchNorm::default() }).dropout(0.2);
        let pool = MaxPool {
            kernel: [3, 2],
            stride: [1, 2],
            padding: 1.into(),
            ceil_mode: true,
            ..MaxPool::default()
        };
        let x = x.max_pool_with(pool);
        let pool = AvgPool { stride: [1, 1], count_include_pad: false, ..AvgPool::default() };
        let x = x.avg_pool_with(pool);
        let x = x.concat(&[&x], 2).global_avg_pool().flatten().group_norm("g", 2);
        g.set_init("g.bias", Init::Constant(0.5));
        x.rms_norm("r", 1e-6).log_softmax(1)
    });
    let text = "\
ids: input i64 batch 12
embedding e 100 8 padding_index 0 init normal(0.02) | layer_norm n
m: layer_norm(_) 2 eps 0.000001
reshape [batch,8,3,4]
bn b | conv c 4 3x3 pad 1 init normal(0.01) | bn d eps 0.001 | dropout 0.2
max_pool 3x2 stride 1x2 pad 1 ceil_mode | avg_pool 2 stride 1 count_include_pad false
concat(_, _) 2 | global_avg_pool | flatten
";
    let printed = round_trip(&net.unwrap());
    assert!(printed.starts_with(text), "{printed}");
    assert!(printed.ends_with("r: mul(_, r.weight)\nlog_softmax\n"), "{printed}");
    let short = "x: input batch 8 3 4\ngroup_norm g 2 | flatten | rms_norm r eps 0.001";
    assert!(round_trip(&Graph::from_text(short).unwrap()).contains("g: add(_, g.shift)"));
}

#[test]
fn recurrent_layers_are_one_stage() {
    let text = "\
ids: input i64 batch time
steps: input i64 batch
h0: input batch 6
c0: input batch 6
ids | embedding e 20 4 | elman a 5 nobias activation relu | lstm b 6 lengths steps hidden h0 cell c0
gru c 3 layers 2 bidirectional dropout 0.1 lengths steps | linear tag 7
output tags tag
output last b#1
output cell b#2
output backward c.l1_reverse#1
";
    let net = Graph::from_text(text).unwrap();
    assert_eq!(round_trip(&net), text);
    let net =
        Graph::from_text("x: input batch 9 4\nh0: input batch 3\nx | gru g 3 bidirectional hidden [h0,h0]")
            .unwrap();
    assert!(round_trip(&net).ends_with("x | gru g 3 bidirectional hidden [h0,h0]\n"), "{net}");
    for (text, part) in [
        ("x: input batch 9 4\nlstm b 6 lengths step", "`step`, expected the name of a value"),
        ("x: input batch 9 4\nlstm b 6 hidden [x,x]", "initial states"),
        ("x: input batch 9 4\nlstm b 6 layers 1001", "`layers` of `lstm`: found `1001`, expected 1 to 1000"),
        ("x: input batch 9 4\nelman b", "`hidden_size` of `elman` is missing"),
        ("x: input batch 9 4\ngru b 6 activation relu", "expected one of: hidden_size"),
    ] {
        let message = Graph::from_text(text).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn attention_layers_are_one_stage() {
    let text = "\
x: input batch 7 8
memory: input batch 5 8
steps: input i64 batch
mask: input 7 7
hidden: input batch 7
x | layer_norm n1 | self_attention a 2 causal bias mask | self_attention b 4 nobias dropout 0.1 key_mask hidden
cross_attention c 2 memory memory lengths steps | cross_attention d 2 nobias memory memory | add(_, x)
";
    let net = Graph::from_text(text).unwrap();
    let printed = round_trip(&net);
    for stage in text.lines().flat_map(|l| l.split(" | ")) {
        assert!(printed.contains(stage), "{stage}\n{printed}");
    }
    assert_eq!(net.nodes().iter().filter(|n| n.path.starts_with("slice")).count(), 9);
    let message = Graph::from_text("x: input batch 7 8\ncross_attention c 2").unwrap_err().to_string();
    assert!(message.contains("`memory` of `cross_attention` is missing"), "{message}");
}

#[test]
fn a_training_step_round_trips() {
    let mut net = Graph::build("step", |g| {
        let x = g.input("x", shape!["batch", 3, "h", 8]);
        let h = x.conv("c", conv(4, 3).padding([1, 2]).groups(1).no_bias()).leaky_relu(0.2);
        let h = h.mul(&g.scalar(0.5)).add(&h).max(&g.scalar(-0.0));
        h.mean(&[2, 3]).linear_with("f", 2, Init::Orthogonal(1.0), true).square().mean(&[])
    })
    .unwrap();
    let loss = net.outputs()[0].1;
    let weights: Vec<_> = net.param_ids().collect();
    let values: Vec<_> = weights.iter().map(|&p| net.param(p).value).collect();
    let found = gradients(&mut net, loss, &values).unwrap();
    net.add_param("f.weight.momentum", &[2, 4], Init::Constant(0.0), ParamKind::State).unwrap();
    for (param, gradient) in weights.iter().zip(found) {
        net.add_update(*param, gradient.unwrap()).unwrap();
    }
    let text = round_trip(&net);
    for line in
        ["graph step", "state f.weight.momentum 2 4", "output output mean_1", "update f.bias f.grad_2"]
    {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.contains("| leaky_relu 0.2"), "{text}");
}

#[test]
fn blocks_expand_to_what_the_builder_wires() {
    let text = "
graph resnet   # two stages
block basic(width, stride=1)
  x: in
  conv conv1 $width 3x3 stride $stride pad 1 nobias | relu
  conv conv2 $width 3x3 pad 1 nobias | add(_, x) | relu
end
block bottleneck(width)
  x: in | conv conv1 $width 1x1 | relu | conv conv2 ${width} 3 pad 1
  | relu | conv conv3 4*$width 1x1 | add(_, x) | relu
end
image: input batch 16 8 8
basic layer1.{0..1} 16 | bottleneck layer2.0 4
mean [2,3] | linear fc 10";
    let by_text = Graph::from_text(text).unwrap();
    let by_builder = Graph::build("resnet", |g| {
        let mut h = g.input("image", shape!["batch", 16, 8, 8]);
        for i in 0..2 {
            let c = |n: usize| conv(16, 3).padding(n).no_bias();
            let y = h.conv(&format!("layer1.{i}.conv1"), c(1)).relu();
            h = y.conv(&format!("layer1.{i}.conv2"), c(1)).add(&h).relu();
        }
        let y = h.conv("layer2.0.conv1", conv(4, 1)).relu();
        let y = y.conv("layer2.0.conv2", conv(4, 3).padding(1)).relu();
        y.conv("layer2.0.conv3", conv(16, 1)).add(&h).relu().mean(&[2, 3]).linear("fc", 10)
    });
    assert_eq!(by_text, by_builder.unwrap());
    round_trip(&by_text);
}

#[test]
fn plain_forms_name_everything() {
    let text = "
x: input batch 3; ids: input i64 batch
param w 4 3 init uniform(0.2)
param b 4 init zeros
const table i32 2 = -1 7
const odd 2 = nan 0x7fc00001
y: linear(x, w, b)
relu: y | sigmoid
z: (relu) | mul(_, _)
x | update b y   # refused below
";
    let error = Graph::from_text(text).unwrap_err();
    assert!(error.to_string().starts_with("line 10, column 12: the graph is inconsistent"), "{error}");
    let text = text.replace("x | update b y", "output a z; output c relu; sum(y) [0] | update b");
    let net = Graph::from_text(&text).unwrap();
    assert_eq!(net.outputs().len(), 2);
    assert_eq!(net.updates().len(), 1);
    round_trip(&net);
}

#[test]
fn errors_point_and_suggest() {
    let cases = [
        ("x: input batch 4\nlinaer f 3", "line 2, column 1", "`linear`"),
        ("x: input batch 4\nlinear f 3 | rleu", "line 2, column 14", "`relu`"),
        ("x: input batch 4\nlinear f", "line 2, column 1", "`outputs` of `linear` is missing"),
        ("x: input batch 4\nlinear f 3 int zeros", "line 2, column 12", "`init`"),
        ("x: input batch 4\nlinear f 3 init kaiming_unifrom", "line 2, column 17", "`kaiming_uniform`"),
        ("x: input batch 4 | add(_,  xx)", "line 1, column 28", "`x`"),
        ("x: input batch 3 8 8\nconv c 4 9x9", "line 2, column 1", "input 8 + padding 0 = 8"),
        ("x: input batch 3 8 8\nconv c 4 3x3 pads 1", "line 2, column 14", "`pad`"),
        ("x: input batch 3 8 8\nconv c 4 3x3 pad 1x", "line 2, column 18", "height x width"),
        ("relu", "line 1, column 1", "begin with an input"),
        ("x: input batch-", "line 1, column 10", "is no dimension"),
        ("x: input 4 | | relu", "line 1, column 14", "missing next to `|`"),
        ("x: input 4\nx: relu", "line 2, column 4", "`x` is used twice"),
        ("block b(w)\n  linear f $v\nend\nx: input 4\nb p 3", "line 2, column 12", "did you mean `$w`?"),
        ("block b(w)\n  b p $w\nend\nx: input 4\nb p 3", "line 2, column 5", "does `b` use itself?"),
        ("block b(w)\n  relu\nx: input 4", "line 1, column 1", "no `end`"),
        ("x: input 4 4\nconst c 3 = 1 2", "line 2, column 7", "3 elements, found 2"),
        ("x: input 4\nlinear f{3..1} 2", "line 2, column 8", "layer{1..3}"),
        ("param w 99999999999", "line 1, column 9", "expected a number"),
        ("param w 4294967295 4294967295", "line 1, column 7", "4294967295"),
    ];
    for (text, place, part) in cases {
        match Graph::from_text(text) {
            Err(error @ Error::Text { .. }) => {
                let message = error.to_string();
                assert!(message.starts_with(place) && message.contains(part), "{text}\n→ {message}");
            }
            other => panic!("{text}\n→ {other:?}"),
        }
    }
}

#[test]
fn the_examples_of_the_documentation_are_graphs() {
    let page = include_str!("../../../docs/text-form.md");
    let examples: Vec<&str> =
        page.split("```kessen\n").skip(1).filter_map(|p| p.split("```").next()).collect();
    assert_eq!(examples.len(), 6);
    for example in examples {
        match Graph::from_text(example) {
            Ok(graph) => drop(round_trip(&graph)),
            Err(error) => panic!("{error}\n{example}"),
        }
    }
}
