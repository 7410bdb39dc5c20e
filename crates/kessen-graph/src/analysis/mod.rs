//! Analysis: what a wiring costs and what its units see, for given sizes of the named dimensions.

mod field;
mod shapes;
mod table;

use std::collections::HashSet;

use serde::Serialize;

use crate::graph::{Node, Origin, ParamId, ParamKind, ValueId};
use crate::text::phrase;
use crate::{Bindings, Field, Graph, Op, Result};

pub use field::{ReceptiveField, Window};

/// A wiring's table: one row per input and node, in order. It prints as an aligned table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Name of the architecture.
    pub name: String,
    /// Numbers of the named dimensions.
    pub bindings: Vec<(String, usize)>,
    /// The rows.
    pub rows: Vec<Row>,
    /// Sums over the rows.
    pub total: Total,
}

/// One input or node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the input or path of the node.
    pub path: String,
    /// The operator's word, `input` for inputs.
    pub operator: String,
    /// The operator with its attributes, as the text form has it.
    pub phrase: String,
    /// Shape of the (first) result.
    pub shape: Vec<usize>,
    /// What a unit sees of the image; `None` where it sees none, or the input is no image.
    pub receptive_field: Option<ReceptiveField>,
    /// Learnt numbers that are used here first.
    pub parameters: usize,
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Bytes of the results; 0 for a reshape, which moves nothing.
    pub activation_bytes: u64,
}

/// Sums over a summary's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Total {
    /// Learnt numbers.
    pub parameters: usize,
    /// Numbers kept but not learnt by gradient: running statistics, frozen weights.
    pub buffers: usize,
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Bytes of all inputs and results, as if none were reused.
    pub activation_bytes: u64,
    /// Bytes of the parameters, buffers included.
    pub parameter_bytes: u64,
}

impl Graph {
    /// What the wiring costs for the given sizes, node by node.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::conv::conv, shape};
    /// let net = Graph::build("c", |g| g.input("image", shape!["batch", 1, 28, 28]).conv("c1", conv(6, 5).padding(2)))?;
    /// let summary = net.summary([("batch", 1)])?;
    /// assert_eq!((summary.total.parameters, summary.total.macs), (156, 117_600));
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Graph::shapes`]: dimensions without a number, sizes that don't fit.
    pub fn summary(&self, bindings: impl Into<Bindings>) -> Result<Summary> {
        let bindings = bindings.into();
        let shapes = self.shapes(&bindings)?;
        let mut analysis =
            Analysis { graph: self, shapes, fields: vec![None; self.values().len()], seen: HashSet::new() };
        let mut rows = Vec::new();
        for id in self.value_ids() {
            match self.value(id).origin {
                Origin::Input => rows.push(analysis.input(id)),
                Origin::Node(node, 0) => rows.push(analysis.node(self.node(node))),
                _ => {}
            }
        }
        let names = self.dim_names();
        let bound = names.into_iter().filter_map(|n| bindings.find(&n).map(|v| (n, v))).collect();
        Ok(Summary { name: self.name().to_owned(), bindings: bound, total: self.total(&rows), rows })
    }

    fn total(&self, rows: &[Row]) -> Total {
        let of_kind = |kind: ParamKind| -> usize {
            let params = self.params().iter().filter(|p| p.kind == kind);
            params.map(|p| p.shape.iter().product::<usize>()).sum()
        };
        let (parameters, buffers) = (of_kind(ParamKind::Weight), of_kind(ParamKind::Buffer));
        Total {
            parameters,
            buffers,
            macs: rows.iter().fold(0, |sum, r| sum.saturating_add(r.macs)),
            activation_bytes: rows.iter().fold(0, |sum, r| sum.saturating_add(r.activation_bytes)),
            parameter_bytes: 4 * (parameters + buffers) as u64,
        }
    }
}

struct Analysis<'g> {
    graph: &'g Graph,
    shapes: Vec<Vec<usize>>,
    fields: Vec<Option<ReceptiveField>>,
    seen: HashSet<ParamId>,
}

impl Analysis<'_> {
    fn bytes(&self, v: ValueId) -> u64 {
        let elements: usize = self.shapes[v.index()].iter().product();
        (elements as u64).saturating_mul(self.graph.ty(v).dtype.size() as u64)
    }

    fn input(&mut self, id: ValueId) -> Row {
        let value = self.graph.value(id);
        let is_image = value.ty.rank() == 4 && value.ty.dtype.is_float();
        self.fields[id.index()] = is_image.then_some(ReceptiveField::PIXEL);
        Row {
            path: value.name.clone(),
            operator: "input".to_owned(),
            phrase: "input".to_owned(),
            shape: self.shapes[id.index()].clone(),
            receptive_field: self.fields[id.index()],
            parameters: 0,
            macs: 0,
            activation_bytes: self.bytes(id),
        }
    }

    fn node(&mut self, node: &Node) -> Row {
        let of = |ids: &[ValueId]| -> Vec<&[usize]> {
            ids.iter().map(|v| self.shapes[v.index()].as_slice()).collect()
        };
        let macs = node.op.operator().macs(&of(&node.inputs), &of(&node.outputs));
        let moves = !matches!(node.op, Op::Reshape(_));
        let activation_bytes = node.outputs.iter().filter(|_| moves).map(|v| self.bytes(*v)).sum();
        let field = self.field(node);
        node.outputs.iter().for_each(|v| self.fields[v.index()] = field);
        let operand = node.inputs.first().map(|v| self.graph.ty(*v));
        Row {
            path: node.path.clone(),
            operator: node.op.operator().word().to_owned(),
            phrase: phrase(&node.op, operand, self.kernel(node)),
            shape: node.outputs.first().map(|v| self.shapes[v.index()].clone()).unwrap_or_default(),
            receptive_field: field,
            parameters: self.new_parameters(node),
            macs,
            activation_bytes,
        }
    }

    /// What the node's units see, from what its operands' units see.
    fn field(&self, node: &Node) -> Option<ReceptiveField> {
        let operands = node.inputs.iter().map(|v| self.fields[v.index()]);
        let seen = operands.fold(None, ReceptiveField::join)?;
        let field = node.op.operator().field();
        let own = match field {
            Field::Window { kernel, .. } if kernel != [0, 0] => kernel,
            _ => self.kernel(node).unwrap_or([1, 1]),
        };
        Some(seen.through(field, own))
    }

    /// Height and width of the kernel that the node's weight holds.
    fn kernel(&self, node: &Node) -> Option<[usize; 2]> {
        let Field::Window { kernel: [0, 0], .. } = node.op.operator().field() else { return None };
        let weight = &self.shapes[node.inputs.get(1)?.index()];
        weight.last_chunk::<2>().copied()
    }

    /// Learnt numbers among the operands that no node before has counted.
    fn new_parameters(&mut self, node: &Node) -> usize {
        let mut count = 0;
        for v in &node.inputs {
            if let Origin::Param(id) = self.graph.value(*v).origin
                && self.graph.param(id).kind == ParamKind::Weight
                && self.seen.insert(id)
            {
                count += self.shapes[v.index()].iter().product::<usize>();
            }
        }
        count
    }
}
