//! How fast recurrent layers and attention are, as a share of the machine's measured multiply-add peak; work counted is
//! that of their products.
//!
//! ```text
//! cargo bench -p kessen-kernels --bench sequence [-- FILTER]
//! ```

mod attention;
mod recurrent;
#[path = "../suite/mod.rs"]
mod suite;

use kessen_kernels::machine;
use suite::Suite;

fn main() {
    let mut suite = Suite::new("f32", machine::peak_gflops());
    recurrent::layers(&mut suite);
    attention::heads(&mut suite);
}
