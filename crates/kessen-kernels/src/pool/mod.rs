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
use crate::layout::slice_len;
use crate::simd::LANES;
use crate::threads::{Shared, parallel_for};
use std::ops::Range;

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
    /// Operands that are slices of larger tensors.
    pub slices: Option<Slices>,
}

/// Distances of the images of operands in elements, where they are slices of the channels of larger tensors; `None`
/// where images follow each other. `dx` is never a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    /// Planes of an image.
    pub planes: usize,
    /// Distance of the images of `x`.
    pub x: Option<usize>,
    /// Of `y`.
    pub y: Option<usize>,
    /// Of `dy`.
    pub dy: Option<usize>,
}

/// Where the planes of one operand lie.
#[derive(Clone, Copy)]
struct Planes {
    len: usize,
    /// Planes of an image, and the distance of images.
    image: usize,
    step: usize,
}

impl Planes {
    fn range(self, plane: usize) -> Range<usize> {
        let at = plane / self.image * self.step + plane % self.image * self.len;
        at..at + self.len
    }
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

    /// Number of elements of an input that is no slice.
    pub fn input_len(&self) -> usize {
        self.planes * self.input_plane()
    }

    /// Number of elements of an output that is no slice.
    pub fn output_len(&self) -> usize {
        self.planes * self.output_plane()
    }

    /// Where planes of `len` elements lie in an operand of `total` elements.
    ///
    /// # Panics
    /// If it has another number of elements.
    #[track_caller]
    fn places(&self, len: usize, step: fn(&Slices) -> Option<usize>, total: usize) -> Planes {
        let image = self.slices.map_or(self.planes, |s| s.planes).max(1);
        let step = self.slices.as_ref().and_then(step);
        let fits = step.is_none_or(|step| step >= image * len && self.planes.is_multiple_of(image));
        let wanted = slice_len(self.planes / image, image * len, step);
        let wanted = if step.is_none() { self.planes * len } else { wanted };
        assert!(fits && total == wanted, "pooling: lengths don't fit");
        Planes { len, image, step: step.unwrap_or(image * len) }
    }

    /// Pools `x` into `y`.
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        let input = self.places(self.input_plane(), |s| s.x, x.len());
        let output = self.places(self.output_plane(), |s| s.y, y.len());
        let isa = Isa::active();
        self.over_planes(output, y, |plane, y| {
            let x = &x[input.range(plane)];
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
        let (input, output) = (self.input_plane(), self.output_plane());
        let dys = self.places(output, |s| s.dy, dy.len());
        let dxs = self.places(input, |_| None, dx.len());
        let max = self.kind == Kind::Max;
        let inputs =
            max.then(|| (self.places(input, |s| s.x, x.len()), self.places(output, |s| s.y, y.len())));
        let isa = Isa::active();
        self.over_planes(dxs, dx, |plane, dx| {
            let dy = &dy[dys.range(plane)];
            let Some((xs, ys)) = inputs else {
                dx.fill(0.0);
                match self.layout {
                    Layout::Blocked => blocked::average_backward(isa, self, dy, dx),
                    Layout::Plain => plain::average_backward(self, dy, dx),
                }
                return;
            };
            let (x, y) = (&x[xs.range(plane)], &y[ys.range(plane)]);
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
    fn over_planes(&self, places: Planes, out: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
        let per_task = (GRAIN / self.input_plane()).max(1);
        let out = Shared::new(out);
        parallel_for(self.planes.div_ceil(per_task), |task| {
            for plane in task * per_task..((task + 1) * per_task).min(self.planes) {
                // SAFETY: planes are disjoint.
                f(plane, unsafe { out.part(places.range(plane)) });
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
