//! Depthwise convolution: the same sweeps as the dense one, lane by lane.
//!
//! A row of outputs is cut into the pixels whose taps all lie in the image, which make one run, and those at its ends, one by one;
//! each sums over the taps that it sees. So no tile looks for the image's border while it sums.

use super::desc::{ConvDesc, taps_inside};
use super::pass::Pass;
use crate::micro::{Loop, PANEL, Run, Sum, Tile, lanewise};
use std::ops::Range;

/// Turns a dense sweep over channels and filters of equal number into a lanewise one.
pub(super) fn depthwise(dense: Pass, desc: &ConvDesc) -> Pass {
    let blocks = desc.channels.div_ceil(PANEL);
    let taps = (desc.kernel[0] * desc.kernel[1]) as isize;
    let panel = PANEL as isize;
    Pass {
        lanewise: true,
        groups: blocks,
        in_blocks: 1,
        out_blocks: 1,
        depth: 1,
        depth_last: 1,
        b_taps: dense.b_taps.map(|step| step / panel),
        b_block: taps * panel,
        b_panel: taps * panel,
        ..dense
    }
}

/// What the kernel is given for a run; runs of a task differ in little.
struct Next {
    sum: Sum,
    tile: Tile,
    run: Run,
}

/// Taps that a run sums over.
struct Taps {
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Pass {
    /// One panel at all pixels of a task, lane by lane; `first` says where the panel begins.
    ///
    /// # Safety
    /// As for [`Pass::run`], for these pixels and the panel.
    pub(super) unsafe fn lanes(&self, pixels: Range<usize>, first: &Tile) {
        let width = self.out[1];
        let all = 0..self.taps[1];
        let sees_all = |q: &usize| self.taps_inside(1, *q) == all;
        let start = (0..width).find(sees_all).unwrap_or(width);
        let end = (start..width).rev().find(sees_all).map_or(start, |q| q + 1);
        let run = Run { count: 1, a: self.stride[1] as isize * self.pixel, c: self.out_pixel };
        let mut next = Next { sum: self.lane_sum(), tile: *first, run };
        let mut at = pixels.start;
        while at < pixels.end {
            let [n, p, left] = self.pixel_of(at);
            let right = width.min(left + pixels.end - at);
            at += right - left;
            let (start, end) = (start.clamp(left, right), end.clamp(left, right));
            let rows = self.taps_inside(0, p);
            // SAFETY: the caller's promise.
            unsafe {
                for q in (left..start).chain(end..right) {
                    let taps = Taps { rows: rows.clone(), columns: self.taps_inside(1, q) };
                    self.lane_run(&taps, [n, p, q], 1, first, &mut next);
                }
                if start < end {
                    let taps = Taps { rows, columns: all.clone() };
                    self.lane_run(&taps, [n, p, start], end - start, first, &mut next);
                }
            }
        }
    }

    /// `count` neighbouring pixels of a row, which see the same taps.
    ///
    /// # Safety
    /// As for [`Pass::run`], for these pixels and the panel.
    unsafe fn lane_run(
        &self,
        taps: &Taps,
        [n, p, q]: [usize; 3],
        count: usize,
        first: &Tile,
        next: &mut Next,
    ) {
        let [mut a, c] = self.places(n, p, q);
        let (row, column) = (taps.rows.start as isize, taps.columns.start as isize);
        let [down, along] = self.tap_steps();
        a += row * down + column * along;
        let Next { sum, tile, run } = next;
        (sum.depth, sum.depth_last) = (taps.columns.len(), taps.columns.len());
        sum.loops[1].count = taps.rows.len();
        tile.a = first.a.wrapping_offset(a);
        tile.b = first.b.wrapping_offset(row * self.b_taps[0] + column * self.b_taps[1]);
        tile.c = first.c.wrapping_offset(c);
        tile.finish = first.finish.at(0, 0, c);
        run.count = count;
        // SAFETY: the caller's promise; all of these taps lie in the image.
        unsafe { lanewise()(sum, run, tile) }
    }

    /// A sum over taps, whose numbers are set for each run.
    fn lane_sum(&self) -> Sum {
        let [down, along] = self.tap_steps();
        let mut sum = Sum::product(0, along, self.b_taps[1], 0);
        sum.loops[1] = Loop { count: 0, a: down, b: self.b_taps[0] };
        sum
    }

    /// Distances in the input from one tap to the next one below and beside it.
    fn tap_steps(&self) -> [isize; 2] {
        [self.step[0] as isize * self.in_row, self.step[1] as isize * self.pixel]
    }

    /// The taps that read a row or column inside the image, for outputs at a position of that axis.
    fn taps_inside(&self, axis: usize, position: usize) -> Range<usize> {
        let first = self.start[axis] + self.stride[axis] * position as i32;
        taps_inside(first as isize, self.step[axis] as isize, self.taps[axis], self.size[axis])
    }
}
