//! Gradient to the weights: sums over pairs of pixels.
//!
//! A task cuts its work as the f32 driver does. Of each piece of the images it rounds what it needs into memory of its
//! own: `dy` as words of two neighbouring output pixels of a row, and `x` as words of the two input pixels that one tap
//! multiplies with them, `S` columns apart. With stride `S`, taps whose columns are equal modulo `2·S` read the same words,
//! some words further on; so `x` is kept in up to `2·S` *versions*. Columns beyond the image are zero there, so that no
//! term has to be left out.

use super::assert_applies;
use crate::bf16::{is_native, pixels};
use crate::conv::desc::ConvDesc;
use crate::conv::grad_weight::{Cut, Part};
use crate::conv::{check_operands, check_scratch};
use crate::isa::Isa;
use crate::micro::{Family, Finish, Loop, MAX_ROWS, PANEL, Rows, Soon, Sum, Tile};
use crate::split::even;
use crate::threads::{self, Shared};
use std::ops::Range;

/// How a piece's words lie: `x` as `[block][image][version][row][columns][16]`, `dy` as `[block][image][row][pairs][16]`.
#[derive(Clone, Copy, Debug)]
struct Words {
    /// Words per row of `dy`: pairs of output columns.
    pairs: usize,
    /// Versions of `x`, and words per row of each.
    versions: usize,
    columns: usize,
    /// Most input rows of a piece, counted from the first tap's first row.
    rows: usize,
    /// Most output rows and images of a piece.
    out_rows: usize,
    images: usize,
}

impl Words {
    fn new(d: &ConvDesc, cut: &Cut) -> Words {
        let [oh, ow] = d.output();
        let (stride, dilation, taps) = (d.stride[1], d.dilation[1], d.kernel[1]);
        let pairs = ow.div_ceil(2);
        let out_rows = if cut.images > 0 { oh } else { cut.rows };
        Words {
            pairs,
            versions: Self::every(d).min(taps),
            columns: pairs + (taps - 1) * dilation / (2 * stride),
            rows: (out_rows - 1) * d.stride[0] + d.span(0),
            out_rows,
            images: cut.images.max(1),
        }
    }

    /// Taps from one to the next that reads the same version.
    fn every(d: &ConvDesc) -> usize {
        let (span, dilation) = (2 * d.stride[1], d.dilation[1]);
        (1..=span).find(|n| (n * dilation).is_multiple_of(span)).unwrap_or(span)
    }

    /// Distances in `x`: of rows, versions, images, and blocks of a piece with `images` images.
    fn x_steps(&self, images: usize) -> [usize; 4] {
        let row = self.columns * PANEL;
        let version = self.rows * row;
        [row, version, self.versions * version, images * self.versions * version]
    }

    /// Floats for the words of `x` and of `dy`.
    fn room(&self, cut: &Cut) -> [usize; 2] {
        let x = cut.shares.group[0] * self.images * self.versions * self.rows * self.columns;
        let dy = cut.shares.group[1] * self.images * self.out_rows * self.pairs;
        [x * PANEL, dy * PANEL]
    }
}

/// Floats of scratch for [`grad_weight`].
pub fn grad_weight_scratch(desc: &ConvDesc) -> usize {
    let cut = Cut::new(desc);
    let [x, dy] = Words::new(desc, &cut).room(&cut);
    cut.shares.partial_len(desc) + threads::count() * (x + dy)
}

/// As [`crate::conv::grad_weight`], of rounded operands; `dw` is f32 in kernel layout.
///
/// # Panics
/// If the shape cannot be computed ([`super::applies`]) or a slice is too short for it.
pub fn grad_weight(
    desc: &ConvDesc,
    x: &[f32],
    dy: &[f32],
    accumulate: bool,
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    assert_applies(desc);
    check_operands(desc, x.len(), dw.len(), dy.len());
    check_scratch(scratch, grad_weight_scratch(desc));
    let cut = Cut::new(desc);
    let words = Words::new(desc, &cut);
    let (partial, rest) = scratch.split_at_mut(cut.shares.partial_len(desc));
    let (room, rest) = (words.room(&cut), Shared::new(rest));
    let job = Job { desc, cut, words, family: Family::pairs(is_native()), x, dy };
    cut.shares.run(desc, accumulate, dw, partial, |part| {
        let start = threads::worker() * (room[0] + room[1]);
        // SAFETY: each worker uses its own part.
        let scratch = unsafe { rest.part(start..start + room[0] + room[1]) };
        // SAFETY: lengths were checked against the descriptor; parts' blocks are disjoint.
        unsafe { job.run(&part, scratch) }
    });
}

/// What all tasks share.
struct Job<'a> {
    desc: &'a ConvDesc,
    cut: Cut,
    words: Words,
    family: &'static Family,
    x: &'a [f32],
    dy: &'a [f32],
}

impl Job<'_> {
    /// # Safety
    /// Operands have the descriptor's lengths; the part's blocks of `dw` are this task's; `scratch` has [`Words::room`].
    unsafe fn run(&self, part: &Part, scratch: &mut [f32]) {
        let (x, dy) = scratch.split_at_mut(self.words.room(&self.cut)[0]);
        for piece in part.pieces.clone() {
            let accumulate = part.accumulate || piece > part.pieces.start;
            let (images, rows) = self.cut.piece(self.desc, piece);
            self.round_x(part, &images, &rows, x);
            self.round_dy(part, &images, &rows, dy);
            // SAFETY: the caller's promise.
            unsafe { self.multiply(part, images.len(), &rows, [x, dy], accumulate) }
        }
    }

    /// Rounds the rows of `x` that the piece's taps reach.
    fn round_x(&self, part: &Part, images: &Range<usize>, rows: &Range<usize>, words: &mut [f32]) {
        let (d, g, isa) = (self.desc, self.desc.grouping(), Isa::active());
        let [row_step, version_step, ..] = self.words.x_steps(images.len());
        let first = rows.start * d.stride[0];
        let count = (rows.len() - 1) * d.stride[0] + d.span(0);
        let read = |row: usize| {
            let reaches = |tap: usize| {
                let at = tap * d.dilation[0];
                row >= at && (row - at).is_multiple_of(d.stride[0])
            };
            (0..d.kernel[0]).any(reaches)
        };
        let mut out = words.chunks_exact_mut(version_step);
        for i in part.ins.clone() {
            for n in images.clone() {
                let image = n * d.input_image();
                let block = part.supergroup * g.in_blocks() + i;
                for version in 0..self.words.versions {
                    let Some(out) = out.next() else { return };
                    let column = (version * d.dilation[1] % (2 * d.stride[1])) as isize;
                    for (row, out) in out.chunks_exact_mut(row_step).enumerate().take(count) {
                        let at = (first + row).wrapping_sub(d.pad_before[0]);
                        if at < d.height && read(row) {
                            let place = image + (block * d.height + at) * d.width * PANEL;
                            let line = &self.x[place..][..d.width * PANEL];
                            pixels(isa, line, column - d.pad_before[1] as isize, d.stride[1], out);
                        }
                    }
                }
            }
        }
    }

    /// Rounds the piece's rows of `dy`.
    fn round_dy(&self, part: &Part, images: &Range<usize>, rows: &Range<usize>, words: &mut [f32]) {
        let (d, g, isa) = (self.desc, self.desc.grouping(), Isa::active());
        let [oh, ow] = d.output();
        let mut out = words.chunks_exact_mut(self.words.pairs * PANEL);
        for o in part.outs.clone() {
            for n in images.clone() {
                let image = n * d.output_image();
                let block = part.supergroup * g.out_blocks() + o;
                for row in rows.clone() {
                    let Some(out) = out.next() else { return };
                    let line = &self.dy[image + (block * oh + row) * ow * PANEL..][..ow * PANEL];
                    pixels(isa, line, 0, 1, out);
                }
            }
        }
    }

    /// Adds the piece's products, or stores them.
    ///
    /// # Safety
    /// As for [`Self::run`]; the words of `x` and `dy` are those of the piece.
    unsafe fn multiply(
        &self,
        part: &Part,
        images: usize,
        rows: &Range<usize>,
        [x, dy]: [&[f32]; 2],
        accumulate: bool,
    ) {
        let (d, g) = (self.desc, self.desc.grouping());
        let [kh, kw] = d.kernel;
        let dy_block = images * rows.len() * self.words.pairs * PANEL;
        let x_block = self.words.x_steps(images)[3];
        let places = Rows::strided(1, PANEL as isize);
        let wide = self.family.panels_for(MAX_ROWS).min(2);
        let mut o = part.outs.start;
        while o < part.outs.end {
            let nv = wide.min(part.outs.end - o);
            // Half a block by two blocks loads less than a block by one.
            let tall = if nv == 2 { PANEL / 2 } else { self.family.unit_rows() };
            for (i_at, i) in part.ins.clone().enumerate() {
                let channels = (g.channels - i * PANEL).min(PANEL);
                let block = (part.supergroup * g.out_blocks() + o) * g.in_blocks() + i;
                for tap in 0..kh * kw {
                    let (sum, a, b) = self.terms(images, rows, [tap / kw, tap % kw]);
                    let sum = Sum { b_panel: dy_block as isize, ..sum };
                    for index in 0..channels.div_ceil(tall) {
                        let r = even(channels, tall, index);
                        let tile = Tile {
                            a: x.as_ptr().wrapping_add(i_at * x_block + a + r.start),
                            b: dy.as_ptr().wrapping_add((o - part.outs.start) * dy_block + b),
                            c: part.dw.wrapping_add(((block * kh * kw + tap) * PANEL + r.start) * PANEL),
                            c_panel: (g.in_blocks() * kh * kw * PANEL * PANEL) as isize,
                            tail: PANEL,
                            soon: Soon::NONE,
                            finish: Finish::plain(accumulate),
                        };
                        // SAFETY: terms lie inside the words, the tile inside this task's blocks.
                        unsafe { self.family.kernel(r.len(), nv, true)(&sum, &places, &tile) }
                    }
                }
            }
            o += nv;
        }
    }

    /// The sum over images and output rows of one tap, and the distances of its first term in `x`'s and `dy`'s words.
    fn terms(&self, images: usize, rows: &Range<usize>, tap: [usize; 2]) -> (Sum, usize, usize) {
        let (d, w) = (self.desc, &self.words);
        let [row, version, image, _] = w.x_steps(images);
        let seen = d.inside(0, tap[0], rows);
        let skipped = seen.start - rows.start;
        let (kind, column) = (tap[1] % Words::every(d), tap[1] * d.dilation[1] / (2 * d.stride[1]));
        let a = kind * version + (skipped * d.stride[0] + tap[0] * d.dilation[0]) * row + column * PANEL;
        let dy_row = w.pairs * PANEL;
        let mut sum = Sum::product(w.pairs, PANEL as isize, PANEL as isize, 0);
        sum.loops[0] = Loop { count: images, a: image as isize, b: (rows.len() * dy_row) as isize };
        sum.loops[1] = Loop { count: seen.len(), a: (d.stride[0] * row) as isize, b: dy_row as isize };
        (sum, a, skipped * dy_row)
    }
}
