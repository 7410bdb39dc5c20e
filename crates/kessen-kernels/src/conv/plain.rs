//! Plain NCHW inputs with few channels: images are copied with their zero borders, so that no tile is clipped and
//! channels need not be padded to 16.

use super::desc::ConvDesc;
use crate::threads::{self, Address};

impl ConvDesc {
    /// Size of a bordered plane: the rows and columns that taps touch.
    pub(super) fn bordered(&self) -> [usize; 2] {
        [self.padded(0), self.padded(1)]
    }

    /// Whether a plain input has to be copied at all.
    pub(super) fn needs_border(&self) -> bool {
        self.pad_before != [0; 2] || self.pad_after != [0; 2]
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
                for row in 0..self.height {
                    let line = &mut to[(top + row) * w..][..w];
                    line[..left].fill(0.0);
                    line[left..left + self.width].copy_from_slice(&from[row * self.width..][..self.width]);
                    line[left + self.width..].fill(0.0);
                }
            }
        });
        copy.as_ptr()
    }
}
