//! Attention: what it refuses, and its parameters.

use kessen_graph::ops::attention::Attention;
use kessen_graph::ops::attention_layer::{AttentionMasks, attention};
use kessen_graph::{Graph, GraphBuilder, Op, Wire, gradients, shape};

type Wiring = fn(&GraphBuilder) -> Wire;

fn x(g: &GraphBuilder) -> Wire {
    g.input("x", shape!["batch", "time", 12])
}

#[test]
fn attention_refuses_what_does_not_fit() {
    let cases: [(&str, Wiring); 6] = [
        ("12 features can't be shared by 5 heads", |g| {
            x(g).apply(Attention { heads: 5, packed: true, ..Attention::default() }, &[])
        }),
        ("found 1 operands, expected 3", |g| x(g).apply(Attention::default(), &[])),
        ("v is batch×past×12, expected batch×time×12", |g| {
            let v = g.input("v", shape!["batch", "past", 12]);
            x(g).apply(Attention::default(), &[&x2(g), &v])
        }),
        ("causal attention of time queries to past keys", |g| {
            let past = g.input("past", shape!["batch", "past", 12]);
            x(g).apply(Attention { causal: true, ..Attention::default() }, &[&past, &past])
        }),
        ("lengths is time, expected i64 batch", |g| {
            let lengths = Some(g.input("lengths", shape!["time"]));
            let masks = AttentionMasks { lengths, ..AttentionMasks::default() };
            x(g).self_attention("attn", attention(2).masks(masks))
        }),
        ("batch first", |g| g.input("q", shape!["time", 12]).apply(Attention::default(), &[&x(g), &x2(g)])),
    ];
    for (part, wiring) in cases {
        let message = Graph::build("a", wiring).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

fn x2(g: &GraphBuilder) -> Wire {
    g.input("x2", shape!["batch", "time", 12])
}

#[test]
fn a_bias_of_attention_is_not_learnt() {
    let mut net = Graph::build("a", |g| {
        let bias = Some(g.input("bias", shape!["time", "time"]));
        let masks = AttentionMasks { bias, ..AttentionMasks::default() };
        x(g).self_attention("attn", attention(2).masks(masks)).mean(&[])
    })
    .unwrap();
    let (loss, bias) = (net.outputs()[0].1, net.find("bias").unwrap());
    let message = gradients(&mut net, loss, &[bias]).unwrap_err().to_string();
    assert!(message.contains("`attn` (attention) has no gradient to its input 1"), "{message}");
}

#[test]
fn attention_drops_in_training_only() {
    let net = Graph::build("a", |g| x(g).self_attention("attn", attention(3).dropout(0.1))).unwrap();
    let op = |graph: &Graph| match &graph.nodes()[1].op {
        Op::Attention(op) => op.clone(),
        other => panic!("{other:?}"),
    };
    let training = net.for_training().unwrap();
    assert!(op(&training).training && op(&training).key != 0);
    assert_eq!(op(&training.for_inference().unwrap()), op(&net));
}
