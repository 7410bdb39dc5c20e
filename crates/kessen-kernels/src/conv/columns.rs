//! The gradient to the input by columns: the products of each output pixel with all weights, `dy·Wᵀ`, are one matrix product,
//! and each of its rows is added to the input pixels that the kernel covered.
//!
//! It makes no product but those that count. The sweeps over input pixels visit for each of them all taps, whether there is an
//! output that reads the pixel through it or not, and where a kernel is about as wide as the image there mostly is none: a
//! sentence of `T` words as an image of `T × E` numbers under filters of `3 × E` would pay for `E` times the work. Nor are a
//! plain input's few channels filled up to 16.

use super::desc::{ConvDesc, Layout, taps_inside};
use crate::gemm::Linear;
use crate::layout::transpose_raw;
use crate::micro::PANEL;
use crate::split::even;
use crate::threads::{self, Address};
use std::ops::Range;

/// Floats of the products that are in memory at once, where that is more than one image's.
const PRODUCTS_LEN: usize = 1 << 20;
/// What adding a product to its pixel costs, and what beginning a kernel row's run costs, in multiply-adds.
const ADDING: usize = 8;
const RUN: usize = 64;

impl ConvDesc {
    /// Planes of an image in memory, and the channels that lie together in each.
    fn planes(&self) -> [usize; 2] {
        match self.input {
            Layout::Blocked => [self.channels.div_ceil(PANEL), PANEL],
            Layout::Plain => [self.channels, 1],
        }
    }

    /// Products of an output pixel with the weights: as many rows as those have in their layout.
    fn terms(&self) -> usize {
        let [planes, lane] = self.planes();
        planes * self.kernel[0] * self.kernel[1] * lane
    }

    /// Whether the gradient to the input takes clearly less work by columns.
    pub(super) fn prefers_columns(&self) -> bool {
        if self.groups > 1 {
            return false;
        }
        let [oh, ow] = self.output();
        let run = self.kernel[1] * self.planes()[1];
        let columns = oh * ow * self.terms() * (self.filters + ADDING + RUN / run);
        let reads = self.height * self.filters * self.kernel[0] * self.kernel[1];
        let sweep = if self.prefers_planar_gradient() {
            reads * self.width.next_multiple_of(PANEL) * self.channels
        } else {
            reads * self.width * self.channels.next_multiple_of(PANEL) / (self.stride[0] * self.stride[1])
        };
        2 * columns < sweep
    }
}

/// The gradient to the input of one shape.
pub(super) struct Columns<'a> {
    desc: &'a ConvDesc,
}

impl Columns<'_> {
    pub fn new(desc: &ConvDesc) -> Columns<'_> {
        Columns { desc }
    }

    fn pixels(&self) -> usize {
        self.desc.output().iter().product()
    }

    /// The images, some at a time.
    fn groups(&self) -> impl Iterator<Item = Range<usize>> {
        let batch = self.desc.batch;
        let most = (PRODUCTS_LEN / (self.pixels() * self.desc.terms()).max(1)).max(1);
        (0..batch.div_ceil(most)).map(move |group| even(batch, most, group))
    }

    /// The products of so many images: a linear layer's gradient to its inputs.
    fn product(&self, images: usize) -> Linear {
        Linear { batch: images * self.pixels(), inputs: self.desc.terms(), outputs: self.desc.filters }
    }

    /// Lengths of the parts of scratch: rows of `dy`, the products, and what making them takes.
    fn parts(&self) -> [usize; 3] {
        self.groups().map(|images| self.product(images.len())).fold([0; 3], |most, product| {
            let Linear { batch, inputs, outputs } = product;
            let parts = [batch * outputs, batch * inputs, product.grad_input_scratch()];
            std::array::from_fn(|i| most[i].max(parts[i]))
        })
    }

    /// Floats of scratch.
    pub fn scratch(&self) -> usize {
        self.parts().iter().sum()
    }

    /// Stores the gradient in `dx`, or adds it; all lengths fit the descriptor.
    pub fn run(&self, dy: &[f32], w: &[f32], accumulate: bool, dx: &mut [f32], scratch: &mut [f32]) {
        let [rows, products, _] = self.parts();
        let (rows, scratch) = scratch.split_at_mut(rows);
        let (products, scratch) = scratch.split_at_mut(products);
        let d = self.desc;
        let image = d.planes().iter().product::<usize>() * d.height * d.width;
        let (distance, each) = (d.input_step.unwrap_or(image), self.pixels() * d.terms());
        for images in self.groups() {
            self.gather(dy, images.clone(), rows);
            self.product(images.len()).grad_input(rows, w, products, false, scratch);
            let out = Address(dx.as_mut_ptr());
            threads::parallel_for(images.len(), |index| {
                let at = (images.start + index) * distance;
                // SAFETY: each image is one task's.
                let dx = unsafe { std::slice::from_raw_parts_mut(out.get().add(at), image) };
                if !accumulate {
                    dx.fill(0.0);
                }
                let products = &products[index * each..][..each];
                match d.input {
                    Layout::Blocked => self.add::<PANEL>(products, dx),
                    Layout::Plain => self.add::<1>(products, dx),
                }
            });
        }
    }

    /// Writes the outputs' gradients of some images pixel by pixel, `[pixels][K]`.
    fn gather(&self, dy: &[f32], images: Range<usize>, rows: &mut [f32]) {
        let (filters, pixels) = (self.desc.filters, self.pixels());
        let distance = match self.desc.output {
            Layout::Blocked => self.desc.output_image(),
            Layout::Plain => filters * pixels,
        };
        let out = Address(rows.as_mut_ptr());
        threads::parallel_for(images.len(), |index| {
            let from = &dy[(images.start + index) * distance..];
            let to = out.get().wrapping_add(index * pixels * filters);
            if self.desc.output == Layout::Plain {
                // SAFETY: each image's rows are one task's; an image is `K` planes.
                return unsafe { transpose_raw(from.as_ptr(), pixels, to, filters, filters, pixels) };
            }
            for (block, from) in from.chunks(pixels * PANEL).take(filters.div_ceil(PANEL)).enumerate() {
                let lanes = (filters - block * PANEL).min(PANEL);
                for (pixel, from) in from.chunks_exact(PANEL).enumerate() {
                    let to = to.wrapping_add(pixel * filters + block * PANEL);
                    // SAFETY: as above; the block's lanes of a pixel's row.
                    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), lanes) }
                }
            }
        });
    }

    /// Adds the products of an image's output pixels to the pixels that their taps read; `LANE` channels lie together.
    fn add<const LANE: usize>(&self, products: &[f32], dx: &mut [f32]) {
        let d = self.desc;
        let ([kh, kw], ow, [planes, _]) = (d.kernel, d.output()[1], d.planes());
        for (pixel, products) in products.chunks_exact(d.terms()).enumerate() {
            let [top, left] = [pixel / ow, pixel % ow];
            let place = |axis: usize, position: usize, tap: usize| {
                (position * d.stride[axis] + tap * d.dilation[axis]) as isize - d.pad_before[axis] as isize
            };
            let inside = |axis: usize, position: usize, size: usize| {
                taps_inside(place(axis, position, 0), d.dilation[axis] as isize, d.kernel[axis], size)
            };
            let (rows, columns) = (inside(0, top, d.height), inside(1, left, d.width));
            if columns.is_empty() {
                continue;
            }
            let column = place(1, left, columns.start) as usize;
            for (r, plane) in rows.flat_map(|r| (0..planes).map(move |plane| (r, plane))) {
                let from = (plane * kh + r) * kw;
                let from = &products[(from + columns.start) * LANE..(from + columns.end) * LANE];
                let row = plane * d.height + place(0, top, r) as usize;
                let to = &mut dx[(row * d.width + column) * LANE..];
                if d.dilation[1] == 1 {
                    to.iter_mut().zip(from).for_each(|(sum, v)| *sum += v);
                    continue;
                }
                let taps = to.chunks_mut(d.dilation[1] * LANE).zip(from.chunks_exact(LANE));
                taps.flat_map(|(to, from)| to.iter_mut().zip(from)).for_each(|(sum, v)| *sum += v);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_go_by_columns_and_small_kernels_do_not() {
        let sentence = ConvDesc { kernel: [3, 100], ..ConvDesc::new(32, 1, 100, [64, 100], 1).plain() };
        assert!(sentence.prefers_columns());
        assert!(ConvDesc { channels: 2, dilation: [1, 2], kernel: [5, 50], ..sentence }.prefers_columns());
        assert!(ConvDesc { pad_before: [2, 0], stride: [2, 1], ..sentence }.prefers_columns());
        assert!(!ConvDesc::new(64, 6, 16, [14, 14], 5).plain().prefers_columns());
        assert!(!ConvDesc::new(4, 3, 64, [224, 224], 3).padding(1).plain().prefers_columns());
        assert!(ConvDesc::new(16, 3, 64, [224, 224], 11).stride(4).padding(2).plain().prefers_columns());
        assert!(ConvDesc::new(32, 64, 256, [8, 8], 8).prefers_columns());
        assert!(!ConvDesc::new(32, 64, 256, [8, 8], 3).padding(1).prefers_columns());
        assert!(!ConvDesc::new(32, 64, 128, [16, 16], 4).padding(1).stride(2).prefers_columns());
    }
}
