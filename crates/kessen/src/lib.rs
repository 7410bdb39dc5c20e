//! Neural networks whose wiring is a value: build, check, draw, train and run them.
//!
//! A network's architecture is the structure of its units' wiring. Here the wiring is a [`Graph`](graph::Graph):
//! written once, in Rust or as text, and the same value is checked, differentiated, planned, trained, run, drawn and
//! saved.
//!
//! ```
//! use kessen::prelude::*;
//!
//! let net = Graph::build("small", |g| {
//!     let image = g.input("image", shape!["batch", 1, 8, 8]);
//!     let h = image.conv("c1", conv(8, 3).padding(1)).relu().max_pool(2).flatten();
//!     h.linear("f2", 10)
//! })?;
//! let digits = data::digits()?;
//! let model = Trainer::new(&net).loss(cross_entropy()).optimizer(adam(5e-3)).epochs(2).fit(&digits)?;
//! assert!(model.evaluate(&digits.test)?.accuracy > 0.8);
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("small.safetensors");
//! model.save(&path)?;
//!
//! let mut again = SavedModel::load(&path)?;
//! let image = &digits.test.sample(0)?[0].1;
//! println!("{:?}", again.classes(&image.clone().reshaped(&[1, 1, 8, 8])?)?);
//! # Ok::<(), kessen::Error>(())
//! ```
//!
//! This crate is a facade: one name per stage of the house. The examples under `examples/`, numbered as a course,
//! begin at a tensor and end at function approximation.

mod error;
mod saved;

pub use error::{Error, Result};
pub use kessen_data as data;
pub use kessen_engine as engine;
pub use kessen_formats as formats;
pub use kessen_graph as graph;
pub use kessen_tensor as tensor;
pub use kessen_train as train;
pub use kessen_view as view;
pub use kessen_zoo as zoo;
pub use saved::SavedModel;

/// Threads that the kernels compute with; results don't depend on their number.
pub mod threads {
    pub use kessen_kernels::threads::{count, set_count};
}

/// What most programs begin with: `use kessen::prelude::*;`.
pub mod prelude {
    pub use crate::{Error, Result, SavedModel, zoo};
    pub use kessen_data::{
        Augment, Dataset, Field, FunctionOptions, Loader, Slot, Source, Splits, Table, TableOptions, data,
        function, image_folder,
    };
    pub use kessen_engine::{Backend, Clock, CompileOptions, Cpu, Precision, Reference, Session};
    pub use kessen_graph::ops::conv::conv;
    pub use kessen_graph::{
        Bindings, CustomOperator, CustomTensor, Graph, GraphBuilder, Init, Type, Wire, dim, shape,
    };
    pub use kessen_tensor::{DType, Rng, Tensor};
    pub use kessen_train::{
        Evaluation, Group, Loss, Monitor, Observer, Optimizer, Predictor, Schedule, StepSpec, TrainStep,
        Trained, Trainer, adam, adamw, bce, cross_entropy, huber, mae, mse, rmsprop, sgd,
    };
    pub use kessen_view::{Picture, draw};
}
