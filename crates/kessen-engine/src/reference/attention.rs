//! Scaled dot-product attention: softmax(Q·Kᵀ/√d)·V for each head (Vaswani et al. 2017).
//!
//! `n` sample, `h` head, `t` query, `s` key, `d` feature of a head. s_ts = scale·Σ_d q_td·k_sd + bias_ts over the keys
//! that query t sees, p_ts = e^(s_ts − L_t) with L_t = ln Σ_s e^(s_ts), out_td = Σ_s p_ts·v_sd. In training, p̃ is p
//! with elements dropped and the others scaled, and takes p's place in the last sum.

use kessen_graph::ops::attention::Attention;

use super::array::{Array, Value};
use super::dropout::{mixed_key, survives};
use super::kernel::Operands;
use crate::{Clock, Result};

/// One of q, k and v: `[B, rows, E]`, or a third of each row of a packed operand.
#[derive(Clone, Copy)]
struct Part<'a> {
    all: &'a Array,
    /// Where the rows' features begin.
    first: usize,
    /// Features of a head.
    width: usize,
}

impl Part<'_> {
    fn place(&self, [n, h, row, d]: [usize; 4]) -> usize {
        let [_, rows, features] = self.all.dims();
        (n * rows + row) * features + self.first + h * self.width + d
    }

    fn at(&self, place: [usize; 4]) -> f64 {
        self.all.data[self.place(place)]
    }
}

/// The operands and sizes of an attention.
struct Heads<'a> {
    op: &'a Attention,
    clock: Clock,
    q: Part<'a>,
    k: Part<'a>,
    v: Part<'a>,
    lengths: Option<Vec<usize>>,
    mask: Option<&'a Array>,
    bias: Option<&'a Array>,
    queries: usize,
    keys: usize,
    width: usize,
}

impl<'a> Heads<'a> {
    /// Operands that begin at position `first` of the node's.
    fn new(op: &'a Attention, o: &Operands<'a>, first: usize) -> Result<Self> {
        let places = op.places();
        let (q, k, v) = match op.packed {
            true => (o.real(first)?, o.real(first)?, o.real(first)?),
            false => (o.real(first)?, o.real(first + 1)?, o.real(first + 2)?),
        };
        let features = q.shape[2] / if op.packed { 3 } else { 1 };
        let (width, keys) = (features / op.heads, k.shape[1]);
        let part =
            |all: &'a Array, i: usize| Part { all, first: if op.packed { i * features } else { 0 }, width };
        let at = |i: Option<usize>| i.map(|i| o.real(first + i)).transpose();
        let lengths = match places.lengths {
            None => None,
            Some(i) => {
                let ids = o.ids(first + i)?.data.iter().enumerate();
                Some(ids.map(|(n, &length)| o.index(length, n, keys + 1)).collect::<Result<Vec<_>>>()?)
            }
        };
        Ok(Self {
            op,
            clock: o.clock,
            q: part(q, 0),
            k: part(k, 1),
            v: part(v, 2),
            lengths,
            mask: at(places.key_mask)?,
            bias: at(places.bias)?,
            queries: q.shape[1],
            keys,
            width,
        })
    }

    /// Calls `f(n, h, t)` for every query of every head.
    fn for_each_query(&self, mut f: impl FnMut(usize, usize, usize)) {
        for n in 0..self.q.all.shape[0] {
            for h in 0..self.op.heads {
                (0..self.queries).for_each(|t| f(n, h, t));
            }
        }
    }

    /// Whether query t of sample n sees key s.
    fn sees(&self, n: usize, t: usize, s: usize) -> bool {
        !(self.op.causal && s > t
            || self.lengths.as_ref().is_some_and(|l| s >= l[n])
            || self.mask.is_some_and(|m| m[[n, s]] == 0.0)
            || self.bias.is_some_and(|b| b[[t, s]] == f64::NEG_INFINITY))
    }

    /// s_ts of all keys, −∞ where a key is not seen.
    fn products(&self, n: usize, h: usize, t: usize) -> Vec<f64> {
        let scale = self.op.factor(self.width);
        let product = |s: usize| -> f64 {
            (0..self.width).map(|d| self.q.at([n, h, t, d]) * self.k.at([n, h, s, d])).sum()
        };
        let bias = |s: usize| self.bias.map_or(0.0, |b| b[[t, s]]);
        let one = |s| if self.sees(n, t, s) { scale * product(s) + bias(s) } else { f64::NEG_INFINITY };
        (0..self.keys).map(one).collect()
    }

    /// What multiplies p_ts before the values are summed: 1, or in training 0 or 1/(1 − dropout).
    fn kept(&self, n: usize, h: usize, t: usize, s: usize) -> f64 {
        if !self.op.training || self.op.dropout == 0.0 {
            return 1.0;
        }
        // A query's elements begin at a multiple of 64.
        let row = (n * self.op.heads + h) * self.queries + t;
        let place = row * self.keys.next_multiple_of(64) + s;
        let key = mixed_key(self.clock.seed, self.op.key);
        if survives(self.op.dropout, key, self.clock.step, place as u64) {
            1.0 / (1.0 - self.op.dropout)
        } else {
            0.0
        }
    }
}

/// out `[B, T, E]` and ln Σ eˢ `[B, H, T]`.
pub(super) fn attention(op: &Attention, o: &Operands<'_>, results: &mut [Value]) -> Result<()> {
    let heads = Heads::new(op, o, 0)?;
    let [out, logsumexp] = o.results(results)?;
    heads.for_each_query(|n, h, t| {
        let products = heads.products(n, h, t);
        let m = products.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if m == f64::NEG_INFINITY {
            logsumexp[[n, h, t]] = f64::INFINITY;
            return;
        }
        let l = m + products.iter().map(|s| (s - m).exp()).sum::<f64>().ln();
        logsumexp[[n, h, t]] = l;
        for d in 0..heads.width {
            out[[n, t, h * heads.width + d]] = (0..heads.keys)
                .map(|s| (products[s] - l).exp() * heads.kept(n, h, t, s) * heads.v.at([n, h, s, d]))
                .sum();
        }
    });
    Ok(())
}

/// With p = e^(s − L): dv = p̃ᵀ·dout; dp = dout·vᵀ (what was dropped takes no part); ds = p·(dp − Σ_d dout·out);
/// dq = scale·ds·k; dk = scale·dsᵀ·q.
pub(super) fn attention_grad(op: &Attention, o: &Operands<'_>, results: &mut [Value]) -> Result<()> {
    let heads = Heads::new(op, o, 1)?;
    let [dout, out, logsumexp] = [0, op.places().operands + 1, op.places().operands + 2].map(|i| o.real(i));
    let (dout, out, logsumexp) = (dout?, out?, logsumexp?);
    let (width, scale) = (heads.width, op.factor(heads.width));
    let mut d = o.all_results(results)?;
    // dq, dk and dv are results of their own, or parts of one.
    let of = |i: usize| if op.packed { 0 } else { i };
    heads.for_each_query(|n, h, t| {
        let products = heads.products(n, h, t);
        let outer = |i: usize| dout[[n, t, h * width + i]];
        let along: f64 = (0..width).map(|i| outer(i) * out[[n, t, h * width + i]]).sum();
        for (s, product) in products.iter().enumerate() {
            let (p, kept) = ((product - logsumexp[[n, h, t]]).exp(), heads.kept(n, h, t, s));
            let dp: f64 = (0..width).map(|i| outer(i) * heads.v.at([n, h, s, i])).sum::<f64>() * kept;
            let ds = p * (dp - along);
            for i in 0..width {
                d[of(0)].data[heads.q.place([n, h, t, i])] += scale * ds * heads.k.at([n, h, s, i]);
                d[of(1)].data[heads.k.place([n, h, s, i])] += scale * ds * heads.q.at([n, h, t, i]);
                d[of(2)].data[heads.v.place([n, h, s, i])] += p * kept * outer(i);
            }
        }
    });
    Ok(())
}
