//! The parallel part of the backward pass: products over all rows.
//!
//! The gates' gradients lie in panels, as the right-hand sides of the weights' gradients want them; as the left-hand
//! side of the inputs' gradient, sixteen terms of a row's sum lie together.

use super::backward::{Gradients, Inputs, Kept, Parts};
use super::sequence::Sequences;
use super::{Cell, Recurrent, Weights};
use crate::gemm::{COPY_LEN, Linear, Outer, Product, Sink};
use crate::layout::transpose_raw;
use crate::micro::{Family, Finish, PANEL};
use crate::threads::{self, Shared, parallel_for};
use arrayvec::ArrayVec;
use std::ops::Range;

/// A gradient of weights over `k` values: factorsᵀ·dgates over some rows.
#[derive(Clone, Copy)]
struct WeightGradient<'a> {
    /// From the first row on, and the distance of rows.
    factors: (&'a [f32], usize),
    /// Panels from the first row on.
    dgates: &'a [f32],
    rows: usize,
    k: usize,
}

impl<'a> WeightGradient<'a> {
    /// Of the gates' gradients at `rows`; the factors begin there.
    fn new(factors: (&'a [f32], usize), dgates: &'a [f32], rows: Range<usize>, k: usize) -> Self {
        WeightGradient { factors, dgates: &dgates[rows.start * PANEL..], rows: rows.len(), k }
    }

    /// As a linear layer's gradient, where copies of the factors pay.
    fn outer(self, layer: &Recurrent) -> Option<Outer<'a>> {
        let linear = Linear { batch: self.rows, inputs: self.k, outputs: layer.columns() };
        Outer::of_panels(linear, self.factors, (self.dgates, layer.gate_panel()))
    }

    /// As a product into `out`.
    fn product(self, layer: &Recurrent, out: &mut [f32]) -> Product {
        Product {
            n: layer.columns(),
            k: self.rows,
            a: self.factors.0.as_ptr(),
            a_row: 1,
            a_col: self.factors.1 as isize,
            a_panel: None,
            b: self.dgates.as_ptr(),
            b_row: PANEL as isize,
            b_panel: layer.gate_panel() as isize,
            c: out.as_mut_ptr(),
            c_row: PANEL as isize,
            c_panel: (self.k * PANEL) as isize,
            rows_follow: false,
            finish: Finish::plain(false),
        }
    }
}

/// Multiply-adds below which the products stay on the calling thread.
pub(super) const SERIAL_WORK: usize = 1 << 20;

impl Recurrent {
    /// Elements of scratch that a product needs beside its operands.
    pub(super) fn products_scratch(&self) -> usize {
        threads::count() * COPY_LEN
    }

    /// Elements of scratch that the gradients of weights need.
    pub(super) fn weight_gradients_scratch(&self) -> usize {
        let outer = [self.inputs, self.hidden].map(|k| {
            let gradient =
                WeightGradient { factors: (&[], self.spread(k)), dgates: &[], rows: self.rows(), k };
            gradient.outer(self).map_or(0, |outer| outer.scratch(false))
        });
        outer[0].max(outer[1]).max(self.products_scratch())
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
        let (x, x_row) = match kept.x {
            Inputs::Rows(x) if !self.batch_first => (x, inputs),
            Inputs::Rows(x) => {
                sequences.bring_in(x, inputs, inputs, parts.x, self.spread(inputs), 0..self.time);
                (&*parts.x, self.spread(inputs))
            }
            Inputs::Lookup(lookup) => {
                lookup.gather(lookup.region(), inputs, parts.x, self.spread(inputs));
                (&*parts.x, self.spread(inputs))
            }
        };
        let recurrent = if self.cell == Cell::Gru { &*parts.recurrent } else { &*out.gates };
        let row = self.spread(hidden);
        let before = &parts.outputs[self.first_output() * row..];
        let later = self.rows_after_zeros(sequences, kept);
        let before = (&before[later.start * row..], row);
        let of_recurrent = WeightGradient::new(before, recurrent, later, hidden);
        let of_input = |dgates, rows| WeightGradient::new((x, x_row), dgates, rows, inputs);
        let rows = match kept.x {
            Inputs::Lookup(lookup) if lookup.is_shared() => {
                self.weight_gradients([(of_recurrent, &mut *out.recurrent)], parts.rest);
                self.sum_by_place(&lookup, out.gates);
                let rows = lookup.region();
                let of_input = of_input(&*out.gates, rows.clone());
                self.weight_gradients([(of_input, &mut *out.input)], parts.rest);
                rows
            }
            _ => {
                let of_input = of_input(&*out.gates, 0..self.rows());
                let both = [(of_recurrent, &mut *out.recurrent), (of_input, &mut *out.input)];
                self.weight_gradients(both, parts.rest);
                0..self.rows()
            }
        };
        self.inputs_gradient(sequences, weights, kept.x, rows, parts, out);
    }

    /// The gradient of the inputs, or of the rows of the table, whose gates' gradients lie at `rows`.
    fn inputs_gradient(
        &self,
        sequences: Sequences<'_>,
        weights: &Weights<'_>,
        x: Inputs<'_>,
        rows: Range<usize>,
        parts: &mut Parts<'_>,
        out: &mut Gradients<'_>,
    ) {
        let Some(dx) = out.x.as_deref_mut() else { return };
        let (inputs, family) = (self.inputs, Family::active());
        let serial = rows.len() * self.columns() * inputs <= SERIAL_WORK;
        let (turned, copies) = parts.rest.split_at_mut(inputs.next_multiple_of(PANEL) * self.columns());
        self.transpose_weights(weights.input, inputs, turned);
        let brings_out = self.batch_first && matches!(x, Inputs::Rows(_));
        let (to, add) = if brings_out { (&mut *parts.x, false) } else { (&mut *dx, out.accumulate_x) };
        let product = self.input_gradient(out.gates, turned, to, add);
        let product = Product { a: product.a.wrapping_add(rows.start * PANEL), ..product };
        // SAFETY: gradients, weights and result have the layer's lengths.
        unsafe { product.run(family, rows.len(), serial, copies) }
        match x {
            Inputs::Lookup(_) if out.accumulate_x => {}
            Inputs::Lookup(_) => dx[rows.len() * inputs..].fill(0.0),
            Inputs::Rows(_) if brings_out => sequences.bring_out(parts.x, inputs, dx, out.accumulate_x),
            Inputs::Rows(_) => {}
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

    /// Some gradients of weights, into panels.
    fn weight_gradients<const N: usize>(
        &self,
        all: [(WeightGradient<'_>, &mut [f32]); N],
        scratch: &mut [f32],
    ) {
        let (family, columns) = (Family::active(), self.columns());
        let work = self.rows() * columns * self.inputs.max(self.hidden);
        let mut others = ArrayVec::<_, N>::new();
        for (gradient, out) in all {
            assert!(out.len() == self.weight_len(gradient.k), "recurrent: gradients of weights");
            match gradient.outer(self) {
                // SAFETY: factors, gradients and results have the layer's lengths.
                Some(outer) => unsafe {
                    outer.run(Sink::Store { dw: out.as_mut_ptr(), accumulate: false }, false, scratch);
                },
                None => others.push((gradient.product(self, out), gradient.k)),
            }
        }
        // SAFETY: as above, and the results are different slices.
        unsafe { Product::run_all(&others, family, work <= SERIAL_WORK, scratch) }
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
            a_panel: Some(self.gate_panel() as isize),
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
