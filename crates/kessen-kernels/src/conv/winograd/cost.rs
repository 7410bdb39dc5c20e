//! Which algorithm is fastest for a shape: a model of the time each takes.

use super::{Grid, Order, applies};
use crate::conv::bf16;
use crate::conv::desc::ConvDesc;
use crate::micro::PANEL;

/// Time to round 16 numbers to bf16, as measured.
const ROUND: f64 = 6.0;
/// Time to read 16 weights, or words, that a whole network's others have driven out of the caches.
const READ: f64 = 12.0;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// [`crate::conv::forward`] and its gradients.
    Direct,
    /// [`crate::conv::bf16`], on rounded operands.
    Bf16,
    /// [`super::forward`] and its gradients.
    Winograd(Order),
}

/// The pass to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Forward with weights transformed beforehand (inference).
    ForwardPrepared,
    /// Forward with weights that change at every call (training).
    Forward,
    /// Gradient to the input.
    GradInput,
    /// Gradient to the weights.
    GradWeight,
}

impl Direction {
    /// Time to read 16 weights as they lie: in training the last pass over them has left them near.
    fn reading(self) -> f64 {
        if self == Direction::ForwardPrepared { READ } else { 0.0 }
    }
}

/// Estimated time of a pass in units of one multiply-add on 16 lanes.
pub fn cost(desc: &ConvDesc, direction: Direction, algorithm: Algorithm) -> f64 {
    let (ins, outs) = (desc.channels.div_ceil(PANEL) as f64, desc.filters.div_ceil(PANEL) as f64);
    let [oh, ow] = desc.output();
    let taps = (desc.kernel[0] * desc.kernel[1]) as f64;
    let order = match algorithm {
        Algorithm::Direct => {
            let channels = (desc.channels / desc.groups) as f64;
            return (1.04 * (desc.batch * oh * ow) as f64 + direction.reading()) * taps * channels * outs;
        }
        Algorithm::Bf16 => return rounded(desc, direction, taps),
        Algorithm::Winograd(order) => order,
    };
    let grid = Grid::new(desc, order);
    let (points, tiles) = (grid.points() as f64, grid.tiles as f64);
    // Fewer rows than eight don't keep the multiply-add units busy.
    let products = 1.08 * points * tiles.max(8.0) * ins * outs * PANEL as f64;
    // Per block of 16 channels and point, as measured (loads, sums, stores, and misses of the first-level cache).
    let per_point = match (order, grid.alpha) {
        (Order::Four, _) => 20.0,
        (Order::Two, 6) => 14.0,
        (Order::Two, _) => 12.0,
    };
    let transforms = per_point * points * tiles * (ins + outs);
    // Weights transformed here travel to memory and back, at two to three times the cost where they fill the last cache.
    let vectors = points * ins * outs * PANEL as f64;
    let fills = vectors * 64.0 > (12 << 20) as f64;
    let weights = match direction {
        Direction::ForwardPrepared => direction.reading(),
        Direction::Forward if fills => 27.0,
        Direction::Forward => 9.0,
        Direction::GradInput if fills => 36.0,
        Direction::GradWeight if fills => 24.0,
        Direction::GradInput | Direction::GradWeight => 12.0,
    };
    products + transforms + weights * vectors
}

/// The direct algorithm on rounded operands: half the multiplications, and rounding each operand once.
fn rounded(desc: &ConvDesc, direction: Direction, taps: f64) -> f64 {
    let g = desc.grouping();
    let (ins, outs) = ((g.count * g.in_blocks()) as f64, (g.count * g.out_blocks()) as f64);
    let [oh, ow] = desc.output();
    let (inputs, outputs) = ((desc.batch * desc.height * desc.width) as f64, (desc.batch * oh * ow) as f64);
    let weights = taps * ins * g.out_blocks() as f64 * PANEL as f64;
    let rounding = match direction {
        Direction::ForwardPrepared => inputs * ins,
        Direction::Forward => inputs * ins + weights,
        Direction::GradInput => outputs * outs + 2.0 * weights,
        Direction::GradWeight => 3.0 * inputs * ins + outputs * outs,
    };
    let (pixels, loss) = match direction {
        // Terms are pairs of pixels in a row.
        Direction::GradWeight => ((desc.batch * oh * ow.next_multiple_of(2)) as f64, 1.15),
        _ => (outputs, 1.08),
    };
    (loss * pixels + direction.reading()) * taps * g.channels.div_ceil(2) as f64 * outs + ROUND * rounding
}

/// The fastest algorithm for a pass by [`cost`] among the direct one and those in `allowed` that can compute the shape.
pub fn choose(desc: &ConvDesc, direction: Direction, allowed: &[Algorithm]) -> Algorithm {
    let can = |algorithm: &Algorithm| match algorithm {
        Algorithm::Direct => true,
        Algorithm::Bf16 => bf16::applies(desc),
        Algorithm::Winograd(order) => applies(desc, *order),
    };
    let cost = |algorithm: &Algorithm| cost(desc, direction, *algorithm);
    allowed
        .iter()
        .copied()
        .filter(can)
        .chain([Algorithm::Direct])
        .min_by(|a, b| cost(a).total_cmp(&cost(b)))
        .unwrap_or(Algorithm::Direct)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was fastest when measured; see `docs/performance.md`.
    #[test]
    fn choices_agree_with_measurements() {
        use Algorithm::{Direct, Winograd};
        use Direction::{Forward, ForwardPrepared, GradInput, GradWeight};
        let conv = |n, c, size| ConvDesc::new(n, c, c, [size, size], 3).padding(1);
        let five = |n, c, k, size| ConvDesc::new(n, c, k, [size, size], 5).padding(2);
        for (desc, direction, want) in [
            (conv(8, 64, 112), Forward, Winograd(Order::Four)),
            (conv(8, 256, 14), GradInput, Winograd(Order::Four)),
            (conv(8, 128, 28), GradWeight, Winograd(Order::Four)),
            (conv(1, 256, 14), ForwardPrepared, Winograd(Order::Two)),
            (conv(1, 128, 28), ForwardPrepared, Winograd(Order::Four)),
            (conv(1, 512, 4), Forward, Direct),
            (conv(8, 64, 56).stride(2), Forward, Direct),
            (conv(8, 512, 7), GradInput, Winograd(Order::Four)),
            (five(1, 64, 192, 27), ForwardPrepared, Winograd(Order::Two)),
            (five(16, 48, 64, 14), GradWeight, Winograd(Order::Two)),
            (five(8, 16, 32, 28), GradInput, Winograd(Order::Two)),
            (five(64, 6, 16, 14), Forward, Direct),
        ] {
            let allowed = [Winograd(Order::Two), Winograd(Order::Four)];
            assert_eq!(choose(&desc, direction, &allowed), want, "{direction:?} {desc:?}");
        }
        assert_eq!(choose(&conv(8, 64, 56), Forward, &[]), Direct);
    }

    #[test]
    fn choices_with_bf16_agree_with_measurements() {
        use Algorithm::{Bf16, Direct, Winograd};
        use Direction::{Forward, ForwardPrepared, GradInput, GradWeight};
        let conv = |n, c, size| ConvDesc::new(n, c, c, [size, size], 3).padding(1);
        let narrow = ConvDesc::new(8, 16, 16, [56, 56], 1).stride(2);
        for (desc, direction, want) in [
            (conv(8, 64, 112), Forward, Winograd(Order::Four)),
            (conv(8, 128, 28).stride(2), Forward, Bf16),
            (conv(8, 128, 28).stride(2), GradInput, Bf16),
            (conv(8, 128, 28).stride(2), GradWeight, Bf16),
            (ConvDesc::new(8, 256, 64, [56, 56], 1), Forward, Bf16),
            (conv(1, 512, 7), Forward, Bf16),
            (conv(16, 512, 7), GradInput, Bf16),
            (conv(16, 512, 7), GradWeight, Winograd(Order::Four)),
            (conv(8, 256, 14), GradWeight, Winograd(Order::Four)),
            (narrow, Forward, Direct),
            (conv(1, 64, 8).groups(64), ForwardPrepared, Direct),
        ] {
            let allowed = [Bf16, Winograd(Order::Two), Winograd(Order::Four)];
            assert_eq!(choose(&desc, direction, &allowed), want, "{direction:?} {desc:?}");
        }
    }
}
