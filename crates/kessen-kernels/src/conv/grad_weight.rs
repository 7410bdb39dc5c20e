//! Gradient to a convolution's weights: `dw[k,c,r,s] = Σ_{n,p,q} dy[n,k,p,q] · x[n, c, p·S + r·D − P, q·S + s·D − P]`.
//!
//! The sum runs over pixels, so a tile is 16 input channels by 16 output channels of one tap, and its terms are
//! pixels along an image row. Work is cut into groups of blocks and, where those are few, into *splits* of the pixels
//! with a partial result each, added in a fixed order at the end. Within a task, *pieces* of the images that fit the
//! second-level cache are visited one after the other for all taps and blocks.

use super::correlate::{self, NO_SUMS, Region, correlate};
use super::desc::{ConvDesc, Layout};
use super::{check_operands, check_scratch};
use crate::isa::Isa;
use crate::micro::{Family, Finish, Loop, MAX_ROWS, PANEL, Rows, Run, Soon, Sum, Tile, lanewise};
use crate::split::even;
use crate::threads::{self, Address};
use std::ops::Range;

const BLOCK: isize = PANEL as isize;
/// Bytes of images that a piece should span at most.
const PIECE_BYTES: usize = 224 << 10;
/// Bytes of gradient that a task should hold at most.
const GROUP_BYTES: usize = 192 << 10;
/// Multiply-adds of one task at least.
const TASK_WORK: usize = 1 << 19;
/// Pixels of a row below which terms run down the rows or through the images instead, where those are more.
const SHORT_RUN: usize = 4;
/// Most floats of partial results.
const PARTIAL_LEN: usize = 8 << 20;
/// Columns of depthwise taps whose common pixels are summed together.
const TOGETHER: usize = 8;

/// How the gradient and the terms of its sums are shared out to tasks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// Blocks of input and output channels of one group.
    pub group: [usize; 2],
    /// Pieces of the images that the sums run over, and parts of them with a partial result each.
    pub pieces: usize,
    pub splits: usize,
}

/// How the work is cut; follows from the shape only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub shares: Shares,
    /// Images per piece, or 0 where an image makes several pieces of `rows` output rows.
    pub images: usize,
    pub rows: usize,
}

impl Cut {
    pub fn new(desc: &ConvDesc) -> Cut {
        let [oh, ow] = desc.output();
        let g = desc.grouping();
        let taps = desc.kernel[0] * desc.kernel[1];
        let (ins, outs) = if desc.is_depthwise() { (1, 1) } else { (g.in_blocks(), g.out_blocks()) };
        let pairs = if desc.input == Layout::Plain {
            usize::MAX
        } else {
            (GROUP_BYTES / (taps * PANEL * PANEL * 4)).max(1)
        };
        let out_group = outs.min((pairs as f64).sqrt() as usize).max(1);
        let in_group = ins.min((pairs / out_group).max(1));
        let out_group = outs.min((pairs / in_group).max(1));
        let group = [ins.div_ceil(ins.div_ceil(in_group)), outs.div_ceil(outs.div_ceil(out_group))];
        let groups = supergroups(desc) * ins.div_ceil(group[0]) * outs.div_ceil(group[1]);
        let wanted = (desc.macs() / TASK_WORK).clamp(1, 16).div_ceil(groups);
        let memory = (PARTIAL_LEN / desc.weight_len().max(1)).max(1);
        let lines = desc.batch * oh;
        let row_bytes = match desc.input {
            Layout::Plain if desc.output == Layout::Plain => {
                (desc.channels * desc.padded(1) + desc.filters * ow) * 4
            }
            Layout::Plain => (desc.channels * desc.stride[0] * desc.padded(1) + outs * ow * PANEL) * 4,
            Layout::Blocked => (group[0] * desc.stride[0] * desc.width + group[1] * ow) * PANEL * 4,
        };
        let most = (PIECE_BYTES / row_bytes.max(1)).clamp(1, lines.div_ceil(wanted).max(1));
        let images = most / oh;
        let rows = oh.div_ceil(oh.div_ceil(most));
        let pieces = if images > 0 { desc.batch.div_ceil(images) } else { desc.batch * oh.div_ceil(rows) };
        // As many splits as get a piece.
        let splits = wanted.min(memory).min(pieces).max(1);
        let splits = pieces.div_ceil(pieces.div_ceil(splits).max(1)).max(1);
        Cut { shares: Shares { group, pieces, splits }, images, rows }
    }

    /// Images and output rows of a piece.
    pub fn piece(&self, desc: &ConvDesc, index: usize) -> (Range<usize>, Range<usize>) {
        let oh = desc.output()[0];
        if self.images > 0 {
            let start = index * self.images;
            return (start..(start + self.images).min(desc.batch), 0..oh);
        }
        let parts = oh.div_ceil(self.rows);
        (index / parts..index / parts + 1, even(oh, self.rows, index % parts))
    }
}

fn supergroups(desc: &ConvDesc) -> usize {
    if desc.is_depthwise() { desc.channels.div_ceil(PANEL) } else { desc.grouping().count }
}

/// Floats of scratch for [`grad_weight`].
pub fn grad_weight_scratch(desc: &ConvDesc) -> usize {
    Cut::new(desc).shares.partial_len(desc)
        + if desc.input == Layout::Plain { desc.bordered_len() } else { 0 }
}

/// `dw (+)= gradient of w` from the input `x` and `dy`, the gradient of the output. Entries of `dw` without a weight
/// become exactly zero.
///
/// # Panics
/// If the shape is invalid or a slice too short for it.
pub fn grad_weight(
    desc: &ConvDesc,
    x: &[f32],
    dy: &[f32],
    accumulate: bool,
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    check_operands(desc, x.len(), dw.len(), dy.len());
    check_scratch(scratch, grad_weight_scratch(desc));
    let cut = Cut::new(desc);
    let (partial, rest) = scratch.split_at_mut(cut.shares.partial_len(desc));
    let x = if desc.input == Layout::Plain { desc.border(x, rest) } else { x.as_ptr() };
    let job = Job { desc, cut, family: Family::active(), x, dy: dy.as_ptr() };
    // SAFETY: lengths were checked against the descriptor; parts' blocks are disjoint.
    cut.shares.run(desc, accumulate, dw, partial, |part| unsafe { job.run(part) });
}

impl Shares {
    /// Floats of the partial results.
    pub fn partial_len(&self, desc: &ConvDesc) -> usize {
        if self.splits > 1 { self.splits * desc.weight_len() } else { 0 }
    }

    /// Calls `run` for every part in parallel and joins what the parts wrote in `dw`; `partial` has
    /// [`Self::partial_len`] floats.
    pub fn run(
        &self,
        desc: &ConvDesc,
        accumulate: bool,
        dw: &mut [f32],
        partial: &mut [f32],
        run: impl Fn(Part) + Sync,
    ) {
        let len = desc.weight_len();
        let dw = &mut dw[..len];
        if desc.batch == 0 {
            dw.iter_mut().filter(|_| !accumulate).for_each(|v| *v = 0.0);
            return;
        }
        let g = desc.grouping();
        let (ins, outs) = if desc.is_depthwise() { (1, 1) } else { (g.in_blocks(), g.out_blocks()) };
        let (across, down) = (ins.div_ceil(self.group[0]), outs.div_ceil(self.group[1]));
        let groups = supergroups(desc) * across * down;
        let target = Address(if self.splits > 1 { partial.as_mut_ptr() } else { dw.as_mut_ptr() });
        threads::parallel_for(groups * self.splits, |task| {
            let (split, group) = (task / groups, task % groups);
            run(Part {
                supergroup: group / (across * down),
                ins: even(ins, self.group[0], group % across),
                outs: even(outs, self.group[1], group / across % down),
                pieces: even(self.pieces, self.pieces.div_ceil(self.splits), split),
                dw: target.get().wrapping_add(split * len),
                accumulate: accumulate && self.splits == 1,
            });
        });
        if self.splits > 1 {
            add_partials(partial, accumulate, dw);
        }
        desc.clear_padding(dw);
    }
}

/// Adds partial gradients, which follow each other, to `dw` (or stores their sum), always in the same order.
fn add_partials(partial: &[f32], accumulate: bool, dw: &mut [f32]) {
    let len = dw.len();
    let out = Address(dw.as_mut_ptr());
    threads::parallel_chunks(len, 1 << 14, |range| {
        // SAFETY: ranges are disjoint.
        let dw = unsafe { std::slice::from_raw_parts_mut(out.get().add(range.start), range.len()) };
        if !accumulate {
            dw.fill(0.0);
        }
        for part in partial.chunks_exact(len) {
            dw.iter_mut().zip(&part[range.clone()]).for_each(|(sum, v)| *sum += v);
        }
    });
}

/// The same sum over images, rows and columns with the longest of these as its run, where rows are short.
fn with_long_runs(mut sum: Sum) -> Sum {
    let longest = if sum.loops[1].count > sum.loops[0].count { 1 } else { 0 };
    if sum.depth < SHORT_RUN && sum.loops[longest].count > sum.depth {
        let columns = Loop { count: sum.depth, a: sum.a_col, b: sum.b_row };
        let run = std::mem::replace(&mut sum.loops[longest], columns);
        (sum.depth, sum.depth_last, sum.a_col, sum.b_row) = (run.count, run.count, run.a, run.b);
    }
    sum
}

/// What all tasks share.
struct Job<'a> {
    desc: &'a ConvDesc,
    cut: Cut,
    family: &'static Family,
    x: *const f32,
    dy: *const f32,
}

// SAFETY: the addresses are only read.
unsafe impl Sync for Job<'_> {}

/// Where a piece begins in `x` and in `dy`.
struct Corner {
    x: *const f32,
    dy: *const f32,
}

/// One task: some blocks of one supergroup, and the pieces of images to sum over.
pub(super) struct Part {
    pub supergroup: usize,
    pub ins: Range<usize>,
    pub outs: Range<usize>,
    pub pieces: Range<usize>,
    /// Where the task's result goes, laid out like the whole gradient.
    pub dw: *mut f32,
    /// Whether to add to what is there.
    pub accumulate: bool,
}

impl Job<'_> {
    /// # Safety
    /// Operands have the descriptor's lengths; the part's blocks of `dw` are this task's.
    unsafe fn run(&self, part: Part) {
        for piece in part.pieces.clone() {
            let accumulate = part.accumulate || piece > part.pieces.start;
            let (images, rows) = self.cut.piece(self.desc, piece);
            // SAFETY: the caller's promise.
            unsafe {
                if self.desc.is_depthwise() {
                    self.depthwise(&part, images, rows, accumulate);
                } else if self.desc.output == Layout::Plain {
                    self.planar(&part, images, rows, accumulate);
                } else if self.desc.input == Layout::Plain {
                    self.plain(&part, images, rows, accumulate);
                } else {
                    // Several taps leave memory time enough.
                    let asks = self.desc.kernel == [1, 1] && piece + 1 < part.pieces.end;
                    let next = asks.then(|| self.corner(&part, piece + 1));
                    self.blocked(&part, images, rows, accumulate, next);
                }
            }
        }
    }

    /// The sum over images and output rows and columns of one tap, and the distances of its first term in `x` and
    /// `dy` from the first image's block.
    fn terms(
        &self,
        images: usize,
        p: &Range<usize>,
        q: &Range<usize>,
        tap: [usize; 2],
    ) -> (Sum, isize, isize) {
        let d = self.desc;
        let ow = d.output()[1];
        let row = (d.width * PANEL) as isize;
        let at = |axis: usize, first: usize| {
            (first * d.stride[axis] + tap[axis] * d.dilation[axis]) as isize - d.pad_before[axis] as isize
        };
        let a = at(0, p.start) * row + at(1, q.start) * BLOCK;
        let b = ((p.start * ow + q.start) * PANEL) as isize;
        let mut sum = Sum::product(q.len(), d.stride[1] as isize * BLOCK, BLOCK, 0);
        sum.loops[0] = Loop { count: images, a: d.input_image() as isize, b: d.output_image() as isize };
        sum.loops[1] = Loop { count: p.len(), a: d.stride[0] as isize * row, b: (ow * PANEL) as isize };
        if d.stride == [1, 1] && q.len() == ow && d.width == ow {
            // Rows follow each other without a gap.
            sum.depth = p.len() * ow;
            sum.loops[1] = Loop::ONCE;
        }
        sum.depth_last = sum.depth;
        (with_long_runs(sum), a, b)
    }

    /// # Safety
    /// As for [`Self::run`].
    unsafe fn blocked(
        &self,
        part: &Part,
        images: Range<usize>,
        rows: Range<usize>,
        accumulate: bool,
        next: Option<Corner>,
    ) {
        let d = self.desc;
        let g = d.grouping();
        let [oh, ow] = d.output();
        let taps = d.kernel[0] * d.kernel[1];
        let (x_plane, dy_plane) = (d.height * d.width * PANEL, oh * ow * PANEL);
        let places = Rows::strided(1, BLOCK);
        let mut turns = 0..part.ins.len() * part.outs.len() * taps;
        for o in part.outs.clone() {
            let dy = images.start * d.output_image() + (part.supergroup * g.out_blocks() + o) * dy_plane;
            for i in part.ins.clone() {
                let x = images.start * d.input_image() + (part.supergroup * g.in_blocks() + i) * x_plane;
                let channels = (g.channels - i * PANEL).min(PANEL);
                let block = (part.supergroup * g.out_blocks() + o) * g.in_blocks() + i;
                for tap in 0..taps {
                    let at = [tap / d.kernel[1], tap % d.kernel[1]];
                    let (p, q) = (self.desc.inside(0, at[0], &rows), self.desc.inside(1, at[1], &(0..ow)));
                    let (sum, a, b) = self.terms(images.len(), &p, &q, at);
                    let soon = next.as_ref().map_or(Soon::NONE, |next| self.soon(part, next, &sum, &turns));
                    turns.start += 1;
                    for index in 0..channels.div_ceil(self.family.unit_rows()) {
                        let r = even(channels, self.family.unit_rows(), index);
                        let tile = Tile {
                            a: self.x.wrapping_add(x + r.start).wrapping_offset(a),
                            b: self.dy.wrapping_add(dy).wrapping_offset(b),
                            c: part.dw.wrapping_add(((block * taps + tap) * PANEL + r.start) * PANEL),
                            c_panel: 0,
                            tail: PANEL,
                            soon: if index == 0 { soon } else { Soon::NONE },
                            finish: Finish::plain(accumulate),
                        };
                        // SAFETY: terms lie inside `x` and `dy`, the tile inside this task's blocks.
                        unsafe { self.family.kernel(r.len(), 1, true)(&sum, &places, &tile) }
                    }
                }
            }
        }
    }

    /// Where the part's first blocks begin in a piece.
    fn corner(&self, part: &Part, piece: usize) -> Corner {
        let (d, g) = (self.desc, self.desc.grouping());
        let [oh, ow] = d.output();
        let (images, rows) = self.cut.piece(d, piece);
        let block = part.supergroup * g.in_blocks() + part.ins.start;
        let x =
            images.start * d.input_image() + (block * d.height + rows.start * d.stride[0]) * d.width * PANEL;
        let block = part.supergroup * g.out_blocks() + part.outs.start;
        let dy = images.start * d.output_image() + (block * oh + rows.start) * ow * PANEL;
        Corner { x: self.x.wrapping_add(x), dy: self.dy.wrapping_add(dy) }
    }

    /// What a piece's tile of this sum asks for: one in so many tiles brings a block of the next piece, first those of `x`,
    /// then those of `dy`. `turns` are this tile's number and that of all tiles.
    fn soon(&self, part: &Part, next: &Corner, sum: &Sum, turns: &Range<usize>) -> Soon {
        let (ins, outs) = (part.ins.len(), part.outs.len());
        let [oh, ow] = self.desc.output();
        let every = (turns.end / (ins + outs)).max(1);
        // The lines move like those of `x` where the sum turns.
        let together = sum.loops.iter().all(|turn| turn.count == 1 || turn.a == turn.b);
        match turns.start / every {
            _ if !turns.start.is_multiple_of(every) => Soon::NONE,
            i if i < ins => {
                let from = next.x.wrapping_add(i * self.desc.height * self.desc.width * PANEL);
                Soon::strided(from, sum.a_col, sum.depth)
            }
            o if o < ins + outs && together => {
                let from = next.dy.wrapping_add((o - ins) * oh * ow * PANEL);
                Soon::strided(from, BLOCK, sum.depth)
            }
            _ => Soon::NONE,
        }
    }

    /// # Safety
    /// As for [`Self::run`].
    unsafe fn depthwise(&self, part: &Part, images: Range<usize>, rows: Range<usize>, accumulate: bool) {
        let d = self.desc;
        let [oh, ow] = d.output();
        let [kh, kw] = d.kernel;
        let x = images.start * d.input_image() + part.supergroup * d.height * d.width * PANEL;
        let dy = images.start * d.output_image() + part.supergroup * oh * ow * PANEL;
        let (x, dy) = (self.x.wrapping_add(x), self.dy.wrapping_add(dy));
        let dw = part.dw.wrapping_add(part.supergroup * kh * kw * PANEL);
        let kernel = lanewise();
        let each = |tap: [usize; 2], count: usize, q: &Range<usize>, accumulate: bool| {
            let p = self.desc.inside(0, tap[0], &rows);
            let (sum, a, b) = self.terms(images.len(), &p, q, tap);
            let tile = Tile {
                a: x.wrapping_offset(a),
                b: dy.wrapping_offset(b),
                c: dw.wrapping_add((tap[0] * kw + tap[1]) * PANEL),
                c_panel: 0,
                tail: PANEL,
                soon: Soon::NONE,
                finish: Finish::plain(accumulate),
            };
            let run = Run { count, a: d.dilation[1] as isize * BLOCK, c: BLOCK };
            // SAFETY: terms lie inside `x` and `dy`, the taps inside this task's block.
            unsafe { kernel(&sum, &[Run::ONCE, run], &tile) }
        };
        for r in 0..kh {
            for index in 0..kw.div_ceil(TOGETHER) {
                // Columns that all taps of the group see, then what single taps see left and right of them.
                let taps = even(kw, TOGETHER, index);
                let all = taps.clone().fold(0..ow, |all, s| self.desc.inside(1, s, &all));
                each([r, taps.start], taps.len(), &all, accumulate);
                for s in taps {
                    let seen = self.desc.inside(1, s, &(0..ow));
                    for rest in [seen.start..all.start.min(seen.end), all.end.max(seen.start)..seen.end] {
                        if !rest.is_empty() {
                            each([r, s], 1, &rest, true);
                        }
                    }
                }
            }
        }
    }

    /// # Safety
    /// As for [`Self::run`].
    unsafe fn plain(&self, part: &Part, images: Range<usize>, rows: Range<usize>, accumulate: bool) {
        let d = self.desc;
        let [oh, ow] = d.output();
        let [h, w] = d.bordered();
        let terms = d.channels * d.kernel[0] * d.kernel[1];
        let dy_plane = (oh * ow * PANEL) as isize;
        let mut sum = Sum::product(ow, 1, BLOCK, dy_plane);
        sum.loops[0] =
            Loop { count: images.len(), a: (d.channels * h * w) as isize, b: d.output_image() as isize };
        sum.loops[1] = Loop { count: rows.len(), a: (d.stride[0] * w) as isize, b: (ow * PANEL) as isize };
        let sum = with_long_runs(sum);
        let wide = self.family.panels_for(terms.min(MAX_ROWS)).min(2);
        let tall = self.family.rows(wide);
        let mut o = part.outs.start;
        while o < part.outs.end {
            let nv = wide.min(part.outs.end - o);
            for index in 0..terms.div_ceil(tall) {
                let r = even(terms, tall, index);
                let mut places = Rows::strided(0, BLOCK);
                for (place, term) in places.a.iter_mut().zip(r.clone()) {
                    let (c, tap) = (term / (d.kernel[0] * d.kernel[1]), term % (d.kernel[0] * d.kernel[1]));
                    *place = (c * h * w + d.tap_place(tap / d.kernel[1], tap % d.kernel[1])) as isize;
                }
                let image = images.start * d.channels * h * w + rows.start * d.stride[0] * w;
                let dy = images.start * d.output_image() + (o * oh + rows.start) * ow * PANEL;
                let tile = Tile {
                    a: self.x.wrapping_add(image),
                    b: self.dy.wrapping_add(dy),
                    c: part.dw.wrapping_add((o * terms + r.start) * PANEL),
                    c_panel: (terms * PANEL) as isize,
                    tail: PANEL,
                    soon: Soon::NONE,
                    finish: Finish::plain(accumulate),
                };
                // SAFETY: terms lie inside the bordered images and `dy`, the tile inside this task's blocks.
                unsafe { self.family.kernel(r.len(), nv, false)(&sum, &places, &tile) }
            }
            o += nv;
        }
    }

    /// # Safety
    /// As for [`Self::run`].
    unsafe fn planar(&self, part: &Part, images: Range<usize>, rows: Range<usize>, accumulate: bool) {
        let d = self.desc;
        let ([oh, ow], [h, w]) = (d.output(), d.bordered());
        let taps = d.kernel[0] * d.kernel[1];
        let terms = d.channels * taps;
        let image = [d.channels * h * w, d.filters * oh * ow];
        let region = Region { images: images.len(), rows: rows.len(), columns: ow, image, row: [w, ow] };
        let start = [images.start * image[0] + rows.start * w, images.start * image[1] + rows.start * ow];
        // SAFETY: the operands have the descriptor's lengths.
        let (x, dy) = unsafe {
            (
                std::slice::from_raw_parts(self.x.add(start[0]), d.batch * image[0] - start[0]),
                std::slice::from_raw_parts(self.dy.add(start[1]), d.batch * image[1] - start[1]),
            )
        };
        let isa = Isa::active();
        let [tall, wide] = correlate::tile(isa);
        for index in 0..d.filters.div_ceil(tall) {
            let filters = even(d.filters, tall, index);
            let mut planes = [0; MAX_ROWS];
            planes.iter_mut().zip(filters.clone()).for_each(|(at, k)| *at = k * oh * ow);
            for first in (0..terms).step_by(wide) {
                let mut places = [0; MAX_ROWS];
                for (at, term) in places[..wide].iter_mut().zip(first..) {
                    let (c, tap) = (term.min(terms - 1) / taps, term.min(terms - 1) % taps);
                    *at = c * h * w + d.tap_place(tap / d.kernel[1], tap % d.kernel[1]);
                }
                let mut sums = NO_SUMS;
                correlate(isa, &region, dy, &planes[..filters.len()], x, &places[..wide], &mut sums);
                for (k, sums) in filters.clone().zip(&sums) {
                    for (term, sum) in (first..terms.min(first + wide)).zip(sums) {
                        let place = (k / PANEL * terms + term) * PANEL + k % PANEL;
                        // SAFETY: a place of this task's gradient.
                        let dw = unsafe { &mut *part.dw.add(place) };
                        *dw = if accumulate { *dw + sum } else { *sum };
                    }
                }
            }
        }
    }
}
