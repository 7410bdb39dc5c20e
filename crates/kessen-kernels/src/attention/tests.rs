use super::*;
use crate::testing::{Guarded, assert_close, everywhere, numbers, wide};

struct Case {
    a: Attention,
    keys: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    /// q, k, v, dO
    values: [Vec<f32>; 4],
}

fn case([batch, heads, queries, keys, width]: [usize; 5], variant: usize) -> Case {
    let strides = |rows: usize| match variant.is_multiple_of(2) {
        true => Strides::heads_first(heads, rows, width),
        false => Strides::rows_first(heads, rows, width),
    };
    let (q, k) = (strides(queries), strides(keys));
    let causal = [None, Some(0), Some(3)][variant % 3];
    let scale = 1.0 / (width as f32).sqrt();
    let a = Attention { batch, heads, queries, keys, width, scale, causal, dropout: None, q, k, v: k, o: q };
    let mask: Vec<f32> =
        (0..batch * keys).map(|i| if (i * 7 + variant).is_multiple_of(5) { 0.0 } else { 1.0 }).collect();
    let bias = numbers(9, queries * keys);
    let n = batch * heads * width;
    Case {
        a,
        keys: (variant % 4 >= 2).then_some(mask),
        bias: (variant % 5 >= 3).then_some(bias),
        values: [
            numbers(1, n * queries).iter().map(|x| 3.0 * x).collect(),
            numbers(2, n * keys).iter().map(|x| 3.0 * x).collect(),
            numbers(3, n * keys),
            numbers(4, n * queries),
        ],
    }
}

impl Case {
    /// O and, from dO, the gradients of q, k and v, by the formulas with the whole matrix. `drop` is a factor for
    /// each probability, `[B, H, Tq, Tk]`.
    fn reference(&self, drop: Option<&[f64]>) -> [Vec<f64>; 4] {
        let a = &self.a;
        let [q, k, v, d_o] = self.values.each_ref().map(|v| wide(v));
        let mut out = [vec![0.0; q.len()], vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
        for (pair, i) in (0..a.batch * a.heads).flat_map(|p| (0..a.queries).map(move |i| (p, i))) {
            let (b, h) = (pair / a.heads, pair % a.heads);
            let shown = |j: &usize| {
                a.causal.is_none_or(|o| *j <= i + o)
                    && self.keys.as_ref().is_none_or(|m| m[b * a.keys + j] != 0.0)
            };
            let seen: Vec<usize> = (0..a.keys).filter(shown).collect();
            let (qi, oi) = (a.q.at(b, h, i), a.o.at(b, h, i));
            let score = |j: usize| {
                let kj = a.k.at(b, h, j);
                let dot: f64 = (0..a.width).map(|d| q[qi + d] * k[kj + d]).sum();
                dot * f64::from(a.scale) + self.bias.as_ref().map_or(0.0, |m| f64::from(m[i * a.keys + j]))
            };
            let e: Vec<f64> = seen.iter().map(|&j| score(j).exp()).collect();
            let total: f64 = e.iter().sum();
            let factor = |j: usize| drop.map_or(1.0, |d| d[(pair * a.queries + i) * a.keys + j]);
            for (&j, e) in seen.iter().zip(&e) {
                let vj = a.v.at(b, h, j);
                (0..a.width).for_each(|d| out[0][oi + d] += e / total * factor(j) * v[vj + d]);
            }
            let delta: f64 = (0..a.width).map(|d| d_o[oi + d] * out[0][oi + d]).sum();
            for (&j, e) in seen.iter().zip(&e) {
                let (kj, vj, p) = (a.k.at(b, h, j), a.v.at(b, h, j), e / total);
                let dp: f64 = (0..a.width).map(|d| d_o[oi + d] * v[vj + d]).sum();
                let ds = p * (dp * factor(j) - delta) * f64::from(a.scale);
                for d in 0..a.width {
                    out[1][qi + d] += ds * k[kj + d];
                    out[2][kj + d] += ds * q[qi + d];
                    out[3][vj + d] += p * factor(j) * d_o[oi + d];
                }
            }
        }
        out
    }

    fn run(&self) -> Vec<Vec<f32>> {
        let a = &self.a;
        let [q, k, v, d_o] = &self.values;
        let masks = Masks { keys: self.keys.as_deref(), bias: self.bias.as_deref() };
        let (mut o, mut sums) = (Guarded::new(q.len()), Guarded::new(a.sums_len()));
        let mut scratch = Guarded::new(a.forward_scratch());
        a.forward(q, k, v, masks, o.slice(), sums.slice(), scratch.slice());
        scratch.done();
        let (o, sums) = (o.done(), sums.done());
        let [mut dq, mut dk, mut dv] = [q.len(), k.len(), v.len()].map(Guarded::new);
        let mut scratch = Guarded::new(a.backward_scratch());
        let kept = Kept { q, k, v, masks, o: &o, sums: &sums, d_o };
        a.backward(&kept, dq.slice(), dk.slice(), dv.slice(), scratch.slice());
        scratch.done();
        vec![o, dq.done(), dk.done(), dv.done()]
    }

    fn check(&self, drop: Option<&[f64]>) {
        let want = self.reference(drop);
        everywhere(
            || self.run(),
            |isa, got| {
                for (name, (got, want)) in ["o", "dq", "dk", "dv"].iter().zip(got.iter().zip(&want)) {
                    let what = format!("{name} of {:?} on {isa}", self.a);
                    assert_close(&what, got, want, 2e-5, 2e-5);
                }
            },
        );
    }
}

const SIZES: [[usize; 5]; 14] = [
    [1, 1, 1, 1, 1],
    [2, 2, 5, 7, 4],
    [1, 3, 16, 16, 16],
    [2, 1, 60, 40, 20],
    [1, 2, 3, 150, 64],
    [1, 1, 130, 300, 33],
    [2, 1, 57, 129, 16],
    [4, 5, 20, 20, 8],
    [1, 1, 2, 0, 8],
    [1, 2, 0, 5, 8],
    [1, 1, 260, 140, 16],
    // Rows of two heads are as long as a panel.
    [2, 2, 40, 20, 8],
    // Few queries with many keys that are asked for.
    [8, 4, 1, 150, 16],
    [8, 4, 2, 150, 16],
];

#[test]
fn forward_and_backward_follow_the_formulas() {
    for (i, size) in SIZES.into_iter().enumerate() {
        for variant in [i, i + 5, i + 16] {
            case(size, variant).check(None);
        }
    }
}

#[test]
fn backward_is_the_gradient_of_forward() {
    // The reference's own gradient, by central differences of the reference.
    let mut c = case([1, 2, 4, 5, 3], 11);
    let want = c.reference(None);
    let objective = |c: &Case| -> f64 {
        c.reference(None)[0].iter().zip(&c.values[3]).map(|(o, d)| o * f64::from(*d)).sum()
    };
    for which in 0..3 {
        for i in 0..c.values[which].len() {
            let keep = c.values[which][i];
            let step = 1.0 / 1024.0;
            c.values[which][i] = keep + step;
            let up = objective(&c);
            c.values[which][i] = keep - step;
            let difference = (up - objective(&c)) / f64::from((keep + step) - (keep - step));
            c.values[which][i] = keep;
            assert!((difference - want[1 + which][i]).abs() < 1e-5, "{which} {i}");
        }
    }
}

#[test]
fn dropout_masks_probabilities_alike_in_both_passes() {
    let mut c = case([2, 2, 60, 150, 16], 0);
    let d = Dropout { p: 0.3, seed: 5, stream: 6, step: 7 };
    c.a.dropout = Some(d);
    // The mask as it falls on ones.
    let (a, mut drop) = (c.a, Vec::new());
    for (pair, i) in (0..4).flat_map(|p| (0..a.queries).map(move |i| (p, i))) {
        let mut row = vec![1.0; a.keys];
        d.apply_blocks(Isa::active(), a.dropout_block(pair, i, 0), &mut row);
        drop.extend(wide(&row));
    }
    assert!(drop.iter().filter(|&&f| f == 0.0).count() > drop.len() / 4);
    c.check(Some(&drop));
}

#[test]
fn large_scores_stay_finite() {
    let mut c = case([1, 1, 5, 200, 16], 0);
    c.values[0].iter_mut().for_each(|x| *x *= 1e4);
    for result in c.run() {
        assert!(result.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn nan_in_a_query_reaches_its_output_alone() {
    let mut c = case([1, 1, 40, 50, 16], 0);
    c.values[0][7 * 16 + 3] = f32::NAN;
    for (i, o) in c.run()[0].chunks_exact(16).enumerate() {
        assert!(o.iter().all(|x| x.is_nan() == (i == 7)), "query {i}");
    }
}
