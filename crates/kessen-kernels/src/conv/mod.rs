//! Convolution of any shape: stride, padding, dilation, groups, with both gradients.
//!
//! Glossary: `N` images, `C` input channels, `K` output channels (filters), `H × W` input and `OH × OW` output pixels,
//! `KH × KW` taps. Activations are nChw16c ([`crate::layout`]) or NCHW ([`Layout`]); lanes beyond the last channel
//! may hold anything finite. Weights live in the kernel layout of their descriptor ([`ConvDesc::pack_weight`]), and so do their
//! gradients.
//!
//! One driver sweeps taps over pixels for the forward pass and for the gradient to the input; a second one sums over
//! pixels for the gradient to the weights. Where channels are few, images are NCHW and lanes hold pixels instead
//! ([`ConvDesc::prefers_plain_output`]). Rejected: lowering to a matrix (im2col), which writes every input pixel
//! `KH·KW` times; only gradients to the input under kernels about as large as the image are made like that (`columns.rs`).

pub mod bf16;
mod columns;
mod correlate;
mod depthwise;
mod desc;
mod forward;
mod grad_bias;
mod grad_input;
mod grad_weight;
mod moments;
mod pass;
mod plain;
mod planar;
mod planes;
mod weights;
pub mod winograd;

use depthwise::depthwise;
pub use desc::{ConvDesc, Layout};
pub use forward::{forward, forward_scratch, forward_with_statistics, forward_with_statistics_scratch};
pub use grad_bias::grad_bias;
pub use grad_input::{grad_input, grad_input_scratch};
pub use grad_weight::{grad_weight, grad_weight_scratch};
pub use moments::statistics_len;

use crate::epilogue::{Bias, Epilogue};

/// Asserts that the slices hold what the shape says.
#[track_caller]
fn check_operands(desc: &ConvDesc, input: usize, weight: usize, output: usize) {
    desc.assert_valid();
    for (name, found, wanted) in [
        ("the input", input, desc.input_len()),
        ("the weights", weight, desc.weight_len()),
        ("the output", output, desc.output_len()),
    ] {
        assert!(found >= wanted, "convolution: {name} has {found} elements, {wanted} needed for {desc:?}");
    }
}

#[track_caller]
fn check_scratch(scratch: &[f32], wanted: usize) {
    assert!(scratch.len() >= wanted, "convolution: scratch of {} floats, {wanted} needed", scratch.len());
}

impl ConvDesc {
    #[track_caller]
    fn check_statistics(&self, statistics: usize) {
        assert!(self.output == Layout::Blocked, "convolution: statistics are taken of outputs in nChw16c");
        let wanted = statistics_len(self);
        assert!(statistics == wanted, "convolution: statistics of {statistics} floats, {wanted} needed");
    }

    #[track_caller]
    fn check_epilogue(&self, epilogue: &Epilogue, output: usize, bias: usize) {
        if let Some(residual) = epilogue.residual {
            let found = residual.len();
            assert!(found >= output, "convolution: the residual has {found} elements, {output} needed");
        }
        match epilogue.bias {
            Bias::None => {}
            Bias::PerColumn(b) => {
                assert!(b.len() >= bias, "convolution: {} biases, {bias} needed (a multiple of 16)", b.len())
            }
            Bias::PerRow(_) => panic!("convolution: a bias is per channel, not per row"),
        }
    }
}
