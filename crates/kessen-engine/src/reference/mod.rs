//! The `reference` backend: naive loops in f64, written straight from the textbook formulas.
//!
//! This is what a student reads next to the lecture, and what every fast kernel is held against. One file per
//! operator; names and subscripts are the formula's; nothing is fused, reordered or shared. `kernel` below says
//! which function computes which operator.
//!
//! Real numbers are f64 whatever the graph's element type says; ids are i64. Operators written outside this house
//! compute in f32, because that is their contract.

mod adaptive_pool;
mod argmax;
mod array;
mod attention;
mod avg_pool;
mod batch_norm;
mod bce;
mod binary;
mod cast;
mod clamp;
mod conv;
mod cross_entropy;
mod custom;
mod dropout;
mod elman;
mod embedding;
mod executable;
mod global_norm;
mod gru;
mod kernel;
mod layer_norm;
mod linear;
mod lstm;
mod max_pool;
mod movement;
mod optimizer;
mod recurrent;
mod reduce;
mod regression_loss;
mod reshape;
mod softmax;
mod unary;

use kessen_graph::{Bindings, Graph};

use crate::{Backend, CompileOptions, Executable, Result};

/// Naive loops in f64.
///
/// ```
/// use kessen_engine::{Clock, CompileOptions, Reference, Session};
/// use kessen_graph::{Bindings, Graph, shape};
/// use kessen_tensor::Tensor;
///
/// let net = Graph::build("double", |g| g.input("x", shape!["batch"]).scale(2.0))?;
/// let mut session =
///     Session::new(&Reference, &net, &Bindings::from([("batch", 2)]), &CompileOptions::inference())?;
/// let x = Tensor::from_vec(&[2], vec![1.5f32, -3.0])?;
/// let outputs = session.run(&[("x", &x)], Clock::default())?;
/// assert_eq!(outputs[0].1.as_slice::<f32>()?, [3.0, -6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference;

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn compile(
        &self,
        graph: &Graph,
        bindings: &Bindings,
        options: &CompileOptions,
    ) -> Result<Box<dyn Executable>> {
        Ok(Box::new(executable::ReferenceExecutable::new(graph, bindings, options)?))
    }
}
