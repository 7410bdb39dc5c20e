//! The gradients of a linear layer where outputs are few; [`super::dots`] is its forward product.
//!
//! Glossary: as in [`super::linear`].
//!
//! Gradient to the weights: `dWᵀ = dyᵀ·x`, with inputs in the vectors' lanes. Where `O` is no multiple of 16, lanes of
//! outputs ([`super::outer`]) are wasted, and few panels of outputs make few tasks. Here `x` is read where it lies, as rows
//! of 16 inputs, and `dy` as broadcast scalars. A *slab* is a part of the batch; each task sums one slab for a few panels
//! of inputs, and a second step adds the slabs, turns blocks of 16 × 16 sums into panels of outputs and hands them on.
//!
//! Gradient to the inputs: a few terms for each element that is written, so that writing takes the time. The weights stay in the
//! first-level cache while whole rows of `dx` are computed one after another.

use super::Linear;
use super::outer::{Outer, Sink};
use super::product::{COLLIDING, Product};
use crate::layout::{pack_rows, panels_len, transpose_raw};
use crate::micro::{Family, Finish, PANEL, Rows, Soon, Sum, Tile};
use crate::split::{dividing, even, share};
use crate::threads::{self, Shared, parallel_unless};
use std::ops::Range;

/// Most outputs: so many of a pass's rows of `dy` stay in the second-level cache while panels of `x` go by.
const MOST_OUTPUTS: usize = 128;
/// Rows of the batch from which on it costs little to turn the sums.
const LONG_BATCH: usize = 512;
/// Rows of the batch summed at once: so many of a pair of panels fill the first-level cache.
const DEPTH: usize = 256;
/// Panels of a task at most: few, so that there are enough tasks.
const TASK_PANELS: usize = 4;
/// How many tasks are enough.
const ENOUGH_TASKS: usize = 4;
/// The least rows of a slab that is made in order to have enough tasks.
const SLAB_ROWS: usize = 512;
/// Floats per thread: packed panels of inputs.
const PACKED_LEN: usize = TASK_PANELS * PANEL * DEPTH;

/// Floats of weights that stay in the first-level cache beside the rows that go by.
const NEAR_WEIGHTS: usize = 6 << 10;
/// Tiles of rows that a task computes.
const TASK_TILES: usize = 8;

/// How the work is cut; follows from the layer's shape alone.
#[derive(Clone, Copy)]
struct Cut {
    /// Panels of inputs, those of one task, and how many tasks they make.
    panels: usize,
    across: usize,
    groups: usize,
    slabs: usize,
    /// Sums of one slab: `[panels][O][16]`.
    slab_len: usize,
}

impl Cut {
    fn new(layer: &Linear) -> Cut {
        let panels = layer.inputs.div_ceil(PANEL);
        let across = if panels >= ENOUGH_TASKS * TASK_PANELS { TASK_PANELS } else { 2 };
        let groups = panels.div_ceil(across);
        let wanted = if groups < ENOUGH_TASKS { ENOUGH_TASKS } else { 1 };
        let slabs = wanted.min(layer.batch / SLAB_ROWS).max(1);
        Cut { panels, across, groups, slabs, slab_len: panels_len(layer.outputs, layer.inputs) }
    }
}

/// Whether lanes of inputs take less time than lanes of outputs: where these waste more of the registers, and in a long sum
/// also where both waste about the same, since no operand is packed and tasks are smaller.
pub(super) fn applies(layer: &Linear) -> bool {
    let Linear { batch, inputs, outputs } = *layer;
    let (few, many) = (panels_len(outputs, inputs), panels_len(inputs, outputs));
    outputs <= MOST_OUTPUTS
        && if batch >= LONG_BATCH { few <= many + many / 8 } else { few + few / 8 <= many }
}

/// Floats of scratch of [`run`].
pub(super) fn scratch(layer: &Linear) -> usize {
    let cut = Cut::new(layer);
    cut.slabs * cut.slab_len + threads::count() * PACKED_LEN
}

/// Computes the gradient, on this thread or in parallel; `scratch` has [`scratch`] floats.
///
/// # Safety
/// `x` and `dy` fit the layer, and so does where the sums go.
pub(super) unsafe fn run(outer: &Outer, sink: Sink<'_>, serial: bool, scratch: &mut [f32]) {
    let cut = Cut::new(&outer.layer);
    let (sums, packed) = scratch.split_at_mut(cut.slabs * cut.slab_len);
    let (all, packed) = (Shared::new(sums), Shared::new(packed));
    parallel_unless(serial, cut.slabs * cut.groups, |task| {
        let (slab, group) = (task / cut.groups, task % cut.groups);
        let panels = group * cut.across..((group + 1) * cut.across).min(cut.panels);
        let at = threads::worker() * PACKED_LEN;
        let own = |panel: usize| slab * cut.slab_len + panel * outer.layer.outputs * PANEL;
        // SAFETY: tasks' sums are disjoint, each worker has its own packed panels; the caller's promise.
        unsafe {
            let sums = all.part(own(panels.start)..own(panels.end));
            sum_slab(
                outer,
                slab_rows(outer.layer.batch, cut.slabs, slab),
                panels,
                sums,
                packed.part(at..at + PACKED_LEN),
            );
        }
    });
    parallel_unless(serial, cut.panels, |panel| {
        // SAFETY: all sums are made; each panel is one task's.
        unsafe { finish(&outer.layer, cut, panel, &all, sink) }
    });
}

/// The `index`-th slab's rows of the batch.
fn slab_rows(batch: usize, slabs: usize, index: usize) -> Range<usize> {
    even(batch, batch.div_ceil(slabs).max(1), index)
}

/// `sums[panel][o][lane] = Σ_b dy[b][o]·x[b][16·panel + lane]` over some rows of the batch.
///
/// # Safety
/// As for [`run`].
unsafe fn sum_slab(
    outer: &Outer,
    rows: Range<usize>,
    panels: Range<usize>,
    sums: &mut [f32],
    packed: &mut [f32],
) {
    let Linear { inputs, outputs, .. } = outer.layer;
    let wide = outer.family.panels_for(outputs).min(TASK_PANELS);
    let c_panel = outputs * PANEL;
    for pass in 0..rows.len().div_ceil(DEPTH).max(1) {
        let depth = even(rows.len(), DEPTH, pass);
        let (first, terms) = (rows.start + depth.start, depth.len());
        let columns = panels.start * PANEL..(panels.end * PANEL).min(inputs);
        let from = outer.x.get(first * inputs + columns.start..).unwrap_or_default();
        let mut b = (from.as_ptr(), inputs, PANEL);
        let packs = (columns.len() % PANEL > 0 || inputs % COLLIDING == 0) && terms > 0;
        if packs {
            pack_rows(outer.isa, from, inputs, terms, columns.len(), packed);
            b = (packed.as_ptr(), PANEL, terms * PANEL);
        }
        let mut panel = panels.start;
        while panel < panels.end {
            let nv = Family::fitting(wide, panels.end - panel);
            let tile = Tile {
                a: outer.dy.as_ptr().wrapping_add(first * outputs),
                b: b.0.wrapping_add((panel - panels.start) * b.2),
                c: sums[(panel - panels.start) * c_panel..].as_mut_ptr(),
                c_panel: c_panel as isize,
                tail: PANEL,
                soon: Soon::NONE,
                finish: Finish::plain(pass > 0),
            };
            let sum = Sum::product(terms, outputs as isize, b.1 as isize, b.2 as isize);
            // What is read from `x` next: the panels beside these, or some of the next pass.
            let (row, next) = match panel + nv {
                beside if !packs && beside < panels.end => (first, beside),
                _ => (first + terms, if packs { panel } else { panels.start }),
            };
            let next = outer.x.as_ptr().wrapping_add(row * inputs + next * PANEL);
            // SAFETY: the operands are complete; the sums lie in `sums`.
            unsafe { tiles(outer, nv, &sum, tile, next) }
            panel += nv;
        }
    }
}

/// The tiles of `nv` panels for all outputs; meanwhile they ask for as many panels of `x` from `next` on.
///
/// # Safety
/// The tiles' operands are readable and their sums writable.
unsafe fn tiles(outer: &Outer, nv: usize, sum: &Sum, first: Tile, next: *const f32) {
    let Linear { inputs, outputs, .. } = outer.layer;
    let places = Rows::strided(1, PANEL as isize);
    let tall = outer.family.rows(nv);
    for index in 0..outputs.div_ceil(tall) {
        let r = even(outputs, tall, index);
        let soon = match index < nv {
            true => Soon::strided(next.wrapping_add(index * PANEL), inputs as isize, sum.depth),
            false => Soon::NONE,
        };
        let tile = Tile {
            a: first.a.wrapping_add(r.start),
            c: first.c.wrapping_add(r.start * PANEL),
            soon,
            ..first
        };
        // SAFETY: the caller's promise.
        unsafe { outer.family.kernel(r.len(), nv, true)(sum, &places, &tile) }
    }
}

/// Adds the slabs' sums of one panel of inputs, and stores or uses them as panels of outputs.
///
/// # Safety
/// Nobody else uses the panel's sums or its place in the weights.
unsafe fn finish(layer: &Linear, cut: Cut, panel: usize, all: &Shared<'_, f32>, sink: Sink<'_>) {
    let Linear { inputs, outputs, .. } = *layer;
    let len = outputs * PANEL;
    let part = |slab: usize| {
        let at = slab * cut.slab_len + panel * len;
        // SAFETY: the caller's promise; slabs are disjoint.
        unsafe { all.part(at..at + len) }
    };
    let total = part(0);
    for slab in 1..cut.slabs {
        total.iter_mut().zip(part(slab)).for_each(|(sum, v)| *sum += *v);
    }
    let lanes = (inputs - panel * PANEL).min(PANEL);
    for block in 0..outputs.div_ceil(PANEL) {
        let rows = (outputs - block * PANEL).min(PANEL);
        let mut turned = [0.0; PANEL * PANEL];
        let from = total[block * PANEL * PANEL..].as_ptr();
        // SAFETY: `rows` rows of 16 sums into `lanes` rows of 16.
        unsafe { transpose_raw(from, PANEL, turned.as_mut_ptr(), PANEL, rows, lanes) }
        let (at, turned) = ((block * inputs + panel * PANEL) * PANEL, &turned[..lanes * PANEL]);
        match sink {
            // SAFETY: panels are disjoint.
            Sink::Update(pieces) => unsafe { pieces.update(at, turned) },
            Sink::Store { dw, accumulate } => {
                // SAFETY: as above; `dw` is as long as the weights.
                let dw = unsafe { std::slice::from_raw_parts_mut(dw.add(at), turned.len()) };
                for (to, v) in dw.iter_mut().zip(turned) {
                    *to = if accumulate { *to + v } else { *v };
                }
            }
        }
    }
}

/// Whether [`grad_input`] applies: the turned weights are near, and rows long.
pub(super) fn sweeps_rows(layer: &Linear) -> bool {
    panels_len(layer.outputs, layer.inputs) <= NEAR_WEIGHTS && layer.inputs > 2 * PANEL
}

/// `dx (+)= dy·Wᵀ` from weights in panels of inputs, `[⌈I/16⌉][O][16]`, row by row.
///
/// # Safety
/// The operands fit the layer.
pub(super) unsafe fn grad_input(
    layer: &Linear,
    dy: &[f32],
    turned: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    let Linear { batch, inputs, outputs } = *layer;
    let family = Family::active();
    let product = Product {
        n: inputs,
        k: outputs,
        a: dy.as_ptr(),
        a_row: outputs as isize,
        a_col: 1,
        a_panel: None,
        b: turned.as_ptr(),
        b_row: PANEL as isize,
        b_panel: panels_len(outputs, PANEL) as isize,
        c: dx.as_mut_ptr(),
        c_row: inputs as isize,
        c_panel: PANEL as isize,
        rows_follow: false,
        finish: Finish::plain(accumulate),
    };
    let tall = family.tall(batch);
    let tasks = dividing(batch.div_ceil(tall * TASK_TILES));
    parallel_unless(layer.is_small(), tasks, |task| {
        let rows = share(batch, tasks, task);
        for tile in 0..rows.len().div_ceil(tall) {
            let part = even(rows.len(), tall, tile);
            let part = rows.start + part.start..rows.start + part.end;
            // SAFETY: rows are one task's; the caller's promise.
            unsafe { product.block(family, part, 0..inputs.div_ceil(PANEL), None) }
        }
    });
}
