//! Recurrent layers: one step forward, one step for back-propagation through time.
//!
//! Weights, gates and cells lie as the kernel wants them, `[block of 16 units][gate][…][16]`; gates and cells from
//! the forward to the backward step without ever being brought into rows. A GRU's fourth gate value, m, which the
//! kernel keeps apart, lies behind the other three in the same buffer.

use kessen_graph::ops::recurrent::{self as op, RecurrentActivation, RecurrentKind};
use kessen_graph::{Graph, Node, NodeId, Op, ValueId};
use kessen_kernels::Indices;
use kessen_kernels::recurrent::{
    Activation, Cell, Gradients, Inputs, Kept, Lookup, Outputs, Recurrent, States, Weights,
};

use super::{embedding, lookup, tokens};
use crate::cpu::builder::{Layout, PlanBuilder};
use crate::cpu::memory::{Buf, Views};
use crate::cpu::param::ParamLayout;
use crate::{Error, Result};

fn cell(kind: RecurrentKind, activation: RecurrentActivation) -> Cell {
    match kind {
        RecurrentKind::Lstm => Cell::Lstm,
        RecurrentKind::Gru => Cell::Gru,
        RecurrentKind::Elman => Cell::Elman(match activation {
            RecurrentActivation::Tanh => Activation::Tanh,
            RecurrentActivation::Relu => Activation::Relu,
            RecurrentActivation::Sigmoid => Activation::Sigmoid,
            RecurrentActivation::LeakyRelu => Activation::LeakyRelu,
            RecurrentActivation::Elu => Activation::Elu,
            RecurrentActivation::Softplus => Activation::Softplus,
            RecurrentActivation::Identity => Activation::Identity,
        }),
    }
}

/// The kernel's descriptor of the forward operator on operands of these shapes.
pub(super) fn describe(op: &op::Recurrent, x: &[usize], weight_hh: &[usize]) -> Option<Recurrent> {
    let ([batch, time, inputs], [_, hidden]) = (x, weight_hh) else { return None };
    Some(Recurrent {
        cell: cell(op.kind, op.activation),
        batch: *batch,
        time: *time,
        inputs: *inputs,
        hidden: *hidden,
        batch_first: true,
        reverse: op.reverse,
        output_row: *hidden,
    })
}

/// As [`describe`], for a node with the forward operator, its x standing at `x` of the operands.
fn describe_node(graph: &Graph, node: &Node, op: &op::Recurrent, x: usize) -> Option<Recurrent> {
    let fixed =
        |v: ValueId| graph.ty(v).shape.iter().map(kessen_graph::Dim::as_fixed).collect::<Option<Vec<_>>>();
    describe(op, &fixed(node.inputs[x])?, &fixed(node.inputs[x + 2])?)
}

/// The descriptor of a recurrent layer that reads `x` as its inputs and as nothing else.
pub(super) fn describe_reader(b: &PlanBuilder<'_>, reader: &Node, x: ValueId) -> Option<Recurrent> {
    let Op::Recurrent(op) = &reader.op else { return None };
    let alone = reader.inputs[0] == x && !reader.inputs[1..].contains(&x);
    if alone { describe(op, b.shape(x), b.shape(reader.inputs[2])) } else { None }
}

/// A weight over `k` values, the same for every batch, length and direction.
fn weight(desc: &Recurrent, k: usize) -> ParamLayout {
    let desc = Recurrent { batch: 0, time: 0, inputs: k, reverse: false, ..*desc };
    ParamLayout::Recurrent(desc)
}

/// Layouts of the parameters of a recurrent layer with that descriptor: weight_ih, weight_hh, bias_ih, bias_hh.
fn param_layouts(desc: &Recurrent) -> [ParamLayout; 4] {
    [weight(desc, desc.inputs), weight(desc, desc.hidden), weight(desc, 1), weight(desc, 1)]
}

/// The parameters (or their gradients) of a recurrent node with the layouts that the kernel wants.
pub(crate) fn params_of(graph: &Graph, node: &Node) -> Vec<(ValueId, ParamLayout)> {
    let of = |op: &op::Recurrent, x: usize| describe_node(graph, node, op, x).map(|d| param_layouts(&d));
    match &node.op {
        Op::Recurrent(op) => {
            let Some(layouts) = of(op, 0) else { return Vec::new() };
            let biases = op.places().bias.into_iter().flat_map(|b| [b, b + 1]);
            [1, 2].into_iter().chain(biases).map(|i| node.inputs[i]).zip(layouts).collect()
        }
        Op::RecurrentGrad(op) => {
            let (places, Some(layouts)) = (op.places(), of(&op.forward(), op.places().x)) else {
                return Vec::new();
            };
            let biases = places.dbias.into_iter().flat_map(|b| [b, b + 1]);
            let gradients = [1, 2].into_iter().chain(biases).map(|i| node.outputs[i]).zip(layouts);
            let weights = [1, 2].map(|i| node.inputs[places.x + i]).into_iter().zip(layouts);
            gradients.chain(weights).collect()
        }
        _ => Vec::new(),
    }
}

/// What a recurrent node keeps for its gradient, with its layouts.
pub(crate) fn kept_of(graph: &Graph, node: &Node) -> Vec<(ValueId, ParamLayout)> {
    let Op::Recurrent(op) = &node.op else { return Vec::new() };
    let (places, Some(desc)) = (op.places(), describe_node(graph, node, op, 0)) else { return Vec::new() };
    let gates = places.gates.map(|i| (node.outputs[i], ParamLayout::Gates(desc)));
    let cells = places.cells.map(|i| (node.outputs[i], ParamLayout::Cells(desc)));
    gates.into_iter().chain(cells).collect()
}

/// A value as the kernel reads it: as it lies, or packed.
fn located(b: &mut PlanBuilder<'_>, v: ValueId, layout: ParamLayout) -> Buf {
    if b.kernel_layout(v) == layout {
        return b.located(v, Layout::Kernel);
    }
    let (plain, len) = (b.plain(v), layout.len(b.shape(v)));
    b.derived(v, plain, len, "pack for the recurrence", move |src, dst| layout.pack(src, dst))
}

/// Positions in a step's lists, where there is something.
#[derive(Clone, Copy)]
struct At(Option<usize>);

impl At {
    fn read<'v>(self, views: &Views<'v>) -> Option<&'v [f32]> {
        self.0.map(|k| views.read(k))
    }

    fn write<'v>(self, views: &Views<'v>) -> Option<&'v mut [f32]> {
        self.0.map(|k| views.write(k))
    }

    fn lengths<'v>(self, views: &Views<'v>) -> Option<Indices<'v>> {
        self.0.map(|k| Indices::I64(views.read_ids(k)))
    }
}

/// Collects a step's buffers.
#[derive(Default)]
struct List(Vec<Buf>);

impl List {
    fn add(&mut self, buf: Buf) -> usize {
        self.0.push(buf);
        self.0.len() - 1
    }

    fn maybe(&mut self, buf: Option<Buf>) -> At {
        At(buf.map(|buf| self.add(buf)))
    }
}

/// A length that is no length.
fn check_lengths(
    path: &str,
    operator: &'static str,
    lengths: Option<Indices<'_>>,
    time: usize,
) -> Result<()> {
    let Some(Indices::I64(lengths)) = lengths else { return Ok(()) };
    let bad = |&n: &i64| usize::try_from(n).map_or(true, |n| n > time);
    match lengths.iter().position(bad) {
        None => Ok(()),
        Some(position) => Err(Error::Index {
            path: path.to_owned(),
            operator: operator.to_owned(),
            index: lengths[position],
            position,
            limit: time + 1,
        }),
    }
}

pub(super) fn kernel_error(error: &kessen_kernels::Error) -> Error {
    kessen_graph::Error::Inconsistent(error.to_string()).into()
}

/// The shapes are no recurrent layer's; the shape rule has refused that.
fn no_layer(b: &PlanBuilder<'_>, id: NodeId) -> Error {
    super::unsupported(b, b.graph.node(id).outputs[0], "expected x [B, T, I] and weight_hh [G·H, H]")
}

/// The layer forward.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Recurrent(op) = &node.op else { return Ok(()) };
    let places = op.places();
    let Some(desc) = describe(op, b.shape(node.inputs[0]), b.shape(node.inputs[2])) else {
        return Err(no_layer(b, id));
    };
    let layouts = param_layouts(&desc);
    let weights = [1, 2].map(|i| located(b, node.inputs[i], layouts[i - 1]));
    let bias = places.bias.map(|at| [0, 1].map(|i| located(b, node.inputs[at + i], layouts[2 + i])));
    let tokens = tokens::of(b, node.inputs[0], desc, weights, bias);
    let looked = lookup::of(b, node.inputs[0]);
    let mut reads = List(vec![match &tokens {
        Some(tokens) => tokens.ids,
        None => looked.map_or_else(|| b.plain(node.inputs[0]), |[record, _]| record),
    }]);
    weights.iter().for_each(|&buf| {
        reads.add(buf);
    });
    let bias = bias.map(|bufs| bufs.map(|buf| reads.add(buf)));
    let needs_gates = tokens.is_none();
    let projected = reads.maybe(tokens.map(|t| t.projected));
    let table = reads.maybe(looked.map(|[_, table]| table));
    let [lengths, h0, c0] = [places.lengths, places.hidden, places.cell].map(|at| {
        let buf = at.map(|i| b.plain(node.inputs[i]));
        reads.maybe(buf)
    });
    let scratch = match looked {
        Some(_) => desc.forward_lookup_scratch(),
        None => desc.forward_scratch(),
    };
    let mut writes = List(vec![b.result(node.outputs[0], Layout::Plain), b.scratch(scratch)]);
    let keeps = [places.gates, places.cells].into_iter().flatten().any(|i| b.is_needed(node.outputs[i]));
    // The kernel may need the place of gates that are not kept; a GRU's m lies behind it.
    let gates_len = if keeps || needs_gates { desc.gates_len() } else { 0 };
    let behind = if places.cells.is_some() { 0 } else { desc.extra_len() };
    let kept = |b: &mut PlanBuilder<'_>, at: Option<usize>, len: usize| match at.filter(|_| keeps) {
        Some(i) => b.result(node.outputs[i], Layout::Kernel),
        None => b.scratch(len),
    };
    let gates = writes.add(kept(b, places.gates, gates_len + behind));
    let cells = places.cells.map(|i| kept(b, Some(i), desc.extra_len()));
    let cells = writes.maybe(cells);
    let last = |b: &mut PlanBuilder<'_>, there: bool, i: usize| {
        (there && b.is_needed(node.outputs[i])).then(|| b.result(node.outputs[i], Layout::Plain))
    };
    let h = writes.maybe(last(b, true, 1));
    let c = writes.maybe(last(b, op.kind.has_cell(), 2));
    let (path, word) = (node.path.clone(), op.kind.word());
    let kernel = match (projected.0, table.0) {
        (Some(_), _) => format!("{word} of a table's rows"),
        (None, Some(_)) => format!("{word} of looked-up rows"),
        (None, None) => word.to_owned(),
    };
    b.step(&kernel, &reads.0, &writes.0, move |views, _| {
        let lengths = lengths.lengths(views);
        check_lengths(&path, word, lengths, desc.time)?;
        let weights = Weights {
            input: views.read(1),
            recurrent: views.read(2),
            bias_input: bias.map(|[k, _]| views.read(k)),
            bias_recurrent: bias.map(|[_, k]| views.read(k)),
        };
        let start = States { h: h0.read(views), c: c0.read(views) };
        let (gates, behind) = views.write(gates).split_at_mut(gates_len);
        let extra = cells.write(views).unwrap_or(behind);
        let mut out = Outputs { y: views.write(0), gates, extra, h: h.write(views), c: c.write(views) };
        let scratch = views.write(1);
        match (projected.read(views), table.read(views)) {
            (Some(projected), _) => {
                let ids = views.read_ids(0);
                embedding::check(&path, word, ids, projected.len() / desc.columns().max(1))?;
                desc.forward_tokens(Indices::I64(ids), projected, &weights, start, lengths, &mut out, scratch)
            }
            (None, Some(table)) => {
                let x = Lookup::new(&desc, table, views.read_ids(0));
                desc.forward_lookup(&x, &weights, start, lengths, &mut out, scratch)
            }
            (None, None) => desc.forward(views.read(0), &weights, start, lengths, &mut out, scratch),
        }
        .map_err(|e| kernel_error(&e))?;
        if let (true, Some(lengths)) = (keeps, lengths) {
            clear_padding(&desc, lengths, &mut out);
        }
        Ok(())
    });
    Ok(())
}

/// Sets what is kept of padded steps to 0.
fn clear_padding(desc: &Recurrent, lengths: Indices<'_>, out: &mut Outputs<'_>) {
    let Indices::I64(lengths) = lengths else { return };
    for (b, &length) in lengths.iter().enumerate() {
        for t in length as usize..desc.time {
            (0..desc.columns() / 16).for_each(|panel| out.gates[desc.gate_place(b, t, panel)].fill(0.0));
            if !out.extra.is_empty() {
                out.extra[desc.extra_row(b, t)].fill(0.0);
            }
        }
    }
}

/// Back-propagation through time.
pub(crate) fn lower_grad(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::RecurrentGrad(op) = &node.op else { return Ok(()) };
    let (places, input) = (op.places(), |at: usize| node.inputs[at]);
    let Some(desc) = describe(&op.forward(), b.shape(input(places.x)), b.shape(input(places.x + 2))) else {
        return Err(no_layer(b, id));
    };
    let layouts = param_layouts(&desc);
    let looked = lookup::of(b, input(places.x));
    let mut reads = List(vec![match looked {
        Some([record, _]) => record,
        None => b.plain(input(places.x)),
    }]);
    for (i, layout) in [1, 2].into_iter().zip(layouts) {
        reads.add(located(b, input(places.x + i), layout));
    }
    reads.add(b.plain(input(places.y)));
    let table = reads.maybe(looked.map(|[_, table]| table));
    let rows = [places.dy, places.dh, places.dc, places.lengths, places.hidden, places.cell];
    let [dy, dh, dc, lengths, h0, c0] = rows.map(|at| {
        let buf = at.map(|i| b.plain(input(i)));
        reads.maybe(buf)
    });
    let cells = places.cells.map(|i| located(b, input(i), ParamLayout::Cells(desc)));
    let cells = reads.maybe(cells);
    // The kernel leaves gradients where the gates lay. An Elman network keeps none, but needs the place.
    let gates = match places.gates {
        Some(i) => {
            let kept = located(b, input(i), ParamLayout::Gates(desc));
            b.for_overwriting(kept)
        }
        None => b.scratch(desc.gates_len()),
    };
    let scratch = b.scratch(desc.backward_scratch().max(desc.backward_lookup_scratch()));
    let mut writes = List(vec![scratch, gates]);
    let mut unpacked = Vec::new();
    let params: Vec<usize> =
        [1, 2].into_iter().chain(places.dbias.into_iter().flat_map(|k| [k, k + 1])).collect();
    for (&k, layout) in params.iter().zip(layouts) {
        let v = node.outputs[k];
        let own = b.kernel_layout(v) == layout;
        let buf = if own { b.result(v, Layout::Kernel) } else { b.scratch(layout.len(b.shape(v))) };
        writes.add(buf);
        if !own && b.is_needed(v) {
            unpacked.push((v, buf, layout));
        }
    }
    let bias = places.dbias.is_some();
    let [dx, dh0, dc0] = [Some(0), places.dhidden, places.dcell].map(|at| {
        let wanted = at.map(|k| node.outputs[k]).filter(|&v| b.is_needed(v));
        writes.maybe(wanted.map(|v| b.result(v, Layout::Plain)))
    });
    let path = node.path.clone();
    let of = if looked.is_some() { " of looked-up rows" } else { "" };
    b.step(&format!("{} gradient{of}", op.kind.word()), &reads.0, &writes.0, move |views, _| {
        let lengths = lengths.lengths(views);
        check_lengths(&path, "recurrent_grad", lengths, desc.time)?;
        let (input, recurrent) = (views.read(1), views.read(2));
        let weights = Weights { input, recurrent, bias_input: None, bias_recurrent: None };
        let (gates, behind) = views.write(1).split_at_mut(desc.gates_len());
        let x = match table.read(views) {
            Some(table) => Inputs::Lookup(Lookup::new(&desc, table, views.read_ids(0))),
            None => Inputs::Rows(views.read(0)),
        };
        let kept = Kept {
            x,
            start: States { h: h0.read(views), c: c0.read(views) },
            lengths,
            y: views.read(3),
            extra: cells.read(views).unwrap_or(behind),
            dy: dy.read(views),
            dend: States { h: dh.read(views), c: dc.read(views) },
        };
        let mut out = Gradients {
            x: dx.write(views),
            accumulate_x: false,
            input: views.write(2),
            recurrent: views.write(3),
            bias_input: bias.then(|| views.write(4)),
            bias_recurrent: bias.then(|| views.write(5)),
            h: dh0.write(views),
            c: dc0.write(views),
            gates,
        };
        desc.backward(&weights, &kept, &mut out, views.write(0)).map_err(|e| kernel_error(&e))
    });
    for (v, from, layout) in unpacked {
        let to = b.result(v, Layout::Plain);
        b.step("reorder kernel layout → plain", &[from], &[to], move |views, _| {
            layout.unpack(views.read(0), views.write(0));
            Ok(())
        });
    }
    Ok(())
}

/// Number of floats of gates as they are kept: for a GRU, m follows r, z, n.
pub(crate) fn gates_len(desc: &Recurrent) -> usize {
    desc.gates_len() + if desc.cell == Cell::Gru { desc.extra_len() } else { 0 }
}

/// Calls `f(place in rows [B·T, 4·H], place in the kernel's buffer)` for every value that is kept as gates.
pub(crate) fn for_each_gate(desc: &Recurrent, mut f: impl FnMut(usize, usize)) {
    let (own, hidden) = (desc.cell.gates(), desc.hidden);
    for (b, t) in (0..desc.batch).flat_map(|b| (0..desc.time).map(move |t| (b, t))) {
        let row = b * desc.time + t;
        for gate in 0..4 {
            for unit in 0..hidden {
                let (block, lane) = (unit / 16, unit % 16);
                let packed = match gate < own {
                    true => desc.gate_place(b, t, block * own + gate).start + lane,
                    false => desc.gates_len() + desc.extra_row(b, t).start + unit,
                };
                f((row * 4 + gate) * hidden + unit, packed);
            }
        }
    }
}

/// Calls `f(place in rows [B·T, H], place in the kernel's buffer)` for every cell.
pub(crate) fn for_each_cell(desc: &Recurrent, mut f: impl FnMut(usize, usize)) {
    for (b, t) in (0..desc.batch).flat_map(|b| (0..desc.time).map(move |t| (b, t))) {
        let (row, start) = (b * desc.time + t, desc.extra_row(b, t).start);
        (0..desc.hidden).for_each(|unit| f(row * desc.hidden + unit, start + unit));
    }
}
