//! NCHW ↔ nChw16c.

use super::transpose::transpose_raw;
use crate::micro::PANEL;
use crate::threads::{self, Shared};

/// Length of an `n × c × h × w` tensor in nChw16c.
pub const fn blocked_len(n: usize, c: usize, h: usize, w: usize) -> usize {
    n * c.div_ceil(PANEL) * PANEL * h * w
}

/// Writes an NCHW tensor of `pixels = h·w` per plane as nChw16c; lanes beyond `c` become zero.
///
/// # Panics
/// If a slice's length is not the tensor's.
pub fn to_blocked(src: &[f32], dst: &mut [f32], n: usize, c: usize, pixels: usize) {
    let blocks = c.div_ceil(PANEL);
    assert_eq!(src.len(), n * c * pixels, "to_blocked: source of {n}x{c}x{pixels}");
    assert_eq!(dst.len(), n * blocks * pixels * PANEL, "to_blocked: destination of {n}x{c}x{pixels}");
    let dst = Shared::new(dst);
    for_blocks(n, c, pixels, |image, block, lanes| {
        let at = (image * blocks + block) * pixels * PANEL;
        // SAFETY: each block is one task's.
        let out = unsafe { dst.part(at..at + pixels * PANEL) };
        if lanes < PANEL {
            out.fill(0.0);
        }
        let planes = &src[(image * c + block * PANEL) * pixels..][..lanes * pixels];
        // SAFETY: `lanes` planes of `pixels` into `pixels` rows of 16.
        unsafe { transpose_raw(planes.as_ptr(), pixels, out.as_mut_ptr(), PANEL, lanes, pixels) }
    });
}

/// Elements from the first to the last of `n` images of `own` elements each, `step` elements apart (`None`: one behind
/// the other), as a slice of the channels of an nChw16c tensor has them.
pub const fn slice_len(n: usize, own: usize, step: Option<usize>) -> usize {
    match (n, step) {
        (0, _) => 0,
        (_, None) => n * own,
        (_, Some(step)) => (n - 1) * step + own,
    }
}

/// Copies `n` images of `own` elements each, which lie `from` elements apart in `src` and `to` apart in `dst`.
///
/// # Panics
/// If images overlap or a slice is too short.
pub fn copy_images(n: usize, own: usize, src: &[f32], from: usize, dst: &mut [f32], to: usize) {
    const PIECE: usize = 16 * 1024;
    let fits = |len, step| n <= 1 || step >= own && len >= slice_len(n, own, Some(step));
    assert!(fits(src.len(), from) && fits(dst.len(), to), "copy of {n} images of {own}: lengths don't fit");
    let (pieces, dst) = (own.div_ceil(PIECE), Shared::new(dst));
    threads::parallel_for(n * pieces, |task| {
        let (image, start) = (task / pieces, task % pieces * PIECE);
        let end = (start + PIECE).min(own);
        // SAFETY: images don't overlap, pieces neither.
        let out = unsafe { dst.part(image * to + start..image * to + end) };
        out.copy_from_slice(&src[image * from + start..image * from + end]);
    });
}

/// Writes an nChw16c tensor of `pixels = h·w` per plane as NCHW; lanes beyond `c` are dropped.
///
/// # Panics
/// If a slice's length is not the tensor's.
pub fn from_blocked(src: &[f32], dst: &mut [f32], n: usize, c: usize, pixels: usize) {
    let blocks = c.div_ceil(PANEL);
    assert_eq!(src.len(), n * blocks * pixels * PANEL, "from_blocked: source of {n}x{c}x{pixels}");
    assert_eq!(dst.len(), n * c * pixels, "from_blocked: destination of {n}x{c}x{pixels}");
    let dst = Shared::new(dst);
    for_blocks(n, c, pixels, |image, block, lanes| {
        let at = (image * c + block * PANEL) * pixels;
        // SAFETY: each block's planes are one task's.
        let planes = unsafe { dst.part(at..at + lanes * pixels) };
        let block = &src[(image * blocks + block) * pixels * PANEL..][..pixels * PANEL];
        // SAFETY: `pixels` rows of 16 into `lanes` planes of `pixels`.
        unsafe { transpose_raw(block.as_ptr(), PANEL, planes.as_mut_ptr(), pixels, pixels, lanes) }
    });
}

/// Calls `f(image, block, lanes in use)` for every channel block, in parallel where worth it.
fn for_blocks(n: usize, c: usize, pixels: usize, f: impl Fn(usize, usize, usize) + Sync) {
    let blocks = c.div_ceil(PANEL);
    let run = |task: usize| {
        let (image, block) = (task / blocks, task % blocks);
        f(image, block, (c - block * PANEL).min(PANEL));
    };
    // One task per ≈16 K elements, so that small tensors stay on one thread.
    let group = (1usize << 14).div_ceil(pixels.max(1) * PANEL);
    threads::parallel_chunks(n * blocks, group, |range| range.for_each(run));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_copied_and_gaps_left_alone() {
        let src: Vec<f32> = (0..3 * 20_010).map(|i| i as f32).collect();
        let mut dst = vec![-1.0; 2 * 20_005 + 20_001];
        copy_images(3, 20_001, &src, 20_010, &mut dst, 20_005);
        for (i, &v) in dst.iter().enumerate() {
            let (image, at) = (i / 20_005, i % 20_005);
            assert_eq!(v, if at < 20_001 { (image * 20_010 + at) as f32 } else { -1.0 });
        }
    }

    #[test]
    fn there_and_back_with_zero_lanes() {
        for (n, c, pixels) in [(1, 1, 1), (2, 3, 7), (1, 16, 49), (3, 33, 10), (2, 17, 25), (0, 3, 4)] {
            let src: Vec<f32> = (0..n * c * pixels).map(|i| i as f32 + 1.0).collect();
            let mut blocked = vec![f32::NAN; blocked_len(n, c, 1, pixels)];
            to_blocked(&src, &mut blocked, n, c, pixels);
            let blocks = c.div_ceil(PANEL);
            for (i, &v) in blocked.iter().enumerate() {
                let (lane, pixel, block) = (i % PANEL, i / PANEL % pixels, i / PANEL / pixels);
                let channel = block % blocks * PANEL + lane;
                let want =
                    if channel < c { src[(block / blocks * c + channel) * pixels + pixel] } else { 0.0 };
                assert_eq!(v, want, "{n}x{c}x{pixels} at {i}");
            }
            let mut back = vec![f32::NAN; src.len()];
            from_blocked(&blocked, &mut back, n, c, pixels);
            assert_eq!(back, src);
        }
    }
}
