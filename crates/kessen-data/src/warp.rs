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

/// Where each pixel of the result comes from.
pub(crate) trait Map {
    /// For the row `y` of the result: column → (row, column) in the image.
    fn row(&self, y: f32) -> impl Fn(f32) -> (f32, f32);
}

/// out\[c, y, x\] = image\[c, map(y, x)\], both \[C, H, W\], between pixels bilinearly.
pub(crate) fn warp(image: &[f32], out: &mut [f32], [c, h, w]: [usize; 3], border: Border, map: &impl Map) {
    let plane = h * w;
    for y in 0..h {
        let row = map.row(y as f32);
        for x in 0..w {
            let (fy, fx) = row(x as f32);
            let ((top, ty), (left, tx)) = (floor(fy), floor(fx));
            let weights = [(1.0 - ty) * (1.0 - tx), (1.0 - ty) * tx, ty * (1.0 - tx), ty * tx];
            let at = y * w + x;
            if top >= 0 && left >= 0 && top + 1 < h as isize && left + 1 < w as isize {
                let first = top as usize * w + left as usize;
                for c in 0..c {
                    let corner = &image[c * plane + first..];
                    let (upper, lower) = (&corner[..2], &corner[w..w + 2]);
                    out[c * plane + at] = weights[0] * upper[0]
                        + weights[1] * upper[1]
                        + weights[2] * lower[0]
                        + weights[3] * lower[1];
                }
                continue;
            }
            let (rows, columns) = ([top, top + 1], [left, left + 1]);
            let corners =
                [0, 1, 2, 3].map(|k| match (border.index(rows[k / 2], h), border.index(columns[k % 2], w)) {
                    (Some(y), Some(x)) => (y * w + x, weights[k]),
                    _ => (0, 0.0),
                });
            for c in 0..c {
                let pixels = corners.map(|(i, weight)| weight * image[c * plane + i]);
                out[c * plane + at] = pixels[0] + pixels[1] + pixels[2] + pixels[3];
            }
        }
    }
}

/// The integer below `v` and how far `v` lies above it. `f32::floor` is a library call on x86-64 without SSE4.1.
fn floor(v: f32) -> (isize, f32) {
    let towards_zero = v as i32;
    let below = towards_zero as f32 - f32::from(v < towards_zero as f32);
    (below as i32 as isize, v - below)
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

impl Default for Affine {
    /// Everything stays where it is.
    fn default() -> Self {
        Self { rotate: 0.0, scale: 1.0, shear: 0.0, shift: [0.0; 2] }
    }
}

impl Affine {
    /// The map for H × W images.
    pub(crate) fn inverse(&self, h: usize, w: usize) -> Inverse {
        let (sin, cos) = self.rotate.sin_cos();
        let (lean, s) = (self.shear.tan(), self.scale);
        // s · R · [[1, lean], [0, 1]] acts on (x, y); rotation and shear have determinant 1.
        let [a, b, c, d] = [cos, cos * lean - sin, sin, sin * lean + cos].map(|v| v / s);
        let centre = [(h as f32 - 1.0) / 2.0, (w as f32 - 1.0) / 2.0];
        Inverse { matrix: [[a, -c], [-b, d]], centre, shift: self.shift }
    }
}

/// (y, x) ← M · ((y, x) − centre − shift) + centre.
pub(crate) struct Inverse {
    matrix: [[f32; 2]; 2],
    centre: [f32; 2],
    shift: [f32; 2],
}

impl Map for Inverse {
    fn row(&self, y: f32) -> impl Fn(f32) -> (f32, f32) {
        let ([[yy, yx], [xy, xx]], [cy, cx]) = (self.matrix, self.centre);
        let y = y - cy - self.shift[0];
        let (from_y, from_x) = (yy * y + cy, xy * y + cx);
        let left = cx + self.shift[1];
        move |x| (from_y + yx * (x - left), from_x + xx * (x - left))
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

    /// The map for H × W images: every point is moved by the displacements around it.
    pub(crate) fn over(&self, h: usize, w: usize) -> Displaced<'_> {
        let scale = |n: usize| self.cells as f32 / (n as f32 - 1.0).max(1.0);
        Displaced { grid: self, scale: [scale(h), scale(w)] }
    }
}

/// A grid laid over an image.
pub(crate) struct Displaced<'a> {
    grid: &'a Grid,
    /// Cells per pixel, down and across.
    scale: [f32; 2],
}

impl Map for Displaced<'_> {
    fn row(&self, y: f32) -> impl Fn(f32) -> (f32, f32) {
        let cells = self.grid.cells;
        let place = move |v: f32| {
            let cell = (v as i32 as usize).min(cells - 1);
            (cell, v - cell as f32)
        };
        let across = self.scale[1];
        let (i, ty) = place(y * self.scale[0]);
        let (upper, lower) = self.grid.points[i * (cells + 1)..].split_at(cells + 1);
        move |x| {
            let (j, tx) = place(x * across);
            let mix = |k: usize| {
                let left = upper[j][k] + ty * (lower[j][k] - upper[j][k]);
                let right = upper[j + 1][k] + ty * (lower[j + 1][k] - upper[j + 1][k]);
                left + tx * (right - left)
            };
            (y + mix(0), x + mix(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(map: &Affine, image: &[f32], h: usize, w: usize) -> Vec<f32> {
        let mut out = vec![0.0; image.len()];
        warp(image, &mut out, [1, h, w], Border::Zero, &map.inverse(h, w));
        out
    }

    #[test]
    fn affine_maps_are_what_they_are_called() {
        let image: Vec<f32> = (1..=9).map(|v| v as f32).collect();
        let quarter = std::f32::consts::FRAC_PI_2;
        let cases: [(&str, Affine, [f32; 9]); 5] = [
            ("none", Affine::default(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
            (
                "quarter turn, clockwise as rows count downwards",
                Affine { rotate: quarter, ..Affine::default() },
                [7.0, 4.0, 1.0, 8.0, 5.0, 2.0, 9.0, 6.0, 3.0],
            ),
            (
                "half the size",
                Affine { scale: 0.5, ..Affine::default() },
                [0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0],
            ),
            (
                "shear by 45 degrees",
                Affine { shear: quarter / 2.0, ..Affine::default() },
                [2.0, 3.0, 0.0, 4.0, 5.0, 6.0, 0.0, 7.0, 8.0],
            ),
            (
                "half a pixel down",
                Affine { shift: [0.5, 0.0], ..Affine::default() },
                [0.5, 1.0, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5],
            ),
        ];
        for (name, map, expected) in cases {
            let out = moved(&map, &image, 3, 3);
            assert!(out.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{name}: {out:?}");
        }
    }

    #[test]
    fn a_turn_and_its_inverse_give_the_inside_back() {
        let (h, w) = (24, 20);
        let blob = |y: f32, x: f32| (-((y - 11.0).powi(2) + (x - 8.0).powi(2)) / 12.0).exp();
        let image: Vec<f32> = (0..h * w).map(|i| blob((i / w) as f32, (i % w) as f32)).collect();
        let there = Affine { rotate: 0.4, scale: 1.2, ..Affine::default() };
        let back = Affine { rotate: -0.4, scale: 1.0 / 1.2, ..Affine::default() };
        let out = moved(&back, &moved(&there, &image, h, w), h, w);
        let worst = out.iter().zip(&image).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst < 0.06, "{worst}");
    }

    #[test]
    fn floors_are_those_of_the_standard_library() {
        for v in [-2.0f32, -1.5, -0.0, 0.0, 0.25, 1.0, 7.9, -1e6, 1e6] {
            assert_eq!(floor(v), (v.floor() as isize, v - v.floor()), "{v}");
        }
    }

    #[test]
    fn borders_are_what_they_are_called() {
        let cases = [
            (Border::Zero, [0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0]),
            (Border::Edge, [1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0]),
            (Border::Reflect, [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]),
        ];
        for (border, expected) in cases {
            let value = |i: isize| border.index(i - 2, 3).map_or(0.0, |i| (i + 1) as f32);
            assert_eq!([0, 1, 2, 3, 4, 5, 6].map(value), expected, "{border:?}");
        }
        for far in [isize::MIN / 2, isize::MAX / 2] {
            for border in [Border::Edge, Border::Reflect] {
                assert!(border.index(far, 5).is_some_and(|i| i < 5) && border.index(far, 1) == Some(0));
            }
        }
    }

    #[test]
    fn a_grid_moves_its_corners_by_what_was_drawn_and_the_middle_by_the_mean() {
        let mut grid = Grid::with_room(1);
        let mut values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0].into_iter();
        grid.draw(1, || values.next().unwrap());
        let five = grid.over(5, 5);
        assert_eq!(five.row(0.0)(0.0), (1.0, 2.0));
        assert_eq!(five.row(4.0)(4.0), (11.0, 12.0));
        assert_eq!(five.row(2.0)(2.0), (6.0, 7.0));
        assert_eq!(grid.over(1, 1).row(0.0)(0.0), (1.0, 2.0));
    }
}
