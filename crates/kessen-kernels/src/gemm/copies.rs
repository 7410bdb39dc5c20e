//! Operands of a gradient to the weights, copied once where each of many blocks would copy its own: then tiles read long runs,
//! which the hardware brings near by itself. Its price is that both operands are written once and read once more.

use super::Linear;
use super::outer::{Columns, Outer};
use super::pack::Source;
use crate::layout::{Strips, copy_strips, panels_len};
use crate::micro::PANEL;
use crate::threads::{Shared, parallel_for};

/// How many products there are for each element of a row of both operands from which on copies pay.
const WORK: usize = 100;

/// The copies.
pub(super) struct Copies<'a> {
    outer: &'a Outer<'a>,
    /// `x` in strips of a tile's inputs, for each block of inputs and pass.
    x: &'a [f32],
    /// `dy` in panels, and their distance.
    dy: (&'a [f32], usize),
}

impl<'a> Copies<'a> {
    /// Floats that the copies take; nothing where blocks better copy for themselves.
    pub fn len(outer: &Outer<'_>) -> Option<usize> {
        let layer = outer.layer;
        let pays = layer.inputs * layer.outputs >= WORK * (layer.inputs + layer.outputs);
        (pays && !layer.is_small()).then(|| Self::lens(outer).iter().sum())
    }

    /// Floats of the copies of `x` and of `dy`.
    fn lens(outer: &Outer<'_>) -> [usize; 2] {
        let parts = outer.cut().0 * outer.passes();
        let dy =
            if outer.dy_panel.is_some() { 0 } else { panels_len(outer.layer.batch, outer.layer.outputs) };
        [parts * Self::part_len(outer), dy]
    }

    /// Floats of a block's pass: the first is the largest.
    fn part_len(outer: &Outer<'_>) -> usize {
        let strips = Self::strips(outer, [0, 0]);
        strips.width.div_ceil(strips.most) * strips.distance()
    }

    /// The strips of a block's pass.
    fn strips(outer: &Outer<'_>, [block, pass]: [usize; 2]) -> Strips {
        let (width, rows) = (outer.inputs(block).len(), outer.depth(pass).len());
        Strips { row: outer.x_row, width, rows, most: outer.family.tall(width) }
    }

    /// Makes the copies in `scratch`, which has [`Copies::len`] floats; none where that is nothing.
    pub fn make(outer: &'a Outer<'a>, scratch: &'a mut [f32]) -> Option<Self> {
        Self::len(outer)?;
        let [x, dy] = Self::lens(outer);
        let (x, dy) = scratch[..x + dy].split_at_mut(x);
        let (len, passes) = (Self::part_len(outer), outer.passes());
        let parts = Shared::new(x);
        parallel_for(outer.cut().0 * passes, |index| {
            let place = [index / passes, index % passes];
            let (inputs, rows) = (outer.inputs(place[0]), outer.depth(place[1]));
            let from = &outer.x[rows.start * outer.x_row + inputs.start..];
            // SAFETY: each task has a part of its own.
            let to = unsafe { parts.part(index * len..(index + 1) * len) };
            copy_strips(outer.isa, from, Self::strips(outer, place), to);
        });
        if let Some(distance) = outer.dy_panel {
            return Some(Copies { outer, x, dy: (outer.dy, distance) });
        }
        let Linear { batch, outputs, .. } = outer.layer;
        let source = Source { b: outer.dy.as_ptr(), ld: outputs, trans: false, k: batch, n: outputs };
        // SAFETY: `dy` fits the layer, and the copy has the length of its panels.
        unsafe { source.pack_all(0..outer.panels(), dy.as_mut_ptr()) }
        Some(Copies { outer, x, dy: (dy, batch * PANEL) })
    }

    /// `x` of a block's pass.
    pub fn columns(&self, [block, pass]: [usize; 2]) -> Columns {
        let strips = Self::strips(self.outer, [block, pass]);
        let part = block * self.outer.passes() + pass;
        let at = self.x[part * Self::part_len(self.outer)..].as_ptr();
        Columns { at, row: strips.most, strip: Some(strips.distance()) }
    }

    /// `dy` from a panel and a row of the batch on, and the distance of panels.
    pub fn panels(&self, panel: usize, row: usize) -> (*const f32, usize) {
        let (dy, distance) = self.dy;
        (dy[panel * distance + row * PANEL..].as_ptr(), distance)
    }
}
