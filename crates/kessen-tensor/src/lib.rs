//! Numbers in memory: element types, shapes, aligned buffers and the seeded generator.
//!
//! This crate is small on purpose. A [`Tensor`] is a contiguous row-major array with a [`DType`] and a shape; it
//! has no arithmetic. Arithmetic belongs to the kernels, and what is computed to the graph. The rejected
//! alternative is a tensor library with operators of its own: it would be a second, unplanned way to compute.
//!
//! ```
//! use kessen_tensor::{DType, Tensor};
//!
//! let x = Tensor::from_vec(&[2, 3], vec![0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0])?;
//! assert_eq!(x.dtype(), DType::F32);
//! assert_eq!(x.shape(), [2, 3]);
//! assert_eq!(x.as_slice::<f32>()?[4], 4.0);
//! # Ok::<(), kessen_tensor::Error>(())
//! ```

mod buffer;
mod dtype;
mod error;
mod rng;
mod tensor;

pub use buffer::{ALIGNMENT, Buffer};
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use rng::Rng;
pub use tensor::{Tensor, element_count, row_major_strides};
