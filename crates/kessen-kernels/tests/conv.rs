//! Convolution of every kind of shape against f64 on every instruction set.

mod common;
#[path = "common/conv.rs"]
mod reference;

use common::{Exact, Guarded, assert_close, everywhere, noise};
use kessen_kernels::conv::{self, ConvDesc, Layout};
use kessen_kernels::epilogue::{Activation, Epilogue};
use reference::{block, reference, unblock};

fn check(d: ConvDesc) {
    let [oh, ow] = d.output();
    let (ins, outs) = (d.height * d.width, oh * ow);
    let x = noise(d.batch * d.channels * ins, 1);
    let w = noise(d.filters * (d.channels / d.groups) * d.kernel[0] * d.kernel[1], 2);
    let dy = noise(d.batch * d.filters * outs, 3);
    let want = reference(&d, &x, &w, &dy);
    let terms = d.channels / d.groups * d.kernel[0] * d.kernel[1];
    let plain = d.input == Layout::Plain;
    let out = |src: &[f32], filler| match d.output {
        Layout::Plain => src.to_vec(),
        Layout::Blocked => block(src, d.batch, d.filters, outs, filler),
    };
    let out_back = |src: &[f32]| match d.output {
        Layout::Plain => src.to_vec(),
        Layout::Blocked => unblock(src, d.batch, d.filters, outs),
    };
    let xl = Guarded::new(&if plain { x.clone() } else { block(&x, d.batch, d.channels, ins, 7.0) });
    let dyl = Guarded::new(&out(&dy, 5.0));
    everywhere(&format!("{d:?}"), |what| {
        let mut wl = Guarded::nan(d.weight_len());
        d.pack_weight(&w, wl.get_mut());
        let mut back = vec![f32::NAN; w.len()];
        d.unpack_weight(wl.get(), &mut back);
        assert_eq!(back, w, "{what}: weights there and back");

        let mut y = Guarded::nan(d.output_len());
        let mut scratch = Guarded::nan(conv::forward_scratch(&d));
        conv::forward(&d, xl.get(), wl.get(), &Epilogue::store(), y.get_mut(), scratch.get_mut());
        scratch.check(what);
        assert_close(&out_back(y.get()), &want.y, terms, 2.0, &format!("{what} y"));
        fused(&d, xl.get(), wl.get(), &want.y, what);

        let mut dx = Guarded::nan(d.input_len());
        let mut scratch = Guarded::nan(conv::grad_input_scratch(&d));
        conv::grad_input(&d, dyl.get(), wl.get(), &Epilogue::store(), dx.get_mut(), scratch.get_mut());
        conv::grad_input(&d, dyl.get(), wl.get(), &Epilogue::accumulate(), dx.get_mut(), scratch.get_mut());
        scratch.check(what);
        let twice = if plain { dx.get().to_vec() } else { unblock(dx.get(), d.batch, d.channels, ins) };
        let once: Vec<f32> = twice.iter().map(|v| v / 2.0).collect();
        let dx_terms = d.filters / d.groups * d.kernel[0] * d.kernel[1];
        assert_close(&once, &want.dx, dx_terms, 3.0, &format!("{what} dx"));

        let mut dw = Guarded::nan(d.weight_len());
        let mut scratch = Guarded::nan(conv::grad_weight_scratch(&d));
        conv::grad_weight(&d, xl.get(), dyl.get(), false, dw.get_mut(), scratch.get_mut());
        d.unpack_weight(dw.get(), &mut back);
        assert_close(&back, &want.dw, d.batch * outs, 2.0, &format!("{what} dw"));
        conv::grad_weight(&d, xl.get(), dyl.get(), true, dw.get_mut(), scratch.get_mut());
        scratch.check(what);
        let mut again = vec![0.0; w.len()];
        d.unpack_weight(dw.get(), &mut again);
        let halves: Vec<f32> = again.iter().map(|v| v / 2.0).collect();
        assert_close(&halves, &want.dw, d.batch * outs, 3.0, &format!("{what} dw twice"));
        let mut real = vec![0.0; d.weight_len()];
        d.pack_weight(&vec![1.0; w.len()], &mut real);
        let clean = real.iter().zip(dw.get()).all(|(r, v)| *r == 1.0 || v.to_bits() == 0);
        assert!(clean, "{what}: entries of dw without a weight");

        let mut db = Guarded::nan(d.bias_len());
        conv::grad_bias(&d, dyl.get(), false, db.get_mut());
        assert_close(&db.get()[..d.filters], &want.db, d.batch * outs, 2.0, &format!("{what} db"));
        assert!(db.get()[d.filters..].iter().all(|v| v.to_bits() == 0), "{what}: padding of db");
        for buffer in [&wl, &y, &dx, &dw, &db] {
            buffer.check(what);
        }
        [y.get(), dx.get(), dw.get(), db.get()].concat()
    });
}

/// Bias, residual and activation in the forward pass.
fn fused(d: &ConvDesc, x: &[f32], w: &[f32], sums: &[Exact], what: &str) {
    let [oh, ow] = d.output();
    let mut bias = noise(d.bias_len(), 4);
    bias[d.filters..].fill(0.0);
    let residual = noise(sums.len(), 5);
    let plain = d.output == Layout::Plain;
    let laid_out = match plain {
        true => residual.clone(),
        false => block(&residual, d.batch, d.filters, oh * ow, 0.0),
    };
    let terms = d.channels / d.groups * d.kernel[0] * d.kernel[1];
    for (slope, activation) in [(0.0, Activation::Relu), (0.25, Activation::LeakyRelu(0.25))] {
        let bias_and_residual = Epilogue::store().bias(&bias).residual(&laid_out);
        let epilogue = bias_and_residual.activation(activation);
        let mut y = Guarded::nan(d.output_len());
        conv::forward(d, x, w, &epilogue, y.get_mut(), &mut vec![f32::NAN; conv::forward_scratch(d)]);
        y.check(what);
        let want: Vec<Exact> = (0..sums.len())
            .map(|at| {
                let mut sum = sums[at];
                sum.add(bias[at / (oh * ow) % d.filters] as f64);
                sum.add(residual[at] as f64);
                Exact { value: sum.value.max(slope * sum.value), ..sum }
            })
            .collect();
        let got = if plain { y.get().to_vec() } else { unblock(y.get(), d.batch, d.filters, oh * ow) };
        assert_close(&got, &want, terms, 2.0, &format!("{what} fused with {activation:?}"));
    }
}

#[test]
fn channels_and_odd_sizes() {
    for (channels, filters) in [(1, 1), (3, 5), (16, 16), (17, 33), (33, 3), (5, 48), (40, 17)] {
        check(ConvDesc::new(2, channels, filters, [7, 9], 3).padding(1));
        check(ConvDesc::new(1, channels, filters, [5, 6], 1));
    }
    check(ConvDesc::new(3, 20, 20, [1, 1], 1));
    check(ConvDesc::new(1, 64, 64, [15, 29], 3).padding(1));
}

/// Images whose pixels fill tiles but for one: the tile at their end goes on in the next image.
#[test]
fn single_pixels_of_several_images() {
    for size in [[5, 7], [3, 9], [5, 11], [1, 13], [1, 5], [9, 9]] {
        check(ConvDesc::new(3, 40, 24, size, 1));
    }
}

#[test]
fn strides_padding_and_dilation() {
    let base = ConvDesc::new(2, 18, 20, [11, 13], 3);
    check(base.stride(2).padding(1));
    check(base.stride(3));
    check(base.stride(4).padding(2));
    check(base.dilation(2).padding(2));
    check(base.dilation(2).stride(2).padding(1));
    check(base.dilation(3).stride(2).padding(3));
    check(ConvDesc { stride: [2, 1], dilation: [1, 3], pad_before: [0, 2], pad_after: [3, 1], ..base });
    check(ConvDesc { kernel: [1, 5], pad_before: [0, 4], ..base });
    check(ConvDesc { kernel: [4, 2], pad_after: [2, 0], stride: [3, 2], ..base });
    check(ConvDesc::new(2, 18, 20, [11, 13], 1).stride(2));
    check(ConvDesc::new(2, 18, 20, [4, 5], 2).stride(5));
    check(ConvDesc::new(1, 16, 16, [3, 3], 5).padding(4));
}

#[test]
fn sequences() {
    let base = ConvDesc::new(3, 12, 24, [1, 50], 1);
    check(ConvDesc { kernel: [1, 5], pad_before: [0, 2], pad_after: [0, 2], ..base });
    check(ConvDesc { kernel: [1, 3], dilation: [1, 4], pad_before: [0, 8], ..base });
}

#[test]
fn groups() {
    check(ConvDesc::new(2, 32, 64, [6, 7], 3).groups(2).padding(1));
    check(ConvDesc::new(2, 32, 32, [6, 7], 3).groups(8).padding(1));
    check(ConvDesc::new(1, 12, 24, [6, 7], 3).groups(3).padding(1).stride(2));
    check(ConvDesc::new(1, 96, 32, [5, 5], 3).groups(2));
    check(ConvDesc::new(1, 10, 20, [5, 5], 3).groups(10));
}

#[test]
fn depthwise() {
    for channels in [2, 16, 20, 48] {
        let base = ConvDesc::new(2, channels, channels, [9, 11], 3).groups(channels);
        check(base.padding(1));
        check(base.padding(1).stride(2));
        check(base.dilation(2));
        check(ConvDesc { kernel: [5, 9], pad_before: [2, 4], pad_after: [2, 4], ..base });
    }
    check(ConvDesc::new(1, 16, 16, [3, 4], 3).groups(16).padding(3).stride(3));
    // No pixel sees all taps; some see none.
    check(ConvDesc::new(2, 20, 20, [4, 2], 5).groups(20).padding(2));
    check(ConvDesc::new(2, 16, 16, [2, 3], 3).groups(16).padding(4).dilation(2));
    // More columns of taps than are summed together, and more pixels than a tile has.
    check(ConvDesc::new(1, 16, 16, [11, 19], 9).groups(16).padding(4));
}

#[test]
fn plain_inputs() {
    for channels in [1, 3, 4] {
        check(ConvDesc::new(2, channels, 20, [17, 19], 7).stride(2).padding(3).plain());
        check(ConvDesc::new(2, channels, 16, [9, 8], 3).plain());
        check(ConvDesc::new(2, channels, 33, [9, 8], 3).padding(1).plain());
        check(ConvDesc::new(1, channels, 6, [23, 25], 11).stride(4).padding(2).plain());
    }
    check(ConvDesc::new(2, 3, 16, [9, 8], 3).dilation(2).plain());
    check(ConvDesc { pad_after: [2, 0], ..ConvDesc::new(1, 2, 5, [6, 6], 4).stride(3) }.plain());
    check(ConvDesc::new(1, 17, 16, [5, 5], 1).plain());
    // Strides that the rows' length is no multiple of, that are longer than the row, and that skip its end; a long row.
    check(
        ConvDesc { pad_before: [0, 2], ..ConvDesc::new(2, 3, 20, [5, 47], 3).stride(3).dilation(2) }.plain(),
    );
    check(ConvDesc { dilation: [1, 3], stride: [1, 2], ..ConvDesc::new(2, 2, 17, [3, 50], 3) }.plain());
    check(ConvDesc::new(2, 3, 16, [4, 5], 2).stride(7).plain());
    // Kernels about as wide as the image.
    for channels in [1, 2] {
        let sentence = ConvDesc { kernel: [3, 40], ..ConvDesc::new(2, channels, 20, [12, 40], 1).plain() };
        check(sentence);
        check(ConvDesc { filters: 5, ..sentence }.plain_output());
        check(ConvDesc { stride: [2, 3], pad_before: [1, 2], pad_after: [2, 0], ..sentence });
        check(ConvDesc { kernel: [4, 19], dilation: [3, 2], pad_before: [2, 1], ..sentence });
        check(ConvDesc { kernel: [3, 1], ..ConvDesc::new(2, channels, 20, [40, 1], 1).plain() });
    }
    for channels in [16, 19] {
        check(ConvDesc::new(5, channels, 20, [8, 8], 8));
        check(ConvDesc { pad_before: [1, 2], stride: [1, 2], ..ConvDesc::new(5, channels, 20, [7, 8], 6) });
        check(ConvDesc { dilation: [1, 2], ..ConvDesc::new(3, channels, 20, [9, 12], 5) });
    }
    let wave = ConvDesc { kernel: [1, 41], stride: [1, 4], ..ConvDesc::new(2, 1, 9, [1, 230], 1) };
    check(ConvDesc { pad_before: [0, 19], pad_after: [0, 20], dilation: [1, 2], ..wave }.plain());
}

#[test]
fn plain_outputs() {
    // Widths around one, two and four vectors of pixels; filters around the tiles' heights.
    for (width, filters) in [(1, 3), (5, 6), (7, 1), (8, 4), (9, 14), (14, 6), (16, 15), (17, 5), (28, 6)] {
        check(ConvDesc::new(2, 2, filters, [6, width], 3).padding(1).plain().plain_output());
    }
    for (width, filters) in [(31, 2), (40, 7), (63, 3), (64, 6), (66, 12), (131, 6)] {
        check(ConvDesc::new(1, 3, filters, [5, width], 3).padding(1).plain().plain_output());
    }
    for channels in [1, 6, 12, 17] {
        check(ConvDesc::new(2, channels, 20, [9, 10], 5).padding(2).plain().plain_output());
        check(ConvDesc::new(2, channels, 6, [12, 11], 5).plain().plain_output());
        check(ConvDesc::new(1, channels, 3, [7, 13], 1).plain().plain_output());
    }
    let base = ConvDesc::new(2, 3, 5, [13, 15], 3).plain().plain_output();
    check(base.dilation(3).padding(4));
    check(ConvDesc { kernel: [1, 5], pad_before: [0, 4], dilation: [1, 2], ..base });
    check(ConvDesc { kernel: [4, 2], pad_before: [0, 1], pad_after: [3, 0], ..base });
    check(ConvDesc { kernel: [6, 1], pad_before: [5, 0], pad_after: [2, 0], ..base });
    check(ConvDesc { height: 1, kernel: [1, 3], width: 70, ..base });
}

#[test]
fn gradients_to_plain_inputs() {
    for (channels, filters, size) in [(6, 16, [14, 14]), (1, 33, [9, 28]), (3, 17, [8, 32]), (12, 40, [6, 9])]
    {
        check(ConvDesc::new(2, channels, filters, size, 3).padding(1).plain());
        check(ConvDesc::new(2, channels, filters, size, 5).plain());
    }
    check(ConvDesc::new(2, 3, 8, [6, 33], 3).padding(3).plain());
}

#[test]
fn work_cut_into_many_tasks() {
    check(ConvDesc::new(4, 48, 64, [20, 20], 3).padding(1));
    check(ConvDesc::new(5, 16, 16, [40, 37], 3).padding(1));
    check(ConvDesc::new(9, 64, 96, [7, 7], 1));
    check(ConvDesc::new(6, 3, 32, [40, 40], 5).padding(2).plain());
    check(ConvDesc::new(6, 3, 10, [40, 40], 5).padding(2).plain().plain_output());
    check(ConvDesc::new(1, 6, 8, [60, 70], 5).padding(1).plain().plain_output());
    check(ConvDesc::new(40, 4, 5, [20, 18], 3).plain().plain_output());
    check(ConvDesc::new(0, 3, 5, [20, 18], 3).plain().plain_output());
    check(ConvDesc::new(1, 160, 640, [6, 6], 3).padding(1));
    // Depthwise, with tasks that begin and end within a row.
    check(ConvDesc::new(37, 16, 16, [9, 11], 3).groups(16).padding(1));
    check(ConvDesc::new(61, 20, 20, [7, 13], 5).groups(20).padding(2).stride(2));
    check(ConvDesc::new(0, 16, 16, [6, 6], 3));
}

/// What can't be made by columns is made by the sweep, in scratch that has room for both.
#[test]
fn gradients_under_large_kernels_with_an_epilogue() {
    let d = ConvDesc::new(3, 32, 48, [6, 7], 6);
    let (dy, w, residual) = (noise(d.output_len(), 1), noise(d.weight_len(), 2), noise(d.input_len(), 3));
    let dx = |epilogue: &Epilogue| {
        let mut dx = vec![f32::NAN; d.input_len()];
        let mut scratch = vec![f32::NAN; conv::grad_input_scratch(&d)];
        conv::grad_input(&d, &dy, &w, epilogue, &mut dx, &mut scratch);
        dx
    };
    let fused = Epilogue { residual: Some(&residual), activation: Activation::Relu, ..Epilogue::store() };
    for ((got, sum), residual) in dx(&fused).iter().zip(dx(&Epilogue::store())).zip(&residual) {
        let want = (sum + residual).max(0.0);
        assert!((got - want).abs() <= 1e-4 * (1.0 + want.abs()), "{got} instead of {want}");
    }
}
