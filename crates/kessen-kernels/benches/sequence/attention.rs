//! Attention, forward and backward.

use crate::suite::{Floats, Suite};
use criterion::Throughput;
use kessen_kernels::attention::{Attention, Kept, Masks, Strides};

/// Batch, heads, queries, keys and width of a head: sequences of several lengths and widths, keys of another sequence,
/// one query at a time.
const SHAPES: [[usize; 5]; 9] = [
    [16, 4, 128, 128, 64],
    [1, 4, 128, 128, 64],
    [16, 8, 128, 128, 32],
    [16, 2, 128, 128, 128],
    [32, 4, 32, 32, 64],
    [2, 8, 1024, 1024, 64],
    [16, 4, 96, 160, 64],
    [16, 4, 100, 100, 20],
    [16, 8, 1, 512, 64],
];
const CAUSAL: [[usize; 5]; 2] = [SHAPES[0], SHAPES[5]];

pub fn heads(suite: &mut Suite) {
    for (shape, causal) in
        SHAPES.map(|shape| (shape, false)).into_iter().chain(CAUSAL.map(|shape| (shape, true)))
    {
        let heads = Heads::new(shape, causal);
        heads.forward(suite);
        heads.backward(suite);
    }
}

/// Attention within one sequence, whose operands lie side by side as one projection leaves them, or to another's keys.
struct Heads {
    name: String,
    a: Attention,
    /// Lengths of the queries' and of the keys' sequence, and of the output.
    lengths: [usize; 3],
    /// Where queries, keys and values begin in their sequences.
    starts: [usize; 3],
    /// Floating-point operations of one product.
    product: u64,
}

impl Heads {
    fn new([batch, heads, queries, keys, width]: [usize; 5], causal: bool) -> Heads {
        let features = heads * width;
        let packed = queries == keys;
        let row = if packed { 3 * features } else { features };
        let side = |rows: usize| Strides { batch: rows * row, head: width, row };
        let a = Attention {
            batch,
            heads,
            queries,
            keys,
            width,
            scale: 1.0 / (width as f32).sqrt(),
            causal: causal.then_some(0),
            dropout: None,
            q: side(queries),
            k: side(keys),
            v: side(keys),
            o: Strides::rows_first(heads, queries, width),
        };
        let suffix = if causal { " causal" } else { "" };
        let seen = |query: usize| if causal { keys.min(query + 1) } else { keys };
        let pairs = batch * heads * (0..queries).map(seen).sum::<usize>();
        Heads {
            name: format!("attention {batch}x{heads}x{queries}x{keys}x{width}{suffix}"),
            a,
            lengths: [batch * queries * row, batch * keys * row, batch * queries * features],
            starts: if packed { [0, features, 2 * features] } else { [0; 3] },
            product: 2 * (pairs * width) as u64,
        }
    }

    fn packed(&self) -> bool {
        self.a.queries == self.a.keys
    }

    /// Queries, keys and values of the sequences `x` and `y`.
    fn operands<'a>(&self, x: &'a [f32], y: &'a [f32]) -> [&'a [f32]; 3] {
        let [q, k, v] = self.starts;
        let y = if self.packed() { x } else { y };
        [&x[q..], &y[k..], &y[v..]]
    }

    /// Two products.
    fn forward(&self, suite: &mut Suite) {
        let mut group = suite.group(&self.name, Throughput::Elements(2 * self.product)).also_cold();
        let mut scratch = Floats::scratch([self.a.forward_scratch()]);
        let [x, y, o] = self.lengths;
        group.bench("forward", [x, y, o, self.a.sums_len()], |[x, y, o, sums]| {
            let [q, k, v] = self.operands(x, y);
            self.a.forward(q, k, v, Masks::default(), o, sums, scratch.slice());
        });
    }

    /// Five products.
    fn backward(&self, suite: &mut Suite) {
        let mut group = suite.group(&self.name, Throughput::Elements(5 * self.product)).also_cold();
        let mut scratch = Floats::scratch([self.a.backward_scratch()]);
        let [x, y, o] = self.lengths;
        let lengths = [x, y, o, o, self.a.sums_len(), x, y, y];
        group.bench("backward", lengths, |[x, y, o, d_o, sums, dx, dk, dv]| {
            let [q, k, v] = self.operands(x, y);
            let kept = Kept { q, k, v, masks: Masks::default(), o, sums, d_o };
            match self.packed() {
                true => self.a.backward_packed(&kept, dx, self.starts, scratch.slice()),
                false => self.a.backward(&kept, dx, dk, dv, scratch.slice()),
            }
        });
    }
}
