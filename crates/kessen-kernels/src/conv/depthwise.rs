//! Depthwise convolution: the same sweeps as the dense one, lane by lane.
//!
//! The outputs of an image are cut into patches whose pixels see the same taps: the one whose taps all lie in the image, the rows and
//! columns at its borders, and its corners. So no tile looks for the image's border while it sums.

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

impl Pass {
    /// One panel at all pixels of a task, lane by lane; `first` says where the panel begins.
    ///
    /// # Safety
    /// As for [`Pass::run`], for these pixels and the panel.
    pub(super) unsafe fn lanes(&self, pixels: Range<usize>, first: &Tile) {
        let [height, width] = self.out;
        let inside = [0, 1].map(|axis| self.sees_all(axis));
        let mut sum = self.lane_sum();
        let mut at = pixels.start;
        while at < pixels.end {
            let [n, p, left] = self.pixel_of(at);
            let (whole, end) = ((pixels.end - at) / width, pixels.end - at + left);
            let [rows, columns] = match left {
                0 if whole > 0 => [p..height.min(p + whole), 0..width],
                _ => [p..p + 1, left..width.min(end)],
            };
            at += rows.len() * columns.len();
            for rows in spans(&rows, &inside[0]) {
                for columns in spans(&columns, &inside[1]) {
                    // SAFETY: the caller's promise.
                    unsafe { self.patch(n, [rows.clone(), columns], first, &mut sum) }
                }
            }
        }
    }

    /// Pixels of some rows and columns of an image, which see the same taps: run by run along the longer side.
    ///
    /// # Safety
    /// As for [`Pass::run`], for these pixels and the panel.
    unsafe fn patch(&self, n: usize, [rows, columns]: [Range<usize>; 2], first: &Tile, sum: &mut Sum) {
        let taps = [self.taps_inside(0, rows.start), self.taps_inside(1, columns.start)];
        let (row, column) = (taps[0].start as isize, taps[1].start as isize);
        let [down, along] = self.tap_steps();
        let [mut a, c] = self.places(n, rows.start, columns.start);
        a += row * down + column * along;
        (sum.depth, sum.depth_last) = (taps[1].len(), taps[1].len());
        sum.loops[1].count = taps[0].len();
        let (row_step, column_step) =
            (self.stride[0] as isize * self.in_row, self.stride[1] as isize * self.pixel);
        let mut sides = [
            Run { count: rows.len(), a: row_step, c: self.out_row },
            Run { count: columns.len(), a: column_step, c: self.out_pixel },
        ];
        sides.sort_by_key(|side| side.count);
        let tile = Tile {
            b: first.b.wrapping_offset(row * self.b_taps[0] + column * self.b_taps[1]),
            ..first.moved(a, c)
        };
        // SAFETY: the caller's promise; all of these taps lie in the image.
        unsafe { lanewise()(sum, &sides, &tile) }
    }

    /// A sum over taps, whose numbers are set for each patch.
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

    /// The positions of an axis whose taps all lie in the image.
    fn sees_all(&self, axis: usize) -> Range<usize> {
        let len = self.out[axis];
        let all = |at: &usize| self.taps_inside(axis, *at) == (0..self.taps[axis]);
        let start = (0..len).find(all).unwrap_or(len);
        start..(start..len).rev().find(all).map_or(start, |at| at + 1)
    }

    /// The taps that read a row or column inside the image, for outputs at a position of that axis.
    fn taps_inside(&self, axis: usize, position: usize) -> Range<usize> {
        let first = self.start[axis] + self.stride[axis] * position as i32;
        taps_inside(first as isize, self.step[axis] as isize, self.taps[axis], self.size[axis])
    }
}

/// Cuts a range into single positions and those `inside`, which stay together.
fn spans(range: &Range<usize>, inside: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let [start, end] = [inside.start, inside.end].map(|at| at.clamp(range.start, range.end));
    let single = |at: usize| at..at + 1;
    let before = (range.start..start).map(single);
    before.chain((start < end).then_some(start..end)).chain((end..range.end).map(single))
}
