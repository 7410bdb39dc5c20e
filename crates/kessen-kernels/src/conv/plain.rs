//! Plain NCHW inputs with few channels: images are copied with their zero borders, so that no tile is clipped and
//! channels need not be padded to 16. Columns that are a stride apart lie beside each other in the copy, so that the pixels which
//! neighbouring outputs read at a tap are neighbours too: first those of columns 0, S, 2·S …, then 1, 1 + S, ….

use super::desc::ConvDesc;
use crate::threads::{self, Address};

impl ConvDesc {
    /// Size of a bordered plane: the rows and columns that taps touch, and as many columns for each of a stride's first.
    pub(super) fn bordered(&self) -> [usize; 2] {
        [self.padded(0), self.padded(1).next_multiple_of(self.stride[1])]
    }

    /// Where the input that a tap reads for the first output pixel lies in a bordered plane.
    pub(super) fn tap_place(&self, row: usize, column: usize) -> usize {
        let ([_, width], stride) = (self.bordered(), self.stride[1]);
        let column = column * self.dilation[1];
        row * self.dilation[0] * width + column % stride * (width / stride) + column / stride
    }

    /// Whether a plain input has to be copied at all.
    pub(super) fn needs_border(&self) -> bool {
        self.pad_before != [0; 2] || self.pad_after != [0; 2] || self.stride[1] > 1
    }

    /// Floats of the bordered copy.
    pub(super) fn bordered_len(&self) -> usize {
        let [h, w] = self.bordered();
        if self.needs_border() { self.batch * self.channels * h * w } else { 0 }
    }

    /// Copies the images with their borders, and returns the address to read them from.
    pub(super) fn border(&self, x: &[f32], copy: &mut [f32]) -> *const f32 {
        if !self.needs_border() {
            return x.as_ptr();
        }
        let [h, w] = self.bordered();
        let [top, left] = self.pad_before;
        let copy = &mut copy[..self.bordered_len()];
        let out = Address(copy.as_mut_ptr());
        let planes = self.batch * self.channels;
        threads::parallel_chunks(planes, (1usize << 14).div_ceil(h * w), |range| {
            for plane in range {
                // SAFETY: each plane of the copy is one task's.
                let to = unsafe { std::slice::from_raw_parts_mut(out.get().add(plane * h * w), h * w) };
                let from = &x[plane * self.height * self.width..][..self.height * self.width];
                to[..top * w].fill(0.0);
                to[(top + self.height) * w..].fill(0.0);
                let lines = to[top * w..].chunks_exact_mut(w);
                for (line, from) in lines.zip(from.chunks_exact(self.width)) {
                    spread(from, left, self.stride[1], line);
                }
            }
        });
        copy.as_ptr()
    }
}

/// Writes a row of an image, behind `left` zeros, into the columns `0, S, 2·S …`, then `1, 1 + S …` of a row with zeros behind.
fn spread(from: &[f32], left: usize, stride: usize, line: &mut [f32]) {
    let each = line.len() / stride;
    for (first, to) in line.chunks_exact_mut(each).enumerate() {
        let zeros = left.saturating_sub(first).div_ceil(stride);
        let (zeros, to) = to.split_at_mut(zeros);
        zeros.fill(0.0);
        let from = from.get(first + zeros.len() * stride - left..).unwrap_or_default();
        let count = from.len().div_ceil(stride);
        if stride == 1 {
            to[..count].copy_from_slice(from);
        } else {
            to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, v)| *to = *v);
        }
        to[count..].fill(0.0);
    }
}
