//! Convolution of operands rounded to bf16 ([`crate::bf16`]), summed in f32: direct, forward and both gradients.
//!
//! Glossary: as in [`super`]; a word is two bf16 that are neighbours along the sums. Forward and for the gradient to the
//! input those are neighbouring channels of a pixel: a block of 16 channels is 8 words, and the f32 driver sweeps over
//! images of half the size. For the gradient to the weights they are neighbouring output pixels of a row.
//!
//! Winograd's algorithm keeps to f32: its transforms would have to be rounded once more, with errors some ten times
//! those of the operands for 4×4 outputs.

mod grad_weight;

pub use grad_weight::{grad_weight, grad_weight_scratch};

use super::desc::{ConvDesc, Layout};
use super::forward::blocked;
use super::grad_input::{Words, sweep};
use super::moments::{self, Partials};
use super::pass::{Operands, Pass};
use super::{check_operands, check_scratch};
use crate::bf16::{along, is_native, pixels};
use crate::epilogue::Epilogue;
use crate::isa::Isa;
use crate::layout::transpose_raw;
use crate::micro::{Family, Finish, List, PANEL};
use crate::threads::{self, Shared};

/// Numbers rounded by one task at least; a multiple of a 16×16 block.
const ROUND_WORK: usize = 1 << 14;
/// Numbers of a 16×16 block of weights, and its words.
const BLOCK: usize = PANEL * PANEL;
const BLOCK_WORDS: usize = BLOCK / 2;

/// Whether these kernels can compute a shape: images in nChw16c, not depthwise.
pub fn applies(desc: &ConvDesc) -> bool {
    desc.input == Layout::Blocked && !desc.is_depthwise()
}

#[track_caller]
fn assert_applies(desc: &ConvDesc) {
    assert!(applies(desc), "bf16: needs a blocked input and channels that are joined; got {desc:?}");
}

/// Calls `round(first number, words)` for pieces of `len` numbers in parallel.
fn in_pieces(len: usize, words: &mut [f32], round: impl Fn(Isa, std::ops::Range<usize>, &mut [f32]) + Sync) {
    let words = Shared::new(&mut words[..len / 2]);
    threads::parallel_chunks(len, ROUND_WORK, |range| {
        // SAFETY: ranges are disjoint and start at multiples of two.
        let words = unsafe { words.part(range.start / 2..range.end / 2) };
        round(Isa::active(), range, words);
    });
}

/// Rounds a tensor in nChw16c: words of neighbouring channels.
fn round_image(image: &[f32], words: &mut [f32]) {
    in_pieces(image.len(), words, |isa, range, words| along(isa, &image[range], words));
}

/// Length of the weights in words, for [`forward`].
pub fn weight_words(desc: &ConvDesc) -> usize {
    desc.weight_len() / 2
}

/// Rounds weights in kernel layout ([`ConvDesc::pack_weight`]) to words `[…][8][16 k][2 c]` for [`forward`].
///
/// # Panics
/// If the shape cannot be computed ([`applies`]) or a slice is too short for it.
pub fn prepare_weight(desc: &ConvDesc, weight: &[f32], words: &mut [f32]) {
    assert_applies(desc);
    in_pieces(desc.weight_len(), words, |isa, range, words| pixels(isa, &weight[range], 0, 1, words));
}

/// Floats of scratch for [`forward`].
pub fn forward_scratch(desc: &ConvDesc) -> usize {
    desc.input_len() / 2
}

/// As [`super::forward`], of rounded operands; `words` was made by [`prepare_weight`].
///
/// # Panics
/// If the shape cannot be computed ([`applies`]) or a slice is too short for it, or if the bias is per row.
pub fn forward(
    desc: &ConvDesc,
    x: &[f32],
    words: &[f32],
    epilogue: &Epilogue,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    check_scratch(scratch, forward_scratch(desc));
    run(desc, x, words, epilogue, y, None, scratch);
}

/// The sweep of a shape over words.
fn pass(desc: &ConvDesc) -> Pass {
    blocked(&desc.joined()).paired()
}

/// Floats of scratch for [`forward_with_statistics`].
pub fn forward_with_statistics_scratch(desc: &ConvDesc) -> usize {
    Partials::len(pass(desc).parts()) + forward_scratch(desc)
}

/// [`forward`] with the mean and the biased variance of each channel of `y` ([`super::statistics_len`]).
///
/// # Panics
/// As there, or if the statistics' length is not that.
pub fn forward_with_statistics(
    desc: &ConvDesc,
    x: &[f32],
    words: &[f32],
    epilogue: &Epilogue,
    y: &mut [f32],
    statistics: &mut [f32],
    scratch: &mut [f32],
) {
    desc.check_statistics(statistics.len());
    check_scratch(scratch, forward_with_statistics_scratch(desc));
    let (partials, rest) = scratch.split_at_mut(Partials::len(pass(desc).parts()));
    run(desc, x, words, epilogue, y, Some(Partials::new(partials)), rest);
    moments::finish(partials, desc.bias_len() / PANEL, statistics);
}

fn run(
    desc: &ConvDesc,
    x: &[f32],
    words: &[f32],
    epilogue: &Epilogue,
    y: &mut [f32],
    partials: Option<Partials>,
    scratch: &mut [f32],
) {
    assert_applies(desc);
    check_operands(desc, x.len(), 2 * words.len(), y.len());
    desc.check_epilogue(epilogue, desc.output_len(), desc.bias_len());
    round_image(&x[..desc.input_len()], scratch);
    let (x, w, y) = (scratch.as_ptr(), words.as_ptr(), y.as_mut_ptr());
    let operands = Operands { x, w, y, finish: Finish::new(epilogue), partials, list: List::NONE };
    // SAFETY: lengths were checked against the descriptor.
    unsafe { pass(desc).run(Family::pairs(is_native()), operands) }
}

/// Floats of scratch for [`grad_input`].
pub fn grad_input_scratch(desc: &ConvDesc) -> usize {
    (desc.weight_len() + desc.output_len()) / 2
}

/// As [`super::grad_input`], of rounded operands; `weight` is f32 in kernel layout.
///
/// # Panics
/// If the shape cannot be computed ([`applies`]) or a slice is too short for it, or if the bias is per row.
pub fn grad_input(
    desc: &ConvDesc,
    dy: &[f32],
    weight: &[f32],
    epilogue: &Epilogue,
    dx: &mut [f32],
    scratch: &mut [f32],
) {
    assert_applies(desc);
    check_operands(desc, dx.len(), weight.len(), dy.len());
    desc.check_epilogue(epilogue, desc.input_len(), desc.channels.next_multiple_of(PANEL));
    check_scratch(scratch, grad_input_scratch(desc));
    let (turned, dy_words) = scratch.split_at_mut(weight_words(desc));
    turn_weight(desc, weight, turned);
    round_image(&dy[..desc.output_len()], dy_words);
    let words = Words::Pairs { native: is_native() };
    // SAFETY: lengths were checked against the descriptor.
    unsafe { sweep(desc, words, dy_words, turned, Finish::new(epilogue), dx) }
}

/// Rounds weights with the roles of input and output channels exchanged:
/// `[supergroup][⌈C/16⌉][⌈K/16⌉][KH][KW][8][16 c][2 k]`.
fn turn_weight(desc: &ConvDesc, weight: &[f32], words: &mut [f32]) {
    let taps = desc.kernel[0] * desc.kernel[1];
    let g = desc.grouping();
    let (ins, outs) = (g.in_blocks(), g.out_blocks());
    let words = Shared::new(words);
    threads::parallel_chunks(g.count * ins * outs, (ROUND_WORK / BLOCK).div_ceil(taps), |blocks| {
        let isa = Isa::active();
        for block in blocks {
            let (s, i, o) = (block / (ins * outs), block / outs % ins, block % outs);
            let from = &weight[((s * outs + o) * ins + i) * taps * BLOCK..][..taps * BLOCK];
            // SAFETY: blocks are disjoint.
            let to = unsafe { words.part(block * taps * BLOCK_WORDS..(block + 1) * taps * BLOCK_WORDS) };
            for (from, to) in from.chunks_exact(BLOCK).zip(to.chunks_exact_mut(BLOCK_WORDS)) {
                // Neighbouring output channels are neighbours in a row of one input channel.
                let mut rows = [0.0f32; BLOCK_WORDS];
                along(isa, from, &mut rows);
                // SAFETY: 16 rows of 8 words into 8 rows of 16.
                unsafe { transpose_raw(rows.as_ptr(), PANEL / 2, to.as_mut_ptr(), PANEL, PANEL, PANEL / 2) }
            }
        }
    });
}
