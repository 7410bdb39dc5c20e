//! Recurrent layers: stacked and in both directions, with PyTorch's parameters.
//!
//! Layer l of the path `rnn` has `rnn.weight_ih_l0` `[G·H, I]`, `rnn.weight_hh_l0` `[G·H, H]`, `rnn.bias_ih_l0` and
//! `rnn.bias_hh_l0` `[G·H]`; the direction from the last step to the first the same with `_reverse` behind it. All
//! are drawn from U(−1/√H, 1/√H). A layer above the first reads the outputs of the one below, forward and backward
//! ones behind each other.

use super::recurrent::{Recurrent, RecurrentActivation, RecurrentKind};
use crate::{Init, Wire};

/// Specification of a recurrent layer: `lstm(256).layers(2).bidirectional()`.
#[derive(Debug, Clone, PartialEq)]
pub struct RecurrentSpec {
    op: Recurrent,
    hidden_size: usize,
    layers: usize,
    bidirectional: bool,
    dropout: f64,
}

fn spec(kind: RecurrentKind, hidden_size: usize) -> RecurrentSpec {
    let op = Recurrent { kind, ..Recurrent::default() };
    RecurrentSpec { op, hidden_size, layers: 1, bidirectional: false, dropout: 0.0 }
}

/// An Elman network with `hidden_size` hidden units and tanh.
pub fn elman(hidden_size: usize) -> RecurrentSpec {
    spec(RecurrentKind::Elman, hidden_size)
}

/// An LSTM with `hidden_size` hidden units.
pub fn lstm(hidden_size: usize) -> RecurrentSpec {
    spec(RecurrentKind::Lstm, hidden_size)
}

/// A GRU with `hidden_size` hidden units.
pub fn gru(hidden_size: usize) -> RecurrentSpec {
    spec(RecurrentKind::Gru, hidden_size)
}

impl RecurrentSpec {
    /// Number of layers on top of each other.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Each layer in both directions.
    #[must_use]
    pub fn bidirectional(mut self) -> Self {
        self.bidirectional = true;
        self
    }

    /// Without biases.
    #[must_use]
    pub fn no_bias(mut self) -> Self {
        self.op.bias = false;
        self
    }

    /// f of an Elman network.
    #[must_use]
    pub fn activation(mut self, activation: RecurrentActivation) -> Self {
        self.op.activation = activation;
        self
    }

    /// Probability with which an output of a layer that is not the last is dropped in training.
    #[must_use]
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// Number of directions.
    fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }
}

/// What a recurrent layer reads besides x.
#[derive(Debug, Clone, Default)]
pub struct RecurrentInputs {
    /// Steps of each sequence, `[B]` (`i64`).
    pub lengths: Option<Wire>,
    /// h0 `[B, H]` of each layer, forward before reverse; empty for zeros.
    pub hidden: Vec<Wire>,
    /// c0 `[B, H]` of each layer of an LSTM in the same order; empty for zeros.
    pub cell: Vec<Wire>,
}

/// What a recurrent layer gives.
#[derive(Debug, Clone)]
pub struct RecurrentOutputs {
    /// Hidden units of the last layer at each step, `[B, T, H]`, or `[B, T, 2·H]` in both directions.
    pub output: Wire,
    /// Hidden units `[B, H]` after the last step of each layer, forward before reverse.
    pub hidden: Vec<Wire>,
    /// Cells `[B, H]` of an LSTM in the same order.
    pub cell: Vec<Wire>,
}

impl Wire {
    /// A recurrent layer on x `[B, T, I]` from zero states over all steps; the result is `[B, T, H]` (`[B, T, 2·H]`
    /// in both directions). [`Wire::recurrent_with`] gives the final states too.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::recurrent_layer::lstm, shape};
    /// let net = Graph::build("tagger", |g| {
    ///     let x = g.input("x", shape!["batch", "time", 8]);
    ///     x.recurrent("rnn", lstm(16).bidirectional()).linear("out", 5)
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×time×5");
    /// assert_eq!(net.params()[0].path, "rnn.weight_ih_l0");
    /// assert_eq!(net.params()[4].path, "rnn.weight_ih_l0_reverse");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn recurrent(&self, path: &str, spec: RecurrentSpec) -> Wire {
        self.recurrent_with(path, spec, RecurrentInputs::default()).output
    }

    /// As [`Wire::recurrent`], with lengths, initial and final states.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::recurrent_layer::{RecurrentInputs, gru}, shape};
    /// let net = Graph::build("classifier", |g| {
    ///     let x = g.input("x", shape!["batch", "time", 8]);
    ///     let lengths = Some(g.input_ids("lengths", shape!["batch"]));
    ///     let last = x.recurrent_with("rnn", gru(16), RecurrentInputs { lengths, ..Default::default() });
    ///     last.hidden[0].linear("out", 2)
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×2");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn recurrent_with(
        &self,
        path: &str,
        spec: RecurrentSpec,
        inputs: RecurrentInputs,
    ) -> RecurrentOutputs {
        let directions = spec.directions();
        let mut all = RecurrentOutputs { output: self.clone(), hidden: Vec::new(), cell: Vec::new() };
        if let Some(error) = states_misfit(path, &spec, &inputs) {
            let wire = self.builder().fail(error);
            let states = vec![wire.clone(); spec.layers.max(1) * directions];
            return RecurrentOutputs { output: wire, hidden: states.clone(), cell: states };
        }
        for layer in 0..spec.layers {
            if layer > 0 && spec.dropout > 0.0 {
                let dropout = crate::ops::dropout::Dropout { p: spec.dropout, ..Default::default() };
                all.output = all.output.apply_named(&format!("{path}.dropout_l{}", layer - 1), dropout, &[]);
            }
            let x = all.output.clone();
            let results: Vec<Wire> =
                (0..directions).map(|d| direction(&x, path, &spec, &inputs, [layer, d], &mut all)).collect();
            all.output = match results.as_slice() {
                [forward, reverse] => {
                    let concat = crate::ops::concat::Concat { dim: 2 };
                    forward.apply_named(&format!("{path}.concat_l{layer}"), concat, &[reverse])
                }
                _ => results[0].clone(),
            };
        }
        all
    }
}

/// One direction of one layer; its final states go to `all`, its outputs are returned.
fn direction(
    x: &Wire,
    path: &str,
    spec: &RecurrentSpec,
    inputs: &RecurrentInputs,
    [layer, direction]: [usize; 2],
    all: &mut RecurrentOutputs,
) -> Wire {
    let suffix = format!("l{layer}{}", if direction == 1 { "_reverse" } else { "" });
    let (g, hidden) = (x.builder(), spec.hidden_size);
    let rows = spec.op.kind.gates() * hidden;
    let init = Init::Uniform(1.0 / (hidden.max(1) as f64).sqrt());
    let param = |name: &str, shape: &[usize]| g.param(&format!("{path}.{name}_{suffix}"), shape, init);
    let features = x.fixed_dim(2, path);
    let mut operands = vec![param("weight_ih", &[rows, features]), param("weight_hh", &[rows, hidden])];
    if spec.op.bias {
        operands.extend([param("bias_ih", &[rows]), param("bias_hh", &[rows])]);
    }
    operands.extend(inputs.lengths.clone());
    let at = layer * spec.directions() + direction;
    operands.extend(inputs.hidden.get(at).cloned());
    operands.extend(inputs.cell.get(at).cloned());
    let op = Recurrent {
        reverse: direction == 1,
        lengths: inputs.lengths.is_some(),
        initial: !inputs.hidden.is_empty(),
        ..spec.op.clone()
    };
    let single = spec.layers == 1 && !spec.bidirectional;
    let node = if single { path.to_owned() } else { format!("{path}.{suffix}") };
    let operands: Vec<&Wire> = std::iter::once(x).chain(&operands).collect();
    let results = g.node(Some(&node), op, &operands);
    all.hidden.push(results[1].clone());
    if spec.op.kind.has_cell() {
        all.cell.push(results[2].clone());
    }
    results[0].clone()
}

/// What is wrong with the number of layers or of initial states.
fn states_misfit(path: &str, spec: &RecurrentSpec, inputs: &RecurrentInputs) -> Option<crate::Error> {
    let count = spec.layers * spec.directions();
    let (hidden, cell) = (inputs.hidden.len(), inputs.cell.len());
    let cells = if spec.op.kind.has_cell() { hidden } else { 0 };
    let reason = if count == 0 {
        "expected at least one layer".to_owned()
    } else if hidden != 0 && hidden != count {
        format!("found {hidden} initial states, expected none or {count}, one of each layer and direction")
    } else if cell != cells {
        format!("found {cell} initial cells with {hidden} initial states, expected {cells}")
    } else {
        return None;
    };
    let operator = spec.op.kind.word().to_owned();
    Some(crate::Error::Misfit { path: path.to_owned(), operator, reason, operands: String::new() })
}
