//! Products of operands rounded to bf16 against f64 on the rounded operands: every instruction set, native and emulated.

mod common;
#[path = "common/conv.rs"]
mod reference;

use common::{Exact, Guarded, assert_close, noise};
use kessen_kernels::bf16::{self, round};
use kessen_kernels::conv::{self, ConvDesc};
use kessen_kernels::epilogue::{Activation, Bias, Epilogue};
use kessen_kernels::gemm::{self, Gemm, Linear};
use reference::{block, reference, unblock};

/// As [`common::everywhere`], with this CPU's own products of bf16 and without.
fn everywhere(what: &str, f: impl Fn(&str) -> Vec<f32>) {
    common::everywhere(what, &f);
    bf16::with_emulation(|| common::everywhere(&format!("{what} emulated"), &f));
}

fn rounded(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&v| round(v)).collect()
}

fn halves(twice: &[f32]) -> Vec<f32> {
    twice.iter().map(|v| v / 2.0).collect()
}

fn check_product(g: Gemm) {
    let (a_rows, a_cols) = if g.trans_a { (g.k, g.m) } else { (g.m, g.k) };
    let (b_rows, b_cols) = if g.trans_b { (g.n, g.k) } else { (g.k, g.n) };
    let span = |rows: usize, cols: usize, ld: usize, stride: usize| {
        if rows * cols == 0 { 0 } else { stride * (g.batch - 1) + (rows - 1) * ld + cols }
    };
    let a = Guarded::new(&noise(span(a_rows, a_cols, g.lda, g.stride_a), 1));
    let b = Guarded::new(&noise(span(b_rows, b_cols, g.ldb, g.stride_b), 2));
    let c_len = span(g.m, g.n, g.ldc, g.stride_c);
    let (start, columns) = (noise(c_len, 3), noise(g.n, 5));
    let mut want = vec![Exact::default(); c_len];
    let mut full = want.clone();
    for item in 0..g.batch {
        for (i, j) in (0..g.m * g.n).map(|e| (e / g.n, e % g.n)) {
            let at = item * g.stride_c + i * g.ldc + j;
            for k in 0..g.k {
                let at_a = item * g.stride_a + if g.trans_a { k * g.lda + i } else { i * g.lda + k };
                let at_b = item * g.stride_b + if g.trans_b { j * g.ldb + k } else { k * g.ldb + j };
                want[at].product(round(a.get()[at_a]), round(b.get()[at_b]));
            }
            full[at] = Exact { value: -0.5 * want[at].value, magnitude: 0.5 * want[at].magnitude };
            full[at].add(start[at] as f64);
            full[at].add(columns[j] as f64);
            full[at].value = full[at].value.max(0.0);
        }
    }
    let used: Vec<usize> = (0..c_len).filter(|at| at % g.stride_c.max(g.m * g.ldc) % g.ldc < g.n).collect();
    let pick = |c: &[f32]| -> Vec<f32> { used.iter().map(|&at| c[at]).collect() };
    let wanted = |want: &[Exact]| -> Vec<Exact> { used.iter().map(|&at| want[at]).collect() };
    everywhere(&format!("{g:?}"), |what| {
        let mut scratch = Guarded::nan(gemm::bf16::scratch(&g));
        let mut c = Guarded::nan(c_len);
        gemm::bf16::run(&g, a.get(), b.get(), c.get_mut(), &Epilogue::store(), scratch.get_mut());
        assert_close(&pick(c.get()), &wanted(&want), g.k, 2.0, what);
        let outside = c.get().iter().filter(|v| !v.is_nan()).count() - used.len();
        assert_eq!(outside, 0, "{what}: wrote between rows");
        let mut results = pick(c.get());
        c.check(what);

        let epilogue = Epilogue {
            alpha: -0.5,
            bias: Bias::PerColumn(&columns),
            accumulate: true,
            activation: Activation::Relu,
            ..Epilogue::store()
        };
        let mut c = Guarded::new(&start);
        gemm::bf16::run(&g, a.get(), b.get(), c.get_mut(), &epilogue, scratch.get_mut());
        assert_close(&pick(c.get()), &wanted(&full), g.k, 2.0, &format!("{what} with epilogue"));
        c.check(what);
        scratch.check(what);
        results.extend(pick(c.get()));
        results
    });
}

#[test]
fn products_of_all_shapes() {
    for (m, n, k) in [
        (1, 1, 1),
        (1, 17, 5),
        (5, 1, 33),
        (2, 3, 0),
        (3, 16, 16),
        (7, 33, 9),
        (15, 47, 31),
        (29, 31, 17),
        (64, 10, 84),
        (113, 65, 70),
        (6, 130, 1030),
    ] {
        check_product(Gemm::new(m, n, k));
        check_product(Gemm::new(m, n, k).trans_a());
        check_product(Gemm::new(m, n, k).trans_b());
        check_product(Gemm::new(m, n, k).trans_a().trans_b());
    }
}

#[test]
fn products_in_many_tasks() {
    check_product(Gemm::new(130, 257, 520));
    check_product(Gemm::new(128, 256, 513).trans_a());
    check_product(Gemm::new(150, 100, 1100).trans_b());
}

#[test]
fn leading_dimensions_and_batches() {
    check_product(Gemm { lda: 20, ldb: 41, ldc: 39, ..Gemm::new(9, 37, 13) });
    check_product(Gemm { lda: 20, ldb: 41, ldc: 39, trans_a: true, ..Gemm::new(9, 37, 13) });
    check_product(Gemm::new(9, 37, 13).batched(5));
    check_product(Gemm { stride_b: 0, ..Gemm::new(33, 30, 8).trans_b().batched(3) });
}

#[test]
fn linear_layers_and_their_gradients() {
    for (batch, inputs, outputs) in [
        (1, 1, 1),
        (1, 30, 20),
        (5, 17, 33),
        (64, 1, 32),
        (33, 70, 10),
        (40, 300, 201),
        (20, 500, 300),
        (128, 130, 100),
    ] {
        check_linear(Linear { batch, inputs, outputs });
    }
}

fn check_linear(l: Linear) {
    let Linear { batch, inputs, outputs } = l;
    let (x, dy) = (noise(batch * inputs, 1), noise(batch * outputs, 2));
    let (w, bias) = (noise(outputs * inputs, 3), noise(outputs, 4));
    let (xr, dyr, wr) = (rounded(&x), rounded(&dy), rounded(&w));
    let mut y_want = vec![Exact::default(); batch * outputs];
    let mut dx_want = vec![Exact::default(); batch * inputs];
    let mut dw_want = vec![Exact::default(); outputs * inputs];
    for (b, o) in (0..batch * outputs).map(|e| (e / outputs, e % outputs)) {
        y_want[b * outputs + o].add(bias[o] as f64);
        for i in 0..inputs {
            y_want[b * outputs + o].product(xr[b * inputs + i], wr[o * inputs + i]);
            dx_want[b * inputs + i].product(dyr[b * outputs + o], wr[o * inputs + i]);
            dw_want[o * inputs + i].product(dyr[b * outputs + o], xr[b * inputs + i]);
        }
    }
    let mut packed = vec![f32::NAN; l.weight_len()];
    l.pack_weight(&w, &mut packed);
    everywhere(&format!("{l:?}"), |what| {
        let mut words = Guarded::nan(gemm::bf16::weight_words(&l));
        gemm::bf16::prepare_weight(&l, &packed, words.get_mut());
        words.check(what);
        let mut y = Guarded::nan(batch * outputs);
        let mut scratch = Guarded::nan(gemm::bf16::forward_scratch(&l));
        let epilogue = Epilogue::store().bias(&bias);
        gemm::bf16::forward(&l, &x, words.get(), y.get_mut(), &epilogue, scratch.get_mut());
        scratch.check(what);
        assert_close(y.get(), &y_want, inputs, 2.0, &format!("{what} y"));

        let mut dx = Guarded::nan(batch * inputs);
        let mut scratch = Guarded::nan(gemm::bf16::grad_input_scratch(&l));
        for accumulate in [false, true] {
            gemm::bf16::grad_input(&l, &dy, &packed, dx.get_mut(), accumulate, scratch.get_mut());
        }
        scratch.check(what);
        assert_close(&halves(dx.get()), &dx_want, outputs, 3.0, &format!("{what} dx"));

        let mut dw = Guarded::nan(l.weight_len());
        let mut scratch = Guarded::nan(gemm::bf16::grad_weight_scratch(&l));
        for accumulate in [false, true] {
            gemm::bf16::grad_weight(&l, &x, &dy, dw.get_mut(), accumulate, scratch.get_mut());
        }
        scratch.check(what);
        let mut back = vec![0.0; w.len()];
        l.unpack_weight(dw.get(), &mut back);
        assert_close(&halves(&back), &dw_want, batch, 3.0, &format!("{what} dw"));
        let padding = (0..dw.get().len())
            .filter(|at| at / (inputs * 16) * 16 + at % 16 >= outputs)
            .all(|at| dw.get()[at].to_bits() == 0);
        assert!(padding, "{what}: padding of dw");
        [&y, &dx, &dw].iter().for_each(|buffer| buffer.check(what));
        [y.get(), dx.get(), dw.get()].concat()
    });
}

fn check_conv(d: ConvDesc) {
    assert!(conv::bf16::applies(&d));
    let [oh, ow] = d.output();
    let (ins, outs) = (d.height * d.width, oh * ow);
    let x = noise(d.batch * d.channels * ins, 1);
    let w = noise(d.filters * (d.channels / d.groups) * d.kernel[0] * d.kernel[1], 2);
    let dy = noise(d.batch * d.filters * outs, 3);
    let want = reference(&d, &rounded(&x), &rounded(&w), &rounded(&dy));
    let taps = d.kernel[0] * d.kernel[1];
    let xl = Guarded::new(&block(&x, d.batch, d.channels, ins, 7.0));
    let dyl = Guarded::new(&block(&dy, d.batch, d.filters, outs, 5.0));
    let mut packed = vec![f32::NAN; d.weight_len()];
    d.pack_weight(&w, &mut packed);
    everywhere(&format!("{d:?}"), |what| {
        let y = check_forward(&d, xl.get(), &packed, &want.y, what);

        let mut dx = Guarded::nan(d.input_len());
        let mut scratch = Guarded::nan(conv::bf16::grad_input_scratch(&d));
        for epilogue in [Epilogue::store(), Epilogue::accumulate()] {
            conv::bf16::grad_input(&d, dyl.get(), &packed, &epilogue, dx.get_mut(), scratch.get_mut());
        }
        scratch.check(what);
        let once = halves(&unblock(dx.get(), d.batch, d.channels, ins));
        assert_close(&once, &want.dx, d.filters / d.groups * taps, 3.0, &format!("{what} dx"));

        let mut dw = Guarded::nan(d.weight_len());
        let mut scratch = Guarded::nan(conv::bf16::grad_weight_scratch(&d));
        for accumulate in [false, true] {
            conv::bf16::grad_weight(&d, xl.get(), dyl.get(), accumulate, dw.get_mut(), scratch.get_mut());
        }
        scratch.check(what);
        let mut back = vec![0.0; w.len()];
        d.unpack_weight(dw.get(), &mut back);
        assert_close(&halves(&back), &want.dw, d.batch * outs, 3.0, &format!("{what} dw"));
        let mut real = vec![0.0; d.weight_len()];
        d.pack_weight(&vec![1.0; w.len()], &mut real);
        let clean = real.iter().zip(dw.get()).all(|(r, v)| *r == 1.0 || v.to_bits() == 0);
        assert!(clean, "{what}: entries of dw without a weight");
        [&dx, &dw].iter().for_each(|buffer| buffer.check(what));
        [&y, dx.get(), dw.get()].concat()
    });
}

/// Plain, then with bias, residual and activation.
fn check_forward(d: &ConvDesc, x: &[f32], packed: &[f32], sums: &[Exact], what: &str) -> Vec<f32> {
    let [oh, ow] = d.output();
    let terms = d.channels / d.groups * d.kernel[0] * d.kernel[1];
    let mut words = Guarded::nan(conv::bf16::weight_words(d));
    conv::bf16::prepare_weight(d, packed, words.get_mut());
    words.check(what);
    let mut y = Guarded::nan(d.output_len());
    let mut scratch = Guarded::nan(conv::bf16::forward_scratch(d));
    conv::bf16::forward(d, x, words.get(), &Epilogue::store(), y.get_mut(), scratch.get_mut());
    let plain = y.get().to_vec();
    assert_close(&unblock(&plain, d.batch, d.filters, oh * ow), sums, terms, 2.0, &format!("{what} y"));

    let mut bias = noise(d.bias_len(), 4);
    bias[d.filters..].fill(0.0);
    let residual = noise(sums.len(), 5);
    let blocked = block(&residual, d.batch, d.filters, oh * ow, 0.0);
    let epilogue = Epilogue::store().bias(&bias).residual(&blocked).activation(Activation::Relu);
    conv::bf16::forward(d, x, words.get(), &epilogue, y.get_mut(), scratch.get_mut());
    let want: Vec<Exact> = (0..sums.len())
        .map(|at| {
            let mut sum = sums[at];
            sum.add(bias[at / (oh * ow) % d.filters] as f64);
            sum.add(residual[at] as f64);
            Exact { value: sum.value.max(0.0), ..sum }
        })
        .collect();
    let got = unblock(y.get(), d.batch, d.filters, oh * ow);
    assert_close(&got, &want, terms, 2.0, &format!("{what} y with epilogue"));
    y.check(what);
    scratch.check(what);
    plain
}

#[test]
fn convolutions_of_odd_channels_and_sizes() {
    for (channels, filters) in [(1, 1), (3, 5), (16, 16), (17, 33), (33, 3), (40, 17)] {
        check_conv(ConvDesc::new(2, channels, filters, [7, 9], 3).padding(1));
        check_conv(ConvDesc::new(1, channels, filters, [5, 6], 1));
    }
    check_conv(ConvDesc::new(3, 20, 20, [1, 1], 1));
    check_conv(ConvDesc::new(1, 64, 64, [15, 29], 3).padding(1));
}

#[test]
fn strides_padding_and_dilation() {
    let base = ConvDesc::new(2, 18, 20, [11, 13], 3);
    check_conv(base.stride(2).padding(1));
    check_conv(base.stride(3));
    check_conv(base.stride(4).padding(2));
    check_conv(base.dilation(2).padding(2));
    check_conv(base.dilation(2).stride(2).padding(1));
    check_conv(base.dilation(3).stride(2).padding(3));
    check_conv(ConvDesc { stride: [2, 1], dilation: [1, 3], pad_before: [0, 2], pad_after: [3, 1], ..base });
    check_conv(ConvDesc { kernel: [1, 5], pad_before: [0, 4], ..base });
    check_conv(ConvDesc { kernel: [4, 2], pad_after: [2, 0], stride: [3, 2], ..base });
    check_conv(ConvDesc::new(2, 18, 20, [11, 13], 1).stride(2));
    check_conv(ConvDesc::new(2, 18, 20, [4, 5], 2).stride(5));
    check_conv(ConvDesc::new(1, 16, 16, [3, 3], 5).padding(4));
}

#[test]
fn groups_of_channels() {
    check_conv(ConvDesc::new(2, 32, 64, [6, 7], 3).groups(2).padding(1));
    check_conv(ConvDesc::new(2, 32, 32, [6, 7], 3).groups(8).padding(1));
    check_conv(ConvDesc::new(1, 12, 24, [6, 7], 3).groups(3).padding(1).stride(2));
}

#[test]
fn convolutions_in_many_tasks() {
    check_conv(ConvDesc::new(4, 48, 64, [20, 20], 3).padding(1));
    check_conv(ConvDesc::new(5, 16, 16, [40, 37], 3).padding(1));
    check_conv(ConvDesc::new(9, 64, 96, [7, 7], 1));
    check_conv(ConvDesc::new(1, 160, 320, [6, 6], 3).padding(1));
    check_conv(ConvDesc::new(0, 16, 16, [6, 6], 3));
}
