//! Gradients as adjoints: a map that is linear in each operand satisfies ⟨A(x, w), dy⟩ = ⟨x, dx⟩ = ⟨w, dw⟩, where dx and
//! dw are its gradients for dy. No reference enters, so shapes may be larger than those of the other tests.

mod common;
#[path = "common/conv.rs"]
mod reference;

use common::{everywhere, noise};
use kessen_kernels::conv::winograd::{self, Order};
use kessen_kernels::conv::{self, ConvDesc, Layout};
use kessen_kernels::epilogue::Epilogue;
use kessen_kernels::gemm::Linear;
use reference::{block, unblock};

/// Σ a·b and Σ |a·b|.
fn inner(a: &[f32], b: &[f32]) -> [f64; 2] {
    assert_eq!(a.len(), b.len());
    let terms = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
    terms.fold([0.0, 0.0], |[sum, size], term| [sum + term, size + term.abs()])
}

/// Asserts that the inner products agree within rounding: some ε of the sum of the terms' magnitudes each.
#[track_caller]
fn assert_adjoint(what: &str, products: [[f64; 2]; 3]) {
    let bound = 32.0
        * f64::from(f32::EPSILON)
        * products.iter().map(|[_, size]| size).fold(0.0, |a, b| f64::max(a, *b));
    for (name, [sum, _]) in ["dx", "dw"].into_iter().zip(&products[1..]) {
        let off = (sum - products[0][0]).abs();
        assert!(
            off <= bound,
            "{what}: ⟨y, dy⟩ = {}, but {name} gives {sum} (off {off:.1e} > {bound:.1e})",
            products[0][0]
        );
    }
}

#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Direct,
    Winograd(Order),
}

fn convolution(d: ConvDesc, algorithm: Algorithm) {
    let [oh, ow] = d.output();
    let (ins, outs) = (d.height * d.width, oh * ow);
    let x = noise(d.batch * d.channels * ins, 1);
    let w = noise(d.filters * (d.channels / d.groups) * d.kernel[0] * d.kernel[1], 2);
    let dy = noise(d.batch * d.filters * outs, 3);
    let lay = |src: &[f32], channels, pixels, layout| match layout {
        Layout::Plain => src.to_vec(),
        Layout::Blocked => block(src, d.batch, channels, pixels, 0.0),
    };
    let unlay = |src: &[f32], channels, pixels, layout| match layout {
        Layout::Plain => src.to_vec(),
        Layout::Blocked => unblock(src, d.batch, channels, pixels),
    };
    let (xl, dyl) = (lay(&x, d.channels, ins, d.input), lay(&dy, d.filters, outs, d.output));
    let mut wl = vec![0.0; d.weight_len()];
    d.pack_weight(&w, &mut wl);
    everywhere(&format!("{algorithm:?} {d:?}"), |what| {
        let (mut y, mut dx) = (vec![0.0; d.output_len()], vec![0.0; d.input_len()]);
        let (mut dwl, mut dw) = (vec![0.0; d.weight_len()], vec![0.0; w.len()]);
        let (store, room) = (Epilogue::store(), |len: usize| vec![f32::NAN; len]);
        match algorithm {
            Algorithm::Direct => {
                conv::forward(&d, &xl, &wl, &store, &mut y, &mut room(conv::forward_scratch(&d)));
                conv::grad_input(&d, &dyl, &wl, &store, &mut dx, &mut room(conv::grad_input_scratch(&d)));
                conv::grad_weight(&d, &xl, &dyl, false, &mut dwl, &mut room(conv::grad_weight_scratch(&d)));
            }
            Algorithm::Winograd(o) => {
                winograd::forward(
                    &d,
                    o,
                    &xl,
                    &wl,
                    &store,
                    &mut y,
                    &mut room(winograd::forward_scratch(&d, o)),
                );
                let mut scratch = room(winograd::grad_input_scratch(&d, o));
                winograd::grad_input(&d, o, &dyl, &wl, &store, &mut dx, &mut scratch);
                let mut scratch = room(winograd::grad_weight_scratch(&d, o));
                winograd::grad_weight(&d, o, &xl, &dyl, false, &mut dwl, &mut scratch);
            }
        }
        d.unpack_weight(&dwl, &mut dw);
        let y = unlay(&y, d.filters, outs, d.output);
        let dx = unlay(&dx, d.channels, ins, d.input);
        assert_adjoint(what, [inner(&y, &dy), inner(&x, &dx), inner(&w, &dw)]);
        [y, dx, dw].concat()
    });
}

#[test]
fn convolutions() {
    for d in [
        ConvDesc::new(3, 33, 47, [19, 21], 3).padding(1),
        ConvDesc::new(2, 20, 36, [23, 17], 5).padding(2).stride(2),
        ConvDesc::new(2, 16, 48, [20, 20], 3).dilation(2).padding(2),
        ConvDesc::new(2, 64, 64, [15, 15], 1),
        ConvDesc::new(2, 32, 64, [13, 12], 3).groups(4).padding(1).stride(3),
        ConvDesc::new(2, 48, 48, [17, 18], 3).groups(48).padding(1),
        ConvDesc { pad_before: [2, 0], pad_after: [0, 3], ..ConvDesc::new(2, 17, 18, [14, 15], 4) },
        ConvDesc::new(9, 1, 6, [28, 28], 5).padding(2).plain().plain_output(),
        ConvDesc::new(9, 6, 16, [14, 14], 5).plain(),
        ConvDesc::new(3, 12, 12, [32, 32], 3).padding(1).plain().plain_output(),
        ConvDesc::new(2, 3, 8, [50, 37], 3).dilation(2).padding(1).plain().plain_output(),
    ] {
        convolution(d, Algorithm::Direct);
    }
}

#[test]
fn winograds_algorithm() {
    for order in [Order::Two, Order::Four] {
        convolution(ConvDesc::new(3, 33, 47, [19, 21], 3).padding(1), Algorithm::Winograd(order));
        convolution(ConvDesc::new(2, 64, 32, [14, 14], 3), Algorithm::Winograd(order));
    }
    convolution(ConvDesc::new(3, 33, 47, [19, 21], 5).padding(2), Algorithm::Winograd(Order::Two));
}

#[test]
fn linear_layers() {
    for (batch, inputs, outputs) in [(1, 37, 19), (5, 300, 170), (70, 128, 96), (300, 256, 64), (33, 513, 31)]
    {
        let l = Linear { batch, inputs, outputs };
        let (x, w, dy) = (noise(batch * inputs, 1), noise(inputs * outputs, 2), noise(batch * outputs, 3));
        let mut packed = vec![0.0; l.weight_len()];
        l.pack_weight(&w, &mut packed);
        everywhere(&format!("{l:?}"), |what| {
            let (mut y, mut dx) = (vec![0.0; batch * outputs], vec![0.0; batch * inputs]);
            let (mut dw_packed, mut dw) = (vec![0.0; l.weight_len()], vec![0.0; w.len()]);
            let room = |len: usize| vec![f32::NAN; len];
            l.forward(&x, &packed, &mut y, &Epilogue::store(), &mut room(l.forward_scratch()));
            l.grad_input(&dy, &packed, &mut dx, false, &mut room(l.grad_input_scratch()));
            l.grad_weight(&x, &dy, &mut dw_packed, false, &mut room(l.grad_weight_scratch()));
            l.unpack_weight(&dw_packed, &mut dw);
            assert_adjoint(what, [inner(&y, &dy), inner(&x, &dx), inner(&w, &dw)]);
            [y, dx, dw].concat()
        });
    }
}
