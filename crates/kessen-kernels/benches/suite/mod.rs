//! What the benchmarks share: their operands, and Criterion's throughput as a share of the machine's peak.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use kessen_kernels::{isa::Isa, threads};
use kessen_tensor::{DType, Tensor};
use std::time::{Duration, Instant};

/// Bytes of operands that a cold benchmark goes round: several times what the machine's largest cache should hold.
const COLD_BYTES: usize = 128 << 20;

/// A family of benchmarks, held against one peak.
pub struct Suite(Criterion<Rate>);

impl Suite {
    /// Benchmarks of kernels that make at most `peak` GFLOP/s. A filter and Criterion's other options come from the
    /// command line.
    pub fn new(family: &str, peak: f64) -> Suite {
        println!("{family}: {} threads, {}, peak {peak:.1} GFLOP/s", threads::count(), Isa::active());
        let criterion = Criterion::default()
            .with_measurement(Rate { time: WallTime, peak })
            .sample_size(12)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(500))
            .nresamples(10_000)
            .without_plots();
        Suite(criterion.configure_from_args())
    }

    /// Kernels that all do the same amount of work: floating-point operations as `Throughput::Elements`, or bytes that
    /// must be read and written.
    pub fn group(&mut self, name: &str, work: Throughput) -> Group<'_> {
        let mut group = self.0.benchmark_group(name);
        group.throughput(work).sampling_mode(SamplingMode::Flat);
        Group { group, cold: false }
    }
}

/// Kernels of one shape.
pub struct Group<'a> {
    group: BenchmarkGroup<'a, Rate>,
    cold: bool,
}

impl Group<'_> {
    /// Measures each kernel twice: on operands that stay in whatever cache holds them, and on operands that come from
    /// memory, since the kernel goes round more of them than the caches hold.
    pub fn also_cold(mut self) -> Self {
        self.cold = true;
        self
    }

    /// Measures one kernel on operands of these lengths.
    pub fn bench<const N: usize>(
        &mut self,
        name: &str,
        lengths: [usize; N],
        mut run: impl FnMut([&mut [f32]; N]),
    ) {
        self.round(name, 1, lengths, &mut run);
        if self.cold {
            let bytes = size_of::<f32>() * lengths.iter().sum::<usize>();
            self.round(&format!("{name} cold"), 1 + COLD_BYTES / bytes, lengths, run);
        }
    }

    /// Goes round `count` sets of operands, which are made when the filter lets the benchmark run.
    fn round<const N: usize>(
        &mut self,
        name: &str,
        count: usize,
        lengths: [usize; N],
        mut run: impl FnMut([&mut [f32]; N]),
    ) {
        let mut sets: Vec<[Floats; N]> = Vec::new();
        let mut next = 0;
        self.group.bench_function(name, |bencher| {
            sets.resize_with(count, || lengths.map(Floats::noise));
            bencher.iter(|| {
                run(sets[next].each_mut().map(Floats::slice));
                next = (next + 1) % count;
            });
        });
    }
}

/// Numbers that lie in memory as a plan's do: aligned, large ones in huge pages.
pub struct Floats(Tensor);

impl Floats {
    /// `len` zeros; those never touched take no memory.
    fn zeros(len: usize) -> Floats {
        Floats(Tensor::zeros(DType::F32, &[len]).expect("room for the operands"))
    }

    /// Scratch for kernels that want this much.
    pub fn scratch<const N: usize>(wanted: [usize; N]) -> Floats {
        Floats::zeros(wanted.into_iter().fold(0, usize::max))
    }

    /// `len` numbers between -0.5 and 0.5.
    fn noise(len: usize) -> Floats {
        let mut floats = Floats::zeros(len);
        for (i, x) in floats.slice().iter_mut().enumerate() {
            *x = (i.wrapping_mul(2_654_435_761) % 1000) as f32 / 1000.0 - 0.5;
        }
        floats
    }

    /// The numbers, to read and write.
    pub fn slice(&mut self) -> &mut [f32] {
        self.0.as_slice_mut().expect("numbers are f32")
    }
}

/// Wall time, and work in it as a share of a peak.
struct Rate {
    time: WallTime,
    /// GFLOP/s, or operations per nanosecond.
    peak: f64,
}

impl Measurement for Rate {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        self.time.start()
    }

    fn end(&self, start: Instant) -> Duration {
        self.time.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        self.time.add(a, b)
    }

    fn zero(&self) -> Duration {
        self.time.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        self.time.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Rate {
    fn format_throughput(&self, work: &Throughput, nanoseconds: f64) -> String {
        match work {
            Throughput::Elements(operations) => {
                let rate = *operations as f64 / nanoseconds;
                format!("{rate:.1} GFLOP/s ({:.1} %)", 100.0 * rate / self.peak)
            }
            _ => self.time.formatter().format_throughput(work, nanoseconds),
        }
    }

    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        self.time.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, work: &Throughput, values: &mut [f64]) -> &'static str {
        self.time.formatter().scale_throughputs(typical, work, values)
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        self.time.formatter().scale_for_machines(values)
    }
}
