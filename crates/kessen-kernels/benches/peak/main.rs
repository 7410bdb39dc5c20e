//! How fast the dense kernels are, as a share of the machine's measured multiply-add peak (those on bf16: of that of its
//! dot product, where it has one).
//!
//! ```text
//! cargo bench -p kessen-kernels --bench peak [-- FILTER]
//! ```

mod bf16;
mod conv;
mod gemm;
mod linear;
#[path = "../suite/mod.rs"]
mod suite;
mod winograd;

use criterion::Throughput;
use kessen_kernels::machine;
use suite::Suite;

fn main() {
    let mut suite = Suite::new("f32", machine::peak_gflops());
    gemm::products(&mut suite);
    linear::layers(&mut suite);
    conv::convolutions(&mut suite);
    winograd::convolutions(&mut suite);
    let mut suite = Suite::new("bf16", machine::peak_bf16_gflops().unwrap_or(f64::NAN));
    bf16::products(&mut suite);
    bf16::layers(&mut suite);
    bf16::convolutions(&mut suite);
}

/// The work of that many multiply-adds.
fn multiply_adds(count: usize) -> Throughput {
    Throughput::Elements(2 * count as u64)
}
