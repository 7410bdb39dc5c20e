//! A linear layer's gradient to the weights, `dW = xᵀ·dy`: sums of outer products of rows.
//!
//! Glossary: as in [`super::linear`]. A *block* is up to [`MAX_BLOCK_ROWS`] inputs by some panels of outputs, the work of one
//! task. Its sums run over the batch in passes of up to [`DEPTH`] rows. A pass copies its part of `x`, packs a few panels
//! of `dy` at a time right before they are used, and meanwhile asks for what is read next, so that neither operand is ever
//! packed as a whole and memory is read behind the products. Rejected: `dy` packed by a step of its own, which writes and
//! reads it once more and leaves the reading of `x` and `dy` in nobody's shadow.

use super::Linear;
use super::product::{MAX_BLOCK_ROWS, WIDE_TASK, task_panels};
use crate::isa::Isa;
use crate::layout::{Strips, copy_strips, pack_rows, panels_len};
use crate::micro::{Family, Finish, MAX_ROWS, PANEL, Rows, Soon, Sum, Tile};
use crate::optim::Pieces;
use crate::split::even;
use crate::threads::{self, Shared};
use std::ops::Range;

/// Rows of the batch summed at once: so many of a pair of packed panels fill the first-level cache.
const DEPTH: usize = 256;
/// Panels of a block from which on a copy of `x` pays.
const COPY_PANELS: usize = 4;
/// Most panels of a tile.
const MOST_PANELS: usize = 4;
/// Floats of a copy of `x` in strips (which need some room more), of packed panels of `dy`, and of a block's sums.
const X_LEN: usize = (MAX_BLOCK_ROWS + 2 * MAX_ROWS) * DEPTH;
const DY_LEN: usize = MOST_PANELS * PANEL * DEPTH;
const SUMS_LEN: usize = MAX_BLOCK_ROWS * WIDE_TASK * PANEL;

/// What becomes of the sums.
#[derive(Clone, Copy)]
pub(super) enum Sink<'a> {
    /// They are stored in panels, or added to what is there.
    Store { dw: *mut f32, accumulate: bool },
    /// They update parameters and are forgotten.
    Update(&'a Pieces<'a>),
}

// SAFETY: only `Outer::run` uses the address; its caller promises that it is writable, and blocks are disjoint.
unsafe impl Sync for Sink<'_> {}

/// The operands of `xᵀ·dy`.
#[derive(Clone, Copy)]
pub(super) struct Outer<'a> {
    pub isa: Isa,
    pub family: &'static Family,
    pub layer: Linear,
    /// `[B][I]`
    pub x: &'a [f32],
    /// `[B][O]`
    pub dy: &'a [f32],
}

/// One pass of one block: rows of the batch, inputs, panels of outputs.
#[derive(Clone)]
struct Pass {
    depth: Range<usize>,
    inputs: Range<usize>,
    panels: Range<usize>,
}

/// A pass's part of `x` as tiles read it.
#[derive(Clone, Copy)]
struct Columns {
    at: *const f32,
    /// Distance of the rows of the batch.
    row: usize,
    /// Distance of the tiles' columns, where they are copied to strips; else they are neighbours.
    strip: Option<usize>,
}

impl Outer<'_> {
    /// Floats of scratch per thread; without an update the sums need none.
    pub fn scratch(updates: bool) -> usize {
        X_LEN + DY_LEN + if updates { SUMS_LEN } else { 0 }
    }

    fn panels(&self) -> usize {
        self.layer.outputs.div_ceil(PANEL)
    }

    /// Blocks of inputs, and panels of a block.
    fn cut(&self) -> (usize, usize) {
        let down = self.layer.inputs.div_ceil(MAX_BLOCK_ROWS);
        (down, task_panels(down, self.panels()))
    }

    fn tasks(&self) -> usize {
        let (down, across) = self.cut();
        down * self.panels().div_ceil(across)
    }

    fn passes(&self) -> usize {
        self.layer.batch.div_ceil(DEPTH).max(1)
    }

    /// The `index`-th block of inputs, which starts at a multiple of a line.
    fn inputs(&self, index: usize) -> Range<usize> {
        let inputs = self.layer.inputs;
        let lines = even(inputs.div_ceil(PANEL), MAX_BLOCK_ROWS / PANEL, index);
        lines.start * PANEL..(lines.end * PANEL).min(inputs)
    }

    /// The `index`-th pass of all tasks'.
    fn pass(&self, index: usize) -> Pass {
        let (task, index) = (index / self.passes(), index % self.passes());
        let (down, across) = self.cut();
        let first = task / down * across;
        Pass {
            depth: even(self.layer.batch, DEPTH, index),
            inputs: self.inputs(task % down),
            panels: first..(first + across).min(self.panels()),
        }
    }

    /// Computes all blocks, on this thread or in parallel; `scratch` has [`Self::scratch`] per thread.
    ///
    /// # Safety
    /// `x` and `dy` fit the layer, and so does where the sums go.
    pub unsafe fn run(&self, sink: Sink<'_>, serial: bool, scratch: &mut [f32]) {
        let each = Self::scratch(matches!(sink, Sink::Update(_)));
        let scratch = Shared::new(scratch);
        let tasks = self.tasks();
        threads::parallel_for(if serial { 1 } else { tasks }, |task| {
            let at = threads::worker() * each;
            for task in if serial { 0..tasks } else { task..task + 1 } {
                // SAFETY: each worker has its own part; blocks are disjoint; the caller's promise.
                unsafe { self.block(task, sink, scratch.part(at..at + each)) }
            }
        });
    }

    /// # Safety
    /// As for [`Self::run`]; nobody else touches the task's block or `scratch`.
    unsafe fn block(&self, task: usize, sink: Sink<'_>, scratch: &mut [f32]) {
        let (passes, panel_len) = (self.passes(), self.layer.inputs * PANEL);
        let (copy, rest) = scratch.split_at_mut(X_LEN);
        let (packed, sums) = rest.split_at_mut(DY_LEN);
        for index in task * passes..(task + 1) * passes {
            let pass = self.pass(index);
            let next = (index + 1 < self.tasks() * passes).then(|| self.pass(index + 1));
            let first = pass.depth.start == 0;
            let corner = pass.inputs.start * PANEL;
            let (c, c_panel, add, pieces) = match sink {
                Sink::Store { dw, accumulate } => {
                    let c = dw.wrapping_add(pass.panels.start * panel_len + corner);
                    (c, panel_len, accumulate || !first, None)
                }
                Sink::Update(pieces) => {
                    let last = pass.depth.end == self.layer.batch;
                    (sums.as_mut_ptr(), pass.inputs.len() * PANEL, !first, last.then_some(pieces))
                }
            };
            let x = self.part_of_x(&pass, copy);
            let mut group = self.group(&pass, pass.panels.start);
            while !group.is_empty() {
                self.pack_dy(&pass.depth, &group, packed);
                let to = (group.start - pass.panels.start) * c_panel;
                let tile = Tile {
                    a: x.at,
                    b: packed.as_ptr(),
                    c: c.wrapping_add(to),
                    c_panel: c_panel as isize,
                    tail: PANEL,
                    soon: Soon::NONE,
                    finish: Finish::plain(add),
                };
                let soon = self.soon(&pass, next.as_ref(), &group, pieces);
                // SAFETY: operands are complete; the sums lie in the block or in scratch.
                unsafe { self.tiles(&pass, group.len(), x, tile, soon) }
                if let Some(pieces) = pieces {
                    let sums = sums[to..].chunks_exact(c_panel);
                    for (panel, sums) in group.clone().zip(sums) {
                        // SAFETY: blocks are disjoint.
                        unsafe { pieces.update(panel * panel_len + corner, sums) }
                    }
                }
                group = self.group(&pass, group.end);
            }
        }
    }

    /// Panels of a tile.
    fn wide(&self, pass: &Pass) -> usize {
        self.family.panels_for(pass.inputs.len())
    }

    /// Most inputs of a tile.
    fn tall(&self, pass: &Pass) -> usize {
        self.family.rows(self.wide(pass)).min(MAX_ROWS)
    }

    /// The panels from `start` on that are packed together; none behind the pass's last. Several where a tile has only one,
    /// for single lines of `dy`'s rows arrive too slowly.
    fn group(&self, pass: &Pass, start: usize) -> Range<usize> {
        let most = match self.wide(pass) {
            1 => MOST_PANELS,
            wide => wide,
        };
        start..start + Family::fitting(most, pass.panels.end - start)
    }

    /// The tiles of a few panels; `first` is the first of them.
    ///
    /// # Safety
    /// The tiles' operands are readable and their sums writable.
    unsafe fn tiles(
        &self,
        pass: &Pass,
        panels: usize,
        x: Columns,
        first: Tile,
        mut soon: impl Iterator<Item = Soon>,
    ) {
        let (depth, inputs) = (pass.depth.len(), pass.inputs.len());
        let b_panel = panels_len(depth, PANEL);
        let sum = Sum::product(depth, x.row as isize, PANEL as isize, b_panel as isize);
        let places = Rows::strided(1, PANEL as isize);
        let (wide, tall) = (self.wide(pass).min(panels), self.tall(pass));
        for panel in (0..panels).step_by(wide) {
            for index in 0..inputs.div_ceil(tall) {
                let r = even(inputs, tall, index);
                let tile = Tile {
                    a: first.a.wrapping_add(x.strip.map_or(r.start, |strip| index * strip)),
                    b: first.b.wrapping_add(panel * b_panel),
                    c: first.c.wrapping_add(r.start * PANEL).wrapping_offset(panel as isize * first.c_panel),
                    soon: soon.next().unwrap_or(Soon::NONE),
                    ..first
                };
                // SAFETY: the caller's promise.
                unsafe { self.family.kernel(r.len(), wide, true)(&sum, &places, &tile) }
            }
        }
    }

    /// A pass's part of `x`, copied to strips if enough panels use it: its rows lie far apart and may meet in the cache, and of
    /// each of their lines a tile reads a part only.
    fn part_of_x(&self, pass: &Pass, copy: &mut [f32]) -> Columns {
        let inputs = self.layer.inputs;
        let at = pass.depth.start * inputs + pass.inputs.start;
        let from = self.x.get(at..).unwrap_or_default();
        if pass.panels.len() < COPY_PANELS {
            return Columns { at: from.as_ptr(), row: inputs, strip: None };
        }
        let tall = self.tall(pass);
        let strips = Strips { row: inputs, width: pass.inputs.len(), rows: pass.depth.len(), most: tall };
        copy_strips(self.isa, from, strips, copy);
        Columns { at: copy.as_ptr(), row: tall, strip: Some(strips.distance()) }
    }

    /// Packs a few panels of some rows of `dy`.
    fn pack_dy(&self, depth: &Range<usize>, panels: &Range<usize>, packed: &mut [f32]) {
        let outputs = self.layer.outputs;
        let columns = panels.start * PANEL..(panels.end * PANEL).min(outputs);
        if !depth.is_empty() {
            let from = &self.dy[depth.start * outputs + columns.start..];
            pack_rows(self.isa, from, outputs, depth.len(), columns.len(), packed);
        }
    }

    /// What is read after the tiles of `group`: the next panels of `dy`, a share of the next pass's `x`, and the parameters
    /// that are updated then.
    fn soon<'s>(
        &'s self,
        pass: &'s Pass,
        next: Option<&'s Pass>,
        group: &Range<usize>,
        pieces: Option<&'s Pieces<'s>>,
    ) -> impl Iterator<Item = Soon> + 's {
        let Linear { inputs, outputs, .. } = self.layer;
        let (x, dy, group) = (self.x.as_ptr(), self.dy.as_ptr(), group.clone());
        let (from, depth) = match next {
            Some(next) if group.end == pass.panels.end => (next.panels.start, &next.depth),
            _ => (group.end, &pass.depth),
        };
        let panels = (from..(from + group.len()).min(self.panels())).map(move |panel| {
            Soon::strided(
                dy.wrapping_add(depth.start * outputs + panel * PANEL),
                outputs as isize,
                depth.len(),
            )
        });
        let turns = pass.panels.len().div_ceil(group.len());
        let turn = (group.start - pass.panels.start) / group.len();
        let lines = next.into_iter().flat_map(move |next| {
            let corner = x.wrapping_add(next.depth.start * inputs + next.inputs.start);
            let lines = (turn..next.inputs.len().div_ceil(PANEL)).step_by(turns);
            lines.map(move |line| {
                Soon::strided(corner.wrapping_add(line * PANEL), inputs as isize, next.depth.len())
            })
        });
        let updated = pieces.into_iter().flat_map(move |pieces| {
            group.clone().flat_map(move |panel| {
                let at = (panel * inputs + pass.inputs.start) * PANEL;
                let rows = pass.inputs.len();
                pieces.addresses().map(move |from| Soon::strided(from.wrapping_add(at), PANEL as isize, rows))
            })
        });
        panels.chain(lines).chain(updated)
    }
}
