//! The plan: steps in order, the buffers they use, and where those lie.

use std::fmt;

use kessen_graph::ParamId;

use super::memory::{Buf, BufInfo, Views};
use super::param::ParamLayout;
use super::place::Placement;
use crate::{Clock, Result};

/// A kernel call with everything decided.
pub(crate) trait Step: Send {
    /// Runs the kernel on the step's buffers.
    fn run(&self, views: &Views<'_>, clock: Clock) -> Result<()>;
}

impl<F: Fn(&Views<'_>, Clock) -> Result<()> + Send> Step for F {
    fn run(&self, views: &Views<'_>, clock: Clock) -> Result<()> {
        self(views, clock)
    }
}

/// What a reader wants to know of a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Label {
    /// Path of the node (or the first of several).
    pub path: String,
    /// Kernel with algorithm and layout, such as `conv direct nChw16c + bias + relu`.
    pub kernel: String,
    /// Multiply-accumulate operations.
    pub macs: u64,
}

/// A step with its buffers.
pub(crate) struct PlannedStep {
    pub step: Box<dyn Step>,
    pub label: Label,
    pub reads: Vec<Buf>,
    pub writes: Vec<Buf>,
    /// The node's result that a check for finite numbers looks at.
    pub checked: Vec<Buf>,
}

/// Where a parameter lies and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlannedParam {
    pub buf: Buf,
    pub layout: ParamLayout,
}

/// Steps, buffers and their places.
pub(crate) struct Plan {
    /// Run once after parameters were written: what depends on them alone.
    pub prologue: Vec<PlannedStep>,
    pub steps: Vec<PlannedStep>,
    /// Step after which the guarded value is known, and its buffer.
    pub guard: Option<(usize, Buf)>,
    pub infos: Vec<BufInfo>,
    pub placement: Placement,
    pub inputs: Vec<Buf>,
    pub outputs: Vec<(Buf, Vec<usize>)>,
    pub params: Vec<PlannedParam>,
    pub threads: usize,
}

impl Plan {
    /// The parameter's place.
    pub fn param(&self, id: ParamId) -> &PlannedParam {
        &self.params[id.index()]
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, steps) in [("once", &self.prologue), ("each run", &self.steps)] {
            if steps.is_empty() {
                continue;
            }
            writeln!(f, "{title}: {} steps", steps.len())?;
            let path_width = steps.iter().map(|s| s.label.path.chars().count()).max().unwrap_or(0);
            let kernel_width = steps.iter().map(|s| s.label.kernel.chars().count()).max().unwrap_or(0);
            for (i, s) in steps.iter().enumerate() {
                let bytes: usize =
                    s.reads.iter().chain(&s.writes).map(|b| self.infos[b.index()].bytes()).sum();
                let Label { path, kernel, macs } = &s.label;
                writeln!(
                    f,
                    "{i:>5}  {path:<path_width$}  {kernel:<kernel_width$}  {:>9.3} M mac  {:>9.1} KiB",
                    *macs as f64 / 1e6,
                    bytes as f64 / 1024.0,
                )?;
            }
        }
        let Placement { lasting, arena, .. } = self.placement;
        let mib = |bytes: usize| bytes as f64 / (1024.0 * 1024.0);
        writeln!(
            f,
            "arena {:.2} MiB, parameters, inputs and constants {:.2} MiB, {} threads",
            mib(arena),
            mib(lasting),
            self.threads
        )
    }
}
