//! Against the formulas in f64, step by step; gradients against central differences of those.

mod lookup;

use super::*;
use crate::testing::{Guarded, assert_close, everywhere, numbers, wide};

/// A layer with everything it is given, in PyTorch's layouts.
struct Case {
    layer: Recurrent,
    lengths: Option<Vec<i64>>,
    /// x, W_ih, W_hh, b_ih, b_hh, h0, c0
    values: [Vec<f32>; 7],
    biases: bool,
    states: bool,
    /// dy, dh, dc of the last states
    grads: [Vec<f32>; 3],
}

fn case(
    cell: Cell,
    [batch, time, inputs, hidden]: [usize; 4],
    lengths: Option<Vec<i64>>,
    variant: usize,
) -> Case {
    let batch_first = variant.is_multiple_of(2);
    let reverse = variant % 4 >= 2;
    let output_row = hidden + 3 * (variant % 3);
    let layer = Recurrent { cell, batch, time, inputs, hidden, batch_first, reverse, output_row };
    let gates = cell.gates() * hidden;
    let small = |seed, n| numbers(seed, n).iter().map(|x| 0.4 * x).collect::<Vec<_>>();
    let state = batch * hidden;
    let values = [
        numbers(1, batch * time * inputs),
        small(2, gates * inputs),
        small(3, gates * hidden),
        small(4, gates),
        small(5, gates),
        numbers(6, state),
        numbers(7, state),
    ];
    let grads = [numbers(8, layer.output_len()), numbers(9, state), numbers(10, state)];
    Case { layer, lengths, values, biases: variant != 1, states: variant != 2, grads }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Case {
    fn len(&self, b: usize) -> usize {
        self.lengths.as_ref().map_or(self.layer.time, |l| l[b] as usize)
    }

    /// y at its rows, the last h and the last c.
    fn reference(&self, values: &[Vec<f64>; 7]) -> [Vec<f64>; 3] {
        let l = &self.layer;
        let (hidden, inputs) = (l.hidden, l.inputs);
        let [x, w_ih, w_hh, b_ih, b_hh, h0, c0] = values;
        let mut y = vec![0.0; l.output_len()];
        let (mut last_h, mut last_c) = (Vec::new(), Vec::new());
        for b in 0..l.batch {
            let state = |v: &[f64]| match self.states {
                true => v[b * hidden..(b + 1) * hidden].to_vec(),
                false => vec![0.0; hidden],
            };
            let (mut h, mut c) = (state(h0), state(c0));
            let mut order: Vec<usize> = (0..self.len(b)).collect();
            if l.reverse {
                order.reverse();
            }
            for t in order {
                let row = if l.batch_first { b * l.time + t } else { t * l.batch + b };
                let sum = |w: &[f64], v: &[f64], bias: &[f64], gate: usize, u: usize| {
                    let g = gate * hidden + u;
                    let products: f64 = (0..v.len()).map(|i| w[g * v.len() + i] * v[i]).sum();
                    products + if self.biases { bias[g] } else { 0.0 }
                };
                let from_x = |g, u| sum(w_ih, &x[row * inputs..(row + 1) * inputs], b_ih, g, u);
                let before = h.clone();
                let from_h = |g, u| sum(w_hh, &before, b_hh, g, u);
                for u in 0..hidden {
                    let both = |g| from_x(g, u) + from_h(g, u);
                    h[u] = match l.cell {
                        Cell::Elman(Activation::Tanh) => both(0).tanh(),
                        Cell::Elman(Activation::Relu) => both(0).max(0.0),
                        Cell::Elman(Activation::Sigmoid) => sigmoid(both(0)),
                        Cell::Elman(Activation::LeakyRelu) => both(0).max(0.01 * both(0)),
                        Cell::Elman(Activation::Elu) => both(0).max(both(0).min(0.0).exp_m1()),
                        Cell::Elman(Activation::Softplus) => both(0).exp().ln_1p(),
                        Cell::Elman(Activation::Identity) => both(0),
                        Cell::Lstm => {
                            c[u] = sigmoid(both(1)) * c[u] + sigmoid(both(0)) * both(2).tanh();
                            sigmoid(both(3)) * c[u].tanh()
                        }
                        Cell::Gru => {
                            let (r, z) = (sigmoid(both(0)), sigmoid(both(1)));
                            let n = (from_x(2, u) + r * from_h(2, u)).tanh();
                            (1.0 - z) * n + z * before[u]
                        }
                    };
                }
                y[row * l.output_row..row * l.output_row + hidden].copy_from_slice(&h);
            }
            last_h.extend(h);
            last_c.extend(c);
        }
        [y, last_h, last_c]
    }

    /// Σ of outputs times their gradients.
    fn objective(&self, values: &[Vec<f64>; 7]) -> f64 {
        let out = self.reference(values);
        let lstm = self.layer.cell == Cell::Lstm;
        let pairs = out.iter().zip(&self.grads).take(if lstm { 3 } else { 2 });
        pairs.flat_map(|(o, g)| o.iter().zip(g)).map(|(o, g)| o * f64::from(*g)).sum()
    }

    /// [`Self::run_on`] the inputs' rows.
    fn run(&self, backward: bool) -> Vec<Vec<f32>> {
        self.run_on(Inputs::Rows(&self.values[0]), backward)
    }

    /// Everything the layer computes: y, h, c, and where wanted the gradients of `values`, in PyTorch's layouts.
    fn run_on(&self, x: Inputs<'_>, backward: bool) -> Vec<Vec<f32>> {
        let l = &self.layer;
        let [_, w_ih, w_hh, b_ih, b_hh, h0, c0] = &self.values;
        let pack = |w: &[f32], k: usize| {
            let mut packed = vec![f32::NAN; l.weight_len(k)];
            l.pack_weight(w, k, &mut packed);
            packed
        };
        let (input, recurrent) = (pack(w_ih, l.inputs), pack(w_hh, l.hidden));
        let (bi, bh) = (pack(b_ih, 1), pack(b_hh, 1));
        let weights = Weights {
            input: &input,
            recurrent: &recurrent,
            bias_input: self.biases.then_some(&bi),
            bias_recurrent: self.biases.then_some(&bh),
        };
        let start = match self.states {
            true => States { h: Some(h0), c: Some(c0) },
            false => States::default(),
        };
        let lengths = self.lengths.as_deref().map(Indices::I64);
        let (mut y, mut gates) = (Guarded::of(&vec![0.0; l.output_len()]), Guarded::new(l.gates_len()));
        let mut extra = Guarded::new(l.extra_len());
        let (mut h, mut c) = (Guarded::new(l.batch * l.hidden), Guarded::of(&vec![0.0; l.batch * l.hidden]));
        let mut scratch = Guarded::new(match x {
            Inputs::Rows(_) => l.forward_scratch(),
            Inputs::Lookup(_) => l.forward_lookup_scratch(),
        });
        let mut out = Outputs {
            y: y.slice(),
            gates: gates.slice(),
            extra: extra.slice(),
            h: Some(h.slice()),
            c: Some(c.slice()),
        };
        match x {
            Inputs::Rows(x) => l.forward(x, &weights, start, lengths, &mut out, scratch.slice()),
            Inputs::Lookup(x) => l.forward_lookup(&x, &weights, start, lengths, &mut out, scratch.slice()),
        }
        .unwrap();
        scratch.done();
        let (y, gates, extra) = (y.done(), gates.done(), extra.done());
        assert_eq!(self.run_tokens(&weights, start, lengths), y, "{l:?}: the inputs as rows of a table");
        let mut results = vec![y.clone(), h.done(), c.done()];
        if backward {
            let kept = Kept {
                x,
                start,
                lengths,
                y: &y,
                extra: &extra,
                dy: Some(&self.grads[0]),
                dend: States { h: Some(&self.grads[1]), c: Some(&self.grads[2]) },
            };
            results.extend(self.run_backward(&weights, &kept, &gates));
        }
        results
    }

    /// y, with the inputs' rows as a table in reverse order.
    fn run_tokens(&self, weights: &Weights<'_>, start: States<'_>, lengths: Option<Indices<'_>>) -> Vec<f32> {
        let l = &self.layer;
        let rows = l.batch * l.time;
        let table: Vec<f32> = self.values[0].chunks_exact(l.inputs.max(1)).rev().flatten().copied().collect();
        let ids: Vec<i64> = (0..rows as i64).rev().collect();
        let mut projected = Guarded::new(l.projected_len(rows));
        let mut scratch = Guarded::new(l.project_scratch(rows));
        l.project(&table, rows, weights, projected.slice(), scratch.slice());
        scratch.done();
        let projected = projected.done();
        let mut y = Guarded::of(&vec![0.0; l.output_len()]);
        let (mut gates, mut extra) = (Guarded::new(l.gates_len()), Guarded::new(l.extra_len()));
        let mut scratch = Guarded::new(l.forward_scratch());
        let mut out = Outputs { y: y.slice(), gates: gates.slice(), extra: extra.slice(), h: None, c: None };
        let ids = Indices::I64(&ids);
        l.forward_tokens(ids, &projected, weights, start, lengths, &mut out, scratch.slice()).unwrap();
        y.done()
    }

    fn run_backward(&self, weights: &Weights<'_>, kept: &Kept<'_>, gates: &[f32]) -> Vec<Vec<f32>> {
        let l = &self.layer;
        let state = l.batch * l.hidden;
        let lens = [
            l.batch * l.time * l.inputs,
            l.weight_len(l.inputs),
            l.weight_len(l.hidden),
            l.columns(),
            l.columns(),
            state,
            state,
        ];
        let mut g = lens.map(Guarded::new);
        let mut gates = Guarded::of(gates);
        let mut scratch = Guarded::new(match kept.x {
            Inputs::Rows(_) => l.backward_scratch(),
            Inputs::Lookup(_) => l.backward_lookup_scratch(),
        });
        let [x, input, recurrent, bias_input, bias_recurrent, h, c] = g.each_mut().map(|g| g.slice());
        let mut out = Gradients {
            x: Some(x),
            accumulate_x: false,
            input,
            recurrent,
            bias_input: Some(bias_input),
            bias_recurrent: Some(bias_recurrent),
            h: Some(h),
            c: Some(c),
            gates: gates.slice(),
        };
        l.backward(weights, kept, &mut out, scratch.slice()).unwrap();
        scratch.done();
        gates.done();
        let mut g = g.map(Guarded::done);
        for (i, k) in [(1, l.inputs), (2, l.hidden), (3, 1), (4, 1)] {
            let mut plain = vec![0.0; l.cell.gates() * l.hidden * k];
            l.unpack_weight(&g[i], k, &mut plain);
            g[i] = plain;
        }
        g.into()
    }

    fn what(&self, isa: crate::isa::Isa) -> String {
        format!("{:?} lengths {:?} on {isa}", self.layer, self.lengths)
    }
}

const CELLS: [Cell; 4] =
    [Cell::Elman(Activation::Tanh), Cell::Elman(Activation::Relu), Cell::Lstm, Cell::Gru];

#[test]
fn forward_follows_the_formulas() {
    // Of Elman's layers threads share nothing of the first three, then the batch, of 420 the hidden units, and a small batch.
    let sizes = [
        [1, 3, 2, 5],
        [3, 4, 5, 16],
        [2, 5, 3, 33],
        [20, 3, 7, 40],
        [35, 2, 17, 230],
        [1, 2, 3, 420],
        [11, 3, 3, 70],
    ];
    let others = [
        Activation::Sigmoid,
        Activation::LeakyRelu,
        Activation::Elu,
        Activation::Softplus,
        Activation::Identity,
    ];
    for cell in CELLS.into_iter().chain(others.map(Cell::Elman)) {
        for (variant, size) in sizes.into_iter().enumerate() {
            for ragged in [false, true] {
                let lengths =
                    ragged.then(|| (0..size[0]).map(|b| ((b * 5) % (size[1] + 1)) as i64).collect());
                let case = case(cell, size, lengths, variant);
                // Sums of H terms of some 0.2 each, rounded √H times, over some steps.
                let bound = 1e-6 * (size[3] as f64).sqrt() + 2e-6;
                let [y, h, c] = case.reference(&case.values.each_ref().map(|v| wide(v)));
                everywhere(
                    || case.run(false),
                    |isa, got| {
                        assert_close(&format!("y of {}", case.what(isa)), &got[0], &y, bound, 4e-6);
                        assert_close(&format!("h of {}", case.what(isa)), &got[1], &h, bound, 4e-6);
                        if cell == Cell::Lstm {
                            assert_close(&format!("c of {}", case.what(isa)), &got[2], &c, bound, 4e-6);
                        }
                    },
                );
            }
        }
    }
}

#[test]
fn gradients_are_the_differences() {
    let sizes = [[1, 3, 2, 5], [3, 4, 5, 16], [2, 4, 3, 19], [18, 2, 2, 7]];
    for cell in CELLS {
        for (variant, size) in sizes.into_iter().enumerate() {
            for ragged in [false, true] {
                let lengths =
                    ragged.then(|| (0..size[0]).map(|b| ((b * 5 + 3) % (size[1] + 1)) as i64).collect());
                check_gradients(&case(cell, size, lengths, variant), 1);
            }
        }
    }
    // Too large to vary every number.
    for cell in [Cell::Lstm, Cell::Gru, Cell::Elman(Activation::Tanh)] {
        check_gradients(&case(cell, [17, 2, 3, 40], None, 3), 101);
        check_gradients(&case(cell, [9, 2, 3, 70], None, 1), 307);
        check_gradients(&case(cell, [7, 2, 3, 230], None, 0), 60_013);
    }
}

/// Compares every `stride`-th gradient.
fn check_gradients(case: &Case, stride: usize) {
    let mut values = case.values.each_ref().map(|v| wide(v));
    let mut want: Vec<Vec<f64>> = Vec::new();
    for k in 0..7 {
        let used = match k {
            3 | 4 => case.biases,
            5 => case.states,
            6 => case.states && case.layer.cell == Cell::Lstm,
            _ => true,
        };
        let mut list = Vec::new();
        for i in (0..if used { values[k].len() } else { 0 }).step_by(stride) {
            let keep = values[k][i];
            values[k][i] = keep + 1e-5;
            let up = case.objective(&values);
            values[k][i] = keep - 1e-5;
            list.push((up - case.objective(&values)) / 2e-5);
            values[k][i] = keep;
        }
        want.push(list);
    }
    everywhere(
        || case.run(true),
        |isa, got| {
            for (k, want) in want.iter().enumerate().filter(|(_, w)| !w.is_empty()) {
                let picked: Vec<f32> = got[3 + k].iter().copied().step_by(stride).collect();
                assert_close(&format!("gradient {k} of {}", case.what(isa)), &picked, want, 2e-5, 2e-5);
            }
        },
    );
}

#[test]
fn a_second_direction_adds_to_the_inputs_gradient() {
    let case = case(Cell::Gru, [2, 3, 4, 5], None, 0);
    let l = &case.layer;
    let once = case.run(true)[3].clone();
    let [x, w_ih, w_hh, ..] = &case.values;
    let (mut input, mut recurrent) = (vec![0.0; l.weight_len(4)], vec![0.0; l.weight_len(5)]);
    l.pack_weight(w_ih, 4, &mut input);
    l.pack_weight(w_hh, 5, &mut recurrent);
    let weights = Weights { input: &input, recurrent: &recurrent, bias_input: None, bias_recurrent: None };
    let (y, extra) = (vec![0.1; l.output_len()], vec![0.3; l.extra_len()]);
    let run = |accumulate_x: bool, start: &[f32]| {
        let kept = Kept {
            x: Inputs::Rows(x),
            start: States::default(),
            lengths: None,
            y: &y,
            extra: &extra,
            dy: Some(&case.grads[0]),
            dend: States::default(),
        };
        let mut dx = start.to_vec();
        let (mut a, mut b) = (vec![0.0; input.len()], vec![0.0; recurrent.len()]);
        let mut gates = vec![0.2; l.gates_len()];
        let mut out = Gradients {
            x: Some(&mut dx),
            accumulate_x,
            input: &mut a,
            recurrent: &mut b,
            bias_input: None,
            bias_recurrent: None,
            h: None,
            c: None,
            gates: &mut gates,
        };
        l.backward(&weights, &kept, &mut out, &mut vec![0.0; l.backward_scratch()]).unwrap();
        dx
    };
    let alone = run(false, &once);
    let sum: Vec<f64> = alone.iter().zip(&once).map(|(a, b)| f64::from(a + b)).collect();
    assert_close("sum", &run(true, &once), &sum, 1e-7, 1e-6);
}

#[test]
fn lengths_out_of_range_are_named() {
    let case = case(Cell::Lstm, [2, 3, 1, 1], None, 0);
    for lengths in [vec![1, 4], vec![1, -1]] {
        let error = case.layer.check_lengths(Some(Indices::I64(&lengths))).unwrap_err().to_string();
        assert!(error.contains("sequence 1") && error.contains("0 to 3"), "{error}");
    }
}
