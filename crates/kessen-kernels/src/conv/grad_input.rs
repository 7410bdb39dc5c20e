//! Gradient to a convolution's input.
//!
//! `dx[h] = Σ_r w[r]·dy[(h + P − r·D)/S]` over the taps `r` for which the division is exact. Input rows with the same
//! remainder modulo `S` (a *phase*) share their taps, so each phase is a sweep of stride 1 over `dy`; with stride 1
//! there is one phase, a forward convolution with turned weights.

use super::columns::Columns;
use super::desc::{ConvDesc, Grouping, Layout};
use super::pass::{Operands, Pass};
use super::planar::{self, Planar};
use super::{check_operands, check_scratch, depthwise};
use crate::epilogue::{Activation, Bias, Epilogue};
use crate::layout::{blocked_len, from_blocked};
use crate::micro::{Family, Finish, List, PANEL};

const BLOCK: isize = PANEL as isize;

/// Floats of scratch for [`grad_input`].
pub fn grad_input_scratch(desc: &ConvDesc) -> usize {
    if desc.is_depthwise() {
        return 0;
    }
    let columns = if desc.prefers_columns() { Columns::new(desc).scratch() } else { 0 };
    if columns > 0 && desc.input == Layout::Plain {
        return columns;
    }
    if desc.prefers_planar_gradient() {
        let sweep = Planar::grad_input(desc);
        return columns.max(planar::turned_len(desc, sweep.lane) + sweep.scratch());
    }
    let plain = match desc.input {
        Layout::Blocked => 0,
        Layout::Plain => blocked_len(desc.batch, desc.channels, desc.height, desc.width) + desc.input_len(),
    };
    columns.max(desc.transposed_len() + plain)
}

/// `dx = epilogue(gradient of x)` from `dy`, the gradient of the output in its layout. `dx` and the residual have
/// the input's layout. For a plain input the epilogue may only accumulate.
///
/// # Panics
/// If the shape is invalid or a slice too short for it, or if the epilogue has a bias per row.
pub fn grad_input(
    desc: &ConvDesc,
    dy: &[f32],
    w: &[f32],
    epilogue: &Epilogue,
    dx: &mut [f32],
    scratch: &mut [f32],
) {
    check_operands(desc, dx.len(), w.len(), dy.len());
    desc.check_epilogue(epilogue, desc.input_len(), desc.channels.next_multiple_of(PANEL));
    check_scratch(scratch, grad_input_scratch(desc));
    if desc.is_depthwise() {
        // SAFETY: lengths were checked against the descriptor; depthwise weights need no turning.
        return unsafe { sweep(desc, Words::Single, dy, w, Finish::new(epilogue), dx) };
    }
    let simple = matches!((epilogue.bias, epilogue.residual), (Bias::None, None))
        && epilogue.alpha == 1.0
        && epilogue.activation == Activation::Identity;
    assert!(
        simple || desc.input == Layout::Blocked,
        "convolution: the gradient to a plain input can only be stored or accumulated"
    );
    if simple && desc.prefers_columns() {
        return Columns::new(desc).run(dy, w, epilogue.accumulate, dx, scratch);
    }
    if desc.prefers_planar_gradient() {
        let sweep = Planar::grad_input(desc);
        let (turned, copies) = scratch.split_at_mut(planar::turned_len(desc, sweep.lane));
        planar::turn_weight(desc, sweep.lane, w, turned);
        let (family, finish) = (Family::active(), Finish::new(epilogue));
        let (dy, turned, dx) = (dy.as_ptr(), turned.as_ptr(), dx.as_mut_ptr());
        // SAFETY: lengths were checked against the descriptor.
        return unsafe { sweep.run(family, dy, turned, finish, dx, copies) };
    }
    let (turned, rest) = scratch.split_at_mut(desc.transposed_len());
    desc.transpose_weight(w, turned);
    if desc.input == Layout::Blocked {
        // SAFETY: lengths were checked against the descriptor.
        return unsafe { sweep(desc, Words::Single, dy, turned, Finish::new(epilogue), dx) };
    }
    let pixels = desc.height * desc.width;
    let (blocked, plain) = rest.split_at_mut(blocked_len(desc.batch, desc.channels, 1, pixels));
    // SAFETY: as above; `blocked` has the blocked input's length.
    unsafe { sweep(desc, Words::Single, dy, turned, Finish::plain(false), blocked) };
    let dx = &mut dx[..desc.input_len()];
    if epilogue.accumulate {
        let plain = &mut plain[..desc.input_len()];
        from_blocked(blocked, plain, desc.batch, desc.channels, pixels);
        dx.iter_mut().zip(plain).for_each(|(sum, v)| *sum += *v);
    } else {
        from_blocked(blocked, dx, desc.batch, desc.channels, pixels);
    }
}

/// What an element of `dy` and the weights is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// A number.
    Single,
    /// Two bf16, neighbours among a block's 16 channels; multiplied by the CPU's instructions where `native`.
    Pairs { native: bool },
}

/// All phases; `dx` is nChw16c.
///
/// # Safety
/// Slices have the descriptor's lengths (half of them where they hold pairs), `turned` that of the transposed (depthwise:
/// plain) weights.
pub(super) unsafe fn sweep(
    desc: &ConvDesc,
    words: Words,
    dy: &[f32],
    turned: &[f32],
    finish: Finish,
    dx: &mut [f32],
) {
    let d = desc.joined();
    let (rows, cols) = (d.stride[0].min(d.height), d.stride[1].min(d.width));
    let (family, per_word) = match words {
        Words::Single => (Family::active(), 1),
        Words::Pairs { native } => (Family::pairs(native), 2),
    };
    for row in 0..rows {
        for col in 0..cols {
            let (h, w) = (Phase::new(&d, 0, row), Phase::new(&d, 1, col));
            let mut pass = phase_pass(&d, d.grouping(), [h, w]);
            if d.is_depthwise() {
                pass = depthwise(pass, &d);
            } else if per_word == 2 {
                pass = pass.paired();
            }
            let out = ((row * d.width + col) * PANEL) as isize;
            let each = if d.is_depthwise() { PANEL } else { PANEL * PANEL / per_word };
            let tap = ((h.first * d.kernel[1] + w.first) * each) as isize;
            let operands = Operands {
                x: dy.as_ptr(),
                w: turned.as_ptr().wrapping_offset(tap),
                y: dx.as_mut_ptr().wrapping_offset(out),
                finish: finish.at(0, 0, out),
                list: List::NONE,
                partials: None,
            };
            // SAFETY: the phase's pixels lie in `dx`, its taps in the weights; the caller's promise.
            unsafe { pass.run(family, operands) }
        }
    }
}

/// One axis of a phase.
#[derive(Clone, Copy, Debug)]
struct Phase {
    /// Input positions `offset + S·p`, how many.
    count: usize,
    /// First tap that reaches them, the distance to the next such tap, and how many there are.
    first: usize,
    every: usize,
    taps: usize,
    /// Row of `dy` for `p = 0` and the first tap, and its change from tap to tap.
    start: i32,
    step: i32,
}

impl Phase {
    fn new(d: &ConvDesc, axis: usize, offset: usize) -> Phase {
        let (stride, dilation, kernel) = (d.stride[axis], d.dilation[axis], d.kernel[axis]);
        let at = (offset + d.pad_before[axis]) as i64;
        let reaches = |tap: usize| (at - (tap * dilation) as i64).rem_euclid(stride as i64) == 0;
        let every = (1..=stride).find(|n| (n * dilation).is_multiple_of(stride)).unwrap_or(stride);
        let first = (0..kernel.min(every)).find(|&tap| reaches(tap));
        let size = [d.height, d.width][axis];
        Phase {
            count: (size - offset).div_ceil(stride),
            first: first.unwrap_or(0),
            every,
            taps: first.map_or(0, |tap| (kernel - tap).div_ceil(every)),
            start: first.map_or(0, |tap| ((at - (tap * dilation) as i64) / stride as i64) as i32),
            step: -((every * dilation / stride) as i32),
        }
    }
}

fn phase_pass(d: &ConvDesc, g: Grouping, phase: [Phase; 2]) -> Pass {
    let [oh, ow] = d.output();
    let (dy_plane, dx_plane) = ((oh * ow * PANEL) as isize, (d.height * d.width * PANEL) as isize);
    let taps = (d.kernel[0] * d.kernel[1]) as isize;
    Pass {
        batch: d.batch,
        lanewise: false,
        groups: g.count,
        in_blocks: g.out_blocks(),
        out_blocks: g.in_blocks(),
        depth: PANEL,
        depth_last: g.filters - (g.out_blocks() - 1) * PANEL,
        a_col: 1,
        pixel: BLOCK,
        size: [oh, ow],
        in_row: ow as isize * BLOCK,
        in_block: dy_plane,
        in_image: d.output_image() as isize,
        taps: [phase[0].taps, phase[1].taps],
        start: [phase[0].start, phase[1].start],
        stride: [1, 1],
        step: [phase[0].step, phase[1].step],
        b_taps: [
            (phase[0].every * d.kernel[1]) as isize * BLOCK * BLOCK,
            phase[1].every as isize * BLOCK * BLOCK,
        ],
        b_block: taps * BLOCK * BLOCK,
        b_panel: g.out_blocks() as isize * taps * BLOCK * BLOCK,
        out: [phase[0].count, phase[1].count],
        out_row: (d.stride[0] * d.width) as isize * BLOCK,
        out_pixel: d.stride[1] as isize * BLOCK,
        out_block: dx_plane,
        out_image: d.input_image() as isize,
    }
}
