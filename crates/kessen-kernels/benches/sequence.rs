//! Prints how fast recurrent layers and attention are, in GFLOP/s of their products.
//!
//! ```text
//! cargo bench -p kessen-kernels --bench sequence [-- FILTER]
//! ```

use kessen_kernels::attention::{self, Attention, Masks, Strides};
use kessen_kernels::recurrent::{self, Activation, Cell, Outputs, Recurrent, States, Weights};
use std::time::Instant;

/// Best seconds per call over some 0.5 s.
fn seconds(mut f: impl FnMut()) -> f64 {
    f();
    let start = Instant::now();
    f();
    let calls = (0.05 / start.elapsed().as_secs_f64().max(1e-9)).ceil().min(1e6) as usize;
    (0..8)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| f());
            start.elapsed().as_secs_f64() / calls as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn row(name: &str, operations: usize, f: impl FnMut()) {
    let s = seconds(f);
    println!("{name:<44} {:9.3} ms {:7.1} GFLOP/s", s * 1e3, operations as f64 * 1e-9 / s);
}

/// Small numbers around 0.
fn data(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * 0.05).collect()
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let elman = Cell::Elman(Activation::Tanh);
    for (name, cell, inputs, hidden) in
        [("elman", elman, 128, 256), ("lstm", Cell::Lstm, 256, 512), ("gru", Cell::Gru, 256, 512)]
    {
        for batch in [1, 32] {
            if name.contains(&filter) {
                layer(name, cell, batch, inputs, hidden);
            }
        }
    }
    for (batch, heads, time, width) in [(16, 4, 128, 64), (1, 4, 128, 64), (2, 8, 1024, 64)] {
        if "attention".contains(&filter) {
            heads_of(batch, heads, time, width);
        }
    }
}

fn layer(name: &str, cell: Cell, batch: usize, inputs: usize, hidden: usize) {
    let time = 64;
    let l = Recurrent {
        cell,
        batch,
        time,
        inputs,
        hidden,
        batch_first: true,
        reverse: false,
        output_row: hidden,
    };
    let (input, recurrent) = (data(l.weight_len(inputs)), data(l.weight_len(hidden)));
    let weights = Weights { input: &input, recurrent: &recurrent, bias_input: None, bias_recurrent: None };
    let x = data(batch * time * inputs);
    let (mut y, mut gates) = (vec![0.0; l.output_len()], vec![0.0; l.gates_len()]);
    let (mut extra, mut scratch) = (vec![0.0; l.extra_len()], vec![0.0; l.forward_scratch()]);
    let work = 2 * batch * time * cell.gates() * hidden * (inputs + hidden);
    row(&format!("{name} forward, batch {batch}"), work, || {
        let mut out = Outputs { y: &mut y, gates: &mut gates, extra: &mut extra, h: None, c: None };
        let done = l.forward(&x, &weights, States::default(), None, &mut out, &mut scratch);
        assert!(done.is_ok());
    });
    let dy = data(l.output_len());
    let mut dx = vec![0.0; x.len()];
    let (mut dw, mut dr) = (vec![0.0; input.len()], vec![0.0; recurrent.len()]);
    let mut scratch = vec![0.0; l.backward_scratch()];
    let kept = recurrent::Kept {
        x: &x,
        start: States::default(),
        lengths: None,
        y: &y,
        gates: &gates,
        extra: &extra,
        dy: Some(&dy),
        dend: States::default(),
    };
    row(&format!("{name} backward, batch {batch}"), 2 * work, || {
        let mut out = recurrent::Gradients {
            x: Some(&mut dx),
            accumulate_x: false,
            input: &mut dw,
            recurrent: &mut dr,
            bias_input: None,
            bias_recurrent: None,
            h: None,
            c: None,
        };
        assert!(l.backward(&weights, &kept, &mut out, &mut scratch).is_ok());
    });
}

fn heads_of(batch: usize, heads: usize, time: usize, width: usize) {
    let s = Strides::rows_first(heads, time, width);
    let a = Attention {
        batch,
        heads,
        queries: time,
        keys: time,
        width,
        scale: 1.0 / (width as f32).sqrt(),
        causal: None,
        dropout: None,
        q: s,
        k: s,
        v: s,
        o: s,
    };
    let n = batch * heads * time * width;
    let (q, k, v, d_o) = (data(n), data(n), data(n), data(n));
    let (mut o, mut sums) = (vec![0.0; n], vec![0.0; a.sums_len()]);
    let mut scratch = vec![0.0; a.forward_scratch()];
    let work = 4 * n * time;
    row(&format!("attention forward {batch}×{heads}×{time}×{width}"), work, || {
        a.forward(&q, &k, &v, Masks::default(), &mut o, &mut sums, &mut scratch);
    });
    let [mut dq, mut dk, mut dv] = [n; 3].map(|n| vec![0.0; n]);
    let mut scratch = vec![0.0; a.backward_scratch()];
    let masks = Masks::default();
    let kept = attention::Kept { q: &q, k: &k, v: &v, masks, o: &o, sums: &sums, d_o: &d_o };
    row(&format!("attention backward {batch}×{heads}×{time}×{width}"), work * 5 / 2, || {
        a.backward(&kept, &mut dq, &mut dk, &mut dv, &mut scratch);
    });
}
