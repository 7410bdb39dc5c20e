//! Data sets, preprocessing, augmentation and batches.
//!
//! A [`Dataset`] is a [`Source`] of samples, each a handful of named [`Field`]s, and a [`Preprocess`] that brings them
//! before the network. A [`Loader`] fills [`Batch`]es from it in an order that depends on (seed, epoch, step) alone.
//! A data set that is known by name is one file under `sets/`.
//!
//! ```
//! use kessen_data::{Augment, Loader, data};
//!
//! let digits = data::digits()?;
//! let turn = Augment::Affine { rotate: 8.0, scale: 0.1, shear: 0.0, shift: 0.5, border: Default::default() };
//! let loader = Loader::new(&digits.train, 64)?.shuffle(42).augment(&[turn])?;
//! let mut batches = loader.prefetch(1, 0, 0)?;
//! let batch = batches.next()?;
//! assert_eq!(batch.tensor("image")?.shape(), [64, 1, 8, 8]);
//! # Ok::<(), kessen_data::Error>(())
//! ```

mod augment;
mod batch;
mod dataset;
mod error;
mod expression;
mod function;
mod loader;
mod prefetch;
mod preprocess;
mod read;
mod sets;
mod source;
mod table;
mod warp;

pub use augment::Augment;
pub use batch::Batch;
pub use dataset::{Dataset, Splits};
pub use error::{Error, Place, Result};
pub use expression::Expression;
pub use function::{FunctionOptions, function};
pub use kessen_tensor::{DType, Tensor};
pub use loader::Loader;
pub use prefetch::Prefetch;
pub use preprocess::{Column, Fit, ImageInput, Input, Preprocess, Standardise, Target};
pub use read::{FolderOptions, Picture, image_folder, parse_idx, read_idx};
pub use source::{Field, Slot, Source};
pub use table::{Missing, Table, TableOptions, Task};
pub use warp::Border;

/// The data sets by name.
pub mod data {
    pub use crate::sets::{Entry, Open, builtin, cifar10, digits, find, iris, list, mnist, wine};
}
