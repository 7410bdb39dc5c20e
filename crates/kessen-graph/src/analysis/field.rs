//! Receptive fields: which positions of the image a unit sees.
//!
//! For layers one behind the other R_k = 1 + Σ_j (M_j − 1)·D_j·∏_{i<j} S_i (filters M, dilations D, strides S). Where
//! branches meet, a unit sees what any of them sees; the sizes are followed along every path at once.

use serde::Serialize;

use crate::Field;

/// What a unit of a value sees of the image input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceptiveField {
    /// A window, the same for all units up to its place.
    Window(Window),
    /// The whole image.
    Whole,
}

/// A window onto the image; each array is `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// R: pixels that a unit sees.
    pub size: [usize; 2],
    /// Pixels from the window of one unit to that of its neighbour: ∏ S.
    pub stride: [usize; 2],
    /// Pixel at which the window of the first unit begins; negative in the padding.
    pub start: [i64; 2],
}

impl ReceptiveField {
    /// A pixel sees itself.
    pub(super) const PIXEL: Self = Self::Window(Window { size: [1, 1], stride: [1, 1], start: [0, 0] });

    /// What a unit sees that sees both; `None` sees nothing of the image.
    pub(super) fn join(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (None, x) | (x, None) => x,
            (Some(Self::Window(a)), Some(Self::Window(b))) if a.stride == b.stride => {
                let start = [0, 1].map(|i| a.start[i].min(b.start[i]));
                let end = [0, 1].map(|i| a.end(i).max(b.end(i)));
                let size = [0, 1].map(|i| usize::try_from(end[i] - start[i]).unwrap_or(usize::MAX));
                Some(Self::Window(Window { size, stride: a.stride, start }))
            }
            _ => Some(Self::Whole),
        }
    }

    /// What a unit of an operator sees whose operand's units see `self`. `kernel` is the window's size.
    pub(super) fn through(self, field: Field, kernel: [usize; 2]) -> Self {
        let (Self::Window(seen), Field::Window { stride, padding, dilation, .. }) = (self, field) else {
            return if field == Field::Point { self } else { Self::Whole };
        };
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let reach = |i: usize| kernel[i].saturating_sub(1).saturating_mul(dilation[i]);
        Self::Window(Window {
            size: [0, 1].map(|i| seen.size[i].saturating_add(reach(i).saturating_mul(seen.stride[i]))),
            stride: [0, 1].map(|i| seen.stride[i].saturating_mul(stride[i])),
            start: [0, 1]
                .map(|i| seen.start[i].saturating_sub(signed(padding[i].saturating_mul(seen.stride[i])))),
        })
    }
}

impl Window {
    fn end(&self, i: usize) -> i64 {
        self.start[i].saturating_add(i64::try_from(self.size[i]).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_join_to_the_larger_window() {
        let window = |kernel: usize, padding: usize| {
            let field =
                Field::Window { kernel: [0, 0], stride: [2, 2], padding: [padding; 2], dilation: [1, 1] };
            Some(ReceptiveField::PIXEL.through(field, [kernel; 2]))
        };
        let joined = ReceptiveField::join(window(3, 1), window(1, 0));
        assert_eq!(joined, window(3, 1), "a shortcut sees the middle pixel only");
        let apart = ReceptiveField::join(window(2, 2), window(1, 0));
        assert_eq!(
            apart,
            Some(ReceptiveField::Window(Window { size: [3, 3], stride: [2, 2], start: [-2, -2] }))
        );
        assert_eq!(
            ReceptiveField::join(window(3, 1), Some(ReceptiveField::PIXEL)),
            Some(ReceptiveField::Whole)
        );
    }
}
