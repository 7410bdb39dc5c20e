//! From a wiring to numbers: the plan, and the backends that run it.
//!
//! A [`Backend`] compiles a graph for fixed shapes into an [`Executable`]; a [`Session`] is an executable with names.
//! Two backends stand side by side: `reference`, naive loops in f64 that a student reads, and `cpu`, the fast one.

mod backend;
mod cpu;
mod error;
mod passes;
mod precision;
mod reference;
mod session;

pub use backend::{
    Backend, Clock, CompileOptions, Data, Executable, Given, Mode, Outcome, Precision, StepFacts,
};
pub use cpu::Cpu;
pub use error::{Error, Result};
pub use reference::Reference;
pub use session::Session;
