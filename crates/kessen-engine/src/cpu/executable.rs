//! Running a plan.

use std::cell::Cell;
use std::time::{Duration, Instant};

use kessen_graph::{Graph, ParamId};
use kessen_kernels::{copy, reduce, threads};
use kessen_tensor::{DType, Tensor};

use super::memory::{Buf, Kind, Lent, Memory, Views};
use super::plan::{Plan, PlannedStep};
use crate::{Clock, Data, Error, Executable, Given, Outcome, Result, StepFacts};

/// A plan with its memory.
pub(crate) struct CpuExecutable {
    graph: Graph,
    plan: Plan,
    memory: Memory,
    /// Per input: whether a run may read it in its caller's memory.
    lendable: Vec<bool>,
    /// Marks of what a step has taken, reused from step to step.
    taken: Vec<Cell<bool>>,
    /// Whether parameters were written since the prologue ran.
    stale: bool,
}

impl CpuExecutable {
    pub fn new(graph: Graph, plan: Plan, constants: &[(Buf, Tensor)]) -> Result<Self> {
        let placement = &plan.placement;
        let mut memory = Memory::new(&plan.infos, &placement.offsets, placement.lasting, placement.arena);
        for (buf, value) in constants {
            match plan.infos[buf.index()].kind {
                Kind::F32 => {
                    let value = value.cast(DType::F32)?;
                    memory.f32_mut(*buf).copy_from_slice(value.as_slice()?);
                }
                Kind::I64 => memory.i64_mut(*buf).copy_from_slice(value.as_slice()?),
            }
        }
        let widest = plan.prologue.iter().chain(&plan.steps).map(|s| s.writes.len()).max().unwrap_or(0);
        let lendable = plan.lendable();
        Ok(Self { graph, plan, memory, lendable, taken: vec![Cell::new(false); widest], stale: true })
    }

    /// How many threads a run may use: scratch was sized for those of the plan.
    fn threads(&self) -> usize {
        self.plan.threads.min(threads::count())
    }

    fn run_step(&self, planned: &PlannedStep, given: &[Given<'_>], clock: Clock) -> Result<()> {
        let taken = &self.taken[..planned.writes.len()];
        taken.iter().for_each(|t| t.set(false));
        let views = Views {
            lent: Lent { inputs: &self.plan.inputs, given },
            placed: &self.memory.placed,
            infos: &self.plan.infos,
            reads: &planned.reads,
            writes: &planned.writes,
            taken,
        };
        planned.step.run(&views, clock)
    }

    /// The buffer of an input that the data fit.
    fn input_for(&self, input: usize, data: Data<'_>) -> Result<Buf> {
        let Some(&buf) = self.plan.inputs.get(input) else {
            let known = format!("{} inputs", self.plan.inputs.len());
            return Err(Error::Unknown { kind: "input", name: input.to_string(), known });
        };
        let info = self.plan.infos[buf.index()];
        if data.len() == info.len && (info.kind == Kind::I64) == (data.dtype() == DType::I64) {
            return Ok(buf);
        }
        let name = &self.graph.value(self.graph.inputs()[input]).name;
        let wanted = if info.kind == Kind::F32 { "f32" } else { "i64" };
        let expected = format!("{} elements of {wanted}", info.len);
        Err(self.mismatch("input", name, expected, format!("{} elements of {}", data.len(), data.dtype())))
    }

    fn copy_input(&mut self, buf: Buf, data: Data<'_>) {
        match data {
            Data::F32(d) => copy::contiguous(d, self.memory.f32_mut(buf)),
            Data::I64(d) => self.memory.i64_mut(buf).copy_from_slice(d),
            Data::F64(d) => {
                self.memory.f32_mut(buf).iter_mut().zip(d).for_each(|(to, &from)| *to = from as f32);
            }
        }
    }

    /// Checks what a run is given, and copies what it can't read where it lies.
    fn accept(&mut self, given: &[Given<'_>]) -> Result<()> {
        for &(input, data) in given {
            let buf = self.input_for(input, data)?;
            if !self.lendable[input] || data.dtype() == DType::F64 {
                self.copy_input(buf, data);
            }
        }
        Ok(())
    }

    /// Recomputes what depends on parameters alone.
    fn refresh(&mut self, clock: Clock) -> Result<()> {
        if std::mem::take(&mut self.stale) {
            self.plan.prologue.iter().try_for_each(|step| self.run_step(step, &[], clock))?;
        }
        Ok(())
    }

    /// Runs all steps and calls `done` after each.
    fn run_steps(
        &mut self,
        given: &[Given<'_>],
        clock: Clock,
        mut done: impl FnMut(usize),
    ) -> Result<Outcome> {
        self.accept(given)?;
        self.refresh(clock)?;
        for (i, step) in self.plan.steps.iter().enumerate() {
            self.run_step(step, given, clock)?;
            done(i);
            if let Some((at, buf)) = self.plan.guard
                && at == i
                && !self.memory.f32(buf).iter().all(|v| v.is_finite())
            {
                return Ok(Outcome::NonFinite);
            }
        }
        Ok(Outcome::Done)
    }

    fn non_finite_path(&mut self, given: &[Given<'_>], clock: Clock) -> Result<Option<String>> {
        self.accept(given)?;
        self.refresh(clock)?;
        // Updates come after the guard, so the run up to there changes no parameter.
        let end = self.plan.guard.map_or(self.plan.steps.len(), |(at, _)| at + 1);
        for step in &self.plan.steps[..end] {
            self.run_step(step, given, clock)?;
            let mut floats = step.checked.iter().filter(|b| self.plan.infos[b.index()].kind == Kind::F32);
            if floats.any(|&b| self.is_spoiled(b)) {
                return Ok(Some(step.label.path.clone()));
            }
        }
        Ok(None)
    }

    /// Whether a buffer's own elements are not all finite.
    fn is_spoiled(&self, buf: Buf) -> bool {
        let found = |part: &[f32]| reduce::first_non_finite(part).is_some();
        let all = self.memory.f32(buf);
        match self.plan.infos[buf.index()].slice {
            None => found(all),
            Some(slice) => (0..slice.images).any(|n| found(&all[n * slice.step..][..slice.own])),
        }
    }

    fn mismatch(&self, kind: &'static str, name: &str, expected: String, found: String) -> Error {
        Error::Mismatch { kind, name: name.to_owned(), expected, found }
    }
}

impl Executable for CpuExecutable {
    fn write_input(&mut self, input: usize, data: Data<'_>) -> Result<()> {
        let buf = self.input_for(input, data)?;
        threads::with_count(self.threads(), || self.copy_input(buf, data));
        Ok(())
    }

    fn run_on(&mut self, given: &[Given<'_>], clock: Clock) -> Result<Outcome> {
        threads::with_count(self.threads(), || self.run_steps(given, clock, |_| {}))
    }

    fn output(&self, output: usize) -> Data<'_> {
        let buf = self.plan.outputs[output].0;
        match self.plan.infos[buf.index()].kind {
            Kind::F32 => Data::F32(self.memory.f32(buf)),
            Kind::I64 => Data::I64(self.memory.i64(buf)),
        }
    }

    fn output_shape(&self, output: usize) -> &[usize] {
        &self.plan.outputs[output].1
    }

    fn write_param(&mut self, param: ParamId, value: &Tensor) -> Result<()> {
        let declared = self.graph.param(param);
        if value.shape() != declared.shape {
            let (expected, found) = (format!("{:?}", declared.shape), format!("{:?}", value.shape()));
            return Err(self.mismatch("parameter", &declared.path, expected, found));
        }
        let planned = *self.plan.param(param);
        let to = self.memory.f32_mut(planned.buf);
        match value.dtype() {
            DType::F32 => planned.layout.pack(value.as_slice()?, to),
            _ => planned.layout.pack(value.cast(DType::F32)?.as_slice()?, to),
        }
        self.stale = true;
        Ok(())
    }

    fn read_param(&self, param: ParamId) -> Result<Tensor> {
        let mut value = Tensor::zeros(DType::F32, &self.graph.param(param).shape)?;
        let planned = self.plan.param(param);
        planned.layout.unpack(self.memory.f32(planned.buf), value.as_slice_mut()?);
        Ok(value)
    }

    fn first_non_finite(&mut self, given: &[Given<'_>], clock: Clock) -> Result<Option<String>> {
        threads::with_count(self.threads(), || self.non_finite_path(given, clock))
    }

    fn memory(&self) -> usize {
        self.plan.placement.arena
    }

    fn describe(&self) -> String {
        self.plan.to_string()
    }

    fn steps(&self) -> Vec<StepFacts> {
        self.plan.facts(&self.plan.steps)
    }

    fn run_timed(&mut self, given: &[Given<'_>], clock: Clock, times: &mut [Duration]) -> Result<Outcome> {
        threads::with_count(self.threads(), || {
            self.refresh(clock)?;
            let mut last = Instant::now();
            self.run_steps(given, clock, |i| {
                let now = Instant::now();
                times[i] += now - last;
                last = now;
            })
        })
    }
}
