//! Forward pass and gradient to the input, which is the forward pass of the output's gradient with turned weights.

use super::cut::{Cut, OUT_PANELS, are_weights_near};
use super::transforms::{self, Transforms, Window};
use super::{Chunks, Grid, Order, assert_applies};
use crate::conv::desc::ConvDesc;
use crate::conv::moments::{self, Moments, Partials};
use crate::conv::{check_operands, check_scratch};
use crate::epilogue::Epilogue;
use crate::micro::{Family, Finish, Loop, PANEL, Run, Soon, Sum, Tile};
use crate::split::even;
use crate::threads::{self, Address, Shared};
use std::ops::Range;

/// Distance of the transformed weights' points: one row more than the channels, since distances that are large powers
/// of two would meet in the cache.
fn point_step(in_blocks: usize) -> usize {
    (in_blocks * PANEL + 1) * PANEL
}

/// Length of the transformed weights.
pub fn prepared_len(desc: &ConvDesc, order: Order) -> usize {
    let points = order.alpha(desc.kernel[0]).pow(2);
    desc.filters.div_ceil(PANEL) * points * point_step(desc.channels.div_ceil(PANEL))
}

#[track_caller]
fn check_prepared(desc: &ConvDesc, order: Order, u: &[f32]) {
    let wanted = prepared_len(desc, order);
    assert!(u.len() >= wanted, "winograd: {} transformed weights, {wanted} needed", u.len());
}

/// Transforms weights (in kernel layout) once, for [`forward_prepared`].
///
/// # Panics
/// If the algorithm does not apply or a slice is too short.
pub fn prepare_weight(desc: &ConvDesc, order: Order, w: &[f32], prepared: &mut [f32]) {
    assert_applies(desc, order);
    let wanted = desc.weight_len();
    assert!(w.len() >= wanted, "winograd: {} weights, {wanted} needed", w.len());
    check_prepared(desc, order, prepared);
    let blocks = [desc.channels.div_ceil(PANEL), desc.filters.div_ceil(PANEL)];
    transform_weight(order, desc.kernel[0], w, blocks, false, prepared);
}

/// `u[out][P][16·in + 1][16]` from `w[out][in][taps²][16][16]`.
fn transform_weight(
    order: Order,
    taps: usize,
    w: &[f32],
    [ins, outs]: [usize; 2],
    flip: bool,
    u: &mut [f32],
) {
    let t = transforms::active(order, taps);
    let (step, points, len) = (point_step(ins), order.alpha(taps).pow(2), taps * taps * PANEL * PANEL);
    let u = Address(u.as_mut_ptr());
    threads::parallel_chunks(ins * outs, 8, |blocks| {
        for block in blocks {
            let from = &w[block * len..][..len];
            let first = block / ins * points * step + block % ins * PANEL * PANEL;
            for c in 0..PANEL {
                let to = u.get().wrapping_add(first + c * PANEL);
                // SAFETY: all taps of a row are inside `from`; each row of `u` is written by one task.
                unsafe { (t.weight)(from.as_ptr().add(c * PANEL), PANEL * PANEL, flip, to, step) }
            }
        }
    });
}

/// Floats of scratch for [`forward`].
pub fn forward_scratch(desc: &ConvDesc, order: Order) -> usize {
    prepared_len(desc, order) + forward_prepared_scratch(desc, order)
}

/// Floats of scratch for [`forward_prepared`] with the present number of threads.
pub fn forward_prepared_scratch(desc: &ConvDesc, order: Order) -> usize {
    threads::count() * Cut::new(desc, order).scratch(desc, order)
}

/// Like [`crate::conv::forward`].
///
/// # Panics
/// As there, or if the algorithm does not apply.
pub fn forward(
    desc: &ConvDesc,
    order: Order,
    x: &[f32],
    w: &[f32],
    epilogue: &Epilogue,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    assert_applies(desc, order);
    check_scratch(scratch, forward_scratch(desc, order));
    let (u, rest) = scratch.split_at_mut(prepared_len(desc, order));
    prepare_weight(desc, order, w, u);
    forward_prepared(desc, order, x, u, epilogue, y, rest);
}

/// Floats of scratch for [`forward_with_statistics`].
pub fn forward_with_statistics_scratch(desc: &ConvDesc, order: Order) -> usize {
    forward_scratch(desc, order) + Partials::len(parts(desc, order))
}

/// Number of partials: one per block of tiles and panel.
fn parts(desc: &ConvDesc, order: Order) -> usize {
    Grid::new(desc, order).tiles.div_ceil(Cut::new(desc, order).tiles) * desc.filters.div_ceil(PANEL)
}

/// Like [`crate::conv::forward_with_statistics`].
///
/// # Panics
/// As there, or if the algorithm does not apply.
pub fn forward_with_statistics(
    desc: &ConvDesc,
    order: Order,
    x: &[f32],
    w: &[f32],
    epilogue: &Epilogue,
    y: &mut [f32],
    statistics: &mut [f32],
    scratch: &mut [f32],
) {
    assert_applies(desc, order);
    desc.check_statistics(statistics.len());
    check_scratch(scratch, forward_with_statistics_scratch(desc, order));
    let (partials, rest) = scratch.split_at_mut(Partials::len(parts(desc, order)));
    let (u, rest) = rest.split_at_mut(prepared_len(desc, order));
    prepare_weight(desc, order, w, u);
    run(desc, order, x, u, epilogue, y, Some(Partials::new(partials)), rest);
    moments::finish(partials, desc.filters.div_ceil(PANEL), statistics);
}

/// [`forward`] on weights transformed by [`prepare_weight`].
///
/// # Panics
/// As there.
pub fn forward_prepared(
    desc: &ConvDesc,
    order: Order,
    x: &[f32],
    u: &[f32],
    epilogue: &Epilogue,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    run(desc, order, x, u, epilogue, y, None, scratch);
}

fn run(
    desc: &ConvDesc,
    order: Order,
    x: &[f32],
    u: &[f32],
    epilogue: &Epilogue,
    y: &mut [f32],
    partials: Option<Partials>,
    scratch: &mut [f32],
) {
    assert_applies(desc, order);
    check_operands(desc, x.len(), desc.weight_len(), y.len());
    desc.check_epilogue(epilogue, desc.output_len(), desc.bias_len());
    check_prepared(desc, order, u);
    check_scratch(scratch, forward_prepared_scratch(desc, order));
    let cut = Cut::new(desc, order);
    let grid = Grid::new(desc, order);
    let job = Job {
        desc,
        grid,
        family: Family::active(),
        transforms: transforms::active(order, desc.kernel[0]),
        x: x.as_ptr(),
        u: u.as_ptr(),
        y: y.as_mut_ptr(),
        finish: Finish::new(epilogue),
        partials,
    };
    let panels = desc.filters.div_ceil(PANEL);
    let (blocks, sets) = (grid.tiles.div_ceil(cut.tiles), panels.div_ceil(cut.panels));
    let each = cut.scratch(desc, order);
    let scratch = Shared::new(scratch);
    threads::parallel_for(blocks * sets, |task| {
        let start = threads::worker() * each;
        // SAFETY: each worker has its own part; tasks' outputs are disjoint; lengths were checked.
        unsafe {
            let scratch = scratch.part(start..start + each);
            let (block, set) = (task % blocks, task / blocks);
            job.run(block, even(grid.tiles, cut.tiles, block), even(panels, cut.panels, set), scratch)
        }
    });
}

/// What all tasks share.
struct Job<'a> {
    desc: &'a ConvDesc,
    grid: Grid,
    family: &'static Family,
    transforms: &'static Transforms,
    x: *const f32,
    u: *const f32,
    y: *mut f32,
    finish: Finish,
    partials: Option<Partials>,
}

// SAFETY: tasks write disjoint tiles and panels of `y`, and partials of their own.
unsafe impl Sync for Job<'_> {}

impl Job<'_> {
    /// Takes block number `block` of tiles through all steps for some output panels.
    ///
    /// # Safety
    /// Operands fit the shape; the tiles and panels of `y` are this task's; `scratch` fits.
    unsafe fn run(&self, block: usize, tiles: Range<usize>, panels: Range<usize>, scratch: &mut [f32]) {
        let outs = self.desc.filters.div_ceil(PANEL);
        let ins = self.desc.channels.div_ceil(PANEL);
        let (v, m) = scratch.split_at_mut(Chunks::room(self.grid.points(), tiles.len(), ins));
        let tall = self.family.rows(self.family.panels_for(Chunks::MOST.min(tiles.len())).min(2));
        // Chunks of nearly the same size.
        let size = tiles.len().div_ceil(tiles.len().div_ceil(tall.min(Chunks::MOST)).max(1));
        let of = Chunks::new(self.grid.points(), tiles.len(), size, ins);
        // SAFETY: the caller's promise.
        unsafe {
            input_tiles(&self.grid, self.transforms, self.x, 0..ins, tiles.start, &of, v);
            for set in 0..panels.len().div_ceil(OUT_PANELS) {
                let set = even(panels.len(), OUT_PANELS, set);
                let set = panels.start + set.start..panels.start + set.end;
                let to = Chunks { blocks: set.len(), ..of };
                self.products(set.clone(), &of, v, &to, m);
                let moments = self.outputs(tiles.start, set.clone(), &to, m);
                if let Some(partials) = self.partials {
                    for (moments, panel) in moments.iter().zip(set) {
                        partials.put(block * outs + panel, moments);
                    }
                }
            }
        }
    }

    /// `M_p = V_p·U_p` for all points.
    ///
    /// # Safety
    /// As for [`Self::run`].
    unsafe fn products(&self, panels: Range<usize>, of: &Chunks, v: &[f32], to: &Chunks, m: &mut [f32]) {
        let (ins, block) = (of.blocks, PANEL * PANEL);
        let (u_point, u_panel) = (point_step(ins), of.points * point_step(ins));
        let ([point_step, block_step, a_chunk], [.., c_chunk]) = (of.steps(), to.steps());
        let mut sum = Sum::product(PANEL, 1, PANEL as isize, u_panel as isize);
        sum.loops[0] = Loop { count: ins, a: block_step as isize, b: block as isize };
        sum.depth_last = self.desc.channels - (ins - 1) * PANEL;
        let wide = self.family.panels_for(of.size).min(2);
        // Chunks of as many tiles, and perhaps a smaller one.
        let whole = of.tiles / of.size;
        let runs = [(0, whole), (whole, of.count() - whole)].into_iter().filter(|(_, count)| *count > 0);
        // Weights from afar are asked for while the products before theirs are made.
        let asks = !are_weights_near(ins, self.desc.filters.div_ceil(PANEL));
        for point in 0..of.points {
            let mut panel = panels.start;
            while panel < panels.end {
                let nv = wide.min(panels.end - panel);
                let next = match panel + nv < panels.end {
                    true => (nv * u_panel) as isize,
                    false if point + 1 < of.points => {
                        u_point as isize - ((panel - panels.start) * u_panel) as isize
                    }
                    false => 0,
                };
                for (first, count) in runs.clone() {
                    let place = to.at(first, panel - panels.start) + point * point_step;
                    let tile = Tile {
                        a: v.as_ptr().wrapping_add(of.at(first, 0) + point * point_step),
                        b: self.u.wrapping_add(panel * u_panel + point * u_point),
                        c: m.as_mut_ptr().wrapping_add(place),
                        c_panel: block_step as isize,
                        tail: PANEL,
                        soon: Soon { b: next, tiles: of.count(), tile: first, ..Soon::NONE },
                        finish: Finish::plain(false),
                    };
                    let run = Run { count, a: a_chunk as isize, c: c_chunk as isize };
                    let tall = of.range(first).len();
                    let kernel =
                        if asks { self.family.asking(tall, nv) } else { self.family.pixel_run(tall, nv) };
                    // SAFETY: inside `v`, `u` and `m`.
                    unsafe { kernel(&sum, &run, &tile) }
                }
                panel += nv;
            }
        }
    }

    /// Transforms products back into outputs. Returns their moments by panel, where these are wanted.
    ///
    /// # Safety
    /// As for [`Self::run`].
    unsafe fn outputs(
        &self,
        first: usize,
        panels: Range<usize>,
        of: &Chunks,
        m: &[f32],
    ) -> [Moments; OUT_PANELS] {
        let mut moments = [Moments::NONE; OUT_PANELS];
        let row = self.grid.output[1] * PANEL;
        let [step, ..] = of.steps();
        for chunk in 0..of.count() {
            for ((o, panel), moments) in panels.clone().enumerate().zip(&mut moments) {
                for (t, tile) in of.range(chunk).enumerate() {
                    let (at, window) = self.output_place(first + tile, panel);
                    let finish = self.finish.at(0, panel * PANEL, at as isize);
                    // SAFETY: the window lies inside `y`, the points inside `m`.
                    unsafe {
                        let from = m.as_ptr().add(of.at(chunk, o) + t * PANEL);
                        (self.transforms.output)(from, step, window, self.y.add(at), row, &finish)
                    }
                }
                if self.partials.is_some() {
                    let tiles = of.range(chunk);
                    // SAFETY: these tiles of the panel are this task's.
                    moments.add(unsafe { self.rows(first + tiles.start..first + tiles.end, panel) });
                }
            }
        }
        moments
    }

    /// Where a tile's outputs of a panel begin in `y`, and the part that exists.
    fn output_place(&self, tile: usize, panel: usize) -> (usize, Window) {
        let [oh, ow] = self.grid.output;
        let (n, row, col) = self.grid.place(tile);
        let (at, window) = self.grid.output_window(row, col);
        (n * self.grid.images[1] + panel * oh * ow * PANEL + at, window)
    }

    /// The outputs of some tiles of a panel: row by row of tiles that are neighbours.
    ///
    /// # Safety
    /// The outputs have been computed, and no one writes them.
    unsafe fn rows(&self, tiles: Range<usize>, panel: usize) -> impl Iterator<Item = &[f32]> {
        let (across, ow) = (self.grid.across, self.grid.output[1]);
        let mut next = tiles.start;
        let lines = std::iter::from_fn(move || {
            let (tile, column) = (next, next % across);
            next = tiles.end.min(tile - column + across);
            (tile < next).then(|| (tile, (next - tile + column) * self.grid.m))
        });
        lines.flat_map(move |(tile, end)| {
            let (at, window) = self.output_place(tile, panel);
            let width = end.min(ow) - tile % across * self.grid.m;
            (0..window.rows[1]).map(move |row| {
                // SAFETY: the row's pixels lie inside `y`; the caller's promise.
                unsafe { std::slice::from_raw_parts(self.y.add(at + row * ow * PANEL), width * PANEL) }
            })
        })
    }
}

/// Transforms some channel blocks of `x` into `v`, for the tiles from number `first` on.
///
/// # Safety
/// `x` has the grid's images; `v` fits.
pub(super) unsafe fn input_tiles(
    grid: &Grid,
    transforms: &Transforms,
    x: *const f32,
    blocks: Range<usize>,
    first: usize,
    to: &Chunks,
    v: &mut [f32],
) {
    let [h, w] = grid.input;
    let [step, ..] = to.steps();
    for chunk in 0..to.count() {
        for (i, block) in blocks.clone().enumerate() {
            for (t, tile) in to.range(chunk).enumerate() {
                let (n, row, col) = grid.place(first + tile);
                let (at, window) = grid.input_window(row, col);
                let from = x.wrapping_add(n * grid.images[0] + block * h * w * PANEL).wrapping_offset(at);
                // SAFETY: the window lies inside `x`, the points inside `v`.
                unsafe {
                    let to = v.as_mut_ptr().add(to.at(chunk, i) + t * PANEL);
                    (transforms.input)(from, w * PANEL, window, to, step)
                }
            }
        }
    }
}

/// The convolution of `dy` that yields `dx`.
fn turned(desc: &ConvDesc) -> ConvDesc {
    let [oh, ow] = desc.output();
    let back = |pads: [usize; 2]| pads.map(|pad| desc.kernel[0] - 1 - pad);
    ConvDesc {
        channels: desc.filters,
        filters: desc.channels,
        height: oh,
        width: ow,
        pad_before: back(desc.pad_before),
        pad_after: back(desc.pad_after),
        input_step: desc.output_step,
        output_step: desc.input_step,
        ..*desc
    }
}

/// Floats of scratch for [`grad_input`].
pub fn grad_input_scratch(desc: &ConvDesc, order: Order) -> usize {
    desc.transposed_len() + forward_scratch(&turned(desc), order)
}

/// Like [`crate::conv::grad_input`].
///
/// # Panics
/// As there, or if the algorithm does not apply.
pub fn grad_input(
    desc: &ConvDesc,
    order: Order,
    dy: &[f32],
    w: &[f32],
    epilogue: &Epilogue,
    dx: &mut [f32],
    scratch: &mut [f32],
) {
    assert_applies(desc, order);
    check_operands(desc, dx.len(), w.len(), dy.len());
    check_scratch(scratch, grad_input_scratch(desc, order));
    let back = turned(desc);
    let (exchanged, rest) = scratch.split_at_mut(desc.transposed_len());
    let (u, rest) = rest.split_at_mut(prepared_len(&back, order));
    desc.transpose_weight(w, exchanged);
    let blocks = [back.channels.div_ceil(PANEL), back.filters.div_ceil(PANEL)];
    transform_weight(order, desc.kernel[0], exchanged, blocks, true, u);
    forward_prepared(&back, order, dy, u, epilogue, dx, rest);
}
