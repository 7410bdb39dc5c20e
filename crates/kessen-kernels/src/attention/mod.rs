//! Scaled dot-product attention by tiles, forward and backward; no `T × T` matrix is kept.
//!
//! Glossary: `B` batch, `H` heads, `Tq` queries, `Tk` keys, `D` width of a head. With S = scale·Q·Kᵀ + bias,
//! P = softmax(S) over the visible keys, O = P·V. The forward pass goes through the keys in tiles with a running
//! maximum and sum (Milakov and Gimelshein, 2018; Dao et al., 2022) and keeps each query's ln Σ eˢ; the backward pass
//! computes P again from it: dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P·(dP − Σ dO·O), dQ = scale·dS·K, dK = scale·dSᵀ·Q.
//!
//! Queries go through a tile in strips, whose products stay in the first-level cache from the product through the softmax to
//! the next product; under a causal mask nothing is multiplied behind the last key that a tile of a strip sees. All operands are
//! copied to panels first: the rows of one head lie far apart and would fall on the same sets of the cache.
//!
//! A query that sees no key has the output 0 and gives no gradient. Each head of each sample is a task of its own (few
//! heads are cut by queries in the forward pass), so threads never meet.

mod backward;
mod forward;
mod product;
mod row;

pub use backward::Kept;

use crate::dropout::Dropout;
use crate::isa::Isa;
use crate::micro::Family;
use crate::split::even;
use product::STRIP;
use row::{Panels, Sight};
use std::ops::Range;

/// Keys of a tile.
const KEYS: usize = 128;
/// Distances of samples, heads and rows in memory; the `D` elements of a row follow each other. Heads side by side in
/// rows of `H·D`, as a projection leaves them, need no transpose: `Strides { batch: T·H·D, head: D, row: H·D }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// From one sample to the next.
    pub batch: usize,
    /// From one head to the next.
    pub head: usize,
    /// From one query or key to the next.
    pub row: usize,
}

impl Strides {
    /// Dense `[B, H, rows, width]`.
    pub fn heads_first(heads: usize, rows: usize, width: usize) -> Self {
        Strides { batch: heads * rows * width, head: rows * width, row: width }
    }

    /// Dense `[B, rows, H, width]`.
    pub fn rows_first(heads: usize, rows: usize, width: usize) -> Self {
        Strides { batch: heads * rows * width, head: width, row: heads * width }
    }

    fn at(&self, batch: usize, head: usize, row: usize) -> usize {
        batch * self.batch + head * self.head + row * self.row
    }
}

/// The shape of an attention and what is hidden from whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Samples `B`.
    pub batch: usize,
    /// Heads `H`.
    pub heads: usize,
    /// Queries `Tq`.
    pub queries: usize,
    /// Keys `Tk`.
    pub keys: usize,
    /// Width `D` of a head.
    pub width: usize,
    /// Factor of the products, usually 1/√D.
    pub scale: f32,
    /// Query i sees only keys up to i + this.
    pub causal: Option<usize>,
    /// Drops probabilities.
    pub dropout: Option<Dropout>,
    /// Where Q and dQ lie.
    pub q: Strides,
    /// Where K and dK lie.
    pub k: Strides,
    /// Where V and dV lie.
    pub v: Strides,
    /// Where O and dO lie.
    pub o: Strides,
}

/// Masks given at each call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Masks<'a> {
    /// `[B, Tk]`: 0 hides a key from all queries of its sample.
    pub keys: Option<&'a [f32]>,
    /// `[Tq, Tk]`, added to the scaled products; −∞ hides.
    pub bias: Option<&'a [f32]>,
}

impl Attention {
    /// Smallest length of an operand with these strides and this many rows.
    fn extent(&self, s: Strides, rows: usize) -> usize {
        if self.batch * self.heads * rows == 0 {
            return 0;
        }
        s.at(self.batch - 1, self.heads - 1, rows - 1) + self.width
    }

    /// Length of the kept ln Σ eˢ, `[B, H, Tq]`.
    pub fn sums_len(&self) -> usize {
        self.batch * self.heads * self.queries
    }

    /// Number of keys that queries up to `last` can see at most.
    fn visible(&self, last: usize) -> usize {
        self.causal.map_or(self.keys, |offset| self.keys.min(last + 1 + offset))
    }

    /// The queries of `rows` in strips of nearly as many tiles each.
    fn strips(family: &Family, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let tall = family.tall(STRIP);
        let (tiles, most) = (rows.len().div_ceil(tall), STRIP / tall);
        (0..tiles.div_ceil(most)).map(move |index| {
            let part = even(tiles, most, index);
            rows.start + part.start * tall..rows.end.min(rows.start + part.end * tall)
        })
    }

    fn check(&self, q: &[f32], k: &[f32], v: &[f32], masks: Masks<'_>) {
        assert!(q.len() >= self.extent(self.q, self.queries), "attention: queries");
        assert!(k.len() >= self.extent(self.k, self.keys), "attention: keys");
        assert!(v.len() >= self.extent(self.v, self.keys), "attention: values");
        assert!(masks.keys.is_none_or(|m| m.len() == self.batch * self.keys), "attention: mask of keys");
        assert!(masks.bias.is_none_or(|m| m.len() == self.queries * self.keys), "attention: bias");
    }

    /// What the queries from `query` on see of `keys` keys from `first` on.
    fn sight<'a>(&self, masks: Masks<'a>, b: usize, query: usize, first: usize, keys: usize) -> Sight<'a> {
        let seen = |offset: usize| (query + 1 + offset) as isize - first as isize;
        Sight {
            keys,
            causal: self.causal.map(seen),
            mask: masks.keys.map(|mask| &mask[b * self.keys + first..]),
            bias: masks.bias.map(|bias| (&bias[query * self.keys + first..], self.keys)),
        }
    }

    /// Drops some of the products of `rows` with keys from `first` on.
    fn drop(
        &self,
        isa: Isa,
        pair: usize,
        rows: &Range<usize>,
        [first, keys]: [usize; 2],
        x: &mut Panels<'_>,
    ) {
        let Some(dropout) = self.dropout else { return };
        for (r, query) in rows.clone().enumerate() {
            x.drop(isa, &dropout, r, keys, self.dropout_block(pair, query, first));
        }
    }

    /// The block of dropout's counters where the keys of a query begin.
    fn dropout_block(&self, pair: usize, query: usize, key: usize) -> u64 {
        ((pair * self.queries + query) * self.keys.div_ceil(Dropout::BLOCK) + key / Dropout::BLOCK) as u64
    }
}

#[cfg(test)]
mod tests;
