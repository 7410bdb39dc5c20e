//! One sweep of taps over blocked images: the driver of forward convolutions and of gradients to the input.
//!
//! Output pixel `(p, q)` of the sweep sums, over input blocks and taps `(r, s)`, the input at row
//! `start[0] + stride[0]·p + step[0]·r` and column `start[1] + stride[1]·q + step[1]·s`; pixels outside are zero.
//! Output rows are cut into tiles of up to 14 pixels; shorter rows are strung together through all images first, so that
//! small images fill tiles too.

use super::moments::{Moments, Partials};
use crate::micro::{Clip, Family, Finish, List, Listed, Loop, MAX_ROWS, PANEL, Rows, Run, Soon, Sum, Tile};
use crate::split::{even, even_runs};
use crate::threads;
use std::ops::Range;

/// Bytes of input that a task's pixels should span at most, so that they stay in the second-level cache.
const INPUT_BYTES: usize = 256 << 10;
/// Bytes of one pair of weight panels that one visit should span at most.
const WEIGHT_BYTES: usize = 640 << 10;
/// Pixels in a row from which on rows are cut one by one: most rows of a tile.
const FULL_TILE: usize = 14;
/// Multiply-adds (counted with full lanes) below which a sweep stays on one thread.
const SERIAL_WORK: usize = 1 << 20;
/// Multiply-adds of one task at least.
const TASK_WORK: usize = 1 << 19;
/// How much longer a multiply-add takes where sums have as few terms as a depthwise convolution's.
const LANEWISE_WORK: usize = 4;
/// Pixels whose moments are taken at a time, so that they stay in the first-level cache.
const RUN: usize = 192;

/// A sweep; distances in elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub batch: usize,
    /// Each channel by itself: `groups` blocks, lane by lane.
    pub lanewise: bool,
    /// Independent supergroups, and blocks of each.
    pub groups: usize,
    pub in_blocks: usize,
    pub out_blocks: usize,
    /// Terms per tap and block, and those of the last block.
    pub depth: usize,
    pub depth_last: usize,
    /// Distance of terms, and of neighbouring pixels, in the input.
    pub a_col: isize,
    pub pixel: isize,
    /// Input size, and distances of its rows, blocks and images.
    pub size: [usize; 2],
    pub in_row: isize,
    pub in_block: isize,
    pub in_image: isize,
    pub taps: [usize; 2],
    pub start: [i32; 2],
    pub stride: [i32; 2],
    pub step: [i32; 2],
    /// Distances of weights: rows of taps, taps, input blocks, output blocks.
    pub b_taps: [isize; 2],
    pub b_block: isize,
    pub b_panel: isize,
    /// Output pixels of the sweep, and distances in the output.
    pub out: [usize; 2],
    pub out_row: isize,
    pub out_pixel: isize,
    pub out_block: isize,
    pub out_image: isize,
}

/// Operands of a sweep by address.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub x: *const f32,
    pub w: *const f32,
    pub y: *mut f32,
    pub finish: Finish,
    /// What a block's terms are where the sweep has no taps of its own; else empty.
    pub list: List,
    /// Where the moments of the results go, where they are wanted: [`Pass::parts`] partials.
    pub partials: Option<Partials>,
}

// SAFETY: used by `Pass::run` only, whose tasks write disjoint outputs.
unsafe impl Sync for Operands {}

/// How a sweep is cut into tasks; follows from its shape only.
struct Cut {
    /// Pixels that are cut into tiles by themselves: a row, or 1 where rows are strung together.
    line: usize,
    /// Lines in all, and of a task.
    lines: usize,
    chunk: usize,
    /// Panels in all, and of a task.
    panels: usize,
    group: usize,
}

impl Cut {
    fn chunks(&self) -> usize {
        self.lines.div_ceil(self.chunk)
    }

    fn sets(&self) -> usize {
        self.panels.div_ceil(self.group)
    }
}

/// One task.
struct Task {
    chunk: usize,
    lines: Range<usize>,
    panels: Range<usize>,
}

/// A task's pixels: `runs` runs of `count` pixels from number `first` on, which are cut into tiles one by one.
struct Pixels {
    first: usize,
    count: usize,
    runs: usize,
}

impl Pixels {
    /// Those of lines of `line` pixels: rows, or single pixels that make one run.
    fn new(line: usize, lines: &Range<usize>) -> Pixels {
        let (count, runs) = if line > 1 { (line, lines.len()) } else { (lines.len(), 1) };
        Pixels { first: lines.start * line, count, runs }
    }

    fn all(&self) -> Range<usize> {
        self.first..self.first + self.runs * self.count
    }
}

impl Pass {
    /// The same sweep on words of two bf16, neighbours among the 16 channels of a block.
    pub fn paired(self) -> Pass {
        Pass {
            depth: self.depth / 2,
            depth_last: self.depth_last.div_ceil(2),
            pixel: self.pixel / 2,
            in_row: self.in_row / 2,
            in_block: self.in_block / 2,
            in_image: self.in_image / 2,
            b_taps: self.b_taps.map(|step| step / 2),
            b_block: self.b_block / 2,
            b_panel: self.b_panel / 2,
            ..self
        }
    }

    /// Computes the sweep.
    ///
    /// # Safety
    /// The CPU has the family's instruction set. Every address that follows from the pass is readable or writable;
    /// nobody else touches the output meanwhile. Where partials are wanted, the output's rows and pixels follow each
    /// other without a gap.
    pub unsafe fn run(&self, family: &'static Family, operands: Operands) {
        let cut = self.cut();
        let (chunks, sets) = (cut.chunks(), cut.sets());
        let input = self.batch * self.groups * self.in_blocks * self.size[0] * self.size[1];
        let weights_outside = self.out_blocks * self.terms() > input;
        threads::parallel_for(chunks * sets, |task| {
            let (chunk, set) =
                if weights_outside { (task % chunks, task / chunks) } else { (task / sets, task % sets) };
            let lines = even(cut.lines, cut.chunk, chunk);
            let panels = set * cut.group..((set + 1) * cut.group).min(cut.panels);
            // SAFETY: tasks' outputs are disjoint; the caller's promise.
            unsafe { self.task(family, &operands, &cut, Task { chunk, lines, panels }) }
        });
    }

    /// Number of partials: one per part of the pixels and panel.
    pub fn parts(&self) -> usize {
        let cut = self.cut();
        cut.chunks() * cut.panels
    }

    /// Products of an output pixel and channel.
    fn terms(&self) -> usize {
        self.in_blocks * self.taps[0] * self.taps[1] * self.depth
    }

    fn cut(&self) -> Cut {
        // Rows that fill a tile are cut one by one; shorter ones, and blocked images of one row, are strung together.
        let whole_lines = self.out[1] >= FULL_TILE && (self.out[0] > 1 || self.pixel == 1);
        let line = if whole_lines { self.out[1] } else { 1 };
        let pixels = self.batch * self.out[0] * self.out[1];
        let panels = self.groups * self.out_blocks;
        let work = pixels * panels * PANEL * self.terms() * if self.lanewise { LANEWISE_WORK } else { 1 };
        let (chunk, group) =
            if work <= SERIAL_WORK { (pixels, panels) } else { self.balance(pixels, panels, work) };
        let (lines, chunk) = (pixels / line, chunk.div_ceil(line).max(1));
        Cut { line, lines, chunk, panels, group: group.max(1) }
    }

    /// Pixels and panels of one task.
    fn balance(&self, pixels: usize, panels: usize, work: usize) -> (usize, usize) {
        let per_pixel = self.in_blocks as i32 * PANEL as i32 * 4 * self.stride[0] * self.stride[1];
        let tile = FULL_TILE;
        let mut chunk =
            (INPUT_BYTES / per_pixel.max(1) as usize).max(4 * tile).next_multiple_of(tile).min(pixels);
        let mut group = panels;
        let wanted = (work / TASK_WORK).min(32);
        while pixels.div_ceil(chunk) * panels.div_ceil(group) < wanted {
            if group > 4 || (group > 2 && chunk <= 4 * tile) {
                group = group.div_ceil(2).next_multiple_of(2);
            } else if chunk > 2 * tile {
                chunk = chunk.div_ceil(2).next_multiple_of(tile).min(chunk - 1);
            } else {
                break;
            }
        }
        (chunk, group)
    }

    /// # Safety
    /// As for [`Self::run`], for these pixels and panels.
    unsafe fn task(&self, family: &Family, operands: &Operands, cut: &Cut, task: Task) {
        let Task { chunk, lines, panels } = task;
        let pixels = Pixels::new(cut.line, &lines);
        let wide = if self.lanewise { 1 } else { family.panels_for(pixels.count.min(MAX_ROWS)).min(2) };
        let tall = family.rows(wide);
        let per_block = self.taps[0] * self.taps[1] * self.depth * PANEL * 4 * wide;
        let most = (WEIGHT_BYTES / per_block.max(1)).max(1);
        let visits = self.in_blocks.div_ceil(most).max(1);
        for visit in 0..visits {
            let blocks = even(self.in_blocks, most, visit);
            let last = visit + 1 == visits;
            let finish = operands.finish.pass(visit == 0, last);
            let mut sum = self.sum(blocks.len(), if last { self.depth_last } else { self.depth });
            sum.list = operands.list;
            let mut panel = panels.start;
            while panel < panels.end {
                let group = panel / self.out_blocks;
                // The first panels of a task meet pixels that are still far, each on a line of its own.
                let far = panel == panels.start && self.pixel >= PANEL as isize / 2;
                sum.ahead = if far { tall as isize * self.stride[1] as isize * self.pixel } else { 0 };
                let left = panels.end.min((group + 1) * self.out_blocks) - panel;
                let nv = left.min(wide);
                let a_base = (group * self.in_blocks + blocks.start) as isize * self.in_block;
                let b_base = panel as isize * self.b_panel + blocks.start as isize * self.b_block;
                let c_base = panel as isize * self.out_block;
                let tile = Tile {
                    a: operands.x.wrapping_offset(a_base),
                    b: operands.w.wrapping_offset(b_base),
                    c: operands.y.wrapping_offset(c_base),
                    c_panel: self.out_block,
                    tail: PANEL,
                    soon: Soon::NONE,
                    finish: finish.at(0, panel * PANEL, c_base),
                };
                // SAFETY: the caller's promise.
                unsafe {
                    match self.lanewise {
                        true => self.lanes(pixels.all(), &tile),
                        false => self.tiles(family, &sum, &pixels, tall, tile, nv),
                    }
                }
                if last && let Some(partials) = operands.partials {
                    for panel in panel..panel + nv {
                        // SAFETY: this task alone has written these pixels of the panel, and has the partial.
                        unsafe {
                            let moments = self.moments(operands.y, panel, pixels.all());
                            partials.put(chunk * cut.panels + panel, &moments);
                        }
                    }
                }
                panel += nv;
            }
        }
    }

    /// Computes `nv` panels at all pixels of a task in tiles of up to `tall` pixels; `tile` says where the panels begin.
    ///
    /// # Safety
    /// As for [`Self::run`], for these pixels and panels.
    unsafe fn tiles(&self, family: &Family, sum: &Sum, pixels: &Pixels, tall: usize, tile: Tile, nv: usize) {
        let listed = (sum.list.len > 0).then(Listed::active);
        let neighbours = self.stride[1] == 1
            && self.pixel == if listed.is_some() { 1 } else { family.pixel as isize }
            && self.a_col == 1
            && self.out_pixel == PANEL as isize;
        let mut next = self.pixel_of(pixels.first);
        let runs = (0..pixels.runs).flat_map(|_| even_runs(pixels.count, tall));
        for (mut tiles, count) in runs {
            while tiles > 0 {
                let first @ [n, p, q] = next;
                let together = if neighbours { self.together(first, count, tiles) } else { 0 };
                let done = if self.taps == [1, 1] { together.max(1) } else { 1 };
                let rows = (together == 0).then(|| self.rows(first, count));
                let [a, c] = if together > 0 { self.places(n, p, q) } else { [0; 2] };
                let tile = tile.moved(a, c);
                let run = Run { count: done, a: count as isize * self.pixel, c: (count * PANEL) as isize };
                // SAFETY: the caller's promise.
                unsafe {
                    match (listed, rows) {
                        (None, None) if self.taps == [1, 1] => family.pixel_run(count, nv)(sum, &run, &tile),
                        (None, None) => family.pixels(count, nv)(sum, &tile),
                        (None, Some(rows)) => family.kernel(count, nv, false)(sum, &rows, &tile),
                        (Some(listed), None) => listed.pixel_run(count, nv)(sum, &run, &tile),
                        (Some(listed), Some(rows)) => listed.kernel(count, nv)(sum, &rows, &tile),
                    }
                }
                next = self.pixel_behind(first, done * count);
                tiles -= done;
            }
        }
    }

    /// Moments of a panel's results at these pixels.
    ///
    /// # Safety
    /// The results are readable and no one writes them; rows and pixels follow each other without a gap.
    unsafe fn moments(&self, y: *const f32, panel: usize, pixels: Range<usize>) -> Moments {
        let image = self.out[0] * self.out[1];
        let images = pixels.start / image..pixels.end.div_ceil(image);
        let runs = images.flat_map(|n| {
            let (start, end) = (pixels.start.max(n * image), pixels.end.min((n + 1) * image));
            let at = n as isize * self.out_image
                + panel as isize * self.out_block
                + (start - n * image) as isize * self.out_pixel;
            // SAFETY: the caller's promise.
            let run = unsafe { std::slice::from_raw_parts(y.offset(at), (end - start) * PANEL) };
            run.chunks(RUN * PANEL)
        });
        let mut moments = Moments::NONE;
        moments.add(runs);
        moments
    }

    fn sum(&self, blocks: usize, depth_last: usize) -> Sum {
        let tap = |axis: usize, unit: isize| Loop {
            count: self.taps[axis],
            a: self.step[axis] as isize * unit,
            b: self.b_taps[axis],
        };
        Sum {
            loops: [
                Loop { count: blocks, a: self.in_block, b: self.b_block },
                tap(0, self.in_row),
                tap(1, self.pixel),
            ],
            depth: self.depth,
            depth_last,
            a_col: self.a_col,
            b_row: PANEL as isize,
            b_panel: self.b_panel,
            ahead: 0,
            clip: Clip {
                height: self.size[0] as i32,
                width: self.size[1] as i32,
                step_h: self.step[0],
                step_w: self.step[1],
            },
            list: List::NONE,
        }
    }

    /// How many of `tiles` tiles of `count` pixels each, from an output pixel on, follow each other without a gap in input and
    /// output, and with all taps in the image. For steps of one pixel in the input.
    fn together(&self, [_, p, q]: [usize; 3], count: usize, tiles: usize) -> usize {
        let [oh, ow] = self.out;
        let [h, w] = self.first_tap(p, q);
        let pixels = if self.is_seamless() {
            oh * ow - (p * ow + q)
        } else if self.leaves(0, h) || self.leaves(1, w) {
            0
        } else {
            let last = w + (self.step[1] * (self.taps[1] as i32 - 1)).max(0);
            (ow - q).min((self.size[1] as i32 - last) as usize)
        };
        tiles.min(pixels / count)
    }

    /// Image, row and column of an output pixel.
    pub(super) fn pixel_of(&self, number: usize) -> [usize; 3] {
        let [oh, ow] = self.out;
        [number / (oh * ow), number / ow % oh, number % ow]
    }

    /// The output pixel `count` behind another.
    fn pixel_behind(&self, [mut n, mut p, mut q]: [usize; 3], count: usize) -> [usize; 3] {
        let [oh, ow] = self.out;
        q += count;
        while q >= ow {
            (p, q) = (p + 1, q - ow);
            if p == oh {
                (n, p) = (n + 1, 0);
            }
        }
        [n, p, q]
    }

    /// Row and column of the input that an output pixel's first tap reads.
    fn first_tap(&self, p: usize, q: usize) -> [i32; 2] {
        [self.start[0] + self.stride[0] * p as i32, self.start[1] + self.stride[1] * q as i32]
    }

    /// Where an output pixel lies in the input, by its first tap, and in the output.
    pub(super) fn places(&self, n: usize, p: usize, q: usize) -> [isize; 2] {
        let [h, w] = self.first_tap(p, q);
        let a = n as isize * self.in_image + h as isize * self.in_row + w as isize * self.pixel;
        let c = n as isize * self.out_image + p as isize * self.out_row + q as isize * self.out_pixel;
        [a, c]
    }

    /// Whether an image's output pixels are its input pixels, one by one, across rows.
    fn is_seamless(&self) -> bool {
        self.taps == [1, 1]
            && self.start == [0, 0]
            && self.stride == [1, 1]
            && self.size == self.out
            && self.in_row == self.out[1] as isize * self.pixel
            && self.out_row == self.out[1] as isize * self.out_pixel
    }

    /// Where `count` output pixels from `first` on lie.
    fn rows(&self, mut first: [usize; 3], count: usize) -> Rows {
        let ow = self.out[1];
        let mut rows = Rows { clipped: false, ..Rows::strided(0, 0) };
        let mut at = 0;
        while at < count {
            let [n, p, q] = first;
            let run = (ow - q).min(count - at);
            let ([h, w], [a, c]) = (self.first_tap(p, q), self.places(n, p, q));
            let (a_step, w_step) = (self.stride[1] as isize * self.pixel, self.stride[1]);
            for i in 0..run {
                rows.a[at + i] = a + i as isize * a_step;
                rows.c[at + i] = c + i as isize * self.out_pixel;
                rows.h[at + i] = h;
                rows.w[at + i] = w + i as i32 * w_step;
            }
            let last = w + (run as i32 - 1) * w_step;
            rows.clipped |= self.leaves(0, h) || self.leaves(1, w) || self.leaves(1, last);
            at += run;
            first = self.pixel_behind(first, run);
        }
        rows
    }

    /// Whether some tap leaves the image for a pixel whose first tap is at `at`.
    fn leaves(&self, axis: usize, at: i32) -> bool {
        let end = at + self.step[axis] * (self.taps[axis] as i32 - 1);
        at.min(end) < 0 || at.max(end) >= self.size[axis] as i32
    }
}
