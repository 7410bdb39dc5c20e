//! Depthwise convolution: the same sweeps as the dense one, lane by lane.
//!
//! A row of outputs is cut into the pixels whose taps all lie in the image, which share tiles, and those at its ends, one by one;
//! each sums over the taps that it sees. So no tile looks for the image's border while it sums.

use super::desc::{ConvDesc, taps_inside};
use super::pass::Pass;
use crate::micro::{Loop, PANEL, Rows, Sum, Tile, lane_kernels};
use crate::split::even_lens;
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

/// Taps that a tile sums over.
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
        let places = Rows::strided(self.stride[1] as isize * self.pixel, self.out_pixel);
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
                    self.lane_tile(&self.lane_sum(&taps), &taps, [n, p, q], 1, &places, first);
                }
                let taps = Taps { rows, columns: all.clone() };
                let (sum, mut q) = (self.lane_sum(&taps), start);
                for count in even_lens(end - start, lane_kernels().len()) {
                    self.lane_tile(&sum, &taps, [n, p, q], count, &places, first);
                    q += count;
                }
            }
        }
    }

    /// A tile of neighbouring pixels of a row, which see the same taps.
    ///
    /// # Safety
    /// As for [`Pass::run`], for these pixels and the panel.
    unsafe fn lane_tile(
        &self,
        sum: &Sum,
        taps: &Taps,
        [n, p, q]: [usize; 3],
        count: usize,
        places: &Rows,
        first: &Tile,
    ) {
        let [mut a, c] = self.places(n, p, q);
        let (row, column) = (taps.rows.start as isize, taps.columns.start as isize);
        let [down, along] = self.tap_steps();
        a += row * down + column * along;
        let tile = Tile {
            a: first.a.wrapping_offset(a),
            b: first.b.wrapping_offset(row * self.b_taps[0] + column * self.b_taps[1]),
            c: first.c.wrapping_offset(c),
            finish: first.finish.at(0, 0, c),
            ..*first
        };
        // SAFETY: the caller's promise; all of these taps lie in the image.
        unsafe { lane_kernels()[count - 1](sum, places, &tile) }
    }

    /// The sum over some taps.
    fn lane_sum(&self, taps: &Taps) -> Sum {
        let [down, along] = self.tap_steps();
        let mut sum = Sum::product(taps.columns.len(), along, self.b_taps[1], 0);
        sum.loops[1] = Loop { count: taps.rows.len(), a: down, b: self.b_taps[0] };
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
