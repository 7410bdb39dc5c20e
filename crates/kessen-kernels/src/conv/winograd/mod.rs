//! Winograd's algorithm for 3×3 and 5×5 convolutions of stride 1: forward and both gradients.
//!
//! Outputs are computed in blocks of `m × m`: inputs and weights of `r × r` taps are transformed to `α² = (m + r − 1)²`
//! *points*, one small product over channels is made per point, and the results are transformed back. That takes
//! `α²/(r·m)²` of the direct multiplications: for `r = 3` 1/2.25 with `m = 2` and 1/4 with `m = 4`, for `r = 5` 1/2.78 with
//! `m = 2`.
//!
//! Glossary: `P = α²` points, `T` tiles (blocks of outputs, numbered through all images), `C` input and `K` output
//! channels. `U[K/16][P][C + 1][16]` transformed weights; transformed inputs `V` and products `M` lie chunk by chunk of some
//! 14 tiles, `[chunk][C/16][P][14][16]`, so that a transform writes within a few pages. A task takes some tiles through all
//! steps in memory of its own; nothing waits for anything.
//!
//! Accuracy: results differ from the direct sums by rounding. With the points chosen here the largest error of both
//! orders is about the direct algorithm's own, some 10⁻⁶ of the largest output (measured in `tests/winograd.rs`).

mod cost;
mod cut;
mod forward;
mod grad_weight;
mod transforms;

pub use cost::{Algorithm, Direction, choose, cost};
pub use forward::{
    forward, forward_prepared, forward_prepared_scratch, forward_scratch, forward_with_statistics,
    forward_with_statistics_scratch, grad_input, grad_input_scratch, prepare_weight, prepared_len,
};
pub use grad_weight::{grad_weight, grad_weight_scratch};

use super::desc::{ConvDesc, Layout};
use crate::micro::PANEL;
use std::ops::Range;
use transforms::Window;

/// Size of the output blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// F(2×2, 3×3) and F(2×2, 5×5): 2.25 and 2.78 times fewer multiplications.
    Two,
    /// F(4×4, 3×3): 4 times fewer multiplications.
    Four,
}

impl Order {
    /// Outputs per block and axis.
    pub const fn outputs(self) -> usize {
        match self {
            Order::Two => 2,
            Order::Four => 4,
        }
    }

    /// Points per block and axis for a kernel of so many taps per axis.
    const fn alpha(self, taps: usize) -> usize {
        self.outputs() + taps - 1
    }
}

/// Whether the algorithm can compute a shape: 3×3, or 5×5 in blocks of 2×2; stride 1, no dilation, one group, blocked
/// input, padding smaller than the kernel.
pub fn applies(desc: &ConvDesc, order: Order) -> bool {
    let taps = desc.kernel[0];
    (taps == 3 || taps == 5 && order == Order::Two)
        && desc.kernel[1] == taps
        && desc.stride == [1; 2]
        && desc.dilation == [1; 2]
        && desc.groups == 1
        && desc.input == Layout::Blocked
        && [desc.pad_before, desc.pad_after].as_flattened().iter().all(|&pad| pad < taps)
}

#[track_caller]
fn assert_applies(desc: &ConvDesc, order: Order) {
    assert!(
        applies(desc, order),
        "winograd: needs 3x3 or (order Two) 5x5, stride 1, one group, blocked input, padding < kernel; got {order:?}, {desc:?}"
    );
}

/// How a task's transformed tiles lie: `[chunk][block][point][tile][16]`.
#[derive(Clone, Copy, Debug)]
struct Chunks {
    /// Tiles of the task, and of a chunk.
    tiles: usize,
    size: usize,
    blocks: usize,
    points: usize,
}

impl Chunks {
    /// Most tiles of a chunk.
    const MOST: usize = 14;

    /// Floats that `tiles` tiles of `blocks` blocks take, in chunks of at most [`Self::MOST`].
    fn room(points: usize, tiles: usize, blocks: usize) -> usize {
        (tiles + Self::MOST) * blocks * points * PANEL
    }

    fn new(points: usize, tiles: usize, size: usize, blocks: usize) -> Chunks {
        Chunks { tiles, size: size.min(Self::MOST).min(tiles.max(1)), blocks, points }
    }

    fn count(&self) -> usize {
        self.tiles.div_ceil(self.size)
    }

    /// Tiles of a chunk.
    fn range(&self, chunk: usize) -> Range<usize> {
        chunk * self.size..((chunk + 1) * self.size).min(self.tiles)
    }

    /// Distance of points, of blocks, and of chunks.
    fn steps(&self) -> [usize; 3] {
        let point = self.size * PANEL;
        [point, self.points * point, self.blocks * self.points * point]
    }

    /// Place of a block of a chunk.
    fn at(&self, chunk: usize, block: usize) -> usize {
        (chunk * self.blocks + block) * self.points * self.size * PANEL
    }
}

/// Where tiles lie.
#[derive(Clone, Copy, Debug)]
struct Grid {
    /// Outputs, and points, per tile and axis.
    m: usize,
    alpha: usize,
    /// Tiles per column and row of an image.
    down: usize,
    across: usize,
    tiles: usize,
    /// Size of the inputs and of the outputs.
    input: [usize; 2],
    output: [usize; 2],
    pad: [usize; 2],
    /// Distances of the images of the inputs and of the outputs.
    images: [usize; 2],
}

impl Grid {
    fn new(desc: &ConvDesc, order: Order) -> Grid {
        let (m, output) = (order.outputs(), desc.output());
        let (down, across) = (output[0].div_ceil(m), output[1].div_ceil(m));
        let tiles = desc.batch * down * across;
        let (input, images) = ([desc.height, desc.width], [desc.input_image(), desc.output_image()]);
        Grid {
            m,
            alpha: order.alpha(desc.kernel[0]),
            down,
            across,
            tiles,
            input,
            output,
            pad: desc.pad_before,
            images,
        }
    }

    /// Points of a tile.
    fn points(&self) -> usize {
        self.alpha * self.alpha
    }

    /// Image, row and column of a tile.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        (tile / (self.down * self.across), tile / self.across % self.down, tile % self.across)
    }

    /// Offset (elements, may be negative) of a tile's first input pixel in its plane, and the part that exists.
    fn input_window(&self, row: usize, col: usize) -> (isize, Window) {
        let axis = |at: usize, axis: usize| {
            let first = (at * self.m) as isize - self.pad[axis] as isize;
            let end = (self.input[axis] as isize - first).clamp(0, self.alpha as isize);
            (first, [(-first).clamp(0, end) as usize, end as usize])
        };
        let ((h, rows), (w, cols)) = (axis(row, 0), axis(col, 1));
        ((h * self.input[1] as isize + w) * PANEL as isize, Window { rows, cols })
    }

    /// Offset of a tile's first output pixel in its plane, and the part that exists.
    fn output_window(&self, row: usize, col: usize) -> (usize, Window) {
        let (h, w) = (row * self.m, col * self.m);
        let rows = [0, (self.output[0] - h).min(self.m)];
        let cols = [0, (self.output[1] - w).min(self.m)];
        ((h * self.output[1] + w) * PANEL, Window { rows, cols })
    }
}
