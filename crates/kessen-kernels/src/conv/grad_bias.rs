//! Gradient to a convolution's bias.

use super::desc::{ConvDesc, Layout};
use crate::micro::PANEL;
use crate::threads::{self, Address};

/// `db (+)= Σ_{n,p,q} dy[n,k,p,q]`, of [`ConvDesc::bias_len`] elements; those beyond `K` become zero.
///
/// # Panics
/// If the shape is invalid or a slice too short for it.
pub fn grad_bias(desc: &ConvDesc, dy: &[f32], accumulate: bool, db: &mut [f32]) {
    desc.assert_valid();
    let [oh, ow] = desc.output();
    if desc.output == Layout::Plain {
        return plain_bias(desc, dy, accumulate, db);
    }
    let (blocks, plane) = (desc.filters.div_ceil(PANEL), oh * ow * PANEL);
    let dy = &dy[..desc.output_len()];
    let out = Address(db[..desc.bias_len()].as_mut_ptr());
    let grain = (1usize << 15).div_ceil(desc.batch.max(1) * plane);
    threads::parallel_chunks(blocks, grain, |range| {
        for block in range {
            let mut sum = [0.0f32; PANEL];
            for n in 0..desc.batch {
                // Four interleaved sums per image, added at its end.
                let mut parts = [[0.0f32; PANEL]; 4];
                let at = n * desc.output_image() + block * plane;
                let pixels = dy[at..][..plane].chunks_exact(PANEL);
                for (at, pixel) in pixels.enumerate() {
                    parts[at % 4].iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v);
                }
                for lane in 0..PANEL {
                    sum[lane] += (parts[0][lane] + parts[1][lane]) + (parts[2][lane] + parts[3][lane]);
                }
            }
            for lane in 0..PANEL {
                // SAFETY: each block's biases are one task's.
                let db = unsafe { &mut *out.get().add(block * PANEL + lane) };
                let before = if accumulate { *db } else { 0.0 };
                *db = if block * PANEL + lane < desc.filters { before + sum[lane] } else { 0.0 };
            }
        }
    });
}

/// [`grad_bias`] of a plain gradient.
fn plain_bias(desc: &ConvDesc, dy: &[f32], accumulate: bool, db: &mut [f32]) {
    let [oh, ow] = desc.output();
    let db = &mut db[..desc.bias_len()];
    db[desc.filters..].fill(0.0);
    for (k, db) in db[..desc.filters].iter_mut().enumerate() {
        let mut sum = if accumulate { *db } else { 0.0 };
        for n in 0..desc.batch {
            let mut parts = [0.0f32; PANEL];
            for pixels in dy[(n * desc.filters + k) * oh * ow..][..oh * ow].chunks(PANEL) {
                parts.iter_mut().zip(pixels).for_each(|(sum, v)| *sum += v);
            }
            sum += parts.iter().sum::<f32>();
        }
        *db = sum;
    }
}
