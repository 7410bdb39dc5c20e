//! A linear layer's gradient to the weights, `dW = xᵀ·dy`: sums of outer products of rows.
//!
//! Glossary: as in [`super::linear`]. A *block* is up to [`MAX_BLOCK_ROWS`] inputs by some panels of outputs, the work of one
//! task. Its sums run over the batch in passes of up to [`DEPTH`] rows. Where there are many blocks, both operands are copied
//! once before ([`Copies`]). Else a pass copies its part of `x`, packs a few panels of `dy` at a time right before they are
//! used, and meanwhile asks for what is read next, so that neither operand is ever packed as a whole and memory is read
//! behind the products.

use super::Linear;
use super::copies::Copies;
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
pub(crate) enum Sink<'a> {
    /// They are stored in panels, or added to what is there.
    Store { dw: *mut f32, accumulate: bool },
    /// They update parameters and are forgotten.
    Update(&'a Pieces<'a>),
}

// SAFETY: only `Outer::run` uses the address; its caller promises that it is writable, and blocks are disjoint.
unsafe impl Sync for Sink<'_> {}

/// The operands of `xᵀ·dy`.
#[derive(Clone, Copy)]
pub(crate) struct Outer<'a> {
    pub isa: Isa,
    pub family: &'static Family,
    pub layer: Linear,
    /// `[B][I]`
    pub x: &'a [f32],
    /// Distance of the rows of `x`.
    pub x_row: usize,
    /// `[B][O]`, or panels of it.
    pub dy: &'a [f32],
    /// The distance of `dy`'s panels, where it lies in panels.
    pub dy_panel: Option<usize>,
}

/// One pass of one block: rows of the batch, inputs, panels of outputs.
#[derive(Clone)]
struct Pass {
    depth: Range<usize>,
    inputs: Range<usize>,
    panels: Range<usize>,
    /// Numbers of the block of inputs and of the pass.
    place: [usize; 2],
}

/// A pass's part of `x` as tiles read it.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub at: *const f32,
    /// Distance of the rows of the batch.
    pub row: usize,
    /// Distance of the tiles' columns, where they are copied to strips; else they are neighbours.
    pub strip: Option<usize>,
}

impl<'a> Outer<'a> {
    /// The product of `x`, whose rows lie `x_row` apart, and of `dy` in panels `dy_panel` apart, if copies pay.
    pub fn of_panels(
        layer: Linear,
        (x, x_row): (&'a [f32], usize),
        (dy, dy_panel): (&'a [f32], usize),
    ) -> Option<Self> {
        let (isa, family) = (Isa::active(), Family::active());
        let outer = Outer { isa, family, layer, x, x_row, dy, dy_panel: Some(dy_panel) };
        Copies::len(&outer).is_some().then_some(outer)
    }

    /// Floats of scratch: copies made once, or those of each thread; without an update the sums need none.
    pub fn scratch(&self, updates: bool) -> usize {
        Copies::len(self).unwrap_or(0) + threads::count() * self.scratch_each(updates).iter().sum::<usize>()
    }

    /// Floats of each thread's copies of `x` and `dy` and of its sums.
    fn scratch_each(&self, updates: bool) -> [usize; 3] {
        let [x, dy] = if Copies::len(self).is_some() { [0; 2] } else { [X_LEN, DY_LEN] };
        [x, dy, if updates { SUMS_LEN } else { 0 }]
    }

    /// Panels of `dy`.
    pub fn panels(&self) -> usize {
        self.layer.outputs.div_ceil(PANEL)
    }

    /// Blocks of inputs, and panels of a block.
    pub fn cut(&self) -> (usize, usize) {
        let down = self.layer.inputs.div_ceil(MAX_BLOCK_ROWS);
        (down, task_panels(down, self.panels()))
    }

    fn tasks(&self) -> usize {
        let (down, across) = self.cut();
        down * self.panels().div_ceil(across)
    }

    /// Passes of a block.
    pub fn passes(&self) -> usize {
        self.layer.batch.div_ceil(DEPTH).max(1)
    }

    /// The rows of the batch of a block's `index`-th pass.
    pub fn depth(&self, index: usize) -> Range<usize> {
        even(self.layer.batch, DEPTH, index)
    }

    /// The `index`-th block of inputs, which starts at a multiple of a line.
    pub fn inputs(&self, index: usize) -> Range<usize> {
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
            depth: self.depth(index),
            inputs: self.inputs(task % down),
            panels: first..(first + across).min(self.panels()),
            place: [task % down, index],
        }
    }

    /// Computes all blocks, on this thread or in parallel; `scratch` has [`Self::scratch`].
    ///
    /// # Safety
    /// `x` and `dy` fit the layer, and so does where the sums go.
    pub unsafe fn run(&self, sink: Sink<'_>, serial: bool, scratch: &mut [f32]) {
        let each: usize = self.scratch_each(matches!(sink, Sink::Update(_))).iter().sum();
        let (copies, scratch) = scratch.split_at_mut(Copies::len(self).unwrap_or(0));
        let copies = Copies::make(self, copies);
        let scratch = Shared::new(scratch);
        let tasks = self.tasks();
        threads::parallel_for(if serial { 1 } else { tasks }, |task| {
            let at = threads::worker() * each;
            for task in if serial { 0..tasks } else { task..task + 1 } {
                // SAFETY: each worker has its own part; blocks are disjoint; the caller's promise.
                unsafe { self.block(task, sink, copies.as_ref(), scratch.part(at..at + each)) }
            }
        });
    }

    /// # Safety
    /// As for [`Self::run`]; nobody else touches the task's block or `scratch`.
    unsafe fn block(
        &self,
        task: usize,
        sink: Sink<'_>,
        copies: Option<&Copies<'_>>,
        mut scratch: &mut [f32],
    ) {
        let (passes, panel_len) = (self.passes(), self.layer.inputs * PANEL);
        let [copy, packed, sums] = self
            .scratch_each(matches!(sink, Sink::Update(_)))
            .map(|len| scratch.split_off_mut(..len).unwrap_or_default());
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
            let x = match copies {
                Some(copies) => copies.columns(pass.place),
                None => self.part_of_x(&pass, copy),
            };
            let mut group = self.group(&pass, pass.panels.start);
            while !group.is_empty() {
                let (dy, dy_panel) = match copies {
                    Some(copies) => copies.panels(group.start, pass.depth.start),
                    None => {
                        self.pack_dy(&pass.depth, &group, packed);
                        (packed.as_ptr(), panels_len(pass.depth.len(), PANEL))
                    }
                };
                let to = (group.start - pass.panels.start) * c_panel;
                let tile = Tile {
                    a: x.at,
                    b: dy,
                    c: c.wrapping_add(to),
                    c_panel: c_panel as isize,
                    tail: PANEL,
                    soon: Soon::NONE,
                    finish: Finish::plain(add),
                };
                let soon = self.soon(&pass, next.as_ref(), &group, pieces, copies.is_none());
                // SAFETY: operands are complete; the sums lie in the block or in scratch.
                unsafe { self.tiles(&pass, group.len(), x, dy_panel, tile, soon) }
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

    /// The panels from `start` on that are packed together; none behind the pass's last. Several where a tile has only one,
    /// for single lines of `dy`'s rows arrive too slowly.
    fn group(&self, pass: &Pass, start: usize) -> Range<usize> {
        let most = match self.wide(pass) {
            1 => MOST_PANELS,
            wide => wide,
        };
        start..start + Family::fitting(most, pass.panels.end - start)
    }

    /// The tiles of a few panels, whose `dy` lies `b_panel` apart; `first` is the first of them.
    ///
    /// # Safety
    /// The tiles' operands are readable and their sums writable.
    unsafe fn tiles(
        &self,
        pass: &Pass,
        panels: usize,
        x: Columns,
        b_panel: usize,
        first: Tile,
        soon: impl Iterator<Item = Soon> + Clone,
    ) {
        let (depth, inputs) = (pass.depth.len(), pass.inputs.len());
        let sum = Sum::product(depth, x.row as isize, PANEL as isize, b_panel as isize);
        let places = Rows::strided(1, PANEL as isize);
        let (wide, tall) = (self.wide(pass).min(panels), self.family.tall(inputs));
        let tiles = panels.div_ceil(wide) * inputs.div_ceil(tall);
        let mut soon = Soon::spread(soon, tiles);
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
        let tall = self.family.tall(pass.inputs.len());
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

    /// What is read after the tiles of `group`: where operands are `far`, the next panels of `dy` and a share of the next
    /// pass's `x`; and the parameters that are updated then.
    fn soon<'s>(
        &'s self,
        pass: &'s Pass,
        next: Option<&'s Pass>,
        group: &Range<usize>,
        pieces: Option<&'s Pieces<'s>>,
        far: bool,
    ) -> impl Iterator<Item = Soon> + Clone + 's {
        let Linear { inputs, outputs, .. } = self.layer;
        let (x, dy, group) = (self.x.as_ptr(), self.dy.as_ptr(), group.clone());
        let (from, depth) = match next {
            Some(next) if group.end == pass.panels.end => (next.panels.start, &next.depth),
            _ => (group.end, &pass.depth),
        };
        let panels = from..(from + group.len()).min(self.panels());
        let panels = panels.filter(move |_| far).map(move |panel| {
            Soon::strided(
                dy.wrapping_add(depth.start * outputs + panel * PANEL),
                outputs as isize,
                depth.len(),
            )
        });
        let turns = pass.panels.len().div_ceil(group.len());
        let turn = (group.start - pass.panels.start) / group.len();
        let lines = next.filter(|_| far).into_iter().flat_map(move |next| {
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
