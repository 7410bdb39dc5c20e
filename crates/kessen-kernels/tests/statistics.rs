//! Mean and variance of a convolution's output channels, taken in the same pass, against f64.

mod common;
#[path = "common/conv.rs"]
mod reference;

use common::{Guarded, everywhere, noise};
use kessen_kernels::conv::winograd::{self, Order};
use kessen_kernels::conv::{self, ConvDesc, Layout};
use kessen_kernels::epilogue::{Activation, Epilogue};
use reference::{block, unblock};

/// `shift` is added to every output by the bias.
fn check(d: ConvDesc, order: Option<Order>, shift: f32) {
    let [oh, ow] = d.output();
    let x = noise(d.batch * d.channels * d.height * d.width, 1);
    let x =
        if d.input == Layout::Plain { x } else { block(&x, d.batch, d.channels, d.height * d.width, 7.0) };
    let mut w = vec![0.0; d.weight_len()];
    d.pack_weight(&noise(d.filters * (d.channels / d.groups) * d.kernel[0] * d.kernel[1], 2), &mut w);
    let bias = vec![shift; d.bias_len()];
    let epilogue = Epilogue::store().bias(&bias).activation(Activation::Relu);
    everywhere(&format!("{order:?} {d:?} {shift}"), |what| {
        let mut y = Guarded::nan(d.output_len());
        let mut statistics = Guarded::nan(conv::statistics_len(&d));
        match order {
            None => {
                let mut scratch = Guarded::nan(conv::forward_with_statistics_scratch(&d));
                let (y, s) = (y.get_mut(), scratch.get_mut());
                conv::forward_with_statistics(&d, &x, &w, &epilogue, y, statistics.get_mut(), s);
                scratch.check(what);
            }
            Some(order) => {
                let mut scratch = Guarded::nan(winograd::forward_with_statistics_scratch(&d, order));
                let (y, s) = (y.get_mut(), scratch.get_mut());
                winograd::forward_with_statistics(&d, order, &x, &w, &epilogue, y, statistics.get_mut(), s);
                scratch.check(what);
            }
        }
        statistics.check(what);
        // The statistics are those of the very numbers stored.
        let stored = unblock(y.get(), d.batch, d.filters, oh * ow);
        let (means, variances) = statistics.get().split_at(d.bias_len());
        for k in 0..d.filters {
            let images = (0..d.batch).map(|n| &stored[(n * d.filters + k) * oh * ow..][..oh * ow]);
            let v: Vec<f64> = images.flatten().map(|&v| f64::from(v)).collect();
            let mean = v.iter().sum::<f64>() / v.len() as f64;
            let variance = v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / v.len() as f64;
            let off = (f64::from(means[k]) - mean).abs();
            assert!(
                off <= 2e-7 * (variance.sqrt() + mean.abs()),
                "{what}: mean of channel {k} is {}, want {mean}",
                means[k]
            );
            let off = (f64::from(variances[k]) - variance).abs();
            let bound = 2e-6 * variance + 1e-13 * mean * mean;
            assert!(off <= bound, "{what}: variance of channel {k} is {}, want {variance}", variances[k]);
        }
        [y.get(), statistics.get()].concat()
    });
}

const SHAPES: [fn() -> ConvDesc; 8] = [
    || ConvDesc::new(2, 18, 20, [7, 9], 3).padding(1),
    || ConvDesc::new(1, 5, 17, [1, 1], 1),
    || ConvDesc::new(5, 16, 16, [40, 37], 3).padding(1),
    || ConvDesc::new(9, 64, 96, [7, 7], 1),
    || ConvDesc::new(2, 24, 24, [9, 11], 3).groups(24).padding(1),
    || ConvDesc::new(2, 32, 64, [6, 7], 3).groups(2).stride(2),
    || ConvDesc::new(2, 3, 33, [40, 40], 7).padding(3).stride(2).plain(),
    || ConvDesc::new(1, 320, 640, [6, 6], 3).padding(1),
];

#[test]
fn direct() {
    for shape in SHAPES {
        check(shape(), None, 0.0);
    }
}

#[test]
fn winograd_of_both_orders() {
    for order in [Order::Two, Order::Four] {
        for (channels, filters, size) in
            [(16, 20, [7, 9]), (5, 16, [1, 1]), (64, 160, [21, 30]), (33, 33, [4, 4])]
        {
            check(ConvDesc::new(3, channels, filters, size, 3).padding(1), Some(order), 0.0);
        }
    }
    check(ConvDesc::new(3, 33, 40, [21, 10], 5).padding(2), Some(Order::Two), 0.0);
}

/// The outputs' deviation is about a thousandth of their mean.
#[test]
fn a_mean_a_thousand_times_the_deviation_loses_no_digits() {
    let d = ConvDesc::new(4, 16, 32, [30, 29], 3).padding(1);
    check(d, None, 1000.0);
    check(d, Some(Order::Four), 1000.0);
    check(ConvDesc::new(4, 64, 32, [30, 29], 1), None, 2000.0);
}

#[test]
#[should_panic(expected = "statistics of 31 floats")]
fn short_statistics_are_refused() {
    let d = ConvDesc::new(1, 16, 16, [2, 2], 1);
    let (x, w, mut y) = (vec![0.0; 64], vec![0.0; 256], vec![0.0; 64]);
    let mut scratch = vec![0.0; conv::forward_with_statistics_scratch(&d)];
    conv::forward_with_statistics(&d, &x, &w, &Epilogue::store(), &mut y, &mut [0.0; 31], &mut scratch);
}
