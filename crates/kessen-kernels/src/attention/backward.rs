//! The backward pass: one task for each head of each sample.

use super::operand::{Operands, copied_row, copy_rows, transpose_rows};
use super::{Attention, KEYS, Masks, row};
use crate::isa::Isa;
use crate::micro::{Family, PANEL};
use crate::split::even;
use crate::threads::{self, Address, Shared, parallel_for};
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// Most queries of a tile: sums over them are long.
const QUERIES: usize = 128;

/// What the forward pass was given and has kept, and the gradient of its output.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// Masks.
    pub masks: Masks<'a>,
    /// Outputs.
    pub o: &'a [f32],
    /// Each query's ln Σ eˢ.
    pub sums: &'a [f32],
    /// Gradient of the outputs.
    pub d_o: &'a [f32],
}

/// What one thread works with: a tile's operands and results.
struct Scratch<'a> {
    /// scale·Σ dO·O of all queries.
    delta: &'a mut [f32],
    /// Keys and values in panels.
    k_panels: &'a mut [f32],
    v_panels: &'a mut [f32],
    /// Rows of K, Q and dO.
    k: &'a mut [f32],
    q: &'a mut [f32],
    d_o: &'a mut [f32],
    /// P and scale·dS, rows [`KEYS`] apart.
    p: &'a mut [f32],
    ds: &'a mut [f32],
}

impl Scratch<'_> {
    /// Lengths of the parts.
    fn lens(a: &Attention) -> [usize; 8] {
        let (queries, keys) = (a.queries.min(QUERIES), a.keys.min(KEYS));
        let panels = keys.next_multiple_of(PANEL) * a.width;
        let [q, k] = [queries, keys].map(|rows| rows * copied_row(a.width));
        [a.queries, panels, panels, k, q, q, queries * KEYS, queries * KEYS]
    }
}

impl<'a> Scratch<'a> {
    /// The parts of one thread's scratch.
    fn new(a: &Attention, mut all: &'a mut [f32]) -> Self {
        let [delta, k_panels, v_panels, k, q, d_o, p, ds] = Self::lens(a).map(|len| {
            let (part, rest) = std::mem::take(&mut all).split_at_mut(len);
            all = rest;
            part
        });
        Scratch { delta, k_panels, v_panels, k, q, d_o, p, ds }
    }
}

impl Attention {
    /// Number of elements of scratch that [`Attention::backward`] needs with the present number of threads.
    pub fn backward_scratch(&self) -> usize {
        threads::count() * Scratch::lens(self).iter().sum::<usize>()
    }

    /// The gradients of queries, keys and values, laid out like them.
    ///
    /// # Panics
    /// If a slice is too short for the strides.
    pub fn backward(
        &self,
        kept: &Kept<'_>,
        dq: &mut [f32],
        dk: &mut [f32],
        dv: &mut [f32],
        scratch: &mut [f32],
    ) {
        self.check(dq, dk, dv, kept.masks);
        let grads = [dq.as_mut_ptr(), dk.as_mut_ptr(), dv.as_mut_ptr()].map(Address);
        self.run_backward(kept, grads, scratch);
    }

    /// As [`Attention::backward`], with the gradients side by side in `all`, each from its place in `starts` on; rows
    /// must not overlap.
    ///
    /// # Panics
    /// If a slice is too short for the strides.
    pub fn backward_packed(&self, kept: &Kept<'_>, all: &mut [f32], starts: [usize; 3], scratch: &mut [f32]) {
        let [q, k, v] = starts.map(|start| &all[start..]);
        self.check(q, k, v, kept.masks);
        let all = all.as_mut_ptr();
        self.run_backward(kept, starts.map(|start| Address(all.wrapping_add(start))), scratch);
    }

    /// The gradients of queries, keys and values at addresses whose extents were checked.
    fn run_backward(&self, kept: &Kept<'_>, [dq, dk, dv]: [Address<f32>; 3], scratch: &mut [f32]) {
        self.check(kept.q, kept.k, kept.v, kept.masks);
        let extent = self.extent(self.o, self.queries);
        assert!(kept.o.len() >= extent && kept.d_o.len() >= extent, "attention: outputs");
        assert_eq!(kept.sums.len(), self.sums_len(), "attention: sums");
        let each: usize = Scratch::lens(self).iter().sum();
        let scratch = Shared::new(scratch);
        let (family, isa) = (Family::active(), Isa::active());
        parallel_for(self.batch * self.heads, |pair| {
            let (b, h) = (pair / self.heads, pair % self.heads);
            let slot = threads::worker() * each;
            // SAFETY: each thread has its own scratch.
            let scratch = unsafe { scratch.part(slot..slot + each) };
            let grads = [
                Address(dq.get().wrapping_add(self.q.at(b, h, 0))),
                Address(dk.get().wrapping_add(self.k.at(b, h, 0))),
                Address(dv.get().wrapping_add(self.v.at(b, h, 0))),
            ];
            let head = Head { attention: self, family, isa, kept, b, h, grads };
            head.run(&mut Scratch::new(self, scratch));
        });
    }
}

/// One head of one sample.
struct Head<'a> {
    attention: &'a Attention,
    family: &'static Family,
    isa: Isa,
    kept: &'a Kept<'a>,
    b: usize,
    h: usize,
    /// Gradients of queries, keys and values at the head's first rows.
    grads: [Address<f32>; 3],
}

impl Head<'_> {
    /// All gradients.
    fn run(&self, scratch: &mut Scratch<'_>) {
        let (a, kept) = (self.attention, self.kept);
        let seen = if a.queries == 0 { 0 } else { a.visible(a.queries - 1) };
        if seen > 0 {
            let at = a.o.at(self.b, self.h, 0);
            let (o, d_o) = ((&kept.o[at..], a.o.row), (&kept.d_o[at..], a.o.row));
            row::dots(self.isa, o, d_o, a.width, a.scale, scratch.delta);
        } else {
            self.clear(0, 0..a.queries);
        }
        for first in (0..seen).step_by(KEYS) {
            let keys = first..seen.min(first + KEYS);
            self.take_keys(&keys, scratch);
            let mut fresh = true;
            for index in 0..a.queries.div_ceil(QUERIES) {
                let rows = even(a.queries, QUERIES, index);
                if a.visible(rows.end - 1) > first {
                    self.tile(rows, &keys, fresh, scratch);
                    fresh = false;
                }
            }
        }
        self.clear(1, seen..a.keys);
        self.clear(2, seen..a.keys);
    }

    /// Writes zeros to rows of a gradient.
    fn clear(&self, which: usize, rows: Range<usize>) {
        for r in rows {
            // SAFETY: a row of this task's head.
            unsafe { std::slice::from_raw_parts_mut(self.grad(which, r).0, self.attention.width) }.fill(0.0);
        }
    }

    /// Where row `r` of a gradient lies, and the distance of rows.
    fn grad(&self, which: usize, r: usize) -> (*mut f32, usize) {
        let a = self.attention;
        let row = [a.q.row, a.k.row, a.v.row][which];
        (self.grads[which].get().wrapping_add(r * row), row)
    }

    /// Brings a tile's keys and values near.
    fn take_keys(&self, keys: &Range<usize>, scratch: &mut Scratch<'_>) {
        let (a, n) = (self.attention, keys.len());
        let row = copied_row(a.width);
        let k = &self.kept.k[a.k.at(self.b, self.h, keys.start)..];
        let v = &self.kept.v[a.v.at(self.b, self.h, keys.start)..];
        let panels = n.next_multiple_of(PANEL) * a.width;
        copy_rows(self.isa, k, a.k.row, a.width, &mut scratch.k[..n * row]);
        transpose_rows(scratch.k, row, [n, a.width], &mut scratch.k_panels[..panels]);
        transpose_rows(v, a.v.row, [n, a.width], &mut scratch.v_panels[..panels]);
    }

    /// What the queries `rows` and a tile of keys add to all gradients; to those of keys and values nothing was added
    /// before where `fresh`.
    fn tile(&self, rows: Range<usize>, keys: &Range<usize>, fresh: bool, scratch: &mut Scratch<'_>) {
        let a = self.attention;
        let row = copied_row(a.width);
        for (from, strides, to) in
            [(self.kept.q, a.q, &mut *scratch.q), (self.kept.d_o, a.o, &mut *scratch.d_o)]
        {
            let from = &from[strides.at(self.b, self.h, rows.start)..];
            copy_rows(self.isa, from, strides.row, a.width, &mut to[..rows.len() * row]);
        }
        for strip in a.strips(rows.clone()) {
            if a.visible(strip.end - 1) > keys.start {
                self.strip(strip, rows.start, keys, scratch);
            }
        }
        // Keys that some of the queries don't see are cut into strips, which leave those queries out.
        let cut = a.causal.is_some_and(|offset| keys.end > rows.start + 1 + offset);
        let most = if cut { a.strip() } else { KEYS };
        for index in 0..keys.len().div_ceil(most) {
            let part = even(keys.len(), most, index);
            let key = keys.start + part.start;
            let skip = a.causal.map_or(0, |offset| key.saturating_sub(rows.start + offset).min(rows.len()));
            let sums = [(&*scratch.ds, &*scratch.q, 1), (&*scratch.p, &*scratch.d_o, 2)];
            for (tile, operand, which) in sums {
                let operands = Operands {
                    a: (tile[skip.min(rows.len() - 1) * KEYS + part.start..].as_ptr(), [1, KEYS]),
                    b: (operand[skip.min(rows.len() - 1) * row..].as_ptr(), [row, PANEL]),
                    c: self.grad(which, key),
                };
                let size = [part.len(), a.width, rows.len() - skip];
                // SAFETY: columns of the tile, rows in whole panels, and rows of this head's gradient.
                unsafe { operands.multiply(self.family, size, 1.0, !fresh) }
            }
        }
    }

    /// P and scale·dS of a strip of the tile whose first query is `start`, and what they add to the gradient of queries.
    fn strip(&self, strip: Range<usize>, start: usize, keys: &Range<usize>, scratch: &mut Scratch<'_>) {
        let (a, kept) = (self.attention, self.kept);
        let (row, m) = (copied_row(a.width), strip.len());
        let (first, n) = (keys.start, a.visible(strip.end - 1).min(keys.end) - keys.start);
        let at = strip.start - start;
        let p = &mut scratch.p[at * KEYS..(at + m) * KEYS];
        let ds = &mut scratch.ds[at * KEYS..(at + m) * KEYS];
        let products = [
            (&*scratch.q, &*scratch.k_panels, a.scale * LOG2_E, p.as_mut_ptr()),
            (&*scratch.d_o, &*scratch.v_panels, a.scale, ds.as_mut_ptr()),
        ];
        for (x, panels, factor, to) in products {
            let operands = Operands {
                a: (x[at * row..].as_ptr(), [row, 1]),
                b: (panels.as_ptr(), [PANEL, a.width * PANEL]),
                c: (to, KEYS),
            };
            // SAFETY: rows of the copies, panels of the tile's keys, and rows of the tile.
            unsafe { operands.multiply(self.family, [m, n, a.width], factor, false) }
        }
        let pair = self.b * a.heads + self.h;
        a.drop(self.isa, pair, &strip, [first, n], ds);
        let sight = a.sight(kept.masks, self.b, strip.start, first, n);
        let sums = &kept.sums[pair * a.queries..][strip.clone()];
        row::gradient(self.isa, p, ds, &sight, keys.len(), sums, &scratch.delta[strip.clone()]);
        a.drop(self.isa, pair, &strip, [first, n], p);
        let operands = Operands {
            a: (ds.as_ptr(), [KEYS, 1]),
            b: (scratch.k.as_ptr(), [row, PANEL]),
            c: self.grad(0, strip.start),
        };
        // SAFETY: rows of the tile, rows in whole panels, and rows of this head's gradient.
        unsafe { operands.multiply(self.family, [m, a.width, n], 1.0, first > 0) }
    }
}
