//! Convolutions of stride 1 with few output channels: lanes are pixels instead of channels.
//!
//! A tile is up to 14 output channels by 16 to 64 pixels, side by side or one row below the other, so that no lane is
//! spent on channels that don't exist. Input planes are copied with their zero borders ([`Planes`]); a tap then is one
//! unaligned load per 16 pixels, and a broadcast of a weight per channel. Forward writes NCHW; the gradient to a plain
//! input is the same sweep over `dy` with turned weights.
//!
//! Rejected: channels of several pixels in one vector (the taps of both make two thirds of the products zero), and
//! one sweep over whole bordered planes (each result would be copied once more, without the columns between rows).

use super::desc::{ConvDesc, Layout, taps_inside};
use super::planes::Planes;
use crate::micro::{Family, Finish, List, Listed, Loop, MAX_ROWS, PANEL, Rows, Soon, Sum, Term, Tile};
use crate::split::even;
use crate::threads::{self, Address};
use std::ops::Range;

/// Multiply-adds of one task at least, counted with full lanes.
const TASK_WORK: usize = 1 << 19;
/// Most tasks.
const TASKS: usize = 32;

impl ConvDesc {
    /// Whether lanes can be pixels: a plain input, stride 1, and no padding beyond the kernel's reach.
    pub(super) fn is_planar(&self) -> bool {
        let reach = [0, 1].map(|axis| self.span(axis));
        self.input == Layout::Plain
            && self.stride == [1; 2]
            && (0..2).all(|axis| self.pad_before[axis].max(self.pad_after[axis]) < reach[axis])
    }

    /// Lanes of pixels that a row of `width` outputs takes.
    fn lanes(width: usize) -> usize {
        width.next_multiple_of(PANEL)
    }

    /// Whether pixels fill lanes better than channels do: the layout that the output of a plain convolution should have.
    pub fn prefers_plain_output(&self) -> bool {
        let width = self.output()[1];
        self.is_planar()
            && self.filters < PANEL
            && self.filters * ConvDesc::lanes(width) <= self.filters.next_multiple_of(PANEL) * width
    }

    /// The same for the gradient to a plain input.
    pub(super) fn prefers_planar_gradient(&self) -> bool {
        let pixels = self.channels * ConvDesc::lanes(self.width);
        self.is_planar()
            && (self.output == Layout::Plain || pixels <= self.channels.next_multiple_of(PANEL) * self.width)
    }
}

/// A sweep of taps over bordered planes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planar {
    pub planes: Planes,
    /// Output channels, and their size.
    pub outs: usize,
    pub out: [usize; 2],
    pub taps: [usize; 2],
    pub dilation: [usize; 2],
    /// Output channels whose weights lie together: weights are `[⌈outs/lane⌉][ins][KH][KW][lane]`.
    pub lane: usize,
}

/// Operands by address.
#[derive(Clone, Copy)]
struct Operands {
    x: *const f32,
    w: *const f32,
    y: *mut f32,
    copies: *mut f32,
    finish: Finish,
    list: List,
}

// SAFETY: used by `Planar::run` only, whose tasks write disjoint outputs and copies.
unsafe impl Sync for Operands {}

/// How a sweep is cut into tasks; follows from its shape only.
struct Cut {
    /// Images of a task.
    images: usize,
    /// Output rows of a task; fewer than there are only where a task has one image.
    rows: usize,
}

/// Output channels of one image that a tile computes together.
#[derive(Clone, Copy)]
struct Strip {
    /// The image, its first channel and how many.
    n: usize,
    k: usize,
    count: usize,
    /// Weights of the first channel.
    weights: *const f32,
    /// The image's bordered copy.
    copy: *const f32,
    /// Panels of a tile at most.
    wide: usize,
}

impl Planar {
    pub fn forward(d: &ConvDesc) -> Planar {
        Planar {
            planes: Planes::of_input(d),
            outs: d.filters,
            out: d.output(),
            taps: d.kernel,
            dilation: d.dilation,
            lane: PANEL,
        }
    }

    pub fn grad_input(d: &ConvDesc) -> Planar {
        Planar {
            planes: Planes::of_output_gradient(d),
            outs: d.channels,
            out: [d.height, d.width],
            taps: d.kernel,
            dilation: d.dilation,
            lane: d.channels.min(PANEL),
        }
    }

    /// Floats of the list of terms and the bordered copies.
    pub fn scratch(&self) -> usize {
        let cut = self.cut();
        let images = self.planes.batch;
        let copies = if cut.rows < self.out[0] { images } else { images.div_ceil(cut.images.max(1)) };
        List::scratch(self.taps[0] * self.taps[1]) + copies * self.planes.image_len()
    }

    /// The terms of a plane, kernel row by kernel row.
    fn terms(&self) -> impl ExactSizeIterator<Item = Term> {
        let (columns, width) = (self.taps[1], self.planes.size[1]);
        (0..self.taps[0] * columns).map(move |tap| {
            let place = tap / columns * self.dilation[0] * width + tap % columns * self.dilation[1];
            Term::new(tap * self.lane, place)
        })
    }

    fn cut(&self) -> Cut {
        let [oh, ow] = self.out;
        let terms = self.planes.count * self.taps[0] * self.taps[1];
        let image = oh * ConvDesc::lanes(ow) * self.outs * terms;
        let batch = self.planes.batch.max(1);
        let wanted = (batch * image / TASK_WORK).clamp(1, TASKS);
        if batch >= wanted {
            return Cut { images: batch.div_ceil(wanted), rows: oh };
        }
        let parts = (wanted / batch).clamp(1, oh.div_ceil(8));
        Cut { images: 1, rows: oh.div_ceil(parts) }
    }

    /// Computes the sweep from images at `x` to NCHW at `y`; a bias per column of `finish` is one per output channel.
    ///
    /// # Safety
    /// The CPU has the family's instruction set. Operands have the lengths that follow from the shape, and nobody else
    /// touches the output and the [`Self::scratch`] floats meanwhile.
    pub unsafe fn run(
        &self,
        family: &Family,
        x: *const f32,
        w: *const f32,
        finish: Finish,
        y: *mut f32,
        scratch: &mut [f32],
    ) {
        let (list, copies) = scratch.split_at_mut(List::scratch(self.taps[0] * self.taps[1]));
        let list = List::new(list, self.terms());
        let cut = self.cut();
        let (batch, len) = (self.planes.batch, self.planes.image_len());
        let finish = Finish { bias_row: finish.bias_column, bias_column: std::ptr::null(), ..finish };
        let operands = Operands { x, w, y, copies: copies.as_mut_ptr(), finish, list };
        let parts = self.out[0].div_ceil(cut.rows.max(1));
        if parts > 1 {
            threads::parallel_for(batch, |n| {
                // SAFETY: each image's copy is one task's; the caller's promise.
                unsafe { self.planes.clear_and_copy(operands.image(self, n), operands.copies.add(n * len)) }
            });
        }
        threads::parallel_for(batch.div_ceil(cut.images) * parts, |task| {
            let (set, part) = (task / parts, task % parts);
            for n in set * cut.images..((set + 1) * cut.images).min(batch) {
                let copy = operands.copies.wrapping_add(if parts > 1 { n } else { set } * len);
                // SAFETY: a task's copy and its rows of the output are its own; the caller's promise.
                unsafe {
                    if parts == 1 && n == set * cut.images {
                        self.planes.clear_and_copy(operands.image(self, n), copy);
                    } else if parts == 1 {
                        self.planes.copy(operands.image(self, n), copy);
                    }
                    self.image(family, &operands, n, copy, even(self.out[0], cut.rows, part));
                }
            }
        });
    }

    /// Some rows of one image.
    ///
    /// # Safety
    /// As for [`Self::run`]; `copy` is the image's bordered copy.
    unsafe fn image(
        &self,
        family: &Family,
        operands: &Operands,
        n: usize,
        copy: *const f32,
        rows: Range<usize>,
    ) {
        let wide = family.panels_for(self.outs.min(MAX_ROWS));
        let tall = family.rows(wide);
        let blocks = self.outs.div_ceil(self.lane);
        let block_len = self.planes.count * self.taps[0] * self.taps[1] * self.lane;
        for block in 0..blocks {
            let first = block * self.lane;
            let outs = self.lane.min(self.outs - first);
            for index in 0..outs.div_ceil(tall) {
                let part = even(outs, tall, index);
                let weights = operands.w.wrapping_add(block * block_len + part.start);
                let strip = Strip { n, k: first + part.start, count: part.len(), weights, copy, wide };
                // SAFETY: the caller's promise.
                unsafe { self.channels(operands, strip, rows.clone()) }
            }
        }
    }

    /// Some rows of a few output channels.
    ///
    /// # Safety
    /// As for [`Self::image`].
    unsafe fn channels(&self, operands: &Operands, strip: Strip, rows: Range<usize>) {
        let Strip { n, k, count, weights, copy, wide } = strip;
        let [oh, ow] = self.out;
        let tiles = Tiles::new(self.out, wide, operands.finish.accumulate);
        let base = (n * self.outs + k) * oh * ow;
        let width = self.planes.size[1];
        let rows_of_a = Rows::strided(1, (oh * ow) as isize);
        let listed = Listed::active();
        let mut row = rows.start;
        while row < rows.end {
            let down = tiles.down(rows.end - row);
            let taps = self.taps_seen(row..row + down);
            let mut column = 0;
            while column < ow {
                let (start, panels, tail) = tiles.along(column, down);
                let offset = base + row * ow + start;
                let steps = if down > 1 { [width, ow] } else { [PANEL, PANEL] };
                let tile = Tile {
                    a: weights,
                    b: copy.wrapping_add(row * width + start),
                    c: operands.y.wrapping_add(offset),
                    c_panel: steps[1] as isize,
                    tail,
                    soon: Soon::NONE,
                    finish: operands.finish.at(k, 0, offset as isize),
                };
                let sum = self.sum(&operands.list, taps.clone(), steps[0] as isize);
                // SAFETY: loads stay inside the copy and what lies behind it, stores inside the tile's rows.
                unsafe { listed.unit(count, panels)(&sum, &rows_of_a, &tile) }
                column = start + if down > 1 { PANEL } else { panels * PANEL };
            }
            row += down;
        }
    }

    /// The kernel's rows that reach a row of the image from some of these output rows.
    fn taps_seen(&self, rows: Range<usize>) -> Range<usize> {
        let Planes { before, image, .. } = self.planes;
        let seen = |row: usize| {
            taps_inside(row as isize - before[0] as isize, self.dilation[0] as isize, self.taps[0], image[0])
        };
        let end = seen(rows.start).end;
        seen(rows.end - 1).start.min(end)..end
    }

    /// The sum over these rows of the kernel.
    fn sum(&self, list: &List, rows: Range<usize>, b_panel: isize) -> Sum {
        let [height, width] = self.planes.size;
        let weights = self.taps[0] * self.taps[1] * self.lane;
        let mut sum = Sum::product(0, 1, 1, b_panel);
        sum.loops[0] = Loop { count: self.planes.count, a: weights as isize, b: (height * width) as isize };
        sum.list = list.part(rows.start * self.taps[1]..rows.end * self.taps[1]);
        sum
    }
}

impl Operands {
    /// Address of an image of the input.
    fn image(&self, sweep: &Planar, n: usize) -> *const f32 {
        self.x.wrapping_add(n * sweep.planes.distance)
    }
}

/// How a row or a few are cut into tiles.
///
/// Rows of at least one tile are cut along; the last tile then starts as far left as it takes to be full, and computes
/// some pixels again. Shorter rows are taken several at a time, one panel each; what a panel of a row that is not full
/// writes behind it, the next row's overwrites. Where results are added to what is there, each pixel is visited once.
struct Tiles {
    width: usize,
    /// Panels of a tile along a row, and rows of one.
    along: usize,
    down: usize,
    once: bool,
}

impl Tiles {
    fn new([oh, ow]: [usize; 2], wide: usize, once: bool) -> Tiles {
        let fit = |most: usize| [4, 2, 1].into_iter().find(|&n| n <= wide && n <= most).unwrap_or(1);
        let along = fit(ow / PANEL);
        // A row's overhang must end within the next one.
        let down = if along < wide && ow * 2 >= PANEL { fit(oh) } else { 1 };
        let once = once && ow > PANEL;
        match () {
            _ if once => Tiles { width: ow, along: 1, down: 1, once },
            _ if down > along => Tiles { width: ow, along: 1, down, once },
            _ => Tiles { width: ow, along, down: 1, once },
        }
    }

    /// Rows of the next tile where so many are left.
    fn down(&self, left: usize) -> usize {
        [4, 2, 1].into_iter().find(|&n| n <= self.down && n <= left).unwrap_or(1)
    }

    /// First column of the tile that continues at `column`, its panels, and the columns of its last panel.
    fn along(&self, column: usize, down: usize) -> (usize, usize, usize) {
        let (left, whole) = (self.width - column, self.along * PANEL);
        let panels = down.max(self.along);
        if left >= whole {
            (column, panels, PANEL)
        } else if self.once || self.width < whole {
            (column, panels, left)
        } else {
            (self.width - whole, panels, PANEL)
        }
    }
}

/// Weights of a plain convolution turned for the gradient to its input: `[⌈C/lane⌉][K][KH][KW][lane]`, rows and columns
/// of taps back to front.
pub(super) fn turn_weight(d: &ConvDesc, lane: usize, weight: &[f32], turned: &mut [f32]) {
    let (taps, channels) = (d.kernel[0] * d.kernel[1], d.channels);
    let turned = &mut turned[..turned_len(d, lane)];
    turned.fill(0.0);
    let out = Address(turned.as_mut_ptr());
    threads::parallel_chunks(d.filters, (1usize << 12).div_ceil(channels * taps), |filters| {
        for k in filters {
            for c in 0..channels {
                let from = &weight[((k / PANEL * channels + c) * taps) * PANEL..][..taps * PANEL];
                let to = ((c / lane * d.filters + k) * taps) * lane + c % lane;
                for tap in 0..taps {
                    let value = from[tap * PANEL + k % PANEL];
                    // SAFETY: each filter's places are one task's, and lie inside `turned`.
                    unsafe { *out.get().add(to + (taps - 1 - tap) * lane) = value };
                }
            }
        }
    });
}

/// Floats that [`turn_weight`] writes.
pub(super) fn turned_len(d: &ConvDesc, lane: usize) -> usize {
    d.channels.next_multiple_of(lane) * d.filters * d.kernel[0] * d.kernel[1]
}
