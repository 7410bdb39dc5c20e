//! How fast the kernels bound by memory are, in GB/s of what they must read and write.
//!
//! ```text
//! cargo bench -p kessen-kernels --bench stream [-- FILTER]
//! ```

mod copy;
mod elementwise;
mod loss;
mod norm;
mod optim;
mod pool;
mod reduce;
#[path = "../suite/mod.rs"]
mod suite;

use criterion::Throughput;
use kessen_kernels::machine;
use suite::Suite;

fn main() {
    let mut suite = Suite::new("f32", machine::peak_gflops());
    elementwise::maps(&mut suite);
    optim::updates(&mut suite);
    optim::tables(&mut suite);
    reduce::sums(&mut suite);
    loss::rows(&mut suite);
    norm::layers(&mut suite);
    norm::batches(&mut suite);
    pool::windows(&mut suite);
    copy::transposes(&mut suite);
}

/// Elements of buffers that fit a core's second-level cache and of such that fit the shared one, with their names.
const SIZES: [(&str, usize); 2] = [("256 KB", 1 << 16), ("16 MB", 1 << 22)];

/// The work of reading and writing that many floats.
fn floats(count: usize) -> Throughput {
    Throughput::BytesDecimal((size_of::<f32>() * count) as u64)
}
