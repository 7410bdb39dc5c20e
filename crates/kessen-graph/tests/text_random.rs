//! Random graphs print and parse back to themselves; random changes of texts never panic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kessen_graph::ops::attention_layer::attention;
use kessen_graph::ops::recurrent_layer::lstm;
use kessen_graph::{
    CustomOperator, CustomTensor, Dim, Error, Graph, Init, Misfit, Op, Origin, ParamId, ParamKind, Type,
    ValueId, dim, fuzz_text, gradients, shape,
};
use kessen_tensor::{DType, Rng, Tensor};
use proptest::prelude::*;

/// An operator of the user's.
#[derive(Debug)]
struct Swap;

impl CustomOperator for Swap {
    fn name(&self) -> &str {
        "my_swap"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Type, Misfit> {
        match inputs {
            [x] if x.rank() == 2 => Ok(x.with_shape(vec![x.shape[1].clone(), x.shape[0].clone()])),
            _ => Err("expected a matrix".into()),
        }
    }

    fn forward(&self, _inputs: &[CustomTensor<'_>], _output: &mut [f32]) {}

    fn backward(&self, _inputs: &[CustomTensor<'_>], _doutput: &[f32], _dinputs: &mut [&mut [f32]]) {}
}

/// Texts that some attribute of some operator can be set to.
const TEXTS: [&str; 20] = [
    "0",
    "1",
    "2",
    "3",
    "1x2",
    "3x2",
    "0,1x1,0",
    "true",
    "0.25",
    "-1",
    "[0]",
    "[1,0]",
    "[0,2,1]",
    "[batch,4]",
    "[2,3]",
    "batch",
    "i64",
    "sum",
    "tanh",
    "none",
];

struct Maker {
    rng: Rng,
    graph: Graph,
    custom: Arc<dyn CustomOperator>,
}

impl Maker {
    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len())].clone()
    }

    fn shape(&mut self) -> Vec<Dim> {
        let dims =
            [dim("batch"), 2.into(), 3.into(), 4.into(), 4.into(), dim("time"), dim("batch").ceil_div(2)];
        let rank = self.pick(&[0, 1, 2, 2, 3, 4, 4]);
        (0..rank).map(|_| self.pick(&dims)).collect()
    }

    fn fixed_shape(&mut self) -> Vec<usize> {
        (0..self.rng.below(5)).map(|_| self.rng.below(4) + 1).collect()
    }

    fn name(&mut self) -> String {
        let stems = [
            "relu",
            "h",
            "input",
            "layer1.0.conv",
            "constant",
            "conv",
            "é-1",
            "in",
            "graph",
            "x#1",
            "f32",
            "no",
        ];
        let stem = self.pick(&stems);
        self.graph.fresh_name(stem)
    }

    fn operands(&mut self, count: usize) -> Vec<ValueId> {
        let values: Vec<ValueId> = self.graph.value_ids().collect();
        // Often the newest value, so that chains arise.
        let newest = values[values.len() - 1];
        (0..count).map(|_| if self.rng.below(3) == 0 { newest } else { self.pick(&values) }).collect()
    }

    /// Adds an operator that fits, of 20 tried.
    fn node(&mut self) {
        for _ in 0..20 {
            let op = if self.rng.below(30) == 0 {
                Op::Custom(kessen_graph::Custom { operator: Arc::clone(&self.custom), backward: false })
            } else {
                self.random_op()
            };
            let count = self.pick(&[1, 1, 1, 2, 2, 3, 4, 5]);
            let inputs = self.operands(count);
            let path = match self.rng.below(3) {
                0 => self.name(),
                _ => self.graph.fresh_name(op.operator().word()),
            };
            if self.graph.add_node(&path, op, &inputs).is_ok() {
                return;
            }
        }
    }

    fn random_op(&mut self) -> Op {
        let all = Op::all();
        let op = self.pick(&all);
        let kinds = op.operator().kinds();
        let mut op = if kinds.is_empty() { op } else { self.pick(&kinds) };
        let keys: Vec<_> =
            op.operator().attributes().into_iter().map(|a| a.key).filter(|k| *k != "kind").collect();
        for key in keys {
            for _ in 0..self.pick(&[0, 0, 4]) {
                let text = self.pick(&TEXTS);
                let _ = op.attributes_mut().set_attribute(key, text);
            }
        }
        // A reshape that fits.
        if let Op::Reshape(reshape) = &mut op {
            reshape.shape = vec![dim("batch"), 12.into()];
        }
        op
    }

    fn layer(&mut self) {
        let path = self.name();
        let x = self.operands(1)[0];
        let choice = self.rng.below(7);
        let filters = self.rng.below(6) + 1;
        let before = self.graph.clone();
        let built = std::mem::take(&mut self.graph).extend(|g, outputs| {
            let x = g.wire_of(x);
            match choice {
                0 => x.linear(&path, filters),
                1 => x.linear_with(&path, filters, Init::XavierUniform(1.0), filters > 3),
                2 => x.conv(
                    &path,
                    kessen_graph::ops::conv::conv(filters, 1 + filters % 3).padding([1, filters % 2]),
                ),
                3 => x.batch_norm(&path),
                4 => x.layer_norm(&path),
                5 => x.embedding(&path, 10, filters),
                _ => x.conv(&path, kessen_graph::ops::conv::conv(4, 1).groups(2).no_bias()),
            };
            drop(outputs);
            Vec::<(String, kessen_graph::Wire)>::new()
        });
        self.graph = built.unwrap_or(before);
    }

    fn declare(&mut self) {
        let name = self.name();
        let result = match self.rng.below(6) {
            0 | 1 => {
                let shape = self.shape();
                let dtype = self.pick(&[DType::F32, DType::F32, DType::F32, DType::I64, DType::U8]);
                self.graph.add_input(&name, Type { dtype, shape })
            }
            2 | 3 => {
                let shape = self.fixed_shape();
                let kind = self.pick(&[ParamKind::Weight, ParamKind::Buffer, ParamKind::State]);
                let inits = [
                    Init::Constant(0.0),
                    Init::Uniform(1.0 / 3.0),
                    Init::Orthogonal(1.0),
                    Init::Constant(-2.5),
                ];
                let init = self.pick(&inits);
                self.graph.add_param(&name, &shape, init, kind)
            }
            4 => {
                let value = f32::from_bits(self.rng.next_u32());
                self.graph.add_scalar(value)
            }
            _ => {
                let (shape, dtype) = (self.fixed_shape(), self.pick(&DType::ALL));
                let mut tensor = Tensor::zeros(dtype, &shape).unwrap();
                for byte in tensor.bytes_mut() {
                    *byte = if dtype == DType::Bool {
                        self.rng.below(2) as u8
                    } else {
                        self.rng.next_u32() as u8
                    };
                }
                self.graph.add_constant(&name, tensor)
            }
        };
        result.unwrap();
    }

    fn ends(&mut self) {
        let values: Vec<ValueId> = self.graph.value_ids().collect();
        for name in ["output", "logits", "conv"].into_iter().take(self.rng.below(4)) {
            let value = self.operands(1)[0];
            self.graph.add_output(name, value).unwrap();
        }
        for param in self.graph.param_ids().collect::<Vec<ParamId>>() {
            let value = self.pick(&values);
            if self.rng.below(2) == 0 {
                let _ = self.graph.add_update(param, value);
            }
        }
    }
}

/// A graph made by chance.
fn random_graph(seed: u64, steps: usize) -> (Graph, Arc<dyn CustomOperator>) {
    let custom: Arc<dyn CustomOperator> = Arc::new(Swap);
    let mut maker = Maker { rng: Rng::new(seed, 0), graph: Graph::new(""), custom: Arc::clone(&custom) };
    let name = maker.pick(&["", "net", "a \"net\" # with | marks\n", "no"]);
    maker.graph.set_name(name);
    let shape = vec![dim("batch"), 4.into(), 4.into(), 3.into()];
    maker.graph.add_input("x", Type::f32(shape)).unwrap();
    for _ in 0..steps {
        match maker.rng.below(8) {
            0 => maker.declare(),
            1 => maker.layer(),
            _ => maker.node(),
        }
    }
    maker.ends();
    (maker.graph, custom)
}

fn assert_round_trip(graph: &Graph, custom: &[Arc<dyn CustomOperator>]) {
    let text = graph.to_text();
    match Graph::from_text_with(&text, custom) {
        Ok(again) => assert!(again == *graph, "another graph:\n{text}\n{again}"),
        Err(error) => panic!("{error}\n{text}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_round_trip(seed: u64, steps in 0usize..40) {
        let (graph, custom) = random_graph(seed, steps);
        assert_round_trip(&graph, &[custom]);
    }

    /// With the gradient of the sum of whatever came last.
    #[test]
    fn random_training_graphs_round_trip(seed: u64, steps in 1usize..25) {
        let (mut graph, custom) = random_graph(seed, steps);
        graph.clear_outputs();
        let last = graph.value_ids().last().unwrap();
        let sum = graph.extend(|g, _| g.wire_of(last).square().mean(&[]));
        if let Ok(mut step) = sum.and_then(|g| g.for_training()) {
            let loss = step.outputs()[0].1;
            let wrt: Vec<_> = step.value_ids().filter(|v| matches!(step.value(*v).origin, Origin::Param(_))).collect();
            match gradients(&mut step, loss, &wrt) {
                // Gradients are for graphs of f32.
                Ok(_) | Err(Error::NotDifferentiable { .. } | Error::Inconsistent(_)) => assert_round_trip(&step, &[custom]),
                Err(error) => panic!("{error}\n{step}"),
            }
        }
    }
}

/// A step of training through what random graphs seldom get right.
fn training_step() -> Graph {
    let text = "image: input batch 3 9 9; ids: input i64 batch; t: input; lr: input\n\
        image | conv a 4 3 pad 1 | bn b | relu | avg_pool 2 | conv c 4 3 pad 1 | max_pool 2 stride 1 | adaptive_max_pool 2\n\
        dropout 0.1 | flatten | linear f 4 | layer_norm n\n\
        ids | embedding v 7 4 | layer_norm m | add(n, _) | square | mean\n\
        cross_entropy(f, ids) label_smoothing 0.1 | add(_, mean) | output loss";
    let net = Graph::from_text(text).unwrap().extend(|g, outputs| {
        let steps =
            g.input("steps", shape!["batch", "time", 3]).recurrent("rnn", lstm(2).layers(2).bidirectional());
        let steps = steps.self_attention("attention", attention(2));
        g.wire_of(outputs[0]).add(&steps.mean(&[]))
    });
    let mut step = net.unwrap().for_training().unwrap();
    let (loss, params) = (step.outputs()[0].1, step.params().to_vec());
    let weights: Vec<_> = params.iter().filter(|p| p.kind == ParamKind::Weight).collect();
    let wrt: Vec<_> = weights.iter().map(|p| p.value).collect();
    let gradients = gradients(&mut step, loss, &wrt).unwrap();
    let [lr, t] = ["lr", "t"].map(|n| step.find(n).unwrap());
    for (i, (p, d)) in weights.iter().zip(gradients).enumerate() {
        let one = step.add_scalar(1.0).unwrap();
        let mut state = |name: &str| {
            let path = format!("{}.{name}", p.path);
            step.add_param(&path, &p.shape, Init::Constant(0.0), ParamKind::State).unwrap()
        };
        let (m, v) = (state("m"), state("v"));
        let name = if i % 2 == 0 { "adam_step" } else { "rmsprop_step" };
        let states = if i % 2 == 0 { vec![m, v] } else { vec![v] };
        let operands = [&[p.value, d.unwrap(), lr, one, t], states.as_slice()].concat();
        let new = step.add_node(&format!("{}.step", p.path), Op::by_name(name).unwrap(), &operands).unwrap();
        for (old, new) in [p.value].iter().chain(&states).zip(new) {
            let Origin::Param(param) = step.value(*old).origin else { panic!("{name}") };
            step.add_update(param, new).unwrap();
        }
    }
    step
}

#[test]
fn every_operator_occurs_in_these_graphs() {
    let mut missing: Vec<&str> = Op::all().iter().map(|op| op.operator().name()).collect();
    let step = training_step();
    assert_round_trip(&step, &[]);
    let random = (0..300).map(|seed| random_graph(seed, 60).0);
    for graph in std::iter::once(step).chain(random) {
        missing.retain(|name| !graph.nodes().iter().any(|n| n.op.operator().name() == *name));
    }
    assert!(missing.is_empty(), "{missing:?}");
}

const SEEDS: [&str; 3] = [
    "graph g\nblock basic(width, stride=1)\n  x: in\n  conv conv1 $width 3x3 stride $stride pad 1 nobias | bn bn1 | relu\n  \
     conv conv2 4*$width 3x3 pad 1 | add(_, mul(x, 2)) | relu\nend\nimage: input batch 3 8 8\nconv c 8 3 pad 1\n\
     basic layer1.{0..2} 8 | max_pool 3x2 stride 2 pad 1x0 ceil_mode | flatten | linear f 10 init normal(0.01)\noutput y",
    "x: input batch 4; ids: input i64 batch\nparam w 3 4 init uniform(0.2)\nconst c i64 2 = 1 0x7f\nbuffer b 3\n\
     y: linear(x, w, b) | softmax 1\nl: cross_entropy(y, ids) label_smoothing 0.1\nupdate b b; output loss l",
    "x: input (batch-1)/2+1 time 6\nreshape [batch,2*time,3] | transpose [0,2,1] | slice 1 start 0 end 2 | sum [1,2]\n\
     z: greater(_, -1.5e3) | concat(z, _) 0 | layer_norm n | reduce_max | no output",
];

/// The body of the fuzz target, on random changes of valid texts and of texts put together from their words.
#[test]
fn random_texts_never_panic() {
    let words: Vec<&str> = SEEDS.iter().flat_map(|s| s.split_inclusive([' ', '\n', '|', ',', '('])).collect();
    let mut rng = Rng::new(11, 0);
    let end = Instant::now() + Duration::from_secs(2);
    let mut runs = 0;
    while Instant::now() < end {
        let mut text: Vec<u8> = SEEDS[rng.below(SEEDS.len())].into();
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(text.len());
            let word = words[rng.below(words.len())].as_bytes();
            match rng.below(5) {
                0 => text[at] = b" \n|(),:=#$[]{}0123456789xabz-+*/.\""[rng.below(34)],
                1 => drop(text.drain(at..(at + rng.below(12)).min(text.len()))),
                2 => drop(text.splice(at..at, word.iter().copied())),
                3 => text.truncate(at + 1),
                _ => {
                    let from = rng.below(text.len());
                    let part = text[from..(from + rng.below(60)).min(text.len())].to_vec();
                    text.splice(at..at, part);
                }
            }
            if text.is_empty() {
                break;
            }
        }
        fuzz_text(&text);
        runs += 1;
    }
    assert!(runs > 100, "only {runs} runs");
}

#[test]
fn texts_that_would_grow_without_bound_are_refused() {
    let doubling: String =
        (0..16).map(|i| format!("block b{}(a)\n  b{i} - $a$a$a$a\nend\n", i + 1)).collect();
    let cases = [
        format!("block b0(a)\n  relu\nend\n{doubling}x: input 4\nb16 - 1111"),
        format!("block b(a)\n{}end\nx: input 4\nb p{{0..9999}} 1", "  relu\n".repeat(50)),
        format!("x: input {}", "(".repeat(10_000)),
        format!("x: input {}", ["(a+b+c+d+e+f+g)"; 40].join("*")),
        format!("x: input {}", ["a+b+c+d+e+f+g"; 12].join(" ")),
        "x: input 4503599627370496 4503599627370496".to_owned(),
        "x: input batch 3 224 224\nconv c 4294967295 4294967295x4294967295 dilation 4294967295".to_owned(),
        format!("x: input batch 1 h w{}", " | max_pool 2".repeat(40)),
        format!("const c {} = 1", "4294967295 ".repeat(20)),
        format!("x{}: input 1", "y".repeat(1 << 16)),
    ];
    for text in cases {
        let start = Instant::now();
        let error = Graph::from_text(&text).err().map(|e| e.to_string());
        assert!(error.is_some_and(|e| e.len() < 1 << 20), "{}", &text[..text.len().min(300)]);
        assert!(start.elapsed() < Duration::from_secs(5), "{}", &text[..text.len().min(300)]);
    }
}
