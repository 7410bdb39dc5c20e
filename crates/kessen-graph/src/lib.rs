//! The wiring of a network as a value.
//!
//! A [`Graph`] holds values, nodes and parameters. It is written with [`Graph::build`] or as text, checked by each
//! operator's shape rule, differentiated by a graph transformation ([`gradients`]), and analysed; how it is computed
//! is decided elsewhere. Split by stage, never by operator family: here stands what an operator *means*.

pub mod analysis;
pub mod attribute;
mod builder;
mod dim;
mod error;
mod grad;
mod graph;
mod init;
mod mode;
mod names;
mod op;
pub mod ops;
mod rewrite;
mod text;
mod ty;

pub use attribute::Padding;
pub use builder::{BuiltOutputs, GraphBuilder, Wire};
pub use dim::{Bindings, Dim, dim};
pub use error::{Error, Misfit, Result, nearest};
pub use grad::{GradContext, gradients};
pub use graph::{Graph, Node, NodeId, Origin, Param, ParamId, ParamKind, Value, ValueId};
pub use init::{DEFAULT_WEIGHT, Init};
pub use op::{Custom, CustomOperator, CustomTensor, Field, Operator};
pub use ops::Op;
pub use rewrite::{Rewrite, Rewriter};
pub use text::{fuzz_text, text_reference};
pub use ty::Type;
