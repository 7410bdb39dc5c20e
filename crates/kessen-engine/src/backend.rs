//! What a backend has to offer: the whole contract on one screen.

use std::time::Duration;

use kessen_graph::{Bindings, Graph, ParamId, ValueId};
use kessen_tensor::{DType, Tensor};

use crate::{Error, Result};

/// What the plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Parameters stay as they are between writes: they may be folded and packed ahead of time.
    Inference,
    /// Parameters change with every run.
    Training,
}

/// Which algorithms a plan may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Sums as they stand in the formulas: convolutions are computed directly.
    Exact,
    /// Also Winograd's algorithm where it is faster; its largest error is about the direct one's, some 10⁻⁶ of the
    /// largest output (`docs/performance.md`).
    #[default]
    Fast,
    /// Mixed precision: as [`Precision::Fast`], and the operands of linear layers, matrix products and convolutions (with both
    /// gradients) are rounded to bf16 where the plan expects that to be faster; weights, activations and sums stay f32.
    /// Recurrent layers, attention, depthwise convolutions and those of pictures with few channels are computed in f32. What is
    /// rounded follows from the network's shapes, not from the machine.
    Bf16,
}

impl Precision {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Fast, Self::Bf16];

    /// The word in recipes and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
            Self::Bf16 => "bf16",
        }
    }
}

/// How to compile.
#[derive(Debug, Clone, PartialEq)]
pub struct CompileOptions {
    /// What the plan is for.
    pub mode: Mode,
    /// Name of a scalar output that must be finite; where it is not, the run stops before the graph's updates and
    /// no parameter changes.
    pub guard: Option<String>,
    /// Bytes that the plan may take: parameters with the optimiser's state, inputs, values and scratch. Where a
    /// training step needs more, forward values are computed again in the backward part instead of kept, as few as
    /// will do; results are the same bits.
    pub memory_limit: Option<usize>,
    /// Which algorithms the plan may choose.
    pub precision: Precision,
}

impl CompileOptions {
    /// For inference.
    pub fn inference() -> Self {
        Self { mode: Mode::Inference, guard: None, memory_limit: None, precision: Precision::default() }
    }

    /// The same with another choice of algorithms.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The same with a limit to the plan's bytes, or none.
    #[must_use]
    pub fn memory_limit(mut self, bytes: Option<usize>) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// For training steps whose output `guard` must stay finite.
    pub fn training(guard: &str) -> Self {
        Self { mode: Mode::Training, guard: Some(guard.to_owned()), ..Self::inference() }
    }
}

impl CompileOptions {
    /// The value that must stay finite.
    pub(crate) fn guarded_value(&self, graph: &Graph) -> Result<Option<ValueId>> {
        let Some(name) = &self.guard else { return Ok(None) };
        let outputs = graph.outputs();
        match outputs.iter().find(|(n, _)| n == name) {
            Some((_, v)) => Ok(Some(*v)),
            None => Err(Error::Unknown {
                kind: "output",
                name: name.clone(),
                known: outputs.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

/// What random numbers are keyed by, besides the node that draws them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// Seed of the run.
    pub seed: u64,
    /// Step within the run.
    pub step: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was computed, updates included.
    Done,
    /// The guarded output is not finite; parameters are as before the run.
    NonFinite,
}

/// Row-major numbers that go in or come out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Data<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision: what the reference backend computes with.
    F64(&'a [f64]),
    /// Labels and token ids.
    I64(&'a [i64]),
}

impl Data<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(d) => d.len(),
            Self::F64(d) => d.len(),
            Self::I64(d) => d.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::I64(_) => DType::I64,
        }
    }

    /// Element `i` as `f64`.
    pub fn at(&self, i: usize) -> f64 {
        match self {
            Self::F32(d) => f64::from(d[i]),
            Self::F64(d) => d[i],
            Self::I64(d) => d[i] as f64,
        }
    }
}

/// An input by its position, with its numbers.
pub type Given<'a> = (usize, Data<'a>);

/// What a reader of a profile wants to know of one step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepFacts {
    /// Path of the node that the step computes, or the first of several.
    pub path: String,
    /// Kernel with algorithm and layout.
    pub kernel: String,
    /// Multiply-accumulate operations, as the formula has them.
    pub macs: u64,
    /// Bytes of the operands that are read and written.
    pub bytes: u64,
}

/// A device, or a way to compute.
pub trait Backend: Send + Sync {
    /// Name on the command line.
    fn name(&self) -> &'static str;

    /// Compiles `graph` for the shapes that `bindings` gives its named dimensions. Parameters are zero until they
    /// are written.
    ///
    /// # Errors
    /// Unbound dimensions, operators the backend lacks, too little memory.
    fn compile(
        &self,
        graph: &Graph,
        bindings: &Bindings,
        options: &CompileOptions,
    ) -> Result<Box<dyn Executable>>;
}

/// A compiled graph with its memory. Inputs, outputs and parameters are counted as in the graph.
pub trait Executable: Send {
    /// Copies data into input `input`, for all runs to come that are not given it.
    ///
    /// # Errors
    /// No such input; a length or element type other than the plan's.
    fn write_input(&mut self, input: usize, data: Data<'_>) -> Result<()>;

    /// Computes everything from inputs as they were last written.
    ///
    /// # Errors
    /// As [`Executable::run_on`].
    fn run(&mut self, clock: Clock) -> Result<Outcome> {
        self.run_on(&[], clock)
    }

    /// Computes everything, the inputs `given` being read where they lie if the plan can. They hold for this run; what
    /// such an input holds afterwards is not specified, so a later run has to be given it, too, or it be written.
    /// Allocates nothing once it has run.
    ///
    /// # Errors
    /// As [`Executable::write_input`]; indices out of range in the data.
    fn run_on(&mut self, given: &[Given<'_>], clock: Clock) -> Result<Outcome>;

    /// Output `output` of the last run, row-major.
    fn output(&self, output: usize) -> Data<'_>;

    /// Shape of output `output`.
    fn output_shape(&self, output: usize) -> &[usize];

    /// Writes a parameter from PyTorch's layout.
    ///
    /// # Errors
    /// A shape or element type other than the parameter's.
    fn write_param(&mut self, param: ParamId, value: &Tensor) -> Result<()>;

    /// Reads a parameter in PyTorch's layout, as f32.
    ///
    /// # Errors
    /// None in a plan that is consistent.
    fn read_param(&self, param: ParamId) -> Result<Tensor>;

    /// Runs again on what [`Executable::run_on`] was given, without updates, and returns the path of the first node with
    /// a result that is not finite.
    ///
    /// # Errors
    /// As [`Executable::run_on`].
    fn first_non_finite(&mut self, given: &[Given<'_>], clock: Clock) -> Result<Option<String>>;

    /// Bytes of values and scratch, parameters excluded.
    fn memory(&self) -> usize;

    /// The plan as text: steps, kernels, layouts, costs.
    fn describe(&self) -> String;

    /// The steps of a run, in order.
    fn steps(&self) -> Vec<StepFacts>;

    /// As [`Executable::run_on`]; adds to `times[i]` what step `i` of [`Executable::steps`] took.
    ///
    /// # Errors
    /// As [`Executable::run_on`].
    fn run_timed(&mut self, given: &[Given<'_>], clock: Clock, times: &mut [Duration]) -> Result<Outcome>;
}
