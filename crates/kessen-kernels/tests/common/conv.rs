//! The naive convolution in f64, and nChw16c with filler lanes.
#![allow(dead_code)]

use crate::common::Exact;
use kessen_kernels::conv::ConvDesc;
use kessen_kernels::layout::{blocked_len, from_blocked, to_blocked};

/// Naive results in NCHW and OIHW.
pub struct Reference {
    pub y: Vec<Exact>,
    pub dx: Vec<Exact>,
    pub dw: Vec<Exact>,
    pub db: Vec<Exact>,
}

pub fn reference(d: &ConvDesc, x: &[f32], w: &[f32], dy: &[f32]) -> Reference {
    let [oh, ow] = d.output();
    let (gc, gk) = (d.channels / d.groups, d.filters / d.groups);
    let mut r = Reference {
        y: vec![Exact::default(); dy.len()],
        dx: vec![Exact::default(); x.len()],
        dw: vec![Exact::default(); w.len()],
        db: vec![Exact::default(); d.filters],
    };
    for n in 0..d.batch {
        for k in 0..d.filters {
            for (p, q) in (0..oh * ow).map(|at| (at / ow, at % ow)) {
                let yi = ((n * d.filters + k) * oh + p) * ow + q;
                r.db[k].add(dy[yi] as f64);
                for c in 0..gc {
                    for (i, j) in (0..d.kernel[0] * d.kernel[1]).map(|t| (t / d.kernel[1], t % d.kernel[1])) {
                        let h = (p * d.stride[0] + i * d.dilation[0]).wrapping_sub(d.pad_before[0]);
                        let v = (q * d.stride[1] + j * d.dilation[1]).wrapping_sub(d.pad_before[1]);
                        if h >= d.height || v >= d.width {
                            continue;
                        }
                        let xi = ((n * d.channels + k / gk * gc + c) * d.height + h) * d.width + v;
                        let wi = ((k * gc + c) * d.kernel[0] + i) * d.kernel[1] + j;
                        r.y[yi].product(x[xi], w[wi]);
                        r.dx[xi].product(dy[yi], w[wi]);
                        r.dw[wi].product(dy[yi], x[xi]);
                    }
                }
            }
        }
    }
    r
}

/// Blocks a tensor with `filler` in the lanes beyond the last channel: kernels must not let it into results.
pub fn block(src: &[f32], n: usize, c: usize, pixels: usize, filler: f32) -> Vec<f32> {
    let mut out = vec![0.0; blocked_len(n, c, 1, pixels)];
    to_blocked(src, &mut out, n, c, pixels);
    let blocks = c.div_ceil(16);
    for (at, v) in out.iter_mut().enumerate() {
        if at / (pixels * 16) % blocks * 16 + at % 16 >= c {
            *v = filler;
        }
    }
    out
}

pub fn unblock(src: &[f32], n: usize, c: usize, pixels: usize) -> Vec<f32> {
    let mut out = vec![0.0; n * c * pixels];
    from_blocked(src, &mut out, n, c, pixels);
    out
}
