//! The parallel part of the backward pass: products over all rows.
//!
//! The gates' gradients lie in panels, as the right-hand sides of the weights' gradients want them; as the left-hand
//! side of the inputs' gradient, sixteen terms of a row's sum lie together.

use super::backward::{Gradients, Kept, Parts};
use super::sequence::Sequences;
use super::{Cell, Recurrent, Weights};
use crate::gemm::{COPY_LEN, Product};
use crate::layout::transpose_raw;
use crate::micro::{Family, Finish, PANEL};
use crate::threads::{self, Shared, parallel_for};
use std::ops::Range;

/// Multiply-adds below which the products stay on the calling thread.
const SERIAL_WORK: usize = 1 << 20;

impl Recurrent {
    /// Elements of scratch that the products need beside the transposed weights.
    pub(super) fn products_scratch(&self) -> usize {
        threads::count() * COPY_LEN
    }

    /// The gradients that are one product over all rows each: of both weights and of the inputs.
    pub(super) fn products(
        &self,
        sequences: Sequences<'_>,
        weights: &Weights<'_>,
        kept: &Kept<'_>,
        parts: &mut Parts<'_>,
        out: &mut Gradients<'_>,
    ) {
        let (inputs, hidden) = (self.inputs, self.hidden);
        let (x, x_row) = if self.batch_first {
            let row = self.spread(inputs);
            sequences.bring_in(kept.x, inputs, inputs, parts.x, row, 0..self.time);
            (&*parts.x, row)
        } else {
            (kept.x, inputs)
        };
        let recurrent = if self.cell == Cell::Gru { &*parts.recurrent } else { &*parts.dgates };
        let row = self.spread(hidden);
        let before = &parts.outputs[self.first_output() * row..];
        let later = self.rows_after_zeros(sequences, kept);
        let products = [
            (self.weight_product(before, row, recurrent, out.recurrent, hidden, later), hidden),
            (self.weight_product(x, x_row, parts.dgates, out.input, inputs, 0..self.rows()), inputs),
        ];
        let (family, serial) =
            (Family::active(), self.rows() * self.columns() * inputs.max(hidden) <= SERIAL_WORK);
        // SAFETY: factors, gradients and results have the layer's lengths, and the results are different slices.
        unsafe { Product::run_all(&products, family, serial, parts.rest) }
        let Some(dx) = out.x.as_deref_mut() else { return };
        let (turned, copies) = parts.rest.split_at_mut(inputs.next_multiple_of(PANEL) * self.columns());
        self.transpose_weights(weights.input, inputs, turned);
        let (to, add) = if self.batch_first { (&mut *parts.x, false) } else { (&mut *dx, out.accumulate_x) };
        let product = self.input_gradient(parts.dgates, turned, to, add);
        // SAFETY: gradients, weights and result have the layer's lengths.
        unsafe { product.run(family, self.rows(), serial, copies) }
        if self.batch_first {
            sequences.bring_out(parts.x, inputs, dx, out.accumulate_x);
        }
    }

    /// The rows but for those known to begin from h = 0: they add nothing to the gradient of W_hh.
    fn rows_after_zeros(&self, sequences: Sequences<'_>, kept: &Kept<'_>) -> Range<usize> {
        let first = self.batch.min(self.rows());
        match (kept.start.h, self.reverse, sequences.lengths) {
            (None, false, _) => first..self.rows(),
            (None, true, None) => 0..self.rows() - first,
            _ => 0..self.rows(),
        }
    }

    /// The gradient of weights over `k` values: factorsᵀ·dgates over some rows, into panels.
    fn weight_product(
        &self,
        factors: &[f32],
        row: usize,
        dgates: &[f32],
        out: &mut [f32],
        k: usize,
        rows: Range<usize>,
    ) -> Product {
        assert!(out.len() == self.weight_len(k), "recurrent: gradients of weights");
        Product {
            n: self.columns(),
            k: rows.len(),
            a: factors.as_ptr().wrapping_add(rows.start * row),
            a_row: 1,
            a_col: row as isize,
            a_panel: None,
            b: dgates.as_ptr().wrapping_add(rows.start * PANEL),
            b_row: PANEL as isize,
            b_panel: self.gradient_panel() as isize,
            c: out.as_mut_ptr(),
            c_row: PANEL as isize,
            c_panel: (k * PANEL) as isize,
            rows_follow: false,
            finish: Finish::plain(false),
        }
    }

    /// dx (+)= dgates·W_ih, given the weights' transpose in panels.
    fn input_gradient(&self, dgates: &[f32], turned: &[f32], dx: &mut [f32], add: bool) -> Product {
        assert!(dx.len() >= self.rows() * self.inputs, "recurrent: gradient of the inputs");
        Product {
            n: self.inputs,
            k: self.columns(),
            a: dgates.as_ptr(),
            a_row: PANEL as isize,
            a_col: 1,
            a_panel: Some(self.gradient_panel() as isize),
            b: turned.as_ptr(),
            b_row: PANEL as isize,
            b_panel: (self.columns() * PANEL) as isize,
            c: dx.as_mut_ptr(),
            c_row: self.inputs as isize,
            c_panel: PANEL as isize,
            rows_follow: false,
            finish: Finish::plain(add),
        }
    }

    /// The transpose of weights over `k` values in panels of those, `[⌈k/16⌉][columns][16]`.
    pub(super) fn transpose_weights(&self, weights: &[f32], k: usize, transposed: &mut [f32]) {
        let columns = self.columns();
        let out = Shared::new(transposed);
        parallel_for(k.div_ceil(PANEL), |block| {
            // SAFETY: each block has its own panel.
            let to = unsafe { out.part(block * columns * PANEL..(block + 1) * columns * PANEL) };
            if k - block * PANEL < PANEL {
                to.fill(0.0);
            }
            for panel in 0..columns / PANEL {
                let from = weights[(panel * k + block * PANEL) * PANEL..].as_ptr();
                let to = to[panel * PANEL * PANEL..].as_mut_ptr();
                let values = PANEL.min(k - block * PANEL);
                // SAFETY: the block's values of the panel, and sixteen rows of the target's panel.
                unsafe { transpose_raw(from, PANEL, to, PANEL, values, PANEL) }
            }
        });
    }
}
