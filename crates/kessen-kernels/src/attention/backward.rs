//! The backward pass: one task for each head of each sample.

use super::product::{Place, Product};
use super::row::{self, Panels};
use super::{Attention, KEYS, Masks};
use crate::isa::Isa;
use crate::layout::{pack_rows, pack_transposed, panels_len};
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
    /// Transposed keys and values in panels, a row for each column of the head.
    k_columns: &'a mut [f32],
    v_columns: &'a mut [f32],
    /// Keys, queries and dO in panels, a row for each.
    k: &'a mut [f32],
    q: &'a mut [f32],
    d_o: &'a mut [f32],
    /// P and scale·dS in panels, a row for each query.
    p: &'a mut [f32],
    ds: &'a mut [f32],
}

impl Scratch<'_> {
    /// Lengths of the parts.
    fn lens(a: &Attention) -> [usize; 8] {
        let (queries, keys) = (a.queries.min(QUERIES), a.keys.min(KEYS));
        let columns = panels_len(a.width, keys);
        let [k, q] = [keys, queries].map(|rows| panels_len(rows, a.width));
        let products = panels_len(queries, keys);
        [a.queries, columns, columns, k, q, q, products, products]
    }
}

impl<'a> Scratch<'a> {
    /// The parts of one thread's scratch.
    fn new(a: &Attention, mut all: &'a mut [f32]) -> Self {
        let [delta, k_columns, v_columns, k, q, d_o, p, ds] =
            Self::lens(a).map(|len| all.split_off_mut(..len).unwrap_or_default());
        Scratch { delta, k_columns, v_columns, k, q, d_o, p, ds }
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
            row::dots(self.isa, o, d_o, a.width, 0, a.scale, scratch.delta);
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
            unsafe { std::slice::from_raw_parts_mut(self.grad(which, r).at, self.attention.width) }.fill(0.0);
        }
    }

    /// Where the rows of a gradient lie, from row `r` on.
    fn grad(&self, which: usize, r: usize) -> Place<*mut f32> {
        let a = self.attention;
        let row = [a.q.row, a.k.row, a.v.row][which];
        Place::rows(self.grads[which].get().wrapping_add(r * row), row)
    }

    /// Brings a tile's keys and values near.
    fn take_keys(&self, keys: &Range<usize>, scratch: &mut Scratch<'_>) {
        let (a, n) = (self.attention, keys.len());
        let k = &self.kept.k[a.k.at(self.b, self.h, keys.start)..];
        let v = &self.kept.v[a.v.at(self.b, self.h, keys.start)..];
        let columns = panels_len(a.width, n);
        pack_rows(self.isa, k, a.k.row, n, a.width, &mut scratch.k[..panels_len(n, a.width)]);
        pack_transposed(k, a.k.row, n, a.width, &mut scratch.k_columns[..columns]);
        pack_transposed(v, a.v.row, n, a.width, &mut scratch.v_columns[..columns]);
    }

    /// What the queries `rows` and a tile of keys add to all gradients; to those of keys and values nothing was added
    /// before where `fresh`.
    fn tile(&self, rows: Range<usize>, keys: &Range<usize>, fresh: bool, scratch: &mut Scratch<'_>) {
        let (a, m) = (self.attention, rows.len());
        for (from, strides, to) in
            [(self.kept.q, a.q, &mut *scratch.q), (self.kept.d_o, a.o, &mut *scratch.d_o)]
        {
            let from = &from[strides.at(self.b, self.h, rows.start)..];
            pack_rows(self.isa, from, strides.row, m, a.width, &mut to[..panels_len(m, a.width)]);
        }
        for strip in Attention::strips(self.family, rows.clone()) {
            if a.visible(strip.end - 1) > keys.start {
                self.strip(strip, &rows, keys, scratch);
            }
        }
        let sight = a.sight(self.kept.masks, self.b, rows.start, keys.start, keys.len());
        for panel in 0..keys.len().div_ceil(PANEL) {
            let key = panel * PANEL;
            let columns = PANEL.min(keys.len() - key);
            // Queries that see none of the panel's keys are left out.
            let terms = sight.first_row(key).min(m)..m;
            for (tile, operand, which) in [(&*scratch.ds, &*scratch.q, 1), (&*scratch.p, &*scratch.d_o, 2)] {
                let product = Product {
                    family: self.family,
                    a: (tile[panel * m * PANEL..].as_ptr(), m),
                    b: Place::panels(operand.as_ptr(), m),
                    c: self.grad(which, keys.start + key),
                    n: a.width,
                    factor: 1.0,
                    accumulate: !fresh,
                };
                // SAFETY: a panel of the tile, rows in whole panels, and rows of this head's gradient.
                unsafe { product.columns(columns, terms.clone()) }
            }
        }
    }

    /// P and scale·dS of a strip of the tile `rows`, and what they add to the gradient of queries.
    fn strip(
        &self,
        strip: Range<usize>,
        rows: &Range<usize>,
        keys: &Range<usize>,
        scratch: &mut Scratch<'_>,
    ) {
        let (a, kept) = (self.attention, self.kept);
        let (m, first) = (strip.len(), keys.start);
        let sight =
            a.sight(kept.masks, self.b, strip.start, first, a.visible(strip.end - 1).min(keys.end) - first);
        let (tall, at) = (rows.len(), (strip.start - rows.start) * PANEL);
        let [p, ds] = [&mut *scratch.p, &mut *scratch.ds].map(|tile| &mut tile[at..]);
        let products = [
            (&*scratch.q, &*scratch.k_columns, a.scale * LOG2_E, &mut *p),
            (&*scratch.d_o, &*scratch.v_columns, a.scale, &mut *ds),
        ];
        for (x, columns, factor, to) in products {
            let product = Product {
                family: self.family,
                a: (x[at..].as_ptr(), tall),
                b: Place::panels(columns.as_ptr(), a.width),
                c: Place::panels(to.as_mut_ptr(), tall),
                n: sight.keys.next_multiple_of(PANEL),
                factor,
                accumulate: false,
            };
            // SAFETY: rows of the tile, panels of its keys, and its products.
            unsafe { product.seen_columns(m, &sight, a.width) }
        }
        let pair = self.b * a.heads + self.h;
        let [mut p, mut ds] = [p, ds].map(|tile| Panels::new(tile, tall));
        a.drop(self.isa, pair, &strip, [first, sight.keys], &mut ds);
        let sums = &kept.sums[pair * a.queries..][strip.clone()];
        row::gradient(self.isa, &mut p, &mut ds, &sight, sums, &scratch.delta[strip.clone()]);
        a.drop(self.isa, pair, &strip, [first, sight.keys], &mut p);
        let product = Product {
            family: self.family,
            a: (scratch.ds[at..].as_ptr(), tall),
            b: Place::panels(scratch.k.as_ptr(), keys.len()),
            c: self.grad(0, strip.start),
            n: a.width,
            factor: 1.0,
            accumulate: first > 0,
        };
        // SAFETY: rows of the tile, the keys in whole panels, and rows of this head's gradient.
        unsafe { product.seen_terms(m, &sight) }
    }
}
