//! The kernels of Kessen: numbers in, numbers out.
//!
//! Every function takes slices and a small descriptor; what it needs as working memory is stated by its
//! `*_scratch` twin, and nothing in here allocates while it computes. The instruction set is chosen once
//! ([`isa`]), work is shared by a fixed pool of threads ([`threads`]), and results are the same bits for any
//! number of threads.

pub mod attention;
pub mod bf16;
pub mod conv;
pub mod copy;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod epilogue;
mod error;
pub mod gemm;
mod indices;
pub mod isa;
pub mod layout;
pub mod loss;
pub mod machine;
mod math;
mod micro;
pub mod norm;
pub mod optim;
pub mod pool;
mod prefetch;
pub mod recurrent;
pub mod reduce;
mod simd;
pub mod softmax;
mod split;
#[cfg(test)]
mod testing;
pub mod threads;

pub use error::Error;
pub use indices::Indices;
pub use micro::PANEL;
