//! Convolutions whose operands are slices of the channels of larger tensors: the same bits as on tensors of their own,
//! and nothing between the images is read or written.

mod common;

use common::{Guarded, everywhere, noise};
use kessen_kernels::conv::winograd::{self, Order};
use kessen_kernels::conv::{self, ConvDesc, bf16};
use kessen_kernels::epilogue::{Activation, Epilogue};

/// The images of a tensor `step` elements apart, with NaN between them.
fn spread(dense: &[f32], images: usize, step: usize) -> Guarded {
    let own = dense.len() / images;
    let mut data = vec![f32::NAN; (images - 1) * step + own];
    for (n, image) in dense.chunks_exact(own).enumerate() {
        data[n * step..][..own].copy_from_slice(image);
    }
    Guarded::new(&data)
}

/// The images of a slice one behind the other; what lies between them must be NaN still.
fn gather(slice: &Guarded, images: usize, step: usize, what: &str) -> Vec<f32> {
    slice.check(what);
    let own = slice.get().len() - (images - 1) * step;
    let (mut dense, mut rest) = (Vec::new(), slice.get());
    for n in 0..images {
        let (image, behind) = rest.split_at(own);
        dense.extend_from_slice(image);
        rest = behind;
        if n + 1 < images {
            let (gap, behind) = rest.split_at(step - own);
            assert!(gap.iter().all(|v| v.is_nan()), "{what}: wrote between images");
            rest = behind;
        }
    }
    dense
}

/// The passes of one algorithm.
#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Direct,
    Bf16,
    Winograd(Order),
}

/// `y`, its statistics, `dx` and `dw`, where `x` and `y` lie as the descriptor says.
fn passes(d: &ConvDesc, algorithm: Algorithm, x: &[f32], w: &[f32], dy: &[f32]) -> [Guarded; 4] {
    let epilogue = Epilogue::store().activation(Activation::LeakyRelu(0.5));
    let (mut y, mut dx) = (Guarded::nan(d.output_len()), Guarded::nan(d.input_len()));
    let (mut statistics, mut dw) = (Guarded::nan(conv::statistics_len(d)), Guarded::nan(d.weight_len()));
    let scratch = |len: usize| vec![f32::NAN; len];
    let (out, store) = (y.get_mut(), Epilogue::store());
    match algorithm {
        Algorithm::Direct => {
            let mut s = scratch(conv::forward_with_statistics_scratch(d));
            conv::forward_with_statistics(d, x, w, &epilogue, out, statistics.get_mut(), &mut s);
            let mut s = scratch(conv::grad_input_scratch(d));
            conv::grad_input(d, dy, w, &store, dx.get_mut(), &mut s);
            conv::grad_weight(d, x, dy, false, dw.get_mut(), &mut scratch(conv::grad_weight_scratch(d)));
        }
        Algorithm::Bf16 => {
            let mut words = vec![0.0; bf16::weight_words(d)];
            bf16::prepare_weight(d, w, &mut words);
            let mut s = scratch(bf16::forward_with_statistics_scratch(d));
            bf16::forward_with_statistics(d, x, &words, &epilogue, out, statistics.get_mut(), &mut s);
            bf16::grad_input(d, dy, w, &store, dx.get_mut(), &mut scratch(bf16::grad_input_scratch(d)));
            bf16::grad_weight(d, x, dy, false, dw.get_mut(), &mut scratch(bf16::grad_weight_scratch(d)));
        }
        Algorithm::Winograd(o) => {
            let mut s = scratch(winograd::forward_with_statistics_scratch(d, o));
            winograd::forward_with_statistics(d, o, x, w, &epilogue, out, statistics.get_mut(), &mut s);
            let mut s = scratch(winograd::grad_input_scratch(d, o));
            winograd::grad_input(d, o, dy, w, &store, dx.get_mut(), &mut s);
            let mut s = scratch(winograd::grad_weight_scratch(d, o));
            winograd::grad_weight(d, o, x, dy, false, dw.get_mut(), &mut s);
        }
    }
    [y, statistics, dx, dw]
}

fn check(d: ConvDesc, algorithm: Algorithm) {
    let [oh, ow] = d.output();
    let n = d.batch;
    let (x, dy) = (noise(d.input_len(), 1), noise(d.output_len(), 3));
    let mut w = vec![0.0; d.weight_len()];
    d.pack_weight(&noise(d.filters * (d.channels / d.groups) * d.kernel[0] * d.kernel[1], 2), &mut w);
    let steps = [x.len() / n + 3 * 16 * d.height * d.width, dy.len() / n + 5 * 16 * oh * ow];
    let sliced = ConvDesc { input_step: Some(steps[0]), output_step: Some(steps[1]), ..d };
    let (xs, dys) = (spread(&x, n, steps[0]), spread(&dy, n, steps[1]));
    everywhere(&format!("{algorithm:?} {d:?}"), |what| {
        let [y, statistics, dx, dw] = passes(&d, algorithm, &x, &w, &dy);
        let [ys, statistics_s, dxs, dws] = passes(&sliced, algorithm, xs.get(), &w, dys.get());
        assert_eq!(gather(&ys, n, steps[1], what), y.get(), "{what} y");
        assert_eq!(gather(&dxs, n, steps[0], what), dx.get(), "{what} dx");
        assert_eq!(dws.get(), dw.get(), "{what} dw");
        assert_eq!(statistics_s.get(), statistics.get(), "{what} statistics");
        y.get().to_vec()
    });
}

#[test]
fn direct() {
    for d in [
        ConvDesc::new(3, 16, 32, [5, 6], 1),
        ConvDesc::new(2, 48, 16, [7, 9], 3).padding(1),
        ConvDesc::new(3, 32, 32, [7, 7], 3).padding(1).stride(2),
        ConvDesc::new(2, 32, 64, [15, 15], 1).stride(2),
        ConvDesc::new(2, 32, 64, [6, 7], 3).groups(2).padding(1),
        ConvDesc::new(2, 32, 32, [9, 8], 3).groups(32).padding(1),
        ConvDesc::new(5, 64, 96, [20, 19], 3).padding(1),
        ConvDesc::new(9, 64, 96, [7, 7], 1),
        ConvDesc::new(3, 32, 48, [8, 7], 7),
    ] {
        check(d, Algorithm::Direct);
    }
}

#[test]
fn rounded_to_bf16() {
    for d in [
        ConvDesc::new(3, 16, 32, [5, 6], 1),
        ConvDesc::new(2, 48, 16, [7, 9], 3).padding(1),
        ConvDesc::new(3, 32, 32, [7, 7], 3).padding(1).stride(2),
        ConvDesc::new(2, 32, 64, [6, 7], 3).groups(2).padding(1),
        ConvDesc::new(5, 64, 96, [20, 19], 3).padding(1),
    ] {
        check(d, Algorithm::Bf16);
    }
}

#[test]
fn winograd_of_both_orders() {
    for order in [Order::Two, Order::Four] {
        check(ConvDesc::new(2, 16, 32, [7, 9], 3).padding(1), Algorithm::Winograd(order));
        check(ConvDesc::new(3, 48, 64, [21, 22], 3).padding(1), Algorithm::Winograd(order));
    }
}

#[test]
fn impossible_slices_are_refused() {
    let d = ConvDesc::new(2, 16, 16, [4, 4], 3).padding(1);
    for bad in [
        ConvDesc { input_step: Some(255), ..d },
        ConvDesc { output_step: Some(16), ..d },
        ConvDesc { input_step: Some(4096), ..ConvDesc::new(2, 3, 16, [4, 4], 3).plain() },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
    assert!(ConvDesc { input_step: Some(256), output_step: Some(256), ..d }.check().is_ok());
}
