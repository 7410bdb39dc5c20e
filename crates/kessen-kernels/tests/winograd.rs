//! Winograd's convolution against f64 on every instruction set.

mod common;
#[path = "common/conv.rs"]
mod reference;

use common::{Exact, Guarded, everywhere, noise};
use kessen_kernels::conv::winograd::{self, Order};
use kessen_kernels::conv::{self, ConvDesc};
use kessen_kernels::epilogue::{Activation, Bias, Epilogue};
use reference::{block, reference, unblock};

/// Largest error as a share of the largest value.
#[track_caller]
fn assert_near(got: &[f32], want: &[Exact], share: f64, what: &str) -> f64 {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0.0f64, |max, w| max.max(w.value.abs()));
    let worst = got.iter().zip(want).fold(0.0f64, |max, (g, w)| {
        let off = (*g as f64 - w.value).abs();
        if off.is_nan() { f64::INFINITY } else { max.max(off) }
    });
    assert!(worst <= share * largest + 1e-30, "{what}: off by {worst:.1e} of {largest:.1e}");
    worst / largest.max(1e-30)
}

fn check(d: ConvDesc) {
    let [oh, ow] = d.output();
    let (ins, outs) = (d.height * d.width, oh * ow);
    let x = noise(d.batch * d.channels * ins, 1);
    let w = noise(d.filters * d.channels * d.kernel[0].pow(2), 2);
    let dy = noise(d.batch * d.filters * outs, 3);
    let want = reference(&d, &x, &w, &dy);
    let xl = Guarded::new(&block(&x, d.batch, d.channels, ins, 7.0));
    let dyl = Guarded::new(&block(&dy, d.batch, d.filters, outs, 5.0));
    for (order, share) in [(Order::Two, 3e-6), (Order::Four, 6e-6)] {
        if !winograd::applies(&d, order) {
            continue;
        }
        let share = if d.kernel == [5; 2] { 6e-6 } else { share };
        everywhere(&format!("{order:?} {d:?}"), |what| {
            let mut wl = Guarded::nan(d.weight_len());
            d.pack_weight(&w, wl.get_mut());

            let mut y = Guarded::nan(d.output_len());
            let mut scratch = Guarded::nan(winograd::forward_scratch(&d, order));
            let store = Epilogue::store();
            winograd::forward(&d, order, xl.get(), wl.get(), &store, y.get_mut(), scratch.get_mut());
            scratch.check(what);
            assert_near(&unblock(y.get(), d.batch, d.filters, outs), &want.y, share, &format!("{what} y"));
            fused(&d, order, share, xl.get(), wl.get(), &want.y, what);

            let mut dx = Guarded::nan(d.input_len());
            let mut scratch = Guarded::nan(winograd::grad_input_scratch(&d, order));
            winograd::grad_input(&d, order, dyl.get(), wl.get(), &store, dx.get_mut(), scratch.get_mut());
            scratch.check(what);
            assert_near(&unblock(dx.get(), d.batch, d.channels, ins), &want.dx, share, &format!("{what} dx"));

            let mut dw = Guarded::nan(d.weight_len());
            let mut scratch = Guarded::nan(winograd::grad_weight_scratch(&d, order));
            winograd::grad_weight(&d, order, xl.get(), dyl.get(), false, dw.get_mut(), scratch.get_mut());
            let mut back = vec![0.0; w.len()];
            d.unpack_weight(dw.get(), &mut back);
            assert_near(&back, &want.dw, share, &format!("{what} dw"));
            winograd::grad_weight(&d, order, xl.get(), dyl.get(), true, dw.get_mut(), scratch.get_mut());
            scratch.check(what);
            d.unpack_weight(dw.get(), &mut back);
            back.iter_mut().for_each(|v| *v /= 2.0);
            assert_near(&back, &want.dw, share, &format!("{what} dw twice"));
            let mut real = vec![0.0; d.weight_len()];
            d.pack_weight(&vec![1.0; w.len()], &mut real);
            let clean = real.iter().zip(dw.get()).all(|(r, v)| *r == 1.0 || v.to_bits() == 0);
            assert!(clean, "{what}: entries of dw without a weight");
            for buffer in [&wl, &y, &dx, &dw] {
                buffer.check(what);
            }
            [y.get(), dx.get(), dw.get()].concat()
        });
    }
}

/// Bias, residual, activation and prepared weights.
fn fused(d: &ConvDesc, order: Order, share: f64, x: &[f32], w: &[f32], sums: &[Exact], what: &str) {
    let [oh, ow] = d.output();
    let mut bias = noise(d.bias_len(), 4);
    bias[d.filters..].fill(0.0);
    let (residual, start) = (noise(sums.len(), 5), noise(sums.len(), 6));
    let blocked = block(&residual, d.batch, d.filters, oh * ow, 0.0);
    let epilogue = Epilogue {
        alpha: 0.5,
        bias: Bias::PerColumn(&bias),
        residual: Some(&blocked),
        accumulate: true,
        activation: Activation::LeakyRelu(0.1),
    };
    let mut u = vec![f32::NAN; winograd::prepared_len(d, order)];
    winograd::prepare_weight(d, order, w, &mut u);
    let mut y = Guarded::new(&block(&start, d.batch, d.filters, oh * ow, 0.0));
    let mut scratch = vec![f32::NAN; winograd::forward_prepared_scratch(d, order)];
    winograd::forward_prepared(d, order, x, &u, &epilogue, y.get_mut(), &mut scratch);
    y.check(what);
    let want: Vec<Exact> = (0..sums.len())
        .map(|at| {
            let sum =
                0.5 * sums[at].value + (bias[at / (oh * ow) % d.filters] + residual[at] + start[at]) as f64;
            Exact { value: sum.max(0.0) + 0.1 * sum.min(0.0), ..sums[at] }
        })
        .collect();
    assert_near(&unblock(y.get(), d.batch, d.filters, oh * ow), &want, share, &format!("{what} fused"));
}

#[test]
fn sizes_channels_and_padding() {
    for (channels, filters) in [(1, 1), (3, 17), (33, 20), (16, 32)] {
        check(ConvDesc::new(2, channels, filters, [7, 9], 3).padding(1));
        check(ConvDesc::new(1, channels, filters, [3, 4], 3));
    }
    check(ConvDesc::new(2, 16, 16, [8, 12], 3).padding(2));
    check(ConvDesc { pad_before: [0, 2], pad_after: [1, 0], ..ConvDesc::new(1, 18, 16, [6, 5], 3) });
    check(ConvDesc::new(1, 16, 16, [1, 1], 3).padding(1));
}

#[test]
fn kernels_of_five() {
    for (channels, filters) in [(1, 1), (3, 17), (33, 20)] {
        check(ConvDesc::new(2, channels, filters, [7, 9], 5).padding(2));
        check(ConvDesc::new(1, channels, filters, [5, 6], 5));
    }
    check(ConvDesc::new(2, 16, 16, [8, 12], 5).padding(4));
    check(ConvDesc { pad_before: [0, 3], pad_after: [4, 1], ..ConvDesc::new(1, 18, 16, [6, 5], 5) });
    check(ConvDesc::new(1, 16, 16, [1, 1], 5).padding(2));
    check(ConvDesc::new(2, 64, 80, [21, 22], 5).padding(2));
    check(ConvDesc::new(3, 160, 150, [7, 7], 5).padding(2));
}

#[test]
fn what_does_not_apply() {
    let five = ConvDesc::new(1, 16, 16, [8, 8], 5);
    assert!(winograd::applies(&five, Order::Two) && !winograd::applies(&five, Order::Four));
    let three = ConvDesc::new(1, 16, 16, [8, 8], 3);
    for order in [Order::Two, Order::Four] {
        assert!(winograd::applies(&three.padding(2), order));
        let tall = ConvDesc { kernel: [3, 5], ..three };
        let seven = ConvDesc::new(1, 16, 16, [8, 8], 7);
        for d in [
            three.padding(3),
            three.stride(2),
            three.dilation(2),
            three.groups(2),
            three.plain(),
            tall,
            seven,
        ] {
            assert!(!winograd::applies(&d, order), "{d:?}");
        }
    }
}

#[test]
fn work_cut_into_many_tasks() {
    check(ConvDesc::new(3, 48, 64, [21, 22], 3).padding(1));
    check(ConvDesc::new(8, 16, 16, [28, 28], 3).padding(1));
    check(ConvDesc::new(6, 160, 150, [7, 7], 3).padding(1));
    check(ConvDesc::new(1, 144, 288, [14, 14], 3).padding(1));
}

/// ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ = ⟨w, dw⟩, and scratch sized for two threads serves one.
#[test]
fn gradients_are_adjoint() {
    for (kernel, order) in [(3, Order::Two), (3, Order::Four), (5, Order::Two)] {
        adjoint(ConvDesc::new(3, 32, 48, [13, 14], kernel).padding(kernel / 2), order);
    }
}

fn adjoint(d: ConvDesc, order: Order) {
    let (x, w, dy) = (noise(d.input_len(), 1), noise(d.weight_len(), 2), noise(d.output_len(), 3));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
    let sizes = kessen_kernels::threads::with_count(2, || {
        [winograd::forward_scratch, winograd::grad_input_scratch, winograd::grad_weight_scratch]
            .map(|scratch| scratch(&d, order))
    });
    kessen_kernels::threads::with_count(1, || {
        let (store, mut scratch) = (Epilogue::store(), vec![f32::NAN; sizes[0].max(sizes[1]).max(sizes[2])]);
        let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
        let mut dw = vec![0.0; w.len()];
        winograd::forward(&d, order, &x, &w, &store, &mut y, &mut scratch[..sizes[0]]);
        winograd::grad_input(&d, order, &dy, &w, &store, &mut dx, &mut scratch[..sizes[1]]);
        winograd::grad_weight(&d, order, &x, &dy, false, &mut dw, &mut scratch[..sizes[2]]);
        let (forward, input, weight) = (dot(&y, &dy), dot(&x, &dx), dot(&w, &dw));
        let scale = dot(&y, &y).sqrt() * dot(&dy, &dy).sqrt();
        assert!((forward - input).abs() < 1e-6 * scale, "{order:?}: {forward} {input}");
        assert!((forward - weight).abs() < 1e-6 * scale, "{order:?}: {forward} {weight}");
    });
}

/// The error as a share of the largest output grows no worse than documented.
#[test]
fn accuracy_with_many_channels() {
    for (kernel, order) in [(3, Order::Two), (3, Order::Four), (5, Order::Two)] {
        let d = ConvDesc::new(1, 256, 32, [12, 12], kernel).padding(kernel / 2);
        let (x, w) = (noise(d.channels * 144, 1), noise(d.filters * d.channels * kernel * kernel, 2));
        let want = reference(&d, &x, &w, &noise(d.filters * 144, 3));
        let xl = block(&x, 1, d.channels, 144, 0.0);
        let mut wl = vec![0.0; d.weight_len()];
        d.pack_weight(&w, &mut wl);
        let mut y = vec![0.0; d.output_len()];
        conv::forward(&d, &xl, &wl, &Epilogue::store(), &mut y, &mut []);
        let direct = assert_near(&unblock(&y, 1, d.filters, 144), &want.y, 3e-6, "direct");
        let mut scratch = vec![0.0; winograd::forward_scratch(&d, order)];
        winograd::forward(&d, order, &xl, &wl, &Epilogue::store(), &mut y, &mut scratch);
        let error = assert_near(&unblock(&y, 1, d.filters, 144), &want.y, 5e-6, "winograd");
        println!(
            "{kernel}x{kernel} {order:?}: largest error of the largest output {error:.1e}, direct {direct:.1e}"
        );
    }
}

/// However many threads there are, outputs and statistics have the same bits.
#[test]
fn threads_change_no_bit() {
    let (d, order) = (ConvDesc::new(2, 144, 288, [14, 14], 3).padding(1), Order::Four);
    let (x, w) = (noise(d.input_len(), 1), noise(d.weight_len(), 2));
    let run = |threads| {
        kessen_kernels::threads::with_count(threads, || {
            let (mut y, mut statistics) = (vec![0.0; d.output_len()], vec![0.0; conv::statistics_len(&d)]);
            let mut s = vec![0.0; winograd::forward_with_statistics_scratch(&d, order)];
            let store = Epilogue::store();
            winograd::forward_with_statistics(&d, order, &x, &w, &store, &mut y, &mut statistics, &mut s);
            [y, statistics].map(|values| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        })
    };
    let one = run(1);
    assert!(run(2) == one && run(16) == one);
}
