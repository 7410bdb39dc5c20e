//! A fully connected layer on weights that live in panels: forward and both gradients without repacking them.
//!
//! Glossary: `B` rows of the batch, `I` inputs, `O` outputs. Weights are `[⌈O/16⌉][I][16]` ([`crate::layout`]'s panels
//! of the `I × O` matrix); lanes beyond `O` are zero and stay zero.

use super::outer::{Outer, Sink};
use super::product::ENOUGH_TASKS;
use super::{Gemm, SERIAL_WORK, pack::Source};
use super::{dots, few};
use crate::epilogue::Epilogue;
use crate::isa::Isa;
use crate::layout::{panels_len, transpose_raw};
use crate::micro::{Family, Finish, Loop, MAX_ROWS, PANEL, Rows, Soon, Sum, Tile};
use crate::optim::Pieces;
use crate::split::{dividing, even};
use crate::threads::{self, Address, Shared};

/// Input rows of one task of the gradient to the inputs.
const INPUT_ROWS: usize = 224;
/// The same at least, where there would be fewer than [`ENOUGH_TASKS`] tasks.
const LEAST_INPUT_ROWS: usize = 56;
/// Elements that one task transposes at least.
const TURN_WORK: usize = 1 << 14;

/// The shape of a fully connected layer `y[B][O] = x[B][I]·W + b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Rows of the batch.
    pub batch: usize,
    /// Input features.
    pub inputs: usize,
    /// Output features.
    pub outputs: usize,
}

/// Operands of the gradient to the inputs, as its kernels read them.
#[derive(Clone, Copy)]
pub(super) struct GradInput<'a> {
    pub family: &'static Family,
    /// `[⌈O/16⌉][I][depth]`.
    pub weight: &'a [f32],
    /// Panels of `dyᵀ`: `[⌈B/16⌉][terms(O)][16]`.
    pub dy_t: &'a [f32],
    /// Terms that 16 outputs make: 16 numbers, or 8 words of two bf16.
    pub depth: usize,
}

impl GradInput<'_> {
    /// Terms that some outputs make.
    fn terms(&self, outputs: usize) -> usize {
        outputs.div_ceil(PANEL / self.depth)
    }
}

impl Linear {
    pub(super) fn gemm(&self) -> Gemm {
        Gemm::new(self.batch, self.outputs, self.inputs)
    }

    /// Length of the weights in panels.
    pub fn weight_len(&self) -> usize {
        panels_len(self.inputs, self.outputs)
    }

    /// Brings row-major `[O][I]` weights (PyTorch's) into panels.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn pack_weight(&self, weight: &[f32], packed: &mut [f32]) {
        self.gemm().trans_b().pack(weight, packed);
    }

    /// Brings weights (or their gradient) from panels to row-major `[O][I]`.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn unpack_weight(&self, packed: &[f32], weight: &mut [f32]) {
        assert!(packed.len() >= self.weight_len(), "linear: packed weights have {} elements", packed.len());
        assert!(weight.len() >= self.inputs * self.outputs, "linear: weights have {} elements", weight.len());
        for panel in 0..self.outputs.div_ceil(PANEL) {
            let lanes = (self.outputs - panel * PANEL).min(PANEL);
            let from = packed[panel * self.inputs * PANEL..].as_ptr();
            let to = weight[panel * PANEL * self.inputs..].as_mut_ptr();
            // SAFETY: lengths checked.
            unsafe { transpose_raw(from, PANEL, to, self.inputs, self.inputs, lanes) }
        }
    }

    /// Floats of scratch for [`Self::forward`].
    pub fn forward_scratch(&self) -> usize {
        if dots::has_few_columns(self) { dots::forward_scratch(self) } else { self.gemm().packed_scratch() }
    }

    /// `y = epilogue(x·W)`; a bias per column has length `O`.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn forward(
        &self,
        x: &[f32],
        weight: &[f32],
        y: &mut [f32],
        epilogue: &Epilogue,
        scratch: &mut [f32],
    ) {
        if !dots::has_few_columns(self) {
            return self.gemm().run_packed(x, weight, y, epilogue, scratch);
        }
        assert!(weight.len() >= self.weight_len(), "linear: weights have {} elements", weight.len());
        self.gemm().check(x, y, epilogue, scratch, self.forward_scratch());
        // SAFETY: lengths checked.
        unsafe { dots::forward(self, x, weight, y, epilogue, scratch) }
    }

    /// Floats of scratch for [`Self::grad_input`].
    pub fn grad_input_scratch(&self) -> usize {
        match self.turns_weight() {
            true => panels_len(self.outputs, self.inputs) + self.input_product().packed_scratch(),
            false => panels_len(self.outputs, self.batch) + self.grad_input_buffers(),
        }
    }

    /// Whether the gradient to the inputs transposes the weights, which is less than the operands, rather than those.
    fn turns_weight(&self) -> bool {
        self.inputs * self.outputs <= self.batch * (self.inputs + self.outputs)
    }

    /// `dx = dy·Wᵀ`.
    fn input_product(&self) -> Gemm {
        Gemm::new(self.batch, self.inputs, self.outputs)
    }

    /// Transposes weights in panels into panels of the transpose, `[⌈I/16⌉][O][16]`.
    ///
    /// # Safety
    /// Both have the layer's length.
    unsafe fn turn_weight(&self, weight: &[f32], turned: &mut [f32]) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let turned = Address(turned.as_mut_ptr());
        let grain = if self.is_small() { inputs.max(1) } else { TURN_WORK.div_ceil(PANEL * outputs.max(1)) };
        threads::parallel_chunks(inputs.div_ceil(PANEL), grain, |blocks| {
            for block in blocks {
                let lanes = (inputs - block * PANEL).min(PANEL);
                for panel in 0..outputs.div_ceil(PANEL) {
                    let from = weight.as_ptr().wrapping_add((panel * inputs + block * PANEL) * PANEL);
                    let to = turned.get().wrapping_add((block * outputs + panel * PANEL) * PANEL);
                    let rows = (outputs - panel * PANEL).min(PANEL);
                    // SAFETY: inside both; each block of the target is written by one task.
                    unsafe { transpose_raw(from, PANEL, to, PANEL, lanes, rows) }
                }
            }
        });
    }

    /// Floats for the threads' parts of `dxᵀ`.
    pub(super) fn grad_input_buffers(&self) -> usize {
        threads::count() * panels_len(INPUT_ROWS, self.batch)
    }

    /// `dx (+)= dy·Wᵀ`. With few rows it is computed as `dxᵀ = W·dyᵀ`, so that the weights are read as they lie and
    /// only the small operands are transposed; with many, the weights are the small operand.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn grad_input(
        &self,
        dy: &[f32],
        weight: &[f32],
        dx: &mut [f32],
        accumulate: bool,
        scratch: &mut [f32],
    ) {
        let Linear { batch, inputs, outputs } = *self;
        assert!(dy.len() >= batch * outputs, "linear: dy has {} elements", dy.len());
        assert!(weight.len() >= self.weight_len(), "linear: weights have {} elements", weight.len());
        assert!(dx.len() >= batch * inputs, "linear: dx has {} elements", dx.len());
        let wanted = self.grad_input_scratch();
        assert!(scratch.len() >= wanted, "linear: scratch of {} floats, {wanted} needed", scratch.len());
        if self.turns_weight() {
            let (turned, rest) = scratch.split_at_mut(panels_len(outputs, inputs));
            // SAFETY: lengths checked.
            unsafe { self.turn_weight(weight, turned) }
            if few::sweeps_rows(self) {
                // SAFETY: lengths checked.
                return unsafe { few::grad_input(self, dy, turned, dx, accumulate) };
            }
            let how = if accumulate { Epilogue::accumulate() } else { Epilogue::store() };
            return self.input_product().run_packed(dy, turned, dx, &how, rest);
        }
        let (dy_t, buffers) = scratch.split_at_mut(panels_len(outputs, batch));
        let source = Source { b: dy.as_ptr(), ld: outputs, trans: true, k: outputs, n: batch };
        let panels = batch.div_ceil(PANEL);
        // SAFETY: lengths checked.
        unsafe {
            if self.is_small() {
                source.pack(0..panels, dy_t.as_mut_ptr());
            } else {
                source.pack_all(0..panels, dy_t.as_mut_ptr());
            }
        }
        let operands = GradInput { family: Family::active(), weight, dy_t, depth: PANEL };
        // SAFETY: lengths checked.
        unsafe { self.grad_input_sweep(&operands, dx, accumulate, buffers) }
    }

    /// Input rows of one task of the gradient to the inputs: as many as suit the cache, fewer where there would be few
    /// tasks, and in numbers that divide well among threads.
    fn input_rows(&self) -> usize {
        let parts = self.inputs.div_ceil(INPUT_ROWS);
        let parts = parts.max((self.inputs / LEAST_INPUT_ROWS).min(ENOUGH_TASKS)).max(1);
        self.inputs.div_ceil(dividing(parts)).max(1)
    }

    /// `dx (+)= dy·Wᵀ` from operands in place; `buffers` has [`Self::grad_input_buffers`].
    ///
    /// # Safety
    /// The operands and `dx` fit the shape.
    pub(super) unsafe fn grad_input_sweep(
        &self,
        operands: &GradInput,
        dx: &mut [f32],
        accumulate: bool,
        buffers: &mut [f32],
    ) {
        let (dx, buffers) = (Address(dx.as_mut_ptr()), Shared::new(buffers));
        let each = panels_len(INPUT_ROWS, self.batch);
        let most = self.input_rows();
        let parts = self.inputs.div_ceil(most);
        threads::parallel_for(if self.is_small() { 1 } else { parts }, |task| {
            let at = threads::worker() * each;
            // SAFETY: each worker has its own buffer.
            let buffer = unsafe { buffers.part(at..at + each) };
            for index in if self.is_small() { 0..parts } else { task..task + 1 } {
                let rows = even(self.inputs, most, index);
                // SAFETY: tasks' columns of `dx` are disjoint; the caller's promise.
                unsafe {
                    self.grad_input_rows(operands, rows.clone(), buffer);
                    self.grad_input_store(buffer, rows, accumulate, dx.get());
                }
            }
        });
    }

    /// Transposes rows of `dxᵀ` into `dx`.
    ///
    /// # Safety
    /// `dx` has the layer's length; nobody else touches these columns.
    unsafe fn grad_input_store(
        &self,
        buffer: &[f32],
        rows: std::ops::Range<usize>,
        accumulate: bool,
        dx: *mut f32,
    ) {
        let (batch, inputs) = (self.batch, self.inputs);
        for (panel, from) in buffer.chunks_exact(rows.len() * PANEL).take(batch.div_ceil(PANEL)).enumerate() {
            let lanes = (batch - panel * PANEL).min(PANEL);
            let to = dx.wrapping_add(panel * PANEL * inputs + rows.start);
            if !accumulate {
                // SAFETY: `rows` rows of 16 into `lanes` rows of `dx`; the caller's promise.
                unsafe { transpose_raw(from.as_ptr(), PANEL, to, inputs, rows.len(), lanes) }
                continue;
            }
            for lane in 0..lanes {
                for (row, values) in from.chunks_exact(PANEL).enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe { *to.add(lane * inputs + row) += values[lane] }
                }
            }
        }
    }

    /// Some rows of `dxᵀ`, as panels in `buffer`.
    ///
    /// # Safety
    /// The CPU has the family's instruction set; the operands fit the shape.
    unsafe fn grad_input_rows(&self, operands: &GradInput, rows: std::ops::Range<usize>, buffer: &mut [f32]) {
        let GradInput { family, weight, dy_t, depth } = *operands;
        let (inputs, outputs) = (self.inputs, self.outputs);
        let (blocks, step) = (outputs.div_ceil(PANEL), PANEL as isize);
        let b_panel = operands.terms(outputs) * PANEL;
        let places = Rows::strided(depth as isize, step);
        let c_panel = rows.len() * PANEL;
        let panels = self.batch.div_ceil(PANEL);
        let wide = family.panels_for(MAX_ROWS);
        let tall = family.rows(wide);
        // Few blocks at a time for small batches, so that the weights are read as a few long streams.
        let most = if panels <= 2 { 4 } else { 16 };
        for part in 0..blocks.div_ceil(most).max(1) {
            let part = even(blocks, most, part);
            let mut sum = Sum::product(depth, 1, step, b_panel as isize);
            sum.loops[0] =
                Loop { count: part.len(), a: (inputs * depth) as isize, b: (depth * PANEL) as isize };
            if part.end == blocks {
                sum.depth_last = operands.terms(outputs - blocks.saturating_sub(1) * PANEL);
            }
            let mut panel = 0;
            while panel < panels {
                let nv = Family::fitting(wide, panels - panel);
                for index in 0..rows.len().div_ceil(tall) {
                    let r = even(rows.len(), tall, index);
                    let first = part.start * depth;
                    // The last panels ask for the weights of the next blocks of outputs.
                    let soon = if panel + nv >= panels {
                        let next = if part.end < blocks { part.end * inputs } else { rows.len() };
                        let at = (next + rows.start + r.start) * depth;
                        Soon::strided(weight.as_ptr().wrapping_add(at), step, depth)
                    } else {
                        Soon::NONE
                    };
                    let tile = Tile {
                        a: weight.as_ptr().wrapping_add(first * inputs + (rows.start + r.start) * depth),
                        b: dy_t.as_ptr().wrapping_add(panel * b_panel + first * PANEL),
                        c: buffer.as_mut_ptr().wrapping_add(panel * c_panel + r.start * PANEL),
                        c_panel: c_panel as isize,
                        tail: PANEL,
                        soon,
                        finish: Finish::plain(part.start > 0),
                    };
                    // SAFETY: inside weights, panels and buffer.
                    unsafe { family.kernel(r.len(), nv, false)(&sum, &places, &tile) }
                }
                panel += nv;
            }
        }
    }

    /// Floats of scratch for [`Self::grad_weight`].
    pub fn grad_weight_scratch(&self) -> usize {
        self.weight_product_scratch(false)
    }

    /// `dW (+)= xᵀ·dy`, in panels like the weights.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn grad_weight(&self, x: &[f32], dy: &[f32], dw: &mut [f32], accumulate: bool, scratch: &mut [f32]) {
        assert!(dw.len() >= self.weight_len(), "linear: dw has {} elements", dw.len());
        let wanted = self.grad_weight_scratch();
        assert!(scratch.len() >= wanted, "linear: scratch of {} floats, {wanted} needed", scratch.len());
        let sink = Sink::Store { dw: dw.as_mut_ptr(), accumulate };
        // SAFETY: lengths checked, those of the operands in `weight_product`.
        unsafe { self.weight_product(x, dy, sink, scratch) }
    }

    /// Whether a product stays on the calling thread.
    pub(super) fn is_small(&self) -> bool {
        self.batch * self.inputs * self.outputs <= SERIAL_WORK
    }

    /// Floats of scratch for the product `xᵀ·dy`.
    fn weight_product_scratch(&self, updates: bool) -> usize {
        if few::applies(self) { few::scratch(self) } else { self.outer(&[], &[]).scratch(updates) }
    }

    /// The operands of the product `xᵀ·dy`.
    fn outer<'a>(&self, x: &'a [f32], dy: &'a [f32]) -> Outer<'a> {
        let (isa, family) = (Isa::active(), Family::active());
        Outer { isa, family, layer: *self, x, x_row: self.inputs, dy, dy_panel: None }
    }

    /// The product `xᵀ·dy`, with inputs or outputs in the lanes.
    ///
    /// # Safety
    /// Where the sums go fits the layer, and scratch suffices.
    unsafe fn weight_product(&self, x: &[f32], dy: &[f32], sink: Sink<'_>, scratch: &mut [f32]) {
        assert!(x.len() >= self.batch * self.inputs, "linear: x has {} elements", x.len());
        assert!(dy.len() >= self.batch * self.outputs, "linear: dy has {} elements", dy.len());
        let outer = self.outer(x, dy);
        // SAFETY: lengths checked; the caller's promise.
        unsafe {
            match few::applies(self) {
                true => few::run(&outer, sink, self.is_small(), scratch),
                false => outer.run(sink, self.is_small(), scratch),
            }
        }
    }

    /// Floats of scratch for [`Self::update_weight`].
    pub fn update_weight_scratch(&self) -> usize {
        self.weight_product_scratch(true)
    }

    /// The gradient of [`Self::grad_weight`] and an optimiser's step with it in one pass: each tile of the gradient
    /// updates its part of the parameters (in panels) and is forgotten. The same bits as the two passes.
    ///
    /// # Panics
    /// If a slice is too short, or `target` is not as long as the weights.
    pub fn update_weight(&self, x: &[f32], dy: &[f32], target: &Pieces<'_>, scratch: &mut [f32]) {
        let wanted = self.update_weight_scratch();
        assert!(scratch.len() >= wanted, "linear: scratch of {} floats, {wanted} needed", scratch.len());
        assert_eq!(target.len(), self.weight_len(), "linear: as many parameters as weights");
        // SAFETY: lengths checked, those of the operands in `weight_product`.
        unsafe { self.weight_product(x, dy, Sink::Update(target), scratch) }
    }

    /// `db (+)= Σ_b dy[b]`, of length `O`.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn grad_bias(&self, dy: &[f32], db: &mut [f32], accumulate: bool) {
        assert!(dy.len() >= self.batch * self.outputs, "linear: dy has {} elements", dy.len());
        let db = &mut db[..self.outputs];
        if !accumulate {
            db.fill(0.0);
        }
        for row in dy[..self.batch * self.outputs].chunks_exact(self.outputs.max(1)) {
            for (sum, v) in db.iter_mut().zip(row) {
                *sum += v;
            }
        }
    }
}
