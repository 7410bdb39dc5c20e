//! Collecting steps while the graph is lowered node by node.

use std::collections::HashMap;

use kessen_graph::{Bindings, Graph, Node, NodeId, Op, Origin, ParamId, ValueId};
use kessen_kernels::layout;
use kessen_tensor::{DType, Tensor};

use super::images::Images;
use super::lower::{lookup, norm, pool};
use super::memory::{Buf, BufInfo, Keep, Kind, whole};
use super::param::ParamLayout;
use super::plan::{PlannedParam, PlannedStep, Step};
use crate::{Clock, CompileOptions, Mode, Precision, Result, StepFacts};

/// How an image-like value `[N, C, H, W]` lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Row-major.
    Plain,
    /// nChw16c: channels in blocks of 16, the last padded with lanes that are finite and ignored.
    Blocked,
    /// As the kernels want a weight and all that belongs to it ([`ParamLayout`]).
    Kernel,
}

/// Collects steps and buffers.
pub(crate) struct PlanBuilder<'g> {
    pub graph: &'g Graph,
    pub shapes: Vec<Vec<usize>>,
    fuse: bool,
    precision: Precision,
    pub infos: Vec<BufInfo>,
    pub prologue: Vec<PlannedStep>,
    pub steps: Vec<PlannedStep>,
    pub params: Vec<PlannedParam>,
    pub constants: Vec<(Buf, Tensor)>,
    pub(super) images: Images,
    /// Per value: its buffers by layout.
    located: Vec<[Option<Buf>; 3]>,
    /// Per value: the layout of the parameter's class it belongs to.
    layouts: Vec<ParamLayout>,
    /// Per value: uses by nodes not lowered yet, by outputs and by updates.
    pending: Vec<usize>,
    /// Per buffer that is no slice: values that lie in it or in slices of it.
    holds: HashMap<Buf, Vec<ValueId>>,
    /// Per value: whether it depends on nothing that changes between runs.
    statics: Vec<bool>,
    /// Per value: the parameter whose next value it is.
    update_of: HashMap<ValueId, ParamId>,
    /// Whether the node being lowered goes into the prologue.
    in_prologue: bool,
    /// Whether the guarded value has been computed, so that parameters may change.
    pub guard_passed: bool,
    path: String,
    macs: u64,
}

impl<'g> PlanBuilder<'g> {
    /// A builder that knows the graph's inputs, constants and parameters.
    pub fn new(
        graph: &'g Graph,
        live: &[bool],
        bindings: &Bindings,
        options: &CompileOptions,
        layouts: Vec<ParamLayout>,
        fuse: bool,
    ) -> Result<Self> {
        let shapes = graph.shapes(bindings)?;
        let statics = static_values(graph, options.mode);
        let mut builder = Self {
            graph,
            fuse,
            precision: options.precision,
            infos: Vec::new(),
            prologue: Vec::new(),
            steps: Vec::new(),
            params: Vec::new(),
            constants: Vec::new(),
            located: vec![[None; 3]; graph.values().len()],
            pending: uses(graph, live),
            holds: HashMap::new(),
            images: Images::new(graph, live, &statics),
            statics,
            update_of: graph.updates().iter().map(|&(p, v)| (v, p)).collect(),
            in_prologue: false,
            guard_passed: options.guard.is_none(),
            path: String::new(),
            macs: 0,
            shapes,
            layouts,
        };
        for id in graph.param_ids() {
            let param = graph.param(id);
            let layout = builder.kernel_layout(param.value);
            let buf = builder.buffer(Kind::F32, layout.len(&param.shape), Keep::Param(id));
            let own = if layout == ParamLayout::Plain { Layout::Plain } else { Layout::Kernel };
            builder.bind(param.value, own, buf);
            builder.params.push(PlannedParam { buf, layout });
        }
        for v in graph.value_ids() {
            if let Origin::Constant(tensor) = &graph.value(v).origin {
                let buf = builder.buffer(kind_of(tensor.dtype()), tensor.len(), Keep::Plan);
                builder.bind(v, Layout::Plain, buf);
                builder.constants.push((buf, tensor.clone()));
            }
        }
        for &v in graph.inputs() {
            let buf = builder.buffer(kind_of(graph.ty(v).dtype), builder.len(v), Keep::Plan);
            builder.bind(v, Layout::Plain, buf);
        }
        Ok(builder)
    }

    /// Starts lowering the nodes `group`, of which the last is the one whose path is shown.
    pub fn begin(&mut self, group: &[NodeId]) {
        let graph = self.graph;
        let nodes: Vec<&Node> = group.iter().map(|&id| graph.node(id)).collect();
        self.in_prologue = nodes.iter().all(|n| n.inputs.iter().all(|v| self.statics[v.index()]));
        self.path = nodes.first().map(|n| n.path.clone()).unwrap_or_default();
        self.macs = nodes.iter().map(|n| self.node_macs(n)).sum();
        // The group's own uses are over once it is lowered, so its operands may be overwritten by its results.
        for v in nodes.iter().flat_map(|n| n.inputs.iter().copied().chain(companion(graph, n))) {
            self.pending[v.index()] -= 1;
        }
    }

    fn node_macs(&self, node: &Node) -> u64 {
        let shapes = |ids: &[ValueId]| -> Vec<&[usize]> { ids.iter().map(|&v| self.shape(v)).collect() };
        node.op.operator().macs(&shapes(&node.inputs), &shapes(&node.outputs))
    }

    /// Dimensions of a value.
    pub fn shape(&self, v: ValueId) -> &[usize] {
        &self.shapes[v.index()]
    }

    /// Dimensions of a value `[N, C, H, W]`; missing trailing ones are 1.
    pub fn image(&self, v: ValueId) -> [usize; 4] {
        let shape = self.shape(v);
        std::array::from_fn(|i| shape.get(i).copied().unwrap_or(1))
    }

    /// Number of elements of a value.
    pub fn len(&self, v: ValueId) -> usize {
        self.shape(v).iter().product()
    }

    /// Whether a value lies in that layout already.
    pub fn lies(&self, v: ValueId, layout: Layout) -> bool {
        self.located[v.index()][layout as usize].is_some()
    }

    /// Whether a node that is still to be lowered, an output or an update reads a value.
    pub fn is_needed(&self, v: ValueId) -> bool {
        self.pending[v.index()] > 0
    }

    /// Which algorithms may be chosen.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether a value depends on nothing that changes between runs.
    pub fn is_static(&self, v: ValueId) -> bool {
        self.statics[v.index()]
    }

    /// Whether several nodes may become one step.
    pub fn fuses(&self) -> bool {
        self.fuse
    }

    /// The buffer of a value in that layout, where it lies so.
    pub fn buffer_of(&self, v: ValueId, layout: Layout) -> Option<Buf> {
        self.located[v.index()][layout as usize]
    }

    /// A value row-major.
    pub fn plain(&mut self, v: ValueId) -> Buf {
        if let Some(buf) = self.located[v.index()][Layout::Plain as usize] {
            return buf;
        }
        if self.lies(v, Layout::Blocked) {
            let buf = self.blocked(v);
            let [n, c, h, w] = self.image(v);
            if h * w == 1 && c % layout::PANEL == 0 {
                self.bind(v, Layout::Plain, buf);
                return buf;
            }
            return self.reorder(v, Layout::Plain, buf, "reorder nChw16c → nchw", move |src, dst| {
                layout::from_blocked(src, dst, n, c, h * w);
            });
        }
        let from = self.located(v, Layout::Kernel);
        let layout = self.kernel_layout(v);
        self.reorder(v, Layout::Plain, from, "reorder kernel layout → plain", move |src, dst| {
            layout.unpack(src, dst);
        })
    }

    /// The layout of the parameter's class that a value belongs to.
    pub fn kernel_layout(&self, v: ValueId) -> ParamLayout {
        self.layouts[v.index()]
    }

    /// Whether a value lies as a kernel wants it, not row-major.
    pub fn has_kernel_layout(&self, v: ValueId) -> bool {
        self.kernel_layout(v) != ParamLayout::Plain
    }

    /// A value in blocks of 16 channels.
    pub fn blocked(&mut self, v: ValueId) -> Buf {
        if let Some(buf) = self.located[v.index()][Layout::Blocked as usize] {
            return self.gathered(v, buf);
        }
        let buf = self.plain(v);
        let [n, c, h, w] = self.image(v);
        if h * w == 1 && c % layout::PANEL == 0 {
            self.bind(v, Layout::Blocked, buf);
            return buf;
        }
        self.reorder(v, Layout::Blocked, buf, "reorder nchw → nChw16c", move |src, dst| {
            layout::to_blocked(src, dst, n, c, h * w);
        })
    }

    /// A value in either layout.
    pub fn located(&mut self, v: ValueId, layout: Layout) -> Buf {
        match layout {
            Layout::Plain => self.plain(v),
            Layout::Blocked => self.blocked(v),
            Layout::Kernel => match self.located[v.index()][Layout::Kernel as usize] {
                Some(buf) => buf,
                None => unreachable!("value `{}` is used before it is computed", self.graph.value(v).name),
            },
        }
    }

    fn reorder(
        &mut self,
        v: ValueId,
        to: Layout,
        from: Buf,
        kernel: &str,
        run: impl Fn(&[f32], &mut [f32]) + Send + 'static,
    ) -> Buf {
        let buf = self.derived(v, from, self.len_in(v, to), kernel, run);
        self.bind(v, to, buf);
        buf
    }

    /// What a kernel makes of the value `v`, which lies in `from`: computed once where the value never changes.
    pub fn derived(
        &mut self,
        v: ValueId,
        from: Buf,
        len: usize,
        kernel: &str,
        run: impl Fn(&[f32], &mut [f32]) + Send + 'static,
    ) -> Buf {
        let outer = std::mem::replace(&mut self.in_prologue, self.statics[v.index()]);
        let macs = std::mem::take(&mut self.macs);
        let keep = if self.in_prologue { Keep::Plan } else { Keep::Step };
        let buf = self.buffer(Kind::F32, len, keep);
        self.step(kernel, &[from], &[buf], move |views, _| {
            run(views.read(0), views.write(0));
            Ok(())
        });
        (self.in_prologue, self.macs) = (outer, macs);
        buf
    }

    /// What a kernel makes, once, of buffers that never change: `[result, scratch]` have these lengths.
    pub fn once(
        &mut self,
        kernel: &str,
        reads: &[Buf],
        [result, scratch]: [usize; 2],
        run: impl Fn(&super::memory::Views<'_>) + Send + 'static,
    ) -> Buf {
        let outer = std::mem::replace(&mut self.in_prologue, true);
        let macs = std::mem::take(&mut self.macs);
        let (result, scratch) = (self.buffer(Kind::F32, result, Keep::Plan), self.scratch(scratch));
        self.step(kernel, reads, &[result, scratch], move |views, _| {
            run(views);
            Ok(())
        });
        (self.in_prologue, self.macs) = (outer, macs);
        result
    }

    /// A buffer for a result in that layout.
    pub fn result(&mut self, v: ValueId, layout: Layout) -> Buf {
        let keep = if self.in_prologue { Keep::Plan } else { Keep::Step };
        let buf = self.buffer(kind_of(self.graph.ty(v).dtype), self.len_in(v, layout), keep);
        self.bind(v, layout, buf);
        buf
    }

    /// The buffer of the parameter whose next value `v` is, for a step that can work in place: where nothing reads
    /// the present value any more and the run is known to be good.
    pub fn result_over_param(&mut self, v: ValueId, layout: Layout) -> Option<Buf> {
        let buf = self.param_under(v, layout)?;
        self.forget(buf);
        self.bind(v, layout, buf);
        Some(buf)
    }

    /// The buffer that [`PlanBuilder::result_over_param`] would give.
    pub fn param_under(&self, v: ValueId, layout: Layout) -> Option<Buf> {
        let id = *self.update_of.get(&v)?;
        let PlannedParam { buf, layout: own } = self.params[id.index()];
        let alike = own == self.kernel_layout(v) && (layout == Layout::Kernel) == self.has_kernel_layout(v);
        (self.guard_passed && alike && self.is_free(buf)).then_some(buf)
    }

    /// The buffer that owns the memory of `buf`.
    pub fn whole(&self, buf: Buf) -> Buf {
        whole(&self.infos, buf)
    }

    /// Whether no node that is still to be lowered reads what lies in `buf`, which is no slice.
    fn is_free(&self, buf: Buf) -> bool {
        self.holds.get(&buf).is_none_or(|held| held.iter().all(|h| self.pending[h.index()] == 0))
    }

    /// What lay in `buf` lies there no more.
    fn forget(&mut self, buf: Buf) {
        let infos = &self.infos;
        for held in self.holds.remove(&buf).unwrap_or_default() {
            let gone = |b: &&mut Option<Buf>| b.is_some_and(|b| whole(infos, b) == buf);
            self.located[held.index()].iter_mut().filter(gone).for_each(|b| *b = None);
        }
    }

    fn len_in(&self, v: ValueId, layout: Layout) -> usize {
        match layout {
            Layout::Plain => self.len(v),
            Layout::Blocked => {
                let [n, c, h, w] = self.image(v);
                layout::blocked_len(n, c, h, w)
            }
            Layout::Kernel => self.kernel_layout(v).len(self.shape(v)),
        }
    }

    /// A result that takes over the buffer of `operand`, where nothing else needs that any more. A step that does so
    /// must not read slices of it.
    pub fn result_over(&mut self, v: ValueId, operand: ValueId, layout: Layout) -> Option<Buf> {
        let buf = self.located[operand.index()][layout as usize]?;
        let info = self.infos[buf.index()];
        let same = self.shape(v) == self.shape(operand) && kind_of(self.graph.ty(v).dtype) == info.kind;
        let free = info.keep == Keep::Step && info.slice.is_none() && self.is_free(buf);
        let is_update = self.update_of.contains_key(&v) && self.guard_passed;
        if !same || !free || self.in_prologue || is_update {
            return None;
        }
        self.forget(buf);
        self.bind(v, layout, buf);
        Some(buf)
    }

    /// What lies in `buf`, for a step that overwrites it while it reads: a copy where something else needs it, too.
    pub fn for_overwriting(&mut self, buf: Buf) -> Buf {
        let info = self.infos[buf.index()];
        if info.keep == Keep::Step && info.slice.is_none() && self.is_free(buf) {
            self.forget(buf);
            return buf;
        }
        let (copy, macs) = (self.scratch(info.len), std::mem::take(&mut self.macs));
        self.step("copy", &[buf], &[copy], |views, _| {
            views.write(0).copy_from_slice(views.read(0));
            Ok(())
        });
        self.macs = macs;
        copy
    }

    /// Says that a value lies in `buf`.
    pub fn bind(&mut self, v: ValueId, layout: Layout, buf: Buf) {
        self.located[v.index()][layout as usize] = Some(buf);
        self.holds.entry(self.whole(buf)).or_default().push(v);
    }

    /// Floats that only one step needs.
    pub fn scratch(&mut self, len: usize) -> Buf {
        self.buffer(Kind::F32, len, Keep::Step)
    }

    /// A new buffer.
    pub fn buffer(&mut self, kind: Kind, len: usize, keep: Keep) -> Buf {
        self.add(BufInfo { kind, len, keep, slice: None })
    }

    /// A new buffer or slice of one.
    pub(super) fn add(&mut self, info: BufInfo) -> Buf {
        self.infos.push(info);
        Buf::new(self.infos.len() - 1)
    }

    /// Appends a step. No buffer, nor slices of one, may be both read and written, or written twice.
    pub fn step(
        &mut self,
        kernel: &str,
        reads: &[Buf],
        writes: &[Buf],
        step: impl Fn(&super::memory::Views<'_>, Clock) -> Result<()> + Send + 'static,
    ) {
        self.push(kernel.to_owned(), reads, writes, Box::new(step));
    }

    /// As [`PlanBuilder::step`], for a step that is a type.
    pub fn push(&mut self, kernel: String, reads: &[Buf], writes: &[Buf], step: Box<dyn Step>) {
        for (i, w) in writes.iter().enumerate() {
            let mut others = reads.iter().chain(&writes[..i]);
            let apart = others.all(|other| self.whole(*other) != self.whole(*w));
            assert!(apart, "step {kernel} has overlapping buffers");
        }
        let macs = std::mem::take(&mut self.macs);
        let label = StepFacts { path: self.path.clone(), kernel, macs, bytes: 0 };
        let planned =
            PlannedStep { step, label, reads: reads.to_vec(), writes: writes.to_vec(), checked: Vec::new() };
        if self.in_prologue { self.prologue.push(planned) } else { self.steps.push(planned) }
    }

    /// Appends copies into the parameters whose next values lie elsewhere.
    pub fn finish_updates(&mut self) {
        self.in_prologue = false;
        for &(param, value) in self.graph.updates() {
            self.path.clone_from(&self.graph.param(param).path);
            let target = self.params[param.index()].buf;
            let own = if self.has_kernel_layout(value) { Layout::Kernel } else { Layout::Plain };
            let source = self.located(value, own);
            if source != target {
                self.step("copy to parameter", &[source], &[target], |views, _| {
                    views.write(0).copy_from_slice(views.read(0));
                    Ok(())
                });
            }
        }
    }
}

/// How often each value is read by live nodes, outputs, updates, and kernels that read more than the operands.
fn uses(graph: &Graph, live: &[bool]) -> Vec<usize> {
    let mut uses = vec![0; graph.values().len()];
    let nodes = graph.nodes().iter().zip(live).filter(|(_, live)| **live);
    let by_nodes = nodes.flat_map(|(n, _)| n.inputs.iter().copied().chain(companion(graph, n)));
    let by_outputs = graph.outputs().iter().map(|(_, v)| *v);
    let by_updates = graph.updates().iter().map(|(_, v)| *v);
    by_nodes.chain(by_outputs).chain(by_updates).for_each(|v| uses[v.index()] += 1);
    uses
}

/// A value that a node's kernel reads besides the operands.
pub(crate) fn companion(graph: &Graph, node: &Node) -> Option<ValueId> {
    match node.op {
        Op::MaxPoolGrad(_) | Op::AdaptivePoolGrad(_) => pool::forward_result(graph, node),
        Op::BatchNormGrad(_) => norm::operand(graph, node).map(|(bias, _)| bias),
        Op::Recurrent(_) | Op::RecurrentGrad(_) => lookup::table(graph, node),
        _ => None,
    }
}

/// Element type of a buffer for values of that type.
fn kind_of(dtype: DType) -> Kind {
    if dtype == DType::I64 { Kind::I64 } else { Kind::F32 }
}

/// For each value, whether it depends on constants alone (and parameters, in inference).
fn static_values(graph: &Graph, mode: Mode) -> Vec<bool> {
    let mut statics: Vec<bool> = graph
        .values()
        .iter()
        .map(|v| match v.origin {
            Origin::Constant(_) => true,
            Origin::Param(_) => mode == Mode::Inference,
            Origin::Input | Origin::Node(..) => false,
        })
        .collect();
    for node in graph.nodes() {
        let is_static = node.inputs.iter().all(|v| statics[v.index()])
            && !matches!(&node.op, Op::Dropout(_) | Op::Attention(_));
        node.outputs.iter().for_each(|v| statics[v.index()] = is_static);
    }
    statics
}
