//! Convolution forward.

use super::desc::{ConvDesc, Layout};
use super::moments::{self, Partials};
use super::pass::{Operands, Pass};
use super::planar::Planar;
use super::{check_operands, check_scratch, depthwise};
use crate::epilogue::Epilogue;
use crate::micro::{Family, Finish, List, PANEL, Term};

const BLOCK: isize = PANEL as isize;

/// Floats of scratch for [`forward`].
pub fn forward_scratch(desc: &ConvDesc) -> usize {
    match (desc.input, desc.output) {
        (Layout::Blocked, _) => 0,
        (Layout::Plain, Layout::Blocked) => List::scratch(taps(desc)) + desc.bordered_len(),
        (Layout::Plain, Layout::Plain) => Planar::forward(desc).scratch(),
    }
}

/// Floats of scratch for [`forward_with_statistics`].
pub fn forward_with_statistics_scratch(desc: &ConvDesc) -> usize {
    forward_scratch(desc) + Partials::len(pass(desc).parts())
}

/// `y = epilogue(x ∗ w)`, in the sense of networks (no flip): `y[n,k,p,q] = Σ_{c,r,s} w[k,c,r,s] ·
/// x[n, c, p·S + r·D − P, q·S + s·D − P]`.
///
/// `x` has the descriptor's input layout, `w` its kernel layout ([`ConvDesc::pack_weight`]), `y` and the residual its
/// output layout; a bias per column has [`ConvDesc::bias_len`] elements.
///
/// # Panics
/// If the shape is invalid or a slice too short for it, or if the bias is per row.
pub fn forward(
    desc: &ConvDesc,
    x: &[f32],
    w: &[f32],
    epilogue: &Epilogue,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    check_scratch(scratch, forward_scratch(desc));
    run(desc, x, w, epilogue, y, None, scratch);
}

/// [`forward`] with the mean and the biased variance of each channel of `y` ([`super::statistics_len`]).
///
/// # Panics
/// As there, or if the statistics' length is not that, or if the output is plain.
pub fn forward_with_statistics(
    desc: &ConvDesc,
    x: &[f32],
    w: &[f32],
    epilogue: &Epilogue,
    y: &mut [f32],
    statistics: &mut [f32],
    scratch: &mut [f32],
) {
    desc.check_statistics(statistics.len());
    check_scratch(scratch, forward_with_statistics_scratch(desc));
    let (partials, rest) = scratch.split_at_mut(Partials::len(pass(desc).parts()));
    run(desc, x, w, epilogue, y, Some(Partials::new(partials)), rest);
    moments::finish(partials, desc.bias_len() / PANEL, statistics);
}

fn run(
    desc: &ConvDesc,
    x: &[f32],
    w: &[f32],
    epilogue: &Epilogue,
    y: &mut [f32],
    partials: Option<Partials>,
    scratch: &mut [f32],
) {
    check_operands(desc, x.len(), w.len(), y.len());
    desc.check_epilogue(epilogue, desc.output_len(), desc.bias_len());
    if desc.output == Layout::Plain {
        let (family, finish) = (Family::active(), Finish::new(epilogue));
        let (x, w, y) = (x.as_ptr(), w.as_ptr(), y.as_mut_ptr());
        // SAFETY: lengths were checked against the descriptor.
        return unsafe { Planar::forward(desc).run(family, x, w, finish, y, scratch) };
    }
    let (x, list) = match desc.input {
        Layout::Blocked => (x.as_ptr(), List::NONE),
        Layout::Plain => {
            let (list, rest) = scratch.split_at_mut(List::scratch(taps(desc)));
            (desc.border(x, rest), List::new(list, plain_terms(desc)))
        }
    };
    let finish = Finish::new(epilogue);
    let operands = Operands { x, w: w.as_ptr(), y: y.as_mut_ptr(), finish, partials, list };
    // SAFETY: lengths were checked against the descriptor.
    unsafe { pass(desc).run(Family::active(), operands) }
}

/// The sweep of a shape.
fn pass(desc: &ConvDesc) -> Pass {
    match desc.input {
        Layout::Blocked if desc.is_depthwise() => depthwise(blocked(desc), desc),
        Layout::Blocked => blocked(&desc.joined()),
        Layout::Plain => plain(desc),
    }
}

/// The sweep over nChw16c.
pub(super) fn blocked(d: &ConvDesc) -> Pass {
    let g = d.grouping();
    let [oh, ow] = d.output();
    let taps = d.kernel[0] * d.kernel[1];
    let (in_plane, out_plane) = ((d.height * d.width * PANEL) as isize, (oh * ow * PANEL) as isize);
    let b_block = taps as isize * BLOCK * BLOCK;
    Pass {
        batch: d.batch,
        lanewise: false,
        groups: g.count,
        in_blocks: g.in_blocks(),
        out_blocks: g.out_blocks(),
        depth: PANEL,
        depth_last: g.channels - (g.in_blocks() - 1) * PANEL,
        a_col: 1,
        pixel: BLOCK,
        size: [d.height, d.width],
        in_row: d.width as isize * BLOCK,
        in_block: in_plane,
        in_image: d.input_image() as isize,
        taps: d.kernel,
        start: d.pad_before.map(|pad| -(pad as i32)),
        stride: d.stride.map(|s| s as i32),
        step: d.dilation.map(|s| s as i32),
        b_taps: [d.kernel[1] as isize * BLOCK * BLOCK, BLOCK * BLOCK],
        b_block,
        b_panel: g.in_blocks() as isize * b_block,
        out: [oh, ow],
        out_row: ow as isize * BLOCK,
        out_pixel: BLOCK,
        out_block: out_plane,
        out_image: d.output_image() as isize,
    }
}

/// Taps of the kernel.
fn taps(d: &ConvDesc) -> usize {
    d.kernel[0] * d.kernel[1]
}

/// The terms of a channel of bordered NCHW.
fn plain_terms(d: &ConvDesc) -> impl ExactSizeIterator<Item = Term> {
    (0..taps(d)).map(|tap| Term::new(d.tap_place(tap / d.kernel[1], tap % d.kernel[1]), tap * PANEL))
}

/// The sweep over bordered NCHW: a channel's taps are listed, and pixels that are a stride apart are neighbours.
fn plain(d: &ConvDesc) -> Pass {
    let [h, w] = d.bordered();
    let [oh, ow] = d.output();
    let blocks = d.filters.div_ceil(PANEL);
    let out_plane = (oh * ow * PANEL) as isize;
    let taps = taps(d);
    Pass {
        batch: d.batch,
        lanewise: false,
        groups: 1,
        in_blocks: d.channels,
        out_blocks: blocks,
        depth: taps,
        depth_last: taps,
        a_col: 1,
        pixel: 1,
        size: [h, w],
        in_row: w as isize,
        in_block: (h * w) as isize,
        in_image: (d.channels * h * w) as isize,
        taps: [1, 1],
        start: [0, 0],
        stride: [d.stride[0] as i32, 1],
        step: [1, 1],
        b_taps: [0, 0],
        b_block: taps as isize * BLOCK,
        b_panel: (d.channels * taps) as isize * BLOCK,
        out: [oh, ow],
        out_row: ow as isize * BLOCK,
        out_pixel: BLOCK,
        out_block: out_plane,
        out_image: d.output_image() as isize,
    }
}
