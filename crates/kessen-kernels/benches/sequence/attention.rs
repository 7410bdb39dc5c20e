//! Attention, forward and backward.

use crate::suite::{Floats, Suite};
use criterion::Throughput;
use kessen_kernels::attention::{Attention, Kept, Masks, Strides};

pub fn heads(suite: &mut Suite) {
    for [batch, heads, time, width] in [[16, 4, 128, 64], [1, 4, 128, 64], [2, 8, 1024, 64]] {
        let s = Strides::rows_first(heads, time, width);
        let attention = Attention {
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
        let name = format!("attention {batch}x{heads}x{time}x{width}");
        let n = batch * heads * time * width;
        // Two products forward, five backward.
        let product = (2 * n * time) as u64;
        forward(suite, &name, 2 * product, &attention, n);
        backward(suite, &name, 5 * product, &attention, n);
    }
}

fn forward(suite: &mut Suite, name: &str, operations: u64, a: &Attention, n: usize) {
    let mut group = suite.group(name, Throughput::Elements(operations)).also_cold();
    let mut scratch = Floats::scratch([a.forward_scratch()]);
    let scratch = scratch.slice();
    group.bench("forward", [n, n, n, n, a.sums_len()], |[q, k, v, o, sums]| {
        a.forward(q, k, v, Masks::default(), o, sums, scratch);
    });
}

fn backward(suite: &mut Suite, name: &str, operations: u64, a: &Attention, n: usize) {
    let mut group = suite.group(name, Throughput::Elements(operations)).also_cold();
    let mut scratch = Floats::scratch([a.backward_scratch()]);
    let scratch = scratch.slice();
    let lengths = [n, n, n, n, a.sums_len(), n, n, n, n];
    group.bench("backward", lengths, |[q, k, v, o, sums, d_o, dq, dk, dv]| {
        let kept = Kept { q, k, v, masks: Masks::default(), o, sums, d_o };
        a.backward(&kept, dq, dk, dv, scratch);
    });
}
