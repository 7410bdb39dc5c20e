//! Recurrent networks over time: Elman, LSTM and GRU, a whole layer in one direction per node.
//!
//! `B` batch, `T` time steps, `I` input features, `H` hidden units, `G` gates (Elman 1, LSTM 4, GRU 3). Step t reads
//! x^t and the state of step t − 1 (of step t + 1 with `reverse`); the state before the first step is h0, or zero.
//! W^(in) is `weight_ih`, W is `weight_hh`, b and b′ their biases; ⊙ is the product of each element with its fellow.
//!
//! - Elman (1990), the lecture's: u^t = W^(in)·x^t + b + W·z^{t−1} + b′, z^t = f(u^t); h^t is z^t.
//! - LSTM (Hochreiter & Schmidhuber 1997; Gers et al. 2000): of the four parts of u^t in the order i, f, g, o,
//!   i, f, o = σ(u), g = tanh(u); c^t = f ⊙ c^{t−1} + i ⊙ g; h^t = o ⊙ tanh(c^t).
//! - GRU (Cho et al. 2014, as in PyTorch): r, z = σ(u); with m = W_n·h^{t−1} + b′_n the part of the recurrent product
//!   that belongs to n, n = tanh(W_n^(in)·x^t + b_n + r ⊙ m); h^t = (1 − z) ⊙ n + z ⊙ h^{t−1}. Order r, z, n.
//!
//! With lengths, sequence b has `lengths[b]` steps, the rest is padding: it changes no state, y is 0 there, and no
//! gradient comes from there; with `reverse` a sequence begins at its own last step.

use kessen_tensor::DType;

use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::{Dim, GradContext, Result, Type, ValueId, choice, operator};

choice! {
    /// Which recurrence.
    RecurrentKind, "elman, lstm or gru" {
        /// z^t = f(W^(in)·x^t + W·z^{t−1} + b).
        Elman = "elman",
        /// Long short-term memory.
        Lstm = "lstm",
        /// Gated recurrent unit.
        Gru = "gru",
    }
}

choice! {
    /// f of an Elman network: functions whose derivative follows from their value z = f(u), so that u is not kept.
    RecurrentActivation, "tanh, relu, sigmoid, leaky_relu, elu, softplus or identity" {
        /// tanh u; f′ = 1 − z².
        Tanh = "tanh",
        /// max(u, 0); f′ = 1 where z > 0, else 0.
        Relu = "relu",
        /// 1/(1 + e^−u); f′ = z·(1 − z).
        Sigmoid = "sigmoid",
        /// u for u > 0, else 0.01·u; f′ = 1 where z > 0, else 0.01.
        LeakyRelu = "leaky_relu",
        /// u for u > 0, else e^u − 1; f′ = 1 where z > 0, else z + 1.
        Elu = "elu",
        /// ln(1 + e^u); f′ = 1 − e^−z.
        Softplus = "softplus",
        /// u; f′ = 1.
        Identity = "identity",
    }
}

impl RecurrentKind {
    /// G, the number of gates.
    pub const fn gates(self) -> usize {
        match self {
            Self::Elman => 1,
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }

    /// Numbers of each unit and step that back-propagation reads besides y, and that are results therefore: none;
    /// i, f, g, o; r, z, n, m.
    pub const fn kept(self) -> usize {
        match self {
            Self::Elman => 0,
            Self::Lstm | Self::Gru => 4,
        }
    }

    /// Whether the state has a cell besides the hidden units.
    pub const fn has_cell(self) -> bool {
        matches!(self, Self::Lstm)
    }
}

operator! {
    /// One layer in one direction. Operands: x `[B, T, I]`, weight_ih `[G·H, I]`, weight_hh `[G·H, H]`; with `bias`
    /// bias_ih and bias_hh `[G·H]`; with `lengths` lengths `[B]` (`i64`, 0 to T); with `initial` h0 `[B, H]` and, for
    /// an LSTM, c0 `[B, H]`.
    ///
    /// Results: y `[B, T, H]`, the hidden units of each step; h `[B, H]`, those of each sequence's last step; for an
    /// LSTM c `[B, H]`, its cells; and what back-propagation reads: gates `[B, T, 4·H]` (LSTM i, f, g, o; GRU r, z,
    /// n, m) and, for an LSTM, cells `[B, T, H]`, all 0 at padded steps.
    Recurrent "recurrent" {
        /// Which recurrence.
        kind: RecurrentKind = RecurrentKind::Elman,
        /// f of an Elman network.
        activation: RecurrentActivation = RecurrentActivation::Tanh,
        /// From the last step to the first.
        reverse: bool = false,
        /// Whether there are biases.
        bias: bool = true,
        /// Whether each sequence has its own length.
        lengths: bool = false,
        /// Whether the state before the first step is given.
        initial: bool = false,
    }
}

operator! {
    /// Back-propagation through time, the gradient of [`Recurrent`]. Operands: those of dy `[B, T, H]`, dh `[B, H]`
    /// and dc `[B, H]` that exist; then x, weight_ih, weight_hh, lengths, h0, c0, y, gates, cells as there, without
    /// the biases.
    ///
    /// Results: dx, dweight_ih, dweight_hh; with `bias` dbias_ih and dbias_hh; with `initial` dh0 and, for an LSTM,
    /// dc0. With δ^t = ∂L/∂u^t, which the recursion carries from step to step: ∂L/∂W^(in) = Σ_t δ^t·(x^t)ᵀ,
    /// ∂L/∂W = Σ_t δ^t·(h^{t−1})ᵀ, ∂L/∂x^t = (W^(in))ᵀ·δ^t.
    RecurrentGrad "recurrent_grad" {
        /// As in [`Recurrent`].
        kind: RecurrentKind = RecurrentKind::Elman,
        /// As in [`Recurrent`].
        activation: RecurrentActivation = RecurrentActivation::Tanh,
        /// As in [`Recurrent`].
        reverse: bool = false,
        /// As in [`Recurrent`].
        bias: bool = true,
        /// As in [`Recurrent`].
        lengths: bool = false,
        /// As in [`Recurrent`].
        initial: bool = false,
        /// Whether the loss depends on y.
        dy: bool = true,
        /// Whether the loss depends on h.
        dh: bool = false,
        /// Whether the loss depends on c.
        dc: bool = false,
    }
}

/// Positions of [`Recurrent`]'s operands and results; x, weight_ih and weight_hh are operands 0 to 2, y and h
/// results 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecurrentPlaces {
    /// Operand bias_ih; bias_hh follows.
    pub bias: Option<usize>,
    /// Operand lengths.
    pub lengths: Option<usize>,
    /// Operand h0.
    pub hidden: Option<usize>,
    /// Operand c0.
    pub cell: Option<usize>,
    /// Number of operands.
    pub operands: usize,
    /// Result gates.
    pub gates: Option<usize>,
    /// Result cells; c is result 2 where there are cells.
    pub cells: Option<usize>,
}

/// Positions of [`RecurrentGrad`]'s operands and results; dx, dweight_ih and dweight_hh are results 0 to 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecurrentGradPlaces {
    /// Operand dy.
    pub dy: Option<usize>,
    /// Operand dh.
    pub dh: Option<usize>,
    /// Operand dc.
    pub dc: Option<usize>,
    /// Operand x; weight_ih and weight_hh follow.
    pub x: usize,
    /// Operand lengths.
    pub lengths: Option<usize>,
    /// Operand h0.
    pub hidden: Option<usize>,
    /// Operand c0.
    pub cell: Option<usize>,
    /// Operand y.
    pub y: usize,
    /// Operand gates.
    pub gates: Option<usize>,
    /// Operand cells.
    pub cells: Option<usize>,
    /// Number of operands.
    pub operands: usize,
    /// Result dbias_ih; dbias_hh follows.
    pub dbias: Option<usize>,
    /// Result dh0.
    pub dhidden: Option<usize>,
    /// Result dc0.
    pub dcell: Option<usize>,
}

/// Hands out positions in order.
struct Counter(usize);

impl Counter {
    fn take(&mut self, there: bool, count: usize) -> Option<usize> {
        let at = self.0;
        self.0 += if there { count } else { 0 };
        there.then_some(at)
    }
}

impl Recurrent {
    /// Where the operands and results stand.
    pub fn places(&self) -> RecurrentPlaces {
        let cell = self.kind.has_cell();
        let mut next = Counter(3);
        let bias = next.take(self.bias, 2);
        let lengths = next.take(self.lengths, 1);
        let hidden = next.take(self.initial, 1);
        let initial_cell = next.take(self.initial && cell, 1);
        let mut result = Counter(2 + usize::from(cell));
        let gates = result.take(self.kind.kept() > 0, 1);
        let cells = result.take(cell, 1);
        RecurrentPlaces { bias, lengths, hidden, cell: initial_cell, operands: next.0, gates, cells }
    }

    /// Its gradient for a loss that depends on those of y, h and c.
    fn gradient(&self, [dy, dh, dc]: [bool; 3]) -> RecurrentGrad {
        let Self { kind, activation, reverse, bias, lengths, initial } = self.clone();
        RecurrentGrad { kind, activation, reverse, bias, lengths, initial, dy, dh, dc }
    }
}

impl RecurrentGrad {
    /// The operator that this is the gradient of.
    pub fn forward(&self) -> Recurrent {
        let Self { kind, activation, reverse, bias, lengths, initial, .. } = self.clone();
        Recurrent { kind, activation, reverse, bias, lengths, initial }
    }

    /// Where the operands and results stand.
    pub fn places(&self) -> RecurrentGradPlaces {
        let cell = self.kind.has_cell();
        let mut next = Counter(0);
        let [dy, dh, dc] = [self.dy, self.dh, self.dc && cell].map(|there| next.take(there, 1));
        let x = next.0;
        next.0 += 3;
        let lengths = next.take(self.lengths, 1);
        let hidden = next.take(self.initial, 1);
        let initial_cell = next.take(self.initial && cell, 1);
        let y = next.0;
        next.0 += 1;
        let gates = next.take(self.kind.kept() > 0, 1);
        let cells = next.take(cell, 1);
        let mut result = Counter(3);
        let dbias = result.take(self.bias, 2);
        let dhidden = result.take(self.initial, 1);
        let dcell = result.take(self.initial && cell, 1);
        let operands = next.0;
        RecurrentGradPlaces {
            dy,
            dh,
            dc,
            x,
            lengths,
            hidden,
            cell: initial_cell,
            y,
            gates,
            cells,
            operands,
            dbias,
            dhidden,
            dcell,
        }
    }
}

/// Refuses a type that differs from what the formula needs.
fn expect(what: &str, found: &Type, expected: &Type) -> Result<(), Misfit> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what} is {found}, expected {expected}").into())
}

/// Types of everything that x `[B, T, I]` and weight_hh `[G·H, H]` determine.
struct Sizes<'t> {
    x: &'t Type,
    batch: &'t Dim,
    time: &'t Dim,
    features: &'t Dim,
    hidden: &'t Dim,
    gates: usize,
}

impl<'t> Sizes<'t> {
    fn of(kind: RecurrentKind, x: &'t Type, weight_hh: &'t Type) -> Result<Self, Misfit> {
        let [batch, time, features] = x.shape.as_slice() else {
            return Err("expected x [B, T, I] (batch first)".into());
        };
        let [_, hidden] = weight_hh.shape.as_slice() else {
            return Err("expected weight_hh [G·H, H]".into());
        };
        if !x.dtype.is_float() {
            return Err("expected x of real numbers; look token ids up in an embedding first".into());
        }
        Ok(Self { x, batch, time, features, hidden, gates: kind.gates() })
    }

    fn real(&self, shape: &[&Dim]) -> Type {
        self.x.with_shape(shape.iter().map(|&d| d.clone()).collect())
    }

    /// `count`·H units.
    fn units(&self, count: usize) -> Dim {
        Dim::fixed(count) * self.hidden.clone()
    }

    fn weight_ih(&self) -> Type {
        self.real(&[&self.units(self.gates), self.features])
    }

    fn weight_hh(&self) -> Type {
        self.real(&[&self.units(self.gates), self.hidden])
    }

    fn bias(&self) -> Type {
        self.real(&[&self.units(self.gates)])
    }

    fn state(&self) -> Type {
        self.real(&[self.batch, self.hidden])
    }

    /// `count`·H numbers of each step.
    fn steps(&self, count: usize) -> Type {
        self.real(&[self.batch, self.time, &self.units(count)])
    }

    fn lengths(&self) -> Type {
        Type { dtype: DType::I64, shape: vec![self.batch.clone()] }
    }
}

/// Multiply-accumulate operations of the two products of all steps.
fn macs(x: &[usize], weight_ih: &[usize], hidden: usize) -> u64 {
    (x.iter().take(2).product::<usize>() * weight_ih[0]) as u64 * (weight_ih[1] + hidden) as u64
}

impl Operator for Recurrent {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let places = self.places();
        if inputs.len() != places.operands {
            let (found, wanted) = (inputs.len(), places.operands);
            return Err(
                format!("found {found} operands, expected {wanted} by bias, lengths and initial").into()
            );
        }
        let sizes = Sizes::of(self.kind, inputs[0], inputs[2])?;
        expect("weight_ih", inputs[1], &sizes.weight_ih())?;
        expect("weight_hh", inputs[2], &sizes.weight_hh())?;
        if let Some(b) = places.bias {
            expect("bias_ih", inputs[b], &sizes.bias())?;
            expect("bias_hh", inputs[b + 1], &sizes.bias())?;
        }
        if let Some(l) = places.lengths {
            expect("lengths", inputs[l], &sizes.lengths())?;
        }
        for (what, at) in [("h0", places.hidden), ("c0", places.cell)] {
            at.map_or(Ok(()), |i| expect(what, inputs[i], &sizes.state()))?;
        }
        let mut results = vec![sizes.steps(1), sizes.state()];
        if self.kind.has_cell() {
            results.push(sizes.state());
        }
        if places.gates.is_some() {
            results.push(sizes.steps(self.kind.kept()));
        }
        if places.cells.is_some() {
            results.push(sizes.steps(1));
        }
        Ok(results)
    }

    fn word(&self) -> &'static str {
        self.kind.word()
    }

    fn kinds(&self) -> Vec<crate::Op> {
        RecurrentKind::ALL.iter().map(|&kind| Self { kind, ..Self::default() }.into()).collect()
    }

    fn macs(&self, inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        macs(inputs[0], inputs[1], inputs[2][1])
    }

    fn field(&self) -> Field {
        Field::Whole
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let places = self.places();
        let kept = [places.gates, places.cells];
        if kept.into_iter().flatten().any(|i| context.doutput(i).is_some()) {
            return context.not_differentiable("gates and cells are results to keep, not to train through");
        }
        let cell = self.kind.has_cell();
        let douts: [Option<ValueId>; 3] =
            [0, 1, 2].map(|i| if i < 2 || cell { context.doutput(i) } else { None });
        let mut operands: Vec<ValueId> = douts.into_iter().flatten().collect();
        operands.extend([0, 1, 2].map(|i| context.input(i)));
        let own = [places.lengths, places.hidden, places.cell];
        operands.extend(own.into_iter().flatten().map(|i| context.input(i)));
        operands.push(context.output(0));
        operands.extend(kept.into_iter().flatten().map(|i| context.output(i)));
        let op = self.gradient(douts.map(|d| d.is_some()));
        let results = op.places();
        let d = context.emit(op, &operands)?;
        (0..3).for_each(|i| context.set(i, d[i]));
        if let (Some(to), Some(from)) = (places.bias, results.dbias) {
            (0..2).for_each(|i| context.set(to + i, d[from + i]));
        }
        for (to, from) in [(places.hidden, results.dhidden), (places.cell, results.dcell)] {
            if let (Some(to), Some(from)) = (to, from) {
                context.set(to, d[from]);
            }
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        match self.kind {
            RecurrentKind::Elman => &["RNN"],
            RecurrentKind::Lstm => &["LSTM"],
            RecurrentKind::Gru => &["GRU"],
        }
    }
}

impl Operator for RecurrentGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let places = self.places();
        if inputs.len() != places.operands {
            let (found, wanted) = (inputs.len(), places.operands);
            return Err(format!("found {found} operands, expected {wanted} by the attributes").into());
        }
        let sizes = Sizes::of(self.kind, inputs[places.x], inputs[places.x + 2])?;
        expect("weight_ih", inputs[places.x + 1], &sizes.weight_ih())?;
        expect("weight_hh", inputs[places.x + 2], &sizes.weight_hh())?;
        let checks = [
            ("dy", places.dy, sizes.steps(1)),
            ("dh", places.dh, sizes.state()),
            ("dc", places.dc, sizes.state()),
            ("lengths", places.lengths, sizes.lengths()),
            ("h0", places.hidden, sizes.state()),
            ("c0", places.cell, sizes.state()),
            ("y", Some(places.y), sizes.steps(1)),
            ("gates", places.gates, sizes.steps(self.kind.kept())),
            ("cells", places.cells, sizes.steps(1)),
        ];
        for (what, at, expected) in checks {
            at.map_or(Ok(()), |i| expect(what, inputs[i], &expected))?;
        }
        let mut results = vec![sizes.x.clone(), sizes.weight_ih(), sizes.weight_hh()];
        if self.bias {
            results.extend([sizes.bias(), sizes.bias()]);
        }
        let states = usize::from(self.initial) * (1 + usize::from(self.kind.has_cell()));
        results.extend((0..states).map(|_| sizes.state()));
        Ok(results)
    }

    fn macs(&self, inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        let x = self.places().x;
        2 * macs(inputs[x], inputs[x + 1], inputs[x + 2][1])
    }

    fn field(&self) -> Field {
        Field::Whole
    }
}
