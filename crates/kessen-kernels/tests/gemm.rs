//! Matrix products and fully connected layers against f64 on every instruction set.

mod common;

use common::{Exact, Guarded, assert_close, everywhere, noise};
use kessen_kernels::epilogue::{Activation, Bias, Epilogue};
use kessen_kernels::gemm::{Gemm, Linear};
use kessen_kernels::optim::{Adam, Common, Pieces, RmsProp, Sgd};

/// The naive product of one batch item.
fn reference(g: &Gemm, a: &[f32], b: &[f32], item: usize) -> Vec<Exact> {
    let mut out = vec![Exact::default(); g.m * g.n];
    for i in 0..g.m {
        for j in 0..g.n {
            for k in 0..g.k {
                let at = item * g.stride_a + if g.trans_a { k * g.lda + i } else { i * g.lda + k };
                let bt = item * g.stride_b + if g.trans_b { j * g.ldb + k } else { k * g.ldb + j };
                out[i * g.n + j].product(a[at], b[bt]);
            }
        }
    }
    out
}

/// Runs `g` plainly, with `B` packed, and with a full epilogue; checks the first and last item.
fn check(g: Gemm) {
    let (a_rows, a_cols) = if g.trans_a { (g.k, g.m) } else { (g.m, g.k) };
    let (b_rows, b_cols) = if g.trans_b { (g.n, g.k) } else { (g.k, g.n) };
    let span = |rows: usize, cols: usize, ld: usize, stride: usize| {
        if rows * cols == 0 { 0 } else { stride * (g.batch - 1) + (rows - 1) * ld + cols }
    };
    let a = Guarded::new(&noise(span(a_rows, a_cols, g.lda, g.stride_a), 1));
    let b = Guarded::new(&noise(span(b_rows, b_cols, g.ldb, g.stride_b), 2));
    let c_len = span(g.m, g.n, g.ldc, g.stride_c);
    let (start, residual, columns) = (noise(c_len, 3), noise(c_len, 4), noise(g.n, 5));
    let items = [0, g.batch - 1].map(|item| (item, reference(&g, a.get(), b.get(), item)));
    let pick = |c: &[f32], item: usize| -> Vec<f32> {
        (0..g.m * g.n).map(|e| c[item * g.stride_c + e / g.n * g.ldc + e % g.n]).collect()
    };
    let gap = |at: usize| (at % g.stride_c.max(g.m * g.ldc)) % g.ldc.max(1) >= g.n;
    everywhere(&format!("{g:?}"), |what| {
        let mut scratch = vec![f32::NAN; g.scratch()];
        let mut c = Guarded::nan(c_len);
        g.run(a.get(), b.get(), c.get_mut(), &Epilogue::store(), &mut scratch);
        c.check(what);
        for (item, want) in &items {
            assert_close(&pick(c.get(), *item), want, g.k, 2.0, what);
        }
        assert!((0..c_len).all(|at| gap(at) == c.get()[at].is_nan()), "{what}: gaps between rows");
        let mut result = c.get().to_vec();

        let epilogue = Epilogue {
            alpha: -0.5,
            bias: Bias::PerColumn(&columns),
            residual: Some(&residual),
            accumulate: true,
            activation: Activation::LeakyRelu(0.1),
        };
        let mut c = Guarded::new(&start);
        let mut scratch = vec![f32::NAN; g.scratch()];
        if g.batch == 1 {
            let mut packed = vec![f32::NAN; g.packed_len()];
            g.pack(b.get(), &mut packed);
            g.run_packed(a.get(), &packed, c.get_mut(), &epilogue, &mut scratch[..g.packed_scratch()]);
        } else {
            g.run(a.get(), b.get(), c.get_mut(), &epilogue, &mut scratch);
        }
        c.check(what);
        for (item, want) in &items {
            let want: Vec<Exact> = (0..g.m * g.n)
                .map(|e| {
                    let at = item * g.stride_c + e / g.n * g.ldc + e % g.n;
                    let mut sum = Exact { value: -0.5 * want[e].value, magnitude: 0.5 * want[e].magnitude };
                    [columns[e % g.n], residual[at], start[at]].iter().for_each(|&v| sum.add(v as f64));
                    Exact { value: sum.value.max(0.0) + 0.1 * sum.value.min(0.0), ..sum }
                })
                .collect();
            assert_close(&pick(c.get(), *item), &want, g.k, 2.0, what);
        }
        result.extend_from_slice(c.get());
        result.retain(|v| !v.is_nan());
        result
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
        (14, 32, 8),
        (15, 47, 31),
        (29, 31, 17),
        (64, 10, 84),
        (113, 65, 70),
        (6, 130, 1030),
        (1, 300, 40),
        (300, 1, 40),
        (4, 100, 3),
    ] {
        check(Gemm::new(m, n, k));
        check(Gemm::new(m, n, k).trans_a());
        check(Gemm::new(m, n, k).trans_b());
        check(Gemm::new(m, n, k).trans_a().trans_b());
    }
}

#[test]
fn parallel_products_and_long_sums() {
    check(Gemm::new(130, 257, 520));
    check(Gemm::new(128, 256, 256).trans_a());
    check(Gemm { lda: 256, ..Gemm::new(128, 256, 200) });
    check(Gemm::new(1, 2000, 700).trans_b());
    check(Gemm::new(20, 600, 600));
}

#[test]
fn leading_dimensions_and_batches() {
    check(Gemm { lda: 20, ldb: 41, ldc: 39, ..Gemm::new(9, 37, 13) });
    check(Gemm { lda: 20, ldb: 41, ldc: 39, trans_a: true, ..Gemm::new(9, 37, 13) });
    check(Gemm::new(9, 37, 13).batched(5));
    check(Gemm::new(32, 24, 16).trans_b().batched(70));
    check(Gemm { stride_b: 0, ..Gemm::new(33, 30, 8).batched(3) });
    // Heads interleaved in rows, as attention reads them.
    check(Gemm {
        lda: 64,
        stride_a: 16,
        ldb: 64,
        stride_b: 16,
        ..Gemm::new(10, 10, 16).trans_b().batched(4)
    });
}

#[test]
fn row_biases_and_activations() {
    let (m, n, k) = (17, 35, 6);
    let g = Gemm::new(m, n, k);
    let (a, b, bias) = (noise(m * k, 1), noise(k * n, 2), noise(m, 3));
    let sums = reference(&g, &a, &b, 0);
    for (activation, f) in [
        (Activation::Identity, (|v| v) as fn(f64) -> f64),
        (Activation::Relu, |v| v.max(0.0)),
        (Activation::Clamp(-0.2, 0.3), |v| v.clamp(-0.2f32 as f64, 0.3f32 as f64)),
    ] {
        everywhere(&format!("{activation:?}"), |what| {
            let mut c = Guarded::nan(m * n);
            let epilogue = Epilogue::store().bias_per_row(&bias).activation(activation);
            g.run(&a, &b, c.get_mut(), &epilogue, &mut vec![0.0; g.scratch()]);
            let want: Vec<Exact> = (0..m * n)
                .map(|e| {
                    let mut sum = sums[e];
                    sum.add(bias[e / n] as f64);
                    Exact { value: f(sum.value), ..sum }
                })
                .collect();
            assert_close(c.get(), &want, k, 2.0, what);
            c.get().to_vec()
        });
    }
}

#[test]
fn nan_passes_through_activations() {
    for activation in [Activation::Relu, Activation::LeakyRelu(0.1), Activation::Clamp(0.0, 6.0)] {
        for (m, n) in [(3, 20), (1, 1)] {
            everywhere("nan", |what| {
                let g = Gemm::new(m, n, 2);
                let mut c = vec![0.0; m * n];
                let epilogue = Epilogue::store().activation(activation);
                g.run(
                    &vec![f32::NAN; 2 * m],
                    &vec![1.0; 2 * n],
                    &mut c,
                    &epilogue,
                    &mut vec![0.0; g.scratch()],
                );
                assert!(c.iter().all(|v| v.is_nan()), "{what}");
                vec![]
            });
        }
    }
}

#[test]
fn linear_layers_and_their_gradients() {
    for (batch, inputs, outputs) in [
        (1, 1, 1),
        (1, 30, 20),
        (5, 17, 33),
        (64, 1, 32),
        (33, 70, 10),
        (128, 130, 100),
        (40, 300, 200),
        (20, 500, 300),
        (1100, 85, 17),
        (300, 256, 5),
        (50, 130, 1),
        (50, 500, 2),
        (21, 100, 33),
        (530, 251, 187),
    ] {
        let l = Linear { batch, inputs, outputs };
        let (x, dy) = (noise(batch * inputs, 1), noise(batch * outputs, 2));
        let (w, bias) = (noise(outputs * inputs, 3), noise(outputs, 4));
        let mut y_want = vec![Exact::default(); batch * outputs];
        let mut dx_want = vec![Exact::default(); batch * inputs];
        let mut dw_want = vec![Exact::default(); outputs * inputs];
        let mut db_want = vec![Exact::default(); outputs];
        for b in 0..batch {
            for o in 0..outputs {
                y_want[b * outputs + o].add(bias[o] as f64);
                db_want[o].add(dy[b * outputs + o] as f64);
                for i in 0..inputs {
                    y_want[b * outputs + o].product(x[b * inputs + i], w[o * inputs + i]);
                    dx_want[b * inputs + i].product(dy[b * outputs + o], w[o * inputs + i]);
                    dw_want[o * inputs + i].product(dy[b * outputs + o], x[b * inputs + i]);
                }
            }
        }
        everywhere(&format!("{l:?}"), |what| {
            let mut packed = Guarded::nan(l.weight_len());
            l.pack_weight(&w, packed.get_mut());
            let mut back = vec![0.0; w.len()];
            l.unpack_weight(packed.get(), &mut back);
            assert_eq!(back, w, "{what}");

            let mut y = Guarded::nan(batch * outputs);
            let mut scratch = vec![f32::NAN; l.forward_scratch()];
            l.forward(&x, packed.get(), y.get_mut(), &Epilogue::store().bias(&bias), &mut scratch);
            assert_close(y.get(), &y_want, inputs, 2.0, what);

            let mut dx = Guarded::nan(batch * inputs);
            let mut scratch = vec![f32::NAN; l.grad_input_scratch()];
            l.grad_input(&dy, packed.get(), dx.get_mut(), false, &mut scratch);
            assert_close(dx.get(), &dx_want, outputs, 2.0, what);
            l.grad_input(&dy, packed.get(), dx.get_mut(), true, &mut scratch);
            let halves: Vec<f32> = dx.get().iter().map(|v| v / 2.0).collect();
            assert_close(&halves, &dx_want, outputs, 3.0, what);

            let mut dw = Guarded::nan(l.weight_len());
            let mut scratch = vec![f32::NAN; l.grad_weight_scratch()];
            l.grad_weight(&x, &dy, dw.get_mut(), false, &mut scratch);
            l.unpack_weight(dw.get(), &mut back);
            assert_close(&back, &dw_want, batch, 2.0, what);
            let padding = (0..dw.get().len())
                .filter(|at| at / (inputs * 16) * 16 + at % 16 >= outputs)
                .all(|at| dw.get()[at].to_bits() == 0);
            assert!(padding, "{what}: padding of dw");
            let mut db = Guarded::nan(outputs);
            l.grad_bias(&dy, db.get_mut(), false);
            assert_close(db.get(), &db_want, batch, 2.0, what);

            for buffer in [&packed, &y, &dx, &dw, &db] {
                buffer.check(what);
            }
            [y.get(), dx.get(), dw.get(), db.get()].concat()
        });
    }
}

/// The step of an optimiser under way on a parameter with three states.
type Begin = for<'a> fn(&'a mut [f32], [&'a mut [f32]; 3]) -> Pieces<'a>;

const RULES: [(&str, Begin); 3] = [
    ("sgd", |p, [v, ..]| {
        let o =
            Sgd { lr: 0.1, momentum: 0.9, dampening: 0.1, weight_decay: 0.01, nesterov: true, first: false };
        o.pieces(p, v, Common { grad_scale: 0.5, ..Common::default() })
    }),
    ("adam", |p, [m, v, _]| {
        let (lr, decoupled, step) = (0.1, true, 3);
        let o = Adam { lr, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.01, decoupled, step };
        o.pieces(p, m, v, Common { clip: 0.4, ..Common::default() })
    }),
    ("rmsprop", |p, [v, a, b]| {
        let o = RmsProp { lr: 0.1, alpha: 0.9, eps: 1e-3, weight_decay: 0.01, momentum: 0.9, centered: true };
        o.pieces(p, v, a, b, Common::default())
    }),
];

#[test]
fn a_weight_updated_while_its_gradient_is_computed_gets_the_same_bits() {
    for (batch, inputs, outputs) in [
        (0, 130, 33),
        (1, 1, 1),
        (3, 17, 33),
        (64, 130, 100),
        (600, 225, 113),
        (20, 500, 300),
        (1100, 85, 17),
        (530, 251, 187),
    ] {
        let l = Linear { batch, inputs, outputs };
        let (x, dy) = (noise(batch * inputs, 1), noise(batch * outputs, 2));
        let mut weight = vec![0.0; l.weight_len()];
        l.pack_weight(&noise(outputs * inputs, 3), &mut weight);
        let states =
            [4, 5, 6].map(|seed| noise(l.weight_len(), seed).iter().map(|v| v * v).collect::<Vec<_>>());
        for (name, begin) in RULES {
            everywhere(&format!("{name} of {l:?}"), |what| {
                let run = |step: &dyn Fn(Pieces<'_>)| {
                    let (mut p, mut s) = (Guarded::new(&weight), states.clone().map(|s| Guarded::new(&s)));
                    step(begin(p.get_mut(), s.each_mut().map(Guarded::get_mut)));
                    p.check(what);
                    s.iter().for_each(|s| s.check(what));
                    [p.get(), s[0].get(), s[1].get(), s[2].get()].concat()
                };
                let whole = run(&|pieces| {
                    let (mut dw, mut scratch) =
                        (vec![f32::NAN; l.weight_len()], vec![f32::NAN; l.grad_weight_scratch()]);
                    l.grad_weight(&x, &dy, &mut dw, false, &mut scratch);
                    // SAFETY: this thread alone updates.
                    unsafe { pieces.update(0, &dw) }
                });
                let fused = run(&|pieces| {
                    let mut scratch = vec![f32::NAN; l.update_weight_scratch()];
                    l.update_weight(&x, &dy, &pieces, &mut scratch);
                });
                let same = whole.iter().zip(&fused).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same && whole[..weight.len()] != weight, "{what}: two ways, two results");
                fused
            });
        }
    }
}
