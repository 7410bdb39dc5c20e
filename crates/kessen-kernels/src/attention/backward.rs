//! The backward pass: one task for each head of each sample.

use super::row;
use super::{Attention, KEYS, Masks, QUERIES};
use crate::gemm::Product;
use crate::isa::Isa;
use crate::micro::{Family, Finish, PANEL};
use crate::threads::{self, Address, Shared, parallel_for};
use std::ops::Range;

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

impl Attention {
    /// Elements of scratch of one thread: K and V in panels, whole rows of Q, dO and K, two tiles.
    fn backward_each(&self) -> [usize; 7] {
        let (panels, queries, keys) =
            (self.panels_len(), self.copy_len(self.queries), self.copy_len(self.keys));
        [panels, panels, queries, queries, keys, QUERIES * KEYS, QUERIES * KEYS]
    }

    /// Number of elements of scratch that [`Attention::backward`] needs with the present number of threads.
    pub fn backward_scratch(&self) -> usize {
        threads::count() * self.backward_each().iter().sum::<usize>()
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
        let each: usize = self.backward_each().iter().sum();
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
            self.clear(grads[0], self.q.row, self.queries);
            self.clear(grads[1], self.k.row, self.keys);
            self.clear(grads[2], self.v.row, self.keys);
            if self.keys > 0 && self.queries > 0 {
                self.head(family, isa, kept, [b, h], grads, scratch);
            }
        });
    }

    /// Zeros in `rows` rows.
    fn clear(&self, at: Address<f32>, stride: usize, rows: usize) {
        for row in 0..rows {
            // SAFETY: a row of this task's head.
            unsafe { std::slice::from_raw_parts_mut(at.get().wrapping_add(row * stride), self.width) }
                .fill(0.0);
        }
    }

    /// All gradients of one head.
    fn head(
        &self,
        family: &'static Family,
        isa: Isa,
        kept: &Kept<'_>,
        [b, h]: [usize; 2],
        grads: [Address<f32>; 3],
        scratch: &mut [f32],
    ) {
        let [kp, vp, qc, oc, kc, tile, _] = self.backward_each();
        let (k_panels, rest) = scratch.split_at_mut(kp);
        let (v_panels, rest) = rest.split_at_mut(vp);
        let (q_copy, rest) = rest.split_at_mut(qc);
        let (o_copy, rest) = rest.split_at_mut(oc);
        let (k_copy, rest) = rest.split_at_mut(kc);
        let (p, ds) = rest.split_at_mut(tile);
        let (k, v) = (&kept.k[self.k.at(b, h, 0)..], &kept.v[self.v.at(b, h, 0)..]);
        let (q, d_o) = (&kept.q[self.q.at(b, h, 0)..], &kept.d_o[self.o.at(b, h, 0)..]);
        self.transpose_keys(k, self.k.row, k_panels);
        self.transpose_keys(v, self.v.row, v_panels);
        let head = Head {
            attention: self,
            family,
            isa,
            kept,
            b,
            h,
            k_panels,
            v_panels,
            q: self.whole_rows(q, self.q.row, self.queries, q_copy),
            d_o: self.whole_rows(d_o, self.o.row, self.queries, o_copy),
            k: self.whole_rows(k, self.k.row, self.keys, k_copy),
            grads,
        };
        for start in (0..self.queries).step_by(QUERIES) {
            let rows = start..(start + QUERIES).min(self.queries);
            for first in (0..self.visible(rows.end - 1)).step_by(KEYS) {
                head.tile(rows.clone(), first, p, ds);
            }
        }
    }
}

/// One head of one sample; slices begin at its first row, with the distance of rows beside those that are read whole.
struct Head<'a> {
    attention: &'a Attention,
    family: &'static Family,
    isa: Isa,
    kept: &'a Kept<'a>,
    b: usize,
    h: usize,
    k_panels: &'a [f32],
    v_panels: &'a [f32],
    q: (&'a [f32], usize),
    d_o: (&'a [f32], usize),
    k: (&'a [f32], usize),
    grads: [Address<f32>; 3],
}

impl Head<'_> {
    /// What the queries `rows` and a tile of keys from `first` on add to all gradients.
    fn tile(&self, rows: Range<usize>, first: usize, p: &mut [f32], ds: &mut [f32]) {
        let a = self.attention;
        let n = KEYS.min(a.visible(rows.end - 1) - first);
        let size = [rows.len(), n];
        let at = |(x, row): (&'_ [f32], usize), i: usize| x[i * row..].as_ptr();
        let (q, d_o) = (&self.q.0[rows.start * self.q.1..], &self.d_o.0[rows.start * self.d_o.1..]);
        let panels = first * a.width;
        a.product_with_keys(self.family, size, a.scale, (q, self.q.1), &self.k_panels[panels..], p);
        a.product_with_keys(self.family, size, 1.0, (d_o, self.d_o.1), &self.v_panels[panels..], ds);
        for r in 0..rows.len() {
            let line = r * KEYS..r * KEYS + n;
            self.row(rows.start + r, first, &mut p[line.clone()], &mut ds[line]);
        }
        let [dq, dk, dv] = self.grads;
        let across = [rows.len(), n, KEYS, 1];
        let down = [n, rows.len(), 1, KEYS];
        // SAFETY: the tiles' rows and columns, whole rows of the operands, and rows of this head's gradients.
        unsafe {
            self.add(across, ds, (at(self.k, first), self.k.1), dq.get().add(rows.start * a.q.row), a.q.row);
            self.add(down, p, (d_o.as_ptr(), self.d_o.1), dv.get().add(first * a.v.row), a.v.row);
            self.add(down, ds, (q.as_ptr(), self.q.1), dk.get().add(first * a.k.row), a.k.row);
        }
    }

    /// Turns one query's products into what dV is summed from, and its dP into scale·dS.
    fn row(&self, query: usize, first: usize, p: &mut [f32], ds: &mut [f32]) {
        let (a, kept) = (self.attention, self.kept);
        let pair = self.b * a.heads + self.h;
        let seen = a.visible(query).saturating_sub(first).min(p.len());
        let sum = kept.sums[pair * a.queries + query];
        p[seen..].fill(0.0);
        ds[seen..].fill(0.0);
        let (p, ds) = (&mut p[..seen], &mut ds[..seen]);
        row::probabilities(self.isa, p, a.row_mask(kept.masks, self.b, query, first, seen), sum);
        let block = a.dropout_block(pair, query, first);
        if let Some(d) = a.dropout {
            d.apply_blocks(self.isa, block, ds);
        }
        let o = a.o.at(self.b, self.h, query);
        let o = o..o + a.width;
        let delta = row::dot(self.isa, &kept.o[o.clone()], &kept.d_o[o]);
        row::gradient(self.isa, p, ds, delta, a.scale);
        if let Some(d) = a.dropout {
            d.apply_blocks(self.isa, block, p);
        }
    }

    /// Adds a tile (`rows × depth`, at strides) times whole rows to rows of a gradient.
    ///
    /// # Safety
    /// The addresses hold `depth` whole rows of the operand and `rows` rows of the gradient, which nobody else uses.
    unsafe fn add(
        &self,
        [rows, depth, a_row, a_col]: [usize; 4],
        tile: &[f32],
        (b, b_row): (*const f32, usize),
        c: *mut f32,
        c_row: usize,
    ) {
        let width = self.attention.width;
        let product = Product {
            n: width,
            k: depth,
            a: tile.as_ptr(),
            a_row: a_row as isize,
            a_col: a_col as isize,
            a_panel: None,
            b,
            b_row: b_row as isize,
            b_panel: PANEL as isize,
            c,
            c_row: c_row as isize,
            c_panel: PANEL as isize,
            finish: Finish::plain(true),
        };
        // SAFETY: the caller's promise.
        unsafe { product.block(self.family, 0..rows, 0..width.div_ceil(PANEL), None) }
    }
}
