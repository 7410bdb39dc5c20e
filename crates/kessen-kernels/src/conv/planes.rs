//! Images as planes with zero borders, one number a place, whichever layout they come from.

use super::desc::{ConvDesc, Layout};
use crate::layout::{blocked_len, transpose_raw};
use crate::micro::PANEL;

/// Where the planes of images lie, and how they are copied with their borders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    /// Images, and the distance of them in the source.
    pub batch: usize,
    pub distance: usize,
    layout: Layout,
    /// Planes of an image.
    pub count: usize,
    /// Rows and columns without borders, and before them.
    pub image: [usize; 2],
    pub before: [usize; 2],
    /// Rows and columns with borders.
    pub size: [usize; 2],
}

impl Planes {
    /// The input of a convolution, in NCHW.
    pub fn of_input(d: &ConvDesc) -> Planes {
        Planes {
            batch: d.batch,
            distance: d.channels * d.height * d.width,
            layout: Layout::Plain,
            count: d.channels,
            image: [d.height, d.width],
            before: d.pad_before,
            size: d.bordered(),
        }
    }

    /// The gradient of its output, as a convolution with turned weights reads it for the gradient to the input.
    pub fn of_output_gradient(d: &ConvDesc) -> Planes {
        let image = d.output();
        let [oh, ow] = image;
        let reach = [0, 1].map(|axis| d.span(axis) - 1);
        let distance = match d.output {
            Layout::Blocked => d.output_step.unwrap_or_else(|| blocked_len(1, d.filters, oh, ow)),
            Layout::Plain => d.filters * oh * ow,
        };
        Planes {
            batch: d.batch,
            distance,
            layout: d.output,
            count: d.filters,
            image,
            before: [0, 1].map(|axis| reach[axis] - d.pad_before[axis]),
            size: [d.height + reach[0], d.width + reach[1]],
        }
    }

    /// Floats of one image's copy, with what loads of 16 pixels may touch behind it.
    pub fn image_len(&self) -> usize {
        self.count * self.size[0] * self.size[1] + PANEL
    }

    /// Copies one image into memory that holds nothing yet.
    ///
    /// # Safety
    /// The image at `from` is readable, and [`Self::image_len`] floats at `to` are writable.
    pub unsafe fn clear_and_copy(&self, from: *const f32, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            std::slice::from_raw_parts_mut(to, self.image_len()).fill(0.0);
            self.copy(from, to);
        }
    }

    /// Copies one image over another one's copy.
    ///
    /// # Safety
    /// As for [`Self::clear_and_copy`].
    pub unsafe fn copy(&self, from: *const f32, to: *mut f32) {
        let ([rows, columns], [height, width]) = (self.image, self.size);
        let to = to.wrapping_add(self.before[0] * width + self.before[1]);
        match self.layout {
            Layout::Plain => {
                for line in 0..self.count * rows {
                    let (plane, row) = (line / rows, line % rows);
                    // SAFETY: the caller's promise.
                    unsafe {
                        let from = from.add(line * columns);
                        to.add((plane * height + row) * width).copy_from_nonoverlapping(from, columns);
                    }
                }
            }
            Layout::Blocked => {
                for block in 0..self.count.div_ceil(PANEL) {
                    let channels = (self.count - block * PANEL).min(PANEL);
                    for row in 0..rows {
                        let from = from.wrapping_add((block * rows + row) * columns * PANEL);
                        let to = to.wrapping_add((block * PANEL * height + row) * width);
                        // SAFETY: a row of pixels of 16 channels into a row of each channel's plane.
                        unsafe { transpose_raw(from, PANEL, to, height * width, columns, channels) }
                    }
                }
            }
        }
    }
}
