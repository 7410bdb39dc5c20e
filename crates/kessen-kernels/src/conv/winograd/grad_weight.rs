//! Gradient to the weights in Winograd's domain: `dU_p = Σ_tiles V_pᵀ·(A dY Aᵀ)_p`, then `dw = Gᵀ dU G`.
//!
//! A task sums some tiles for a group of input by output channels; where groups are few, tiles are split too, with a
//! partial gradient each, added in a fixed order.

use super::forward::input_tiles;
use super::transforms::{self, Transforms};
use super::{Chunks, Grid, Order, assert_applies};
use crate::conv::desc::ConvDesc;
use crate::conv::grad_weight::{Part, Shares};
use crate::conv::{check_operands, check_scratch};
use crate::micro::{Family, Finish, Loop, PANEL, Rows, Soon, Sum, Tile};
use crate::split::even;
use crate::threads::{self, Shared};

/// Blocks of input and of output channels in a group at most: its sums stay in the core's cache.
const GROUP: usize = 4;
/// Tiles transformed and summed at a time, so that sums stay in registers for long.
const TILES: usize = 112;
/// Fewest tiles of a split.
const SPLIT_TILES: usize = 48;

/// How the work is cut; follows from the shape only.
struct Cut {
    /// Pieces are tiles.
    shares: Shares,
    /// Tiles that a task transforms at a time.
    tiles: usize,
}

impl Cut {
    fn new(desc: &ConvDesc, order: Order) -> Cut {
        let (ins, outs) = (desc.channels.div_ceil(PANEL), desc.filters.div_ceil(PANEL));
        let all = Grid::new(desc, order).tiles.max(1);
        let groups = ins.div_ceil(GROUP) * outs.div_ceil(GROUP);
        let wanted = (desc.macs() >> 20).clamp(1, 8).div_ceil(groups);
        // As many splits as get tiles.
        let splits = wanted.min(all.div_ceil(SPLIT_TILES));
        let splits = all.div_ceil(all.div_ceil(splits));
        let group = [ins.min(GROUP), outs.min(GROUP)];
        Cut { shares: Shares { group, pieces: all, splits }, tiles: TILES.min(all.div_ceil(splits)) }
    }

    /// Floats of one thread's tiles, of both kinds, and of its sums.
    fn scratch(&self, points: usize) -> [usize; 3] {
        let [ins, outs] = self.shares.group;
        let sums = points * ins * outs * PANEL * PANEL;
        [Chunks::room(points, self.tiles, ins), Chunks::room(points, self.tiles, outs), sums]
    }
}

/// Floats of scratch for [`grad_weight`] with the present number of threads.
pub fn grad_weight_scratch(desc: &ConvDesc, order: Order) -> usize {
    let cut = Cut::new(desc, order);
    cut.shares.partial_len(desc)
        + threads::count() * cut.scratch(Grid::new(desc, order).points()).iter().sum::<usize>()
}

/// Like [`crate::conv::grad_weight`].
///
/// # Panics
/// As there, or if the algorithm does not apply.
pub fn grad_weight(
    desc: &ConvDesc,
    order: Order,
    x: &[f32],
    dy: &[f32],
    accumulate: bool,
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    assert_applies(desc, order);
    check_operands(desc, x.len(), dw.len(), dy.len());
    check_scratch(scratch, grad_weight_scratch(desc, order));
    let cut = Cut::new(desc, order);
    let (partial, rest) = scratch.split_at_mut(cut.shares.partial_len(desc));
    let grid = Grid::new(desc, order);
    let (each, own) = (cut.scratch(grid.points()).iter().sum::<usize>(), Shared::new(rest));
    let transforms = transforms::active(order, desc.kernel[0]);
    let job = Job { desc, grid, family: Family::active(), transforms, x: x.as_ptr(), dy: dy.as_ptr() };
    cut.shares.run(desc, accumulate, dw, partial, |part| {
        let start = threads::worker() * each;
        // SAFETY: each worker has its own scratch; parts' blocks of the gradient are disjoint; lengths were checked.
        unsafe { job.run(&cut, part, own.part(start..start + each)) }
    });
}

/// What all tasks share.
struct Job<'a> {
    desc: &'a ConvDesc,
    grid: Grid,
    family: &'static Family,
    transforms: &'static Transforms,
    x: *const f32,
    dy: *const f32,
}

// SAFETY: the addresses are only read.
unsafe impl Sync for Job<'_> {}

impl Job<'_> {
    /// # Safety
    /// Operands fit the shape; the part's blocks of `dw` are this task's; `scratch` fits the cut.
    unsafe fn run(&self, cut: &Cut, part: Part, scratch: &mut [f32]) {
        let [v_len, m_len, _] = cut.scratch(self.grid.points());
        let (v, rest) = scratch.split_at_mut(v_len);
        let (dm, du) = rest.split_at_mut(m_len);
        let all = self.desc.channels.div_ceil(PANEL);
        let count = part.pieces.len();
        for block in 0..count.div_ceil(cut.tiles).max(1) {
            let tiles = even(count, cut.tiles, block);
            let tiles = part.pieces.start + tiles.start..part.pieces.start + tiles.end;
            // SAFETY: the caller's promise.
            unsafe {
                let of = Chunks::new(self.grid.points(), tiles.len(), Chunks::MOST, part.ins.len());
                let back = Chunks { blocks: part.outs.len(), ..of };
                input_tiles(&self.grid, self.transforms, self.x, part.ins.clone(), tiles.start, &of, v);
                self.output_tiles(&part, tiles.start, &back, dm);
                self.products(&of, v, &back, dm, block > 0, du);
            }
        }
        let (ins, taps) = (part.ins.len(), self.desc.kernel[0].pow(2) * PANEL * PANEL);
        let step = ins * part.outs.len() * PANEL * PANEL;
        for (o, out) in part.outs.clone().enumerate() {
            for (i, channel) in part.ins.clone().enumerate() {
                for c in 0..PANEL {
                    let from = ((o * ins + i) * PANEL + c) * PANEL;
                    let to = (out * all + channel) * taps + c * PANEL;
                    // SAFETY: points inside `du`, taps inside this task's blocks of `dw`.
                    unsafe {
                        let to = part.dw.add(to);
                        let from = du.as_ptr().add(from);
                        (self.transforms.weight_back)(from, step, to, PANEL * PANEL, part.accumulate)
                    }
                }
            }
        }
    }

    /// `A dY Aᵀ` of the tiles from number `first` on.
    ///
    /// # Safety
    /// As for [`Self::run`].
    unsafe fn output_tiles(&self, part: &Part, first: usize, to: &Chunks, dm: &mut [f32]) {
        let [oh, ow] = self.grid.output;
        let [step, ..] = to.steps();
        for chunk in 0..to.count() {
            for (o, block) in part.outs.clone().enumerate() {
                for (t, tile) in to.range(chunk).enumerate() {
                    let (n, row, col) = self.grid.place(first + tile);
                    let (at, window) = self.grid.output_window(row, col);
                    let at = n * self.grid.images[1] + block * oh * ow * PANEL + at;
                    // SAFETY: the window lies inside `dy`, the points inside `dm`.
                    unsafe {
                        let to = dm.as_mut_ptr().add(to.at(chunk, o) + t * PANEL);
                        (self.transforms.output_back)(self.dy.add(at), ow * PANEL, window, to, step)
                    }
                }
            }
        }
    }

    /// `dU_p (+)= V_pᵀ·dM_p` into `du[P][out block][in block][16 c][16 k]`.
    ///
    /// # Safety
    /// As for [`Self::run`].
    unsafe fn products(&self, of: &Chunks, v: &[f32], back: &Chunks, dm: &[f32], add: bool, du: &mut [f32]) {
        let (ins, outs, step) = (of.blocks, back.blocks, PANEL as isize);
        let ([point_step, .., a_chunk], [.., b_chunk]) = (of.steps(), back.steps());
        let mut sum = Sum::product(of.size, step, step, 0);
        sum.loops[0] = Loop { count: of.count(), a: a_chunk as isize, b: b_chunk as isize };
        sum.depth_last = of.range(of.count().saturating_sub(1)).len();
        let rows = Rows::strided(1, step);
        let tall = self.family.unit_rows();
        for point in 0..of.points {
            for o in 0..outs {
                for i in 0..ins {
                    for index in 0..PANEL.div_ceil(tall) {
                        let r = even(PANEL, tall, index);
                        let to = (((point * outs + o) * ins + i) * PANEL + r.start) * PANEL;
                        let tile = Tile {
                            a: v.as_ptr().wrapping_add(of.at(0, i) + point * point_step + r.start),
                            b: dm.as_ptr().wrapping_add(back.at(0, o) + point * point_step),
                            c: du.as_mut_ptr().wrapping_add(to),
                            c_panel: 0,
                            tail: PANEL,
                            soon: Soon::NONE,
                            finish: Finish::plain(add),
                        };
                        // SAFETY: inside `v`, `dm` and `du`.
                        unsafe { self.family.kernel(r.len(), 1, true)(&sum, &rows, &tile) }
                    }
                }
            }
        }
    }
}
