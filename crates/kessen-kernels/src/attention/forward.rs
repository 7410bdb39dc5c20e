//! The forward pass.

use super::product::{Place, Product, STRIP};
use super::row::{self, Panels, Rows, Running, Sight};
use super::{Attention, KEYS, Masks};
use crate::isa::Isa;
use crate::layout::{pack_rows, pack_transposed, panels_len};
use crate::micro::{Family, PANEL};
use crate::prefetch::{ROWS_AHEAD, prefetch};
use crate::threads::{self, Address, Shared, parallel_for};
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// Heads of samples from which on queries are not cut into tasks.
const ENOUGH: usize = 16;
/// Queries of a task where they are.
const TASK: usize = 112;
/// Most queries for which keys and values are read where they lie: a copy would not pay.
const FEW: usize = 4;
/// Most elements of all keys that may lie in the second-level cache beside the values.
const NEAR: usize = 1 << 16;

impl Attention {
    /// Elements of scratch of one thread: keys and values in panels, a strip's queries, products and output.
    fn forward_each(&self) -> [usize; 5] {
        let few = self.queries <= FEW;
        let keys = if few { 0 } else { panels_len(self.width, self.keys) };
        let values = if self.in_place() { 0 } else { panels_len(self.keys, self.width) };
        let rows = panels_len(STRIP, self.width);
        [keys, values, if few { 0 } else { rows }, STRIP * KEYS, rows]
    }

    /// Whether values are read where they lie, in whole panels.
    fn in_place(&self) -> bool {
        self.queries <= FEW && self.width.is_multiple_of(PANEL)
    }

    /// Number of elements of scratch that [`Attention::forward`] needs with the present number of threads.
    pub fn forward_scratch(&self) -> usize {
        threads::count() * self.forward_each().iter().sum::<usize>()
    }

    /// Attends from `q` to `k` and `v`; writes `o` and each query's ln Σ eˢ (+∞ where it sees no key) to `sums`.
    ///
    /// # Panics
    /// If a slice is too short for the strides.
    pub fn forward(
        &self,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        masks: Masks<'_>,
        o: &mut [f32],
        sums: &mut [f32],
        scratch: &mut [f32],
    ) {
        self.check(q, k, v, masks);
        assert!(o.len() >= self.extent(self.o, self.queries), "attention: outputs");
        assert_eq!(sums.len(), self.sums_len(), "attention: sums");
        let pairs = self.batch * self.heads;
        let chunks = if pairs >= ENOUGH { 1 } else { self.queries.div_ceil(TASK).max(1) };
        let each: usize = self.forward_each().iter().sum();
        let (o, sums, scratch) = (Address(o.as_mut_ptr()), Shared::new(sums), Shared::new(scratch));
        let (family, isa) = (Family::active(), Isa::active());
        parallel_for(pairs * chunks, |task| {
            let (pair, chunk) = (task / chunks, task % chunks);
            let (b, h) = (pair / self.heads, pair % self.heads);
            let slot = threads::worker() * each;
            // SAFETY: each thread has its own scratch.
            let scratch = unsafe { scratch.part(slot..slot + each) };
            let mut rest = scratch;
            let [key_panels, value_panels, queries, products, out] =
                self.forward_each().map(|len| rest.split_off_mut(..len).unwrap_or_default());
            let keys = k.get(self.k.at(b, h, 0)..).unwrap_or_default();
            let values = v.get(self.v.at(b, h, 0)..).unwrap_or_default();
            pack_transposed(keys, self.k.row, self.keys, self.width, key_panels);
            let values = if self.in_place() {
                Place::rows(values.as_ptr(), self.v.row)
            } else {
                pack_rows(isa, values, self.v.row, self.keys, self.width, value_panels);
                Place::panels(value_panels.as_ptr(), self.keys)
            };
            let pass = Pass { attention: self, masks, family, isa, b, h, keys, key_panels, values };
            let mut strip = Strip { queries, products, out };
            let rows = self.queries * chunk / chunks..self.queries * (chunk + 1) / chunks;
            for rows in Self::strips(family, rows) {
                let at = pair * self.queries;
                // SAFETY: tasks have disjoint queries.
                let sums = unsafe { sums.part(at + rows.start..at + rows.end) };
                let o = o.get().wrapping_add(self.o.at(b, h, rows.start));
                // SAFETY: rows of this strip, which are this task's.
                let mut o = unsafe { Rows::new(o, self.o.row, self.width) };
                pass.strip(rows.clone(), &q[self.q.at(b, h, rows.start)..], &mut strip, &mut o, sums);
            }
        });
    }
}

/// A strip's scratch.
struct Strip<'a> {
    /// Its queries in panels, unless there are few.
    queries: &'a mut [f32],
    /// Its products with a tile of keys, in panels.
    products: &'a mut [f32],
    /// Its output in panels, before it is divided by the sums.
    out: &'a mut [f32],
}

/// One head of one sample.
struct Pass<'a> {
    attention: &'a Attention,
    masks: Masks<'a>,
    family: &'static Family,
    isa: Isa,
    b: usize,
    h: usize,
    /// Rows as they lie.
    keys: &'a [f32],
    /// Keys in panels, unless there are few queries.
    key_panels: &'a [f32],
    /// Rows that may be read in whole panels.
    values: Place<*const f32>,
}

impl Pass<'_> {
    /// A strip of queries against all keys they see; `queries` begin at its first row.
    fn strip(
        &self,
        rows: Range<usize>,
        queries: &[f32],
        strip: &mut Strip<'_>,
        o: &mut Rows,
        sums: &mut [f32],
    ) {
        let (a, m) = (self.attention, rows.len());
        let mut state = Running::new();
        let visible = a.visible(rows.end - 1);
        if !strip.queries.is_empty() {
            pack_rows(self.isa, queries, a.q.row, m, a.width, &mut strip.queries[..panels_len(m, a.width)]);
        }
        for first in (0..visible).step_by(KEYS) {
            let sight = a.sight(self.masks, self.b, rows.start, first, KEYS.min(visible - first));
            self.products(m, queries, first, &sight, strip);
            let mut products = Panels::new(strip.products, m);
            row::softmax(self.isa, &mut products, m, &sight, &mut state);
            if first > 0 {
                row::scale(self.isa, &mut Panels::new(strip.out, m), a.width, &state.factor[..m]);
            }
            a.drop(self.isa, self.b * a.heads + self.h, &rows, [first, sight.keys], &mut products);
            let b = self.values;
            let product = Product {
                family: self.family,
                a: (strip.products.as_ptr(), m),
                b: Place { at: b.at.wrapping_add(first * b.row), ..b },
                c: Place::panels(strip.out.as_mut_ptr(), m),
                n: a.width.next_multiple_of(PANEL),
                factor: 1.0,
                accumulate: first > 0,
            };
            // SAFETY: the strip's products and output, and whole panels of values.
            unsafe { product.seen_terms(m, &sight) }
        }
        let mut factors = [0.0; STRIP];
        row::close(self.isa, &state, &mut factors, sums);
        row::write(self.isa, &mut Panels::new(strip.out, m), &factors[..m], o);
    }

    /// log₂ e·scale·Q·Kᵀ of the strip's queries with the keys that they see from `first` on.
    fn products(&self, m: usize, queries: &[f32], first: usize, sight: &Sight<'_>, strip: &mut Strip<'_>) {
        let a = self.attention;
        assert!(m <= STRIP && strip.products.len() >= STRIP * KEYS && sight.keys <= KEYS, "attention: strip");
        if self.key_panels.is_empty() {
            return self.few_products(m, queries, first, sight.keys, strip.products);
        }
        let product = Product {
            family: self.family,
            a: (strip.queries.as_ptr(), m),
            b: Place::panels(self.key_panels[first * a.width..].as_ptr(), a.width),
            c: Place::panels(strip.products.as_mut_ptr(), m),
            n: sight.keys.next_multiple_of(PANEL),
            factor: a.scale * LOG2_E,
            accumulate: false,
        };
        // SAFETY: the strip's queries and products, whose lengths were checked, and panels of all keys.
        unsafe { product.seen_columns(m, sight, a.width) }
    }

    /// The same of few queries with all of `count` keys, read where they lie.
    fn few_products(&self, m: usize, queries: &[f32], first: usize, count: usize, products: &mut [f32]) {
        let a = self.attention;
        // Asking costs as much as some products.
        let far = a.batch * a.heads * a.keys * a.width > NEAR;
        let ahead = if far { ROWS_AHEAD } else { 0 };
        // The panels of one row are neighbours.
        let run = if m == 1 { KEYS } else { PANEL };
        for (products, key) in products.chunks_mut(m * run).zip((0..count).step_by(run)) {
            let keys = first + key..first + count.min(key + run);
            if far && a.in_place() {
                for key in keys.clone() {
                    prefetch(self.values.at.wrapping_add(key * self.values.row), a.width);
                }
            }
            for (r, products) in products.chunks_mut(run).enumerate() {
                let query = (&queries[r * a.q.row..][..a.width], 0);
                let rows = (&self.keys[keys.start * a.k.row..], a.k.row);
                let factor = a.scale * LOG2_E;
                row::dots(self.isa, query, rows, a.width, ahead, factor, &mut products[..keys.len()]);
            }
        }
    }
}
