//! Which algorithm is fastest for a shape: a model of the time each takes.

use super::{Grid, Order, applies};
use crate::conv::desc::ConvDesc;
use crate::micro::PANEL;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// [`crate::conv::forward`] and its gradients.
    Direct,
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

/// Estimated time of a pass in units of one multiply-add on 16 lanes.
pub fn cost(desc: &ConvDesc, direction: Direction, algorithm: Algorithm) -> f64 {
    let (ins, outs) = (desc.channels.div_ceil(PANEL) as f64, desc.filters.div_ceil(PANEL) as f64);
    let [oh, ow] = desc.output();
    let Algorithm::Winograd(order) = algorithm else {
        let taps = (desc.kernel[0] * desc.kernel[1]) as f64;
        return 1.04 * (desc.batch * oh * ow) as f64 * taps * desc.channels as f64 * outs;
    };
    let (points, tiles) = (order.points() as f64, Grid::new(desc, order).tiles as f64);
    // Fewer rows than eight don't keep the multiply-add units busy.
    let products = 1.08 * points * tiles.max(8.0) * ins * outs * PANEL as f64;
    // Per block of 16 channels and point, as measured (loads, sums, stores, and misses of the first-level cache).
    let per_point = if order == Order::Four { 20.0 } else { 12.0 };
    let transforms = per_point * points * tiles * (ins + outs);
    // Transformed weights travel from and to memory, at twice the cost where they exceed the last cache.
    let vectors = points * ins * outs * PANEL as f64;
    let far = if vectors * 64.0 > (16 << 20) as f64 { 2.0 } else { 1.0 };
    let weights = far
        * match direction {
            Direction::ForwardPrepared => 2.0,
            Direction::Forward => 9.0,
            Direction::GradInput => 12.0,
            Direction::GradWeight => 12.0,
        };
    products + transforms + weights * vectors
}

/// The fastest algorithm for a pass by [`cost`]; `orders` lists the orders that the precision asked for allows.
pub fn choose(desc: &ConvDesc, direction: Direction, orders: &[Order]) -> Algorithm {
    let winograd = orders.iter().filter(|_| applies(desc)).map(|&order| Algorithm::Winograd(order));
    let cost = |algorithm: &Algorithm| cost(desc, direction, *algorithm);
    winograd
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
        for (desc, direction, want) in [
            (conv(8, 64, 112), Forward, Winograd(Order::Four)),
            (conv(8, 256, 14), GradInput, Winograd(Order::Four)),
            (conv(8, 128, 28), GradWeight, Winograd(Order::Four)),
            (conv(1, 256, 14), ForwardPrepared, Winograd(Order::Four)),
            (conv(1, 512, 4), Forward, Direct),
            (conv(8, 64, 56).stride(2), Forward, Direct),
        ] {
            assert_eq!(choose(&desc, direction, &[Order::Two, Order::Four]), want, "{direction:?} {desc:?}");
        }
        assert_eq!(choose(&conv(8, 64, 56), Forward, &[]), Direct);
    }
}
