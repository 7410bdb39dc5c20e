//! The fast backend: single precision, SIMD, threads, everything decided ahead.
//!
//! `compile` runs the stages in order, again with more recomputation where the plan exceeds its memory: layouts of parameters ([`param`]), groups of nodes ([`fuse`]), one step or a
//! few per group ([`lower`], one file per kind of operator), lifetimes to offsets ([`place`]). What runs afterwards
//! ([`executable`]) walks a list of steps and decides nothing.

mod builder;
mod executable;
mod fuse;
mod images;
mod lower;
mod memory;
mod param;
mod place;
mod plan;

use kessen_graph::{Bindings, Graph};
use kessen_kernels::threads;

use self::builder::{Layout, PlanBuilder};
use self::executable::CpuExecutable;
use self::memory::{Buf, BufInfo, Keep, whole};
use self::place::Life;
use self::plan::{Plan, PlannedStep};
use crate::passes::{CHOICES, Parts};
use crate::{Backend, CompileOptions, Error, Executable, Mode, Result, passes};

/// The fast backend.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    fuse: bool,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// With every pass on.
    pub fn new() -> Self {
        Self { fuse: true }
    }

    /// One step per node, as the graph stands: what the fused plan is checked against.
    pub fn unfused() -> Self {
        Self { fuse: false }
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn compile(
        &self,
        graph: &Graph,
        bindings: &Bindings,
        options: &CompileOptions,
    ) -> Result<Box<dyn Executable>> {
        let mut graph = graph.bind(bindings)?;
        if options.mode == Mode::Inference && self.fuse {
            graph = passes::fold_batch_norm(&graph)?;
        }
        let (graph, plan, constants) = self.fit(graph, bindings, options)?;
        CpuExecutable::new(graph, plan, &constants).map(|e| Box::new(e) as Box<dyn Executable>)
    }
}

impl Cpu {
    /// The graph and its plan within the memory that it may have: as it stands, or with as little computed again in
    /// the backward part as will do.
    fn fit(
        &self,
        graph: Graph,
        bindings: &Bindings,
        options: &CompileOptions,
    ) -> Result<(Graph, Plan, Constants)> {
        let (whole, constants) = plan(&graph, bindings, options, self.fuse)?;
        let limit = options.memory_limit.unwrap_or(usize::MAX);
        let (mut needed, lasting) = (whole.bytes(), whole.placement.lasting);
        if needed <= limit {
            return Ok((graph, whole, constants));
        }
        if options.mode == Mode::Training
            && let Some(parts) = Parts::new(&graph, builder::companion)
        {
            for choice in CHOICES {
                let again = passes::recompute(&parts, choice)?;
                let (plan, constants) = plan(&again, bindings, options, self.fuse)?;
                if plan.bytes() <= limit {
                    return Ok((again, plan, constants));
                }
                needed = needed.min(plan.bytes());
            }
        }
        Err(Error::Memory { needed, limit, lasting })
    }
}

/// Constants' buffers with their values.
type Constants = Vec<(Buf, kessen_tensor::Tensor)>;

fn plan(
    graph: &Graph,
    bindings: &Bindings,
    options: &CompileOptions,
    fuse: bool,
) -> Result<(Plan, Constants)> {
    let layouts = param::choose_layouts(graph, options.mode);
    let live = live_nodes(graph);
    let mut b = PlanBuilder::new(graph, &live, bindings, options, layouts, fuse)?;
    let guarded = options.guarded_value(graph)?;
    let mut guard = None;
    for group in fuse::groups(graph, &live, guarded, fuse) {
        let first_step = b.steps.len();
        let group = &group.nodes;
        b.begin(group);
        lower::lower(&mut b, group)?;
        let results: Vec<Buf> = group
            .iter()
            .flat_map(|&n| &graph.node(n).outputs)
            .flat_map(|&v| [Layout::Plain, Layout::Blocked, Layout::Kernel].map(|l| b.buffer_of(v, l)))
            .flatten()
            .collect();
        if let Some(step) = b.steps[first_step..].last_mut() {
            step.checked = results;
        }
        if let Some(v) = guarded
            && guard.is_none()
            && group.iter().any(|&n| graph.node(n).outputs.contains(&v))
        {
            guard = b.steps.len().checked_sub(1).zip(b.buffer_of(v, Layout::Plain));
            b.guard_passed = true;
        }
    }
    b.finish_updates();
    let mut outputs = Vec::new();
    for (_, v) in graph.outputs() {
        let buf = b.plain(*v);
        if b.infos[buf.index()].keep == Keep::Step {
            b.infos[buf.index()].keep = Keep::Run;
        }
        outputs.push((buf, b.shape(*v).to_vec()));
    }
    let inputs: Vec<Buf> = graph.inputs().iter().map(|&v| b.plain(v)).collect();
    let lives = lives(&b.infos, &b.steps);
    let placement = place::place(&b.infos, &lives);
    let plan = Plan {
        prologue: b.prologue,
        steps: b.steps,
        guard,
        infos: b.infos,
        placement,
        inputs,
        outputs,
        params: b.params,
        threads: threads::count(),
    };
    Ok((plan, b.constants))
}

/// For each node, whether it has to be computed: an output or an update depends on it, or a kernel reads its result
/// besides the operands. Such a result has the operands of a node that is computed, so nothing more follows.
fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = passes::live_nodes(graph);
    for (at, node) in graph.nodes().iter().enumerate().rev() {
        if live[at]
            && let Some((producer, _)) = builder::companion(graph, node).and_then(|v| graph.producer(v))
        {
            live[producer.index()] = true;
        }
    }
    live
}

/// First and last step that touch each buffer of the arena.
fn lives(infos: &[BufInfo], steps: &[PlannedStep]) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = vec![None; infos.len()];
    for (i, step) in steps.iter().enumerate() {
        for &buf in step.reads.iter().chain(&step.writes) {
            let life = lives[whole(infos, buf).index()].get_or_insert(Life { first: i, last: i });
            life.last = i;
        }
    }
    for (i, _) in infos.iter().enumerate().filter(|(_, info)| info.keep == Keep::Run) {
        let buf = Buf::new(i);
        if let Some(life) = &mut lives[whole(infos, buf).index()] {
            life.last = steps.len();
        }
    }
    lives
}
