//! The plan: steps in order, the buffers they use, and where those lie.

use std::fmt;

use kessen_graph::ParamId;

use super::memory::{Buf, BufInfo, Views, whole};
use super::param::ParamLayout;
use super::place::Placement;
use crate::{Clock, Result, StepFacts};

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

/// A step with its buffers.
pub(crate) struct PlannedStep {
    pub step: Box<dyn Step>,
    /// What it is called; its bytes follow from its buffers.
    pub label: StepFacts,
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
    /// Bytes of all that the plan needs: parameters, inputs, constants, values and scratch.
    pub fn bytes(&self) -> usize {
        self.placement.lasting + self.placement.arena
    }

    /// The parameter's place.
    pub fn param(&self, id: ParamId) -> &PlannedParam {
        &self.params[id.index()]
    }

    /// For each input, whether a run may read it in its caller's memory: it is no output, and no slice of its buffer
    /// is read nor anything written there.
    pub fn lendable(&self) -> Vec<bool> {
        let is_output = |buf: Buf| self.outputs.iter().any(|(b, _)| whole(&self.infos, *b) == buf);
        let is_sliced = |buf: Buf| self.infos.iter().any(|info| info.slice.is_some_and(|s| s.whole == buf));
        let is_written = |buf: Buf| self.steps.iter().any(|step| step.writes.contains(&buf));
        self.inputs.iter().map(|&buf| !(is_output(buf) || is_sliced(buf) || is_written(buf))).collect()
    }

    /// What there is to know of steps besides how to run them.
    pub fn facts(&self, steps: &[PlannedStep]) -> Vec<StepFacts> {
        let bytes = |s: &PlannedStep| -> usize {
            s.reads.iter().chain(&s.writes).map(|b| self.infos[b.index()].own_bytes()).sum()
        };
        let facts = |s: &PlannedStep| StepFacts { bytes: bytes(s) as u64, ..s.label.clone() };
        steps.iter().map(facts).collect()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, steps) in [("once", &self.prologue), ("each run", &self.steps)] {
            if steps.is_empty() {
                continue;
            }
            writeln!(f, "{title}: {} steps", steps.len())?;
            let facts = self.facts(steps);
            let path_width = facts.iter().map(|s| s.path.chars().count()).max().unwrap_or(0);
            let kernel_width = facts.iter().map(|s| s.kernel.chars().count()).max().unwrap_or(0);
            for (i, StepFacts { path, kernel, macs, bytes }) in facts.iter().enumerate() {
                writeln!(
                    f,
                    "{i:>5}  {path:<path_width$}  {kernel:<kernel_width$}  {:>9.3} M mac  {:>9.1} KiB",
                    *macs as f64 / 1e6,
                    *bytes as f64 / 1024.0,
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
