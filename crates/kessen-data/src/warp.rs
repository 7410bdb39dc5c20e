//! Geometric changes of small images: where each pixel of the result comes from, bilinearly.

use serde::{Deserialize, Serialize};

/// What lies outside an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Border {
    /// Black.
    #[default]
    Zero,
    /// The nearest pixel of the edge.
    Edge,
    /// The image, mirrored at its edge pixels.
    Reflect,
}

impl Border {
    /// The index in 0..`n` that stands for `i`, if any does.
    fn index(self, i: isize, n: usize) -> Option<usize> {
        let last = n as isize - 1;
        if (0..=last).contains(&i) {
            return Some(i as usize);
        }
        match self {
            Self::Zero => None,
            Self::Edge => Some(i.clamp(0, last) as usize),
            Self::Reflect if last == 0 => Some(0),
            Self::Reflect => {
                let i = i.rem_euclid(2 * last);
                Some(i.min(2 * last - i) as usize)
            }
        }
    }
}

/// out\[c, y, x\] = image\[c, from(y, x)\], both \[C, H, W\], between pixels bilinearly.
pub(crate) fn warp(
    image: &[f32],
    out: &mut [f32],
    [c, h, w]: [usize; 3],
    border: Border,
    from: impl Fn(f32, f32) -> (f32, f32),
) {
    for y in 0..h {
        for x in 0..w {
            let (fy, fx) = from(y as f32, x as f32);
            let (ty, tx) = (fy - fy.floor(), fx - fx.floor());
            let (top, left) = (fy.floor() as isize, fx.floor() as isize);
            let corners = [
                (top, left, (1.0 - ty) * (1.0 - tx)),
                (top, left.saturating_add(1), (1.0 - ty) * tx),
                (top.saturating_add(1), left, ty * (1.0 - tx)),
                (top.saturating_add(1), left.saturating_add(1), ty * tx),
            ]
            .map(|(y, x, weight)| match (border.index(y, h), border.index(x, w)) {
                (Some(y), Some(x)) => (y * w + x, weight),
                _ => (0, 0.0),
            });
            for c in 0..c {
                let plane = &image[c * h * w..][..h * w];
                out[c * h * w + y * w + x] = corners.iter().map(|&(i, weight)| weight * plane[i]).sum();
            }
        }
    }
}

/// Rotation · shear · scale about the centre, then a move.
pub(crate) struct Affine {
    /// Angle in radians.
    pub rotate: f32,
    /// Factor on both sides.
    pub scale: f32,
    /// Angle in radians; columns lean by its tangent.
    pub shear: f32,
    /// Rows and columns.
    pub shift: [f32; 2],
}

impl Affine {
    /// The map from a pixel of the result to its place in the image.
    pub(crate) fn inverse(&self, h: usize, w: usize) -> impl Fn(f32, f32) -> (f32, f32) + use<> {
        let (sin, cos) = self.rotate.sin_cos();
        let (lean, s) = (self.shear.tan(), self.scale);
        // (x, y) ← s · R · [[1, lean], [0, 1]] has determinant s², as rotation and shear have 1.
        let [a, b, c, d] = [cos * s, (cos * lean - sin) * s, sin * s, (sin * lean + cos) * s];
        let det = s * s;
        let (cy, cx) = ((h as f32 - 1.0) / 2.0, (w as f32 - 1.0) / 2.0);
        let [dy, dx] = self.shift;
        move |y, x| {
            let (y, x) = (y - cy - dy, x - cx - dx);
            ((a * y - c * x) / det + cy, (d * x - b * y) / det + cx)
        }
    }
}

/// Displacements at the corners of `cells` × `cells` cells that cover the image.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grid {
    cells: usize,
    /// (rows, columns) per grid point, row by row.
    points: Vec<[f32; 2]>,
}

impl Grid {
    pub(crate) fn with_room(cells: usize) -> Self {
        Self { cells: 0, points: Vec::with_capacity((cells + 1).pow(2)) }
    }

    pub(crate) fn draw(&mut self, cells: usize, mut value: impl FnMut() -> f32) {
        self.cells = cells.max(1);
        self.points.clear();
        for _ in 0..(self.cells + 1).pow(2) {
            self.points.push([value(), value()]);
        }
    }

    /// The point (y, x) of an H × W image, moved by the displacements around it.
    pub(crate) fn displaced(&self, y: f32, x: f32, h: usize, w: usize) -> (f32, f32) {
        let place = |v: f32, n: usize| {
            let v = v / (n as f32 - 1.0).max(1.0) * self.cells as f32;
            let cell = (v as usize).min(self.cells - 1);
            (cell, v - cell as f32)
        };
        let ((i, ty), (j, tx)) = (place(y, h), place(x, w));
        let at = |i: usize, j: usize, k: usize| self.points[i * (self.cells + 1) + j][k];
        let mix = |k: usize| {
            (1.0 - ty) * ((1.0 - tx) * at(i, j, k) + tx * at(i, j + 1, k))
                + ty * ((1.0 - tx) * at(i + 1, j, k) + tx * at(i + 1, j + 1, k))
        };
        (y + mix(0), x + mix(1))
    }
}
