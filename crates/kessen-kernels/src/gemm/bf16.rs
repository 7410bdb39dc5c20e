//! Products of operands rounded to bf16 ([`crate::bf16`]), summed in f32.
//!
//! Glossary: as in [`super`]; a word is two bf16 that are neighbours along the sums. `A` becomes rows of words
//! `[m][⌈k/2⌉]` (or `[⌈k/2⌉][m]` where it is stored transposed), `B` panels of words `[⌈n/16⌉][⌈k/2⌉][16]`; an odd last
//! term is paired with zero. Operands are rounded once per product, except weights that never change
//! ([`prepare_weight`]).

use super::item::cut;
use super::linear::GradInput;
use super::product::{MAX_BLOCK_ROWS, Product};
use super::{Gemm, Linear, SERIAL_WORK};
use crate::bf16::{across, along, is_native, pixels};
use crate::epilogue::Epilogue;
use crate::isa::Isa;
use crate::layout::{panels_len, transpose_raw};
use crate::micro::{Family, Finish, PANEL};
use crate::split::even;
use crate::threads::{self, Address, Shared};

/// Numbers rounded by one task at least.
const ROUND_WORK: usize = 1 << 14;

/// Panels filled side by side.
const GROUP: usize = 8;

/// Products that a rounded number takes part in, from which on rounding it is worth the time.
const MIN_USES: usize = 32;
/// Multiply-adds of a product from which on it makes up for the steps that round.
const MIN_WORK: usize = 1 << 22;

/// Distance of `A`'s rows of words: off the multiples of 1 KiB, so that the rows of a tile don't meet in the cache.
fn row_len(k: usize) -> usize {
    let words = k.div_ceil(2);
    if words.is_multiple_of(256) { words + PANEL } else { words }
}

/// Calls `round` for `lines` lines of `len` words, `step` apart, in parallel.
fn round_lines(
    lines: usize,
    len: usize,
    words: &mut [f32],
    step: usize,
    round: impl Fn(Isa, usize, &mut [f32]) + Sync,
) {
    if len == 0 || lines == 0 {
        return;
    }
    assert!(words.len() >= (lines - 1) * step + len, "bf16: {} words for {lines} lines", words.len());
    let words = Address(words.as_mut_ptr());
    threads::parallel_chunks(lines, ROUND_WORK.div_ceil(len), |range| {
        let isa = Isa::active();
        for line in range {
            // SAFETY: lines are disjoint and inside `words`, whose length was checked.
            let words = unsafe { std::slice::from_raw_parts_mut(words.get().add(line * step), len) };
            round(isa, line, words);
        }
    });
}

/// `A` or `B` as it is stored: rows of `len` numbers `ld` apart.
#[derive(Clone, Copy)]
struct Stored<'a> {
    data: &'a [f32],
    ld: usize,
    rows: usize,
    len: usize,
}

impl Stored<'_> {
    fn row(&self, row: usize) -> &[f32] {
        if row < self.rows { &self.data[row * self.ld..][..self.len] } else { &[] }
    }

    /// Words of neighbours in a row, rows `step` apart.
    fn along(&self, words: &mut [f32], step: usize) {
        round_lines(self.rows, self.len.div_ceil(2), words, step, |isa, row, words| {
            along(isa, self.row(row), words);
        });
    }

    /// Words of neighbours in a column: `[⌈rows/2⌉][len]`.
    fn across(&self, words: &mut [f32]) {
        round_lines(self.rows.div_ceil(2), self.len, words, self.len, |isa, line, words| {
            across(isa, self.row(2 * line), self.row(2 * line + 1), words);
        });
    }

    /// Panels of words of neighbours in a column: `[⌈len/16⌉][⌈rows/2⌉][16]`.
    fn panels_across(&self, words: &mut [f32]) {
        let (terms, panels) = (self.rows.div_ceil(2), self.len.div_ceil(PANEL));
        let words = Shared::new(&mut words[..panels * terms * PANEL]);
        // Row by row over several panels, so that reading is contiguous.
        threads::parallel_chunks(panels, GROUP.max(ROUND_WORK.div_ceil(self.rows.max(1) * PANEL)), |range| {
            let isa = Isa::active();
            for line in 0..terms {
                let (first, second) = (self.row(2 * line), self.row(2 * line + 1));
                for panel in range.clone() {
                    let lanes = panel * PANEL..((panel + 1) * PANEL).min(self.len);
                    let at = (panel * terms + line) * PANEL;
                    // SAFETY: each panel is one task's.
                    let words = unsafe { words.part(at..at + PANEL) };
                    across(isa, &first[lanes.clone()], second.get(lanes).unwrap_or_default(), words);
                }
            }
        });
    }

    /// Panels of words of neighbours in a row: `[⌈rows/16⌉][⌈len/2⌉][16]`.
    fn panels_along(&self, words: &mut [f32]) {
        let terms = self.len.div_ceil(2);
        round_lines(self.rows.div_ceil(PANEL), terms * PANEL, words, terms * PANEL, |isa, panel, words| {
            let lanes = (self.rows - panel * PANEL).min(PANEL);
            if lanes < PANEL {
                words.fill(0.0);
            }
            // Some words of all rows at a time.
            let mut block = [[0.0f32; PANEL]; PANEL];
            for first in (0..terms).step_by(PANEL) {
                let some = (terms - first).min(PANEL);
                for (lane, block) in block.iter_mut().enumerate().take(lanes) {
                    let row = &self.row(panel * PANEL + lane)[2 * first..];
                    along(isa, &row[..row.len().min(2 * some)], block);
                }
                let to = words[first * PANEL..][..some * PANEL].as_mut_ptr();
                // SAFETY: `lanes` rows of `some` words into `some` rows of 16.
                unsafe { transpose_raw(block.as_ptr().cast(), PANEL, to, PANEL, lanes, some) }
            }
        });
    }
}

/// Computes a product from words, in parallel tasks.
///
/// # Safety
/// As for [`Product::block`], for all of `C`.
unsafe fn multiply(product: &Product, m: usize) {
    let family = Family::pairs(is_native());
    let (n, panels) = (product.n, product.n.div_ceil(PANEL));
    if m == 0 || n == 0 {
        return;
    }
    let serial = m * n * product.k * 2 <= SERIAL_WORK;
    let (rows, columns) = if serial { (MAX_BLOCK_ROWS.min(m), panels) } else { cut(m, n, 2 * product.k) };
    let (down, across) = (m.div_ceil(rows), panels.div_ceil(columns));
    threads::parallel_for(if serial { 1 } else { down * across }, |task| {
        for task in if serial { 0..down } else { task..task + 1 } {
            let start = task / down * columns;
            let rows = even(m, rows, task % down);
            // SAFETY: blocks are disjoint; the caller's promise.
            unsafe { product.block(family, rows, start..(start + columns).min(panels), None) }
        }
    });
}

/// Floats of scratch for [`run`].
pub fn scratch(g: &Gemm) -> usize {
    a_words(g) + panels_len(g.k.div_ceil(2), g.n)
}

fn a_words(g: &Gemm) -> usize {
    if g.trans_a { g.k.div_ceil(2) * g.m } else { g.m * row_len(g.k) }
}

/// As [`Gemm::run`], of rounded operands; the products of a batch follow each other.
///
/// # Panics
/// If a slice is too short for the shape, or a leading dimension shorter than its row.
pub fn run(g: &Gemm, a: &[f32], b: &[f32], c: &mut [f32], epilogue: &Epilogue, scratch: &mut [f32]) {
    g.check_b(b);
    g.check(a, c, epilogue, scratch, self::scratch(g));
    let (a_words, b_words) = scratch.split_at_mut(a_words(g));
    let (k, words) = (g.k, g.k.div_ceil(2));
    let stored = |data, ld, trans, rows: usize, len: usize| {
        let (rows, len) = if trans { (len, rows) } else { (rows, len) };
        Stored { data, ld, rows, len }
    };
    for item in 0..g.batch {
        // An empty product reads nothing, not even an operand's first row.
        let part = |data: &'_ [f32], stride: usize| data.len().min(item * stride);
        let a = stored(&a[part(a, g.stride_a)..], g.lda, g.trans_a, g.m, k);
        let b = stored(&b[part(b, g.stride_b)..], g.ldb, g.trans_b, k, g.n);
        let (a_row, a_col) = if g.trans_a { (1, g.m) } else { (row_len(k), 1) };
        if g.trans_a {
            a.across(a_words)
        } else {
            a.along(a_words, row_len(k))
        }
        if g.trans_b {
            b.panels_along(b_words)
        } else {
            b.panels_across(b_words)
        }
        let offset = item * g.stride_c;
        let product = Product {
            n: g.n,
            k: words,
            a: a_words.as_ptr(),
            a_row: a_row as isize,
            a_col: a_col as isize,
            a_panel: None,
            b: b_words.as_ptr(),
            b_row: PANEL as isize,
            b_panel: panels_len(words, PANEL) as isize,
            c: c.as_mut_ptr().wrapping_add(offset),
            c_row: g.ldc as isize,
            c_panel: PANEL as isize,
            rows_follow: false,
            finish: Finish::new(epilogue).at(0, 0, offset as isize),
        };
        // SAFETY: operands were checked against the shape.
        unsafe { multiply(&product, g.m) }
    }
}

/// Length of a layer's weights in words, for [`forward`].
pub fn weight_words(l: &Linear) -> usize {
    panels_len(l.inputs.div_ceil(2), l.outputs)
}

/// Rounds weights in panels ([`Linear::pack_weight`]) to words for [`forward`].
///
/// # Panics
/// If a slice is too short.
pub fn prepare_weight(l: &Linear, weight: &[f32], words: &mut [f32]) {
    let (from, terms) = (panels_len(l.inputs, PANEL), l.inputs.div_ceil(2) * PANEL);
    round_lines(l.outputs.div_ceil(PANEL), terms, words, terms, |isa, panel, words| {
        pixels(isa, &weight[panel * from..][..from], 0, 1, words);
    });
}

/// Floats of scratch for [`forward`].
pub fn forward_scratch(l: &Linear) -> usize {
    l.batch * row_len(l.inputs)
}

/// As [`Linear::forward`], of rounded operands; `weight` was made by [`prepare_weight`].
///
/// # Panics
/// If a slice is too short.
pub fn forward(
    l: &Linear,
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
    epilogue: &Epilogue,
    scratch: &mut [f32],
) {
    assert!(weight.len() >= weight_words(l), "linear: {} words of weights", weight.len());
    l.gemm().check(x, y, epilogue, scratch, forward_scratch(l));
    Stored { data: x, ld: l.inputs, rows: l.batch, len: l.inputs }.along(scratch, row_len(l.inputs));
    let product = Product {
        n: l.outputs,
        k: l.inputs.div_ceil(2),
        a: scratch.as_ptr(),
        a_row: row_len(l.inputs) as isize,
        a_col: 1,
        a_panel: None,
        b: weight.as_ptr(),
        b_row: PANEL as isize,
        b_panel: panels_len(l.inputs.div_ceil(2), PANEL) as isize,
        c: y.as_mut_ptr(),
        c_row: l.outputs as isize,
        c_panel: PANEL as isize,
        rows_follow: false,
        finish: Finish::new(epilogue),
    };
    // SAFETY: lengths checked.
    unsafe { multiply(&product, l.batch) }
}

/// Floats of scratch for [`grad_input`].
pub fn grad_input_scratch(l: &Linear) -> usize {
    l.weight_len() / 2 + panels_len(l.outputs.div_ceil(2), l.batch) + l.grad_input_buffers()
}

/// As [`Linear::grad_input`], of rounded operands; `weight` lies in panels of f32.
///
/// # Panics
/// If a slice is too short.
pub fn grad_input(
    l: &Linear,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    accumulate: bool,
    scratch: &mut [f32],
) {
    let Linear { batch, inputs, outputs } = *l;
    assert!(dy.len() >= batch * outputs, "linear: dy has {} elements", dy.len());
    assert!(weight.len() >= l.weight_len(), "linear: weights have {} elements", weight.len());
    assert!(dx.len() >= batch * inputs, "linear: dx has {} elements", dx.len());
    let wanted = grad_input_scratch(l);
    assert!(scratch.len() >= wanted, "linear: scratch of {} floats, {wanted} needed", scratch.len());
    let (w, rest) = scratch.split_at_mut(l.weight_len() / 2);
    let (dy_t, buffers) = rest.split_at_mut(panels_len(outputs.div_ceil(2), batch));
    // Neighbours along the sums are neighbours in the panels' rows of 16 outputs.
    let panel = inputs * PANEL;
    Stored { data: weight, ld: panel, rows: outputs.div_ceil(PANEL), len: panel }.along(w, panel / 2);
    Stored { data: dy, ld: outputs, rows: batch, len: outputs }.panels_along(dy_t);
    let operands = GradInput { family: Family::pairs(is_native()), weight: w, dy_t, depth: PANEL / 2 };
    // SAFETY: lengths checked.
    unsafe { l.grad_input_sweep(&operands, dx, accumulate, buffers) }
}

/// Floats of scratch for [`grad_weight`].
pub fn grad_weight_scratch(l: &Linear) -> usize {
    l.batch.div_ceil(2) * l.inputs + panels_len(l.batch.div_ceil(2), l.outputs)
}

/// As [`Linear::grad_weight`], of rounded operands; `dw` lies in panels of f32.
///
/// # Panics
/// If a slice is too short.
pub fn grad_weight(l: &Linear, x: &[f32], dy: &[f32], dw: &mut [f32], accumulate: bool, scratch: &mut [f32]) {
    let Linear { batch, inputs, outputs } = *l;
    assert!(x.len() >= batch * inputs, "linear: x has {} elements", x.len());
    assert!(dy.len() >= batch * outputs, "linear: dy has {} elements", dy.len());
    assert!(dw.len() >= l.weight_len(), "linear: dw has {} elements", dw.len());
    let wanted = grad_weight_scratch(l);
    assert!(scratch.len() >= wanted, "linear: scratch of {} floats, {wanted} needed", scratch.len());
    let terms = batch.div_ceil(2);
    let (x_words, dy_words) = scratch.split_at_mut(terms * inputs);
    Stored { data: x, ld: inputs, rows: batch, len: inputs }.across(x_words);
    Stored { data: dy, ld: outputs, rows: batch, len: outputs }.panels_across(dy_words);
    let product = Product {
        n: outputs.next_multiple_of(PANEL),
        k: terms,
        a: x_words.as_ptr(),
        a_row: 1,
        a_col: inputs as isize,
        a_panel: None,
        b: dy_words.as_ptr(),
        b_row: PANEL as isize,
        b_panel: panels_len(terms, PANEL) as isize,
        c: dw.as_mut_ptr(),
        c_row: PANEL as isize,
        c_panel: panels_len(inputs, PANEL) as isize,
        rows_follow: false,
        finish: Finish::plain(accumulate),
    };
    // SAFETY: lengths checked.
    unsafe { multiply(&product, inputs) }
}

/// Whether [`run`] is faster than [`Gemm::run`]: where each product is large and each rounded number is used often.
pub fn pays(g: &Gemm) -> bool {
    g.m.min(g.n) >= MIN_USES && g.m * g.n * g.k >= MIN_WORK
}

/// Whether a layer's kernels are faster on rounded operands than on f32. Rounding the weights costs a pass over them, which
/// only many rows make up for; where they are `prepared`, half the memory is read.
pub fn pays_for_layer(l: &Linear, prepared: bool) -> bool {
    (prepared || l.batch >= MIN_USES) && l.batch * l.inputs * l.outputs >= MIN_WORK
}
