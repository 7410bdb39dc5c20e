//! The forward pass.

use super::row::{self, RowMask};
use super::{Attention, KEYS, Masks, QUERIES};
use crate::gemm::Product;
use crate::isa::Isa;
use crate::micro::{Family, Finish, PANEL};
use crate::threads::{self, Address, Shared, parallel_for};
use std::ops::Range;

/// Heads of samples from which on queries are not cut into tasks.
const ENOUGH: usize = 16;

impl Attention {
    /// Elements of scratch of one thread: keys in panels, whole rows of values, one tile of products.
    fn forward_each(&self) -> [usize; 3] {
        [self.panels_len(), self.copy_len(self.keys), QUERIES * KEYS]
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
        let tiles = self.queries.div_ceil(QUERIES);
        let chunks = if pairs >= ENOUGH { 1 } else { tiles.div_ceil(2).max(1) };
        let each: usize = self.forward_each().iter().sum();
        let (o, sums, scratch) = (Address(o.as_mut_ptr()), Shared::new(sums), Shared::new(scratch));
        let (family, isa) = (Family::active(), Isa::active());
        parallel_for(pairs * chunks, |task| {
            let (pair, chunk) = (task / chunks, task % chunks);
            let (b, h) = (pair / self.heads, pair % self.heads);
            let slot = threads::worker() * each;
            // SAFETY: each thread has its own scratch.
            let scratch = unsafe { scratch.part(slot..slot + each) };
            let [panels, copy, _] = self.forward_each();
            let (panels, rest) = scratch.split_at_mut(panels);
            let (copy, products) = rest.split_at_mut(copy);
            let head = if self.keys > 0 { &v[self.v.at(b, h, 0)..] } else { v };
            let (values, value_row) = self.whole_rows(head, self.v.row, self.keys, copy);
            if self.keys > 0 {
                self.transpose_keys(&k[self.k.at(b, h, 0)..], self.k.row, panels);
            }
            let pass = Pass { attention: self, masks, family, isa, b, h, panels, values, value_row };
            for tile in chunk * tiles / chunks..(chunk + 1) * tiles / chunks {
                let rows = tile * QUERIES..((tile + 1) * QUERIES).min(self.queries);
                // SAFETY: tasks have disjoint queries.
                let sums =
                    unsafe { sums.part(pair * self.queries + rows.start..pair * self.queries + rows.end) };
                let start = self.o.at(b, h, rows.start);
                let queries = &q[self.q.at(b, h, rows.start)..];
                pass.tile(rows, queries, products, Address(o.get().wrapping_add(start)), sums);
            }
        });
    }
}

/// One head of one sample.
struct Pass<'a> {
    attention: &'a Attention,
    masks: Masks<'a>,
    family: &'static Family,
    isa: Isa,
    b: usize,
    h: usize,
    panels: &'a [f32],
    values: &'a [f32],
    value_row: usize,
}

impl Pass<'_> {
    /// A tile of queries against all keys they see; `queries` and `o` begin at its first row.
    fn tile(
        &self,
        rows: Range<usize>,
        queries: &[f32],
        products: &mut [f32],
        o: Address<f32>,
        sums: &mut [f32],
    ) {
        let a = self.attention;
        let (mut largest, mut total) = ([f32::NEG_INFINITY; QUERIES], [0.0; QUERIES]);
        let visible = a.visible(rows.end - 1);
        let out = |r: usize| {
            let at = o.get().wrapping_add(r * a.o.row);
            // SAFETY: a row of this tile, which nobody else refers to.
            unsafe { std::slice::from_raw_parts_mut(at, a.width) }
        };
        if visible == 0 {
            (0..rows.len()).for_each(|r| out(r).fill(0.0));
        }
        for first in (0..visible).step_by(KEYS) {
            let n = KEYS.min(visible - first);
            self.keys_product(rows.len(), queries, first, n, products);
            for r in 0..rows.len() {
                let query = rows.start + r;
                let seen = a.visible(query).saturating_sub(first).min(n);
                let s = &mut products[r * KEYS..r * KEYS + n];
                s[seen..].fill(0.0);
                let s = &mut s[..seen];
                let mask = a.row_mask(self.masks, self.b, query, first, seen);
                let [m, factor, sum] = row::softmax(self.isa, s, mask, largest[r]);
                if factor != 1.0 && first > 0 {
                    row::scale(self.isa, out(r), factor);
                }
                (largest[r], total[r]) = (m, total[r] * factor + sum);
                if let Some(d) = a.dropout {
                    d.apply_blocks(self.isa, a.dropout_block(self.b * a.heads + self.h, query, first), s);
                }
            }
            let product = Product {
                n: a.width,
                k: n,
                a: products.as_ptr(),
                a_row: KEYS as isize,
                a_col: 1,
                a_panel: None,
                b: self.values[first * self.value_row..].as_ptr(),
                b_row: self.value_row as isize,
                b_panel: PANEL as isize,
                c: o.get(),
                c_row: a.o.row as isize,
                c_panel: PANEL as isize,
                finish: Finish::plain(first > 0),
            };
            // SAFETY: the tile's products, whole rows of values, and this task's rows of the output.
            unsafe { product.block(self.family, 0..rows.len(), 0..a.width.div_ceil(PANEL), None) }
        }
        for r in 0..rows.len() {
            let none = total[r] == 0.0;
            row::scale(self.isa, out(r), if none { 0.0 } else { 1.0 / total[r] });
            sums[r] = if none { f32::INFINITY } else { largest[r] + total[r].ln() };
        }
    }

    /// scale·Q·Kᵀ of the tile's queries with `n` keys from `first` on.
    fn keys_product(&self, rows: usize, queries: &[f32], first: usize, n: usize, products: &mut [f32]) {
        let a = self.attention;
        a.product_with_keys(
            self.family,
            [rows, n],
            a.scale,
            (queries, a.q.row),
            &self.panels[first * a.width..],
            products,
        );
    }
}

impl Attention {
    /// `factor` times `rows` rows with `n` transposed rows of `panels`, into a tile of products.
    pub(super) fn product_with_keys(
        &self,
        family: &Family,
        [rows, n]: [usize; 2],
        factor: f32,
        (a, a_row): (&[f32], usize),
        panels: &[f32],
        products: &mut [f32],
    ) {
        let product = Product {
            n,
            k: self.width,
            a: a.as_ptr(),
            a_row: a_row as isize,
            a_col: 1,
            a_panel: None,
            b: panels.as_ptr(),
            b_row: PANEL as isize,
            b_panel: (self.width * PANEL) as isize,
            c: products.as_mut_ptr(),
            c_row: KEYS as isize,
            c_panel: PANEL as isize,
            finish: Finish { alpha: factor, ..Finish::plain(false) },
        };
        assert!(rows <= QUERIES && products.len() >= QUERIES * KEYS && n <= KEYS);
        assert!(
            a.len() >= (rows - 1) * a_row + self.width
                && panels.len() >= n.next_multiple_of(PANEL) * self.width
        );
        // SAFETY: lengths checked above.
        unsafe { product.block(family, 0..rows, 0..n.div_ceil(PANEL), None) }
    }

    /// A query's masks for `n` keys from `first` on.
    pub(super) fn row_mask<'a>(
        &self,
        masks: Masks<'a>,
        b: usize,
        query: usize,
        first: usize,
        n: usize,
    ) -> RowMask<'a> {
        let part = |m: &'a [f32], row: usize| &m[row * self.keys + first..row * self.keys + first + n];
        RowMask { keys: masks.keys.map(|m| part(m, b)), bias: masks.bias.map(|m| part(m, query)) }
    }
}
