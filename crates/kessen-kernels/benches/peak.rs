//! Prints how fast the dense kernels are, as a share of the machine's measured multiply-add peak (for rows of bf16: of that
//! of its dot product, where it has one).
//!
//! ```text
//! cargo bench -p kessen-kernels --bench peak [-- FILTER]
//! ```

use kessen_kernels::conv::winograd::{self, Order};
use kessen_kernels::conv::{self, ConvDesc};
use kessen_kernels::epilogue::Epilogue;
use kessen_kernels::gemm::{self, Gemm, Linear};
use kessen_kernels::{machine, threads};
use std::time::Instant;

/// Best seconds per call over some 0.3 s.
fn seconds(mut f: impl FnMut()) -> f64 {
    f();
    let start = Instant::now();
    f();
    let calls = (0.02 / start.elapsed().as_secs_f64().max(1e-9)).ceil().min(1e6) as usize;
    let mut best = f64::INFINITY;
    for _ in 0..15 {
        let start = Instant::now();
        (0..calls).for_each(|_| f());
        best = best.min(start.elapsed().as_secs_f64() / calls as f64);
    }
    best
}

fn noise(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 1000.0 - 0.5).collect()
}

struct Bench {
    peak: f64,
    peak16: f64,
    filter: String,
}

impl Bench {
    fn report(&self, name: &str, flops: usize, f: impl FnMut()) {
        self.report_of(self.peak, name, flops, f);
    }

    /// One row, as a share of the given peak.
    fn report_of(&self, peak: f64, name: &str, flops: usize, f: impl FnMut()) {
        if !name.contains(&self.filter) {
            return;
        }
        let each = seconds(f);
        let rate = flops as f64 / each / 1e9;
        println!("{name:<44} {:>10.2} µs {rate:>7.1} GFLOP/s {:>6.1} %", each * 1e6, 100.0 * rate / peak);
    }

    fn gemm(&self, name: &str, g: Gemm) {
        let (a, b) = (noise(g.m * g.k * g.batch), noise(g.k * g.n * g.batch));
        let mut c = noise(g.m * g.n * g.batch);
        let mut scratch = vec![0.0; g.scratch()];
        let flops = 2 * g.m * g.n * g.k * g.batch;
        let shape = format!("gemm {name} {}x{}x{} *{}", g.m, g.n, g.k, g.batch);
        self.report(&shape, flops, || g.run(&a, &b, &mut c, &Epilogue::store(), &mut scratch));
        let mut scratch = vec![0.0; gemm::bf16::scratch(&g).max(g.scratch())];
        self.report_of(self.peak16, &format!("{shape} bf16"), flops, || {
            gemm::bf16::run(&g, &a, &b, &mut c, &Epilogue::store(), &mut scratch)
        });
        if g.batch == 1 && !g.trans_b && !g.trans_a {
            let mut packed = vec![0.0; g.packed_len()];
            g.pack(&b, &mut packed);
            self.report(&format!("{shape} packed"), flops, || {
                g.run_packed(&a, &packed, &mut c, &Epilogue::store(), &mut scratch)
            });
        }
    }

    fn linear(&self, batch: usize, inputs: usize, outputs: usize) {
        let l = Linear { batch, inputs, outputs };
        let (x, dy) = (noise(batch * inputs), noise(batch * outputs));
        let (w, mut dw) = (noise(l.weight_len()), noise(l.weight_len()));
        let (mut y, mut dx) = (noise(batch * outputs), noise(batch * inputs));
        let len = l.forward_scratch().max(l.grad_input_scratch()).max(l.grad_weight_scratch());
        let mut scratch = vec![0.0; len];
        let flops = 2 * batch * inputs * outputs;
        let shape = format!("linear {batch}x{inputs}->{outputs}");
        self.report(&format!("{shape} forward"), flops, || {
            l.forward(&x, &w, &mut y, &Epilogue::store(), &mut scratch)
        });
        self.report(&format!("{shape} dx"), flops, || l.grad_input(&dy, &w, &mut dx, false, &mut scratch));
        self.report(&format!("{shape} dw"), flops, || l.grad_weight(&x, &dy, &mut dw, false, &mut scratch));
        self.linear16(&shape, l);
    }

    fn linear16(&self, shape: &str, l: Linear) {
        use gemm::bf16;
        let (x, dy) = (noise(l.batch * l.inputs), noise(l.batch * l.outputs));
        let (w, mut dw) = (noise(l.weight_len()), noise(l.weight_len()));
        let (mut y, mut dx) = (noise(l.batch * l.outputs), noise(l.batch * l.inputs));
        let mut words = vec![0.0; bf16::weight_words(&l)];
        let len =
            bf16::forward_scratch(&l).max(bf16::grad_input_scratch(&l)).max(bf16::grad_weight_scratch(&l));
        let mut scratch = vec![0.0; len];
        let flops = 2 * l.batch * l.inputs * l.outputs;
        let (store, peak) = (Epilogue::store(), self.peak16);
        bf16::prepare_weight(&l, &w, &mut words);
        self.report_of(peak, &format!("{shape} bf16 prepared"), flops, || {
            bf16::forward(&l, &x, &words, &mut y, &store, &mut scratch)
        });
        self.report_of(peak, &format!("{shape} bf16 forward"), flops, || {
            bf16::prepare_weight(&l, &w, &mut words);
            bf16::forward(&l, &x, &words, &mut y, &store, &mut scratch)
        });
        self.report_of(peak, &format!("{shape} bf16 dx"), flops, || {
            bf16::grad_input(&l, &dy, &w, &mut dx, false, &mut scratch)
        });
        self.report_of(peak, &format!("{shape} bf16 dw"), flops, || {
            bf16::grad_weight(&l, &x, &dy, &mut dw, false, &mut scratch)
        });
    }
}

impl Bench {
    fn conv(&self, d: ConvDesc) {
        let (x, dy) = (noise(d.input_len()), noise(d.output_len()));
        let (w, mut dw) = (noise(d.weight_len()), noise(d.weight_len()));
        let (mut y, mut dx) = (noise(d.output_len()), noise(d.input_len()));
        let len =
            conv::forward_scratch(&d).max(conv::grad_input_scratch(&d)).max(conv::grad_weight_scratch(&d));
        let mut scratch = vec![0.0; len];
        let flops = 2 * d.macs();
        let shape = format!(
            "conv n{} {}->{} {}x{} k{}s{}g{}",
            d.batch, d.channels, d.filters, d.height, d.width, d.kernel[0], d.stride[0], d.groups
        );
        let epilogue = Epilogue::store();
        self.report(&format!("{shape} forward"), flops, || {
            conv::forward(&d, &x, &w, &epilogue, &mut y, &mut scratch)
        });
        self.report(&format!("{shape} dx"), flops, || {
            conv::grad_input(&d, &dy, &w, &epilogue, &mut dx, &mut scratch)
        });
        self.report(&format!("{shape} dw"), flops, || {
            conv::grad_weight(&d, &x, &dy, false, &mut dw, &mut scratch)
        });
        if conv::bf16::applies(&d) {
            self.conv16(&shape, d);
        }
        for order in [Order::Two, Order::Four].into_iter().filter(|order| winograd::applies(&d, *order)) {
            let len = winograd::forward_scratch(&d, order)
                .max(winograd::grad_input_scratch(&d, order))
                .max(winograd::grad_weight_scratch(&d, order));
            let mut scratch = vec![0.0; len];
            let mut u = vec![0.0; winograd::prepared_len(&d, order)];
            winograd::prepare_weight(&d, order, &w, &mut u);
            self.report(&format!("{shape} {order:?} prepared"), flops, || {
                winograd::forward_prepared(&d, order, &x, &u, &epilogue, &mut y, &mut scratch)
            });
            self.report(&format!("{shape} {order:?} forward"), flops, || {
                winograd::forward(&d, order, &x, &w, &epilogue, &mut y, &mut scratch)
            });
            self.report(&format!("{shape} {order:?} dx"), flops, || {
                winograd::grad_input(&d, order, &dy, &w, &epilogue, &mut dx, &mut scratch)
            });
            self.report(&format!("{shape} {order:?} dw"), flops, || {
                winograd::grad_weight(&d, order, &x, &dy, false, &mut dw, &mut scratch)
            });
        }
    }
}

impl Bench {
    fn conv16(&self, shape: &str, d: ConvDesc) {
        use conv::bf16;
        let (x, dy) = (noise(d.input_len()), noise(d.output_len()));
        let (w, mut dw) = (noise(d.weight_len()), noise(d.weight_len()));
        let (mut y, mut dx) = (noise(d.output_len()), noise(d.input_len()));
        let mut words = vec![0.0; bf16::weight_words(&d)];
        let len =
            bf16::forward_scratch(&d).max(bf16::grad_input_scratch(&d)).max(bf16::grad_weight_scratch(&d));
        let mut scratch = vec![0.0; len];
        let (flops, store, peak) = (2 * d.macs(), Epilogue::store(), self.peak16);
        bf16::prepare_weight(&d, &w, &mut words);
        self.report_of(peak, &format!("{shape} bf16 prepared"), flops, || {
            bf16::forward(&d, &x, &words, &store, &mut y, &mut scratch)
        });
        self.report_of(peak, &format!("{shape} bf16 forward"), flops, || {
            bf16::prepare_weight(&d, &w, &mut words);
            bf16::forward(&d, &x, &words, &store, &mut y, &mut scratch)
        });
        self.report_of(peak, &format!("{shape} bf16 dx"), flops, || {
            bf16::grad_input(&d, &dy, &w, &store, &mut dx, &mut scratch)
        });
        self.report_of(peak, &format!("{shape} bf16 dw"), flops, || {
            bf16::grad_weight(&d, &x, &dy, false, &mut dw, &mut scratch)
        });
    }
}

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let peak16 = machine::peak_bf16_gflops().unwrap_or(f64::NAN);
    let bench = Bench { peak: machine::peak_gflops(), peak16, filter };
    println!(
        "{} threads, peak {:.1} GFLOP/s, of bf16 {:.1}, {}",
        threads::count(),
        bench.peak,
        bench.peak16,
        kessen_kernels::isa::Isa::active()
    );
    bench.gemm("nn", Gemm::new(1024, 1024, 1024));
    bench.gemm("nt", Gemm::new(1024, 1024, 1024).trans_b());
    bench.gemm("tn", Gemm::new(1024, 1024, 1024).trans_a());
    bench.gemm("nn", Gemm::new(1000, 1000, 1000));
    bench.gemm("nn", Gemm::new(512, 2048, 512));
    for (n, k) in [(768, 256), (256, 256), (1024, 256), (256, 1024)] {
        bench.gemm("nn", Gemm::new(2048, n, k));
    }
    bench.gemm("nn", Gemm::new(128, 128, 128));
    bench.gemm("nn", Gemm::new(64, 64, 64));
    bench.gemm("nn", Gemm::new(32, 10, 84));
    bench.gemm("nn", Gemm::new(8, 16, 8));
    bench.gemm("nn", Gemm::new(1, 1024, 1024));
    bench.gemm("nt", Gemm::new(1, 1024, 1024).trans_b());
    bench.gemm("nn", Gemm::new(1024, 1, 1024));
    bench.gemm("nt batch", Gemm::new(128, 128, 64).trans_b().batched(64));
    bench.gemm("nn batch", Gemm::new(128, 64, 128).batched(64));
    bench.linear(128, 784, 512);
    bench.linear(64, 1, 32);
    for (inputs, outputs) in [(256, 768), (256, 256), (256, 1024), (1024, 256)] {
        bench.linear(2048, inputs, outputs);
    }
    bench.linear(16, 4096, 4096);
    bench.linear(1, 4096, 4096);
    for (c, size) in [(64, 56), (128, 28), (256, 14), (512, 7), (64, 112), (256, 28), (512, 14)] {
        bench.conv(ConvDesc::new(8, c, c, [size, size], 3).padding(1));
    }
    bench.conv(ConvDesc::new(1, 256, 256, [14, 14], 3).padding(1));
    bench.conv(ConvDesc::new(8, 64, 256, [56, 56], 1));
    bench.conv(ConvDesc::new(8, 256, 64, [56, 56], 1));
    bench.conv(ConvDesc::new(8, 512, 512, [14, 14], 1));
    bench.conv(ConvDesc::new(16, 192, 64, [28, 28], 1));
    bench.conv(ConvDesc::new(16, 480, 192, [14, 14], 1));
    bench.conv(ConvDesc::new(16, 832, 128, [7, 7], 1));
    bench.conv(ConvDesc::new(16, 64, 64, [56, 56], 1));
    bench.conv(ConvDesc::new(8, 128, 256, [28, 28], 3).padding(1).stride(2));
    bench.conv(ConvDesc::new(8, 128, 256, [28, 28], 1).stride(2));
    bench.conv(ConvDesc::new(8, 3, 64, [224, 224], 7).padding(3).stride(2).plain());
    bench.conv(ConvDesc::new(8, 3, 64, [224, 224], 11).padding(2).stride(4).plain());
    bench.conv(ConvDesc::new(4, 3, 64, [224, 224], 3).padding(1).plain());
    bench.conv(ConvDesc::new(64, 1, 6, [28, 28], 5).padding(2).plain());
    bench.conv(ConvDesc::new(8, 64, 192, [27, 27], 5).padding(2));
    bench.conv(ConvDesc::new(1, 64, 192, [27, 27], 5).padding(2));
    bench.conv(ConvDesc::new(8, 16, 32, [28, 28], 5).padding(2));
    bench.conv(ConvDesc::new(16, 48, 64, [14, 14], 5).padding(2));
    bench.conv(ConvDesc::new(64, 6, 16, [14, 14], 5));
    bench.conv(ConvDesc::new(8, 192, 192, [28, 28], 3).padding(1).groups(192));
}
