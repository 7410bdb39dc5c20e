//! Recurrent layers: their parameters, and what they refuse.

use kessen_graph::ops::recurrent::Recurrent;
use kessen_graph::ops::recurrent_layer::{RecurrentInputs, elman, gru, lstm};
use kessen_graph::{Dim, Graph, GraphBuilder, Wire, shape};

type Wiring = fn(&GraphBuilder) -> Wire;

/// An Elman network of 5 units whose input weight has `rows` rows.
fn elman_of(g: &GraphBuilder, x: Vec<Dim>, rows: usize) -> Wire {
    let operands = [("w", shape![rows, 8]), ("u", shape![5, 5]), ("b", shape![5]), ("c", shape![5])]
        .map(|(n, s)| g.input(n, s));
    g.input("x", x).apply(Recurrent::default(), &operands.each_ref())
}

#[test]
fn recurrent_layers_size_their_parameters_as_pytorch_does() {
    let net = Graph::build("r", |g| {
        let x = g.input("x", shape!["batch", "time", 8]);
        let out = x.recurrent_with("rnn", lstm(5).layers(2).bidirectional(), RecurrentInputs::default());
        [("y", out.output), ("h", out.hidden[3].clone()), ("c", out.cell[3].clone())]
    });
    let net = net.unwrap();
    let types: Vec<String> = net.outputs().iter().map(|(_, v)| net.ty(*v).to_string()).collect();
    assert_eq!(types, ["batch×time×10", "batch×5", "batch×5"]);
    let found: Vec<(&str, &[usize])> =
        net.params().iter().map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
    assert_eq!(found.len(), 16);
    assert_eq!(found[4], ("rnn.weight_ih_l0_reverse", [20, 8].as_slice()));
    assert_eq!(found[8], ("rnn.weight_ih_l1", [20, 10].as_slice()));
    assert_eq!(found[13], ("rnn.weight_hh_l1_reverse", [20, 5].as_slice()));
    assert_eq!(found[15], ("rnn.bias_hh_l1_reverse", [20].as_slice()));
}

#[test]
fn recurrent_layers_refuse_what_does_not_fit() {
    let cases: [(&str, Wiring); 5] = [
        ("batch first", |g| elman_of(g, shape!["batch", 8], 6)),
        ("weight_ih is 6×8, expected 5×8", |g| elman_of(g, shape!["batch", "time", 8], 6)),
        ("found 3 operands, expected 5", |g| {
            let [w, u] =
                [("w", [5, 8]), ("u", [5, 5])].map(|(name, shape)| g.input(name, shape!(shape[0], shape[1])));
            g.input("x", shape!["batch", "time", 8]).apply(Recurrent::default(), &[&w, &u])
        }),
        ("found 1 initial states, expected none or 2", |g| {
            let hidden = vec![g.input("h", shape!["batch", 5])];
            let inputs = RecurrentInputs { hidden, ..RecurrentInputs::default() };
            g.input("x", shape!["batch", "time", 8]).recurrent_with("rnn", elman(5).layers(2), inputs).output
        }),
        ("at least one layer", |g| {
            g.input("x", shape!["batch", "time", 8]).recurrent("rnn", gru(5).layers(0))
        }),
    ];
    for (part, wiring) in cases {
        let message = Graph::build("r", wiring).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
