//! The forward pass.

use super::operand::{Operands, copied_row, copy_rows, transpose_rows};
use super::row::{self, Rows, Running};
use super::{Attention, KEYS, Masks, STRIP};
use crate::isa::Isa;
use crate::micro::{Family, PANEL};
use crate::threads::{self, Address, Shared, parallel_for};
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// Heads of samples from which on queries are not cut into tasks.
const ENOUGH: usize = 16;
/// Queries of a task where they are.
const TASK: usize = 112;
/// Most queries for which keys and values are read where they lie: a copy would not pay.
const FEW: usize = 4;

impl Attention {
    /// Elements of scratch of one thread: keys in panels, values in rows, a strip of products.
    fn forward_each(&self) -> [usize; 3] {
        let few = self.queries <= FEW;
        let panels = if few { 0 } else { self.keys.next_multiple_of(PANEL) * self.width };
        let values = if self.in_place() { 0 } else { self.keys * copied_row(self.width) };
        [panels, values, STRIP * KEYS]
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
            let [panels, copy, _] = self.forward_each();
            let (panels, rest) = scratch.split_at_mut(panels);
            let (copy, products) = rest.split_at_mut(copy);
            let keys = k.get(self.k.at(b, h, 0)..).unwrap_or_default();
            let values = v.get(self.v.at(b, h, 0)..).unwrap_or_default();
            transpose_rows(keys, self.k.row, [self.keys, self.width], panels);
            copy_rows(isa, values, self.v.row, self.width, copy);
            let values =
                if self.in_place() { (values, self.v.row) } else { (&*copy, copied_row(self.width)) };
            let pass = Pass { attention: self, masks, family, isa, b, h, keys, panels, values };
            let rows = self.queries * chunk / chunks..self.queries * (chunk + 1) / chunks;
            for rows in self.strips(rows) {
                let at = pair * self.queries;
                // SAFETY: tasks have disjoint queries.
                let sums = unsafe { sums.part(at + rows.start..at + rows.end) };
                let o = Address(o.get().wrapping_add(self.o.at(b, h, rows.start)));
                pass.strip(rows.clone(), &q[self.q.at(b, h, rows.start)..], products, o, sums);
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
    /// Rows as they lie.
    keys: &'a [f32],
    /// Keys in panels, unless there are few queries.
    panels: &'a [f32],
    /// Rows that may be read in whole panels, and their distance.
    values: (&'a [f32], usize),
}

impl Pass<'_> {
    /// A strip of queries against all keys they see; `queries` and `o` begin at its first row.
    fn strip(
        &self,
        rows: Range<usize>,
        queries: &[f32],
        products: &mut [f32],
        o: Address<f32>,
        sums: &mut [f32],
    ) {
        let (a, m) = (self.attention, rows.len());
        let mut state = Running::new();
        // SAFETY: rows of this strip, which are this task's.
        let mut out = unsafe { Rows::new(o.get(), a.o.row, a.width) };
        let visible = a.visible(rows.end - 1);
        if visible == 0 {
            row::scale(self.isa, &mut out, &state.factor[..m]);
        }
        for first in (0..visible).step_by(KEYS) {
            let n = KEYS.min(visible - first);
            self.products(m, queries, first, n, products);
            let sight = a.sight(self.masks, self.b, rows.start, first, n);
            row::softmax(self.isa, products, m, &sight, &mut state);
            if first > 0 {
                row::scale(self.isa, &mut out, &state.factor[..m]);
            }
            a.drop(self.isa, self.b * a.heads + self.h, &rows, [first, n], products);
            let operands = Operands {
                a: (products.as_ptr(), [KEYS, 1]),
                b: (self.values.0[first * self.values.1..].as_ptr(), [self.values.1, PANEL]),
                c: (o.get(), a.o.row),
            };
            // SAFETY: the strip's products, whole panels of values, and this task's rows of the output.
            unsafe { operands.multiply(self.family, [m, a.width, n], 1.0, first > 0) }
        }
        let mut factors = [0.0; STRIP];
        row::close(self.isa, &state, &mut factors, sums);
        row::scale(self.isa, &mut out, &factors[..m]);
    }

    /// log₂ e·scale·Q·Kᵀ of the strip's queries with `n` keys from `first` on.
    fn products(&self, m: usize, queries: &[f32], first: usize, n: usize, products: &mut [f32]) {
        let a = self.attention;
        let factor = a.scale * LOG2_E;
        assert!(m <= STRIP && products.len() >= STRIP * KEYS && n <= KEYS, "attention: strip");
        assert!(queries.len() >= (m - 1) * a.q.row + a.width, "attention: queries");
        if self.panels.is_empty() {
            for (r, products) in products.chunks_exact_mut(KEYS).take(m).enumerate() {
                let (query, keys) = (&queries[r * a.q.row..][..a.width], &self.keys[first * a.k.row..]);
                row::dots(self.isa, (query, 0), (keys, a.k.row), a.width, factor, &mut products[..n]);
            }
            return;
        }
        let operands = Operands {
            a: (queries.as_ptr(), [a.q.row, 1]),
            b: (self.panels[first * a.width..].as_ptr(), [PANEL, a.width * PANEL]),
            c: (products.as_mut_ptr(), KEYS),
        };
        // SAFETY: lengths checked above; panels of all keys.
        unsafe { operands.multiply(self.family, [m, n, a.width], factor, false) }
    }
}
