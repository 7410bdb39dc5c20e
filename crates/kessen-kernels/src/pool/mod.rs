//! Max and average pooling over two axes (one-dimensional pooling has one row), forward and backward.
//!
//! Tensors are `planes` of `H × W` places: `N·C` planes of one number a place in the plain layout, or `N·⌈C/16⌉`
//! planes of sixteen in the blocked one. Ceil mode, padding and divisors follow PyTorch. The backward pass of max
//! pooling finds the largest element again from `x` and `y` (the first one in row-major order gets the gradient), so
//! nothing but those is kept. NaN passes.

mod blocked;
mod geometry;
mod plain;

pub use geometry::Axis;

use crate::isa::Isa;
use crate::simd::LANES;
use crate::threads::{Shared, parallel_for};

/// Elements of one task.
const GRAIN: usize = 16 * 1024;

/// How numbers lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[planes, H, W]`
    Plain,
    /// `[planes, H, W, 16]`
    Blocked,
}

/// What is computed of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The largest element.
    Max,
    /// The mean over the window's places, those in the padding included (as zeros).
    AverageWithPadding,
    /// The mean over the window's places inside the input.
    Average,
}

/// A pooling of `planes` planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What is computed.
    pub kind: Kind,
    /// How numbers lie in memory.
    pub layout: Layout,
    /// Number of planes.
    pub planes: usize,
    /// The vertical axis.
    pub rows: Axis,
    /// The horizontal axis.
    pub columns: Axis,
}

impl Pool {
    fn lanes(&self) -> usize {
        match self.layout {
            Layout::Plain => 1,
            Layout::Blocked => LANES,
        }
    }

    fn input_plane(&self) -> usize {
        self.rows.input() * self.columns.input() * self.lanes()
    }

    fn output_plane(&self) -> usize {
        self.rows.output() * self.columns.output() * self.lanes()
    }

    /// Number of elements of the input.
    pub fn input_len(&self) -> usize {
        self.planes * self.input_plane()
    }

    /// Number of elements of the output.
    pub fn output_len(&self) -> usize {
        self.planes * self.output_plane()
    }

    /// Pools `x` into `y`.
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        assert!(x.len() == self.input_len() && y.len() == self.output_len(), "pooling: lengths don't fit");
        let isa = Isa::active();
        let input = self.input_plane();
        self.over_planes(self.output_plane(), y, |plane, y| {
            let x = &x[plane * input..(plane + 1) * input];
            match (self.layout, self.kind) {
                (Layout::Blocked, Kind::Max) => blocked::max(isa, self, x, y),
                (Layout::Blocked, _) => blocked::average(isa, self, x, y),
                (Layout::Plain, _) => plain::forward(isa, self, x, y),
            }
        });
    }

    /// The gradient `dx` of the input from that of the output. `x` and `y` are the forward pass's; average pooling
    /// needs neither (they may be empty).
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn backward(&self, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
        let fits = dy.len() == self.output_len() && dx.len() == self.input_len();
        let max = self.kind == Kind::Max;
        assert!(fits && (!max || (x.len() == dx.len() && y.len() == dy.len())), "pooling: lengths don't fit");
        let isa = Isa::active();
        let (input, output) = (self.input_plane(), self.output_plane());
        self.over_planes(input, dx, |plane, dx| {
            let dy = &dy[plane * output..(plane + 1) * output];
            if !max {
                dx.fill(0.0);
                match self.layout {
                    Layout::Blocked => blocked::average_backward(isa, self, dy, dx),
                    Layout::Plain => plain::average_backward(self, dy, dx),
                }
                return;
            }
            let x = &x[plane * input..(plane + 1) * input];
            let y = &y[plane * output..(plane + 1) * output];
            if !self.written_once() {
                dx.fill(0.0);
            }
            match self.layout {
                Layout::Blocked => blocked::max_backward(isa, self, x, y, dy, dx),
                Layout::Plain => plain::max_backward(isa, self, x, y, dy, dx),
            }
        });
    }

    /// Calls `f` with the number and the slice of each plane, in parallel.
    fn over_planes(&self, len: usize, out: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
        let per_task = (GRAIN / self.input_plane()).max(1);
        let out = Shared::new(out);
        parallel_for(self.planes.div_ceil(per_task), |task| {
            for plane in task * per_task..((task + 1) * per_task).min(self.planes) {
                // SAFETY: planes are disjoint.
                f(plane, unsafe { out.part(plane * len..(plane + 1) * len) });
            }
        });
    }

    /// Whether max pooling's backward pass writes each place of the input exactly once.
    fn written_once(&self) -> bool {
        let halves = self.rows.is_plain(2, 2) && self.columns.is_plain(2, 2);
        self.rows.tiles() && self.columns.tiles() && (self.layout == Layout::Blocked || halves)
    }

    /// What a full window's sum is multiplied with.
    fn full_share(&self) -> f32 {
        1.0 / (self.rows.kernel().0 * self.columns.kernel().0) as f32
    }

    /// What a window's sum is multiplied with to give its mean; 0 for a window without places.
    fn share(&self, rows: geometry::Taps, columns: geometry::Taps) -> f32 {
        let places = match self.kind {
            Kind::AverageWithPadding => rows.padded * columns.padded,
            _ => rows.count * columns.count,
        };
        if places == 0 { 0.0 } else { 1.0 / places as f32 }
    }
}

#[cfg(test)]
mod tests;
