//! The same products, linear layers and convolutions with operands rounded to bf16.

use crate::suite::{Floats, Suite};
use crate::{conv, gemm, linear};
use kessen_kernels::conv::bf16 as convolution;
use kessen_kernels::epilogue::Epilogue;
use kessen_kernels::gemm::bf16 as product;

pub fn products(suite: &mut Suite) {
    gemm::each(suite, " bf16", |mut group, g, lengths| {
        let mut scratch = Floats::scratch([product::scratch(g)]);
        let scratch = scratch.slice();
        group.bench("plain", lengths, |[a, b, c]| product::run(g, a, b, c, &Epilogue::store(), scratch));
    });
}

pub fn layers(suite: &mut Suite) {
    linear::each(suite, " bf16", |mut group, l, [x, w, y]| {
        let store = Epilogue::store();
        let mut scratch = Floats::scratch([
            product::forward_scratch(l),
            product::grad_input_scratch(l),
            product::grad_weight_scratch(l),
        ]);
        let scratch = scratch.slice();
        let words = product::weight_words(l);
        group.bench("prepared", [x, words, y], |[x, words, y]| {
            product::forward(l, x, words, y, &store, scratch);
        });
        group.bench("forward", [x, w, words, y], |[x, w, words, y]| {
            product::prepare_weight(l, w, words);
            product::forward(l, x, words, y, &store, scratch);
        });
        group.bench("dx", [y, w, x], |[dy, w, dx]| {
            product::grad_input(l, dy, w, dx, false, scratch);
        });
        group.bench("dw", [x, y, w], |[x, dy, dw]| {
            product::grad_weight(l, x, dy, dw, false, scratch);
        });
    });
}

pub fn convolutions(suite: &mut Suite) {
    conv::each(suite, " bf16", convolution::applies, |mut group, d, [x, w, y]| {
        let store = Epilogue::store();
        let mut scratch = Floats::scratch([
            convolution::forward_scratch(d),
            convolution::grad_input_scratch(d),
            convolution::grad_weight_scratch(d),
        ]);
        let scratch = scratch.slice();
        let words = convolution::weight_words(d);
        group.bench("prepared", [x, words, y], |[x, words, y]| {
            convolution::forward(d, x, words, &store, y, scratch);
        });
        group.bench("forward", [x, w, words, y], |[x, w, words, y]| {
            convolution::prepare_weight(d, w, words);
            convolution::forward(d, x, words, &store, y, scratch);
        });
        group.bench("dx", [y, w, x], |[dy, w, dx]| {
            convolution::grad_input(d, dy, w, &store, dx, scratch);
        });
        group.bench("dw", [x, y, w], |[x, dy, dw]| {
            convolution::grad_weight(d, x, dy, false, dw, scratch);
        });
    });
}
