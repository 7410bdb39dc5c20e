//! The gradient as a graph transformation.
//!
//! [`gradients`] walks the nodes backwards and lets each operator's rule append the nodes that compute its operands'
//! gradients; contributions to one value are added. The result is the same graph with more nodes, so a training
//! step is checked, planned and printed like any other graph. The rejected alternative, a tape recorded at run
//! time, can't be planned ahead.

use crate::graph::{NodeId, ValueId};
use crate::ops::binary::{Binary, BinaryKind};
use crate::{Error, Graph, Op, Result};

/// What a gradient rule sees of its node, and where it puts its results.
#[derive(Debug)]
pub struct GradContext<'g> {
    graph: &'g mut Graph,
    path: String,
    operator: String,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    wanted: Vec<bool>,
    doutputs: Vec<Option<ValueId>>,
    dinputs: Vec<Option<ValueId>>,
}

impl GradContext<'_> {
    /// Number of operands.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Operand `i`.
    pub fn input(&self, i: usize) -> ValueId {
        self.inputs[i]
    }

    /// Result `i` of the forward computation.
    pub fn output(&self, i: usize) -> ValueId {
        self.outputs[i]
    }

    /// Gradient of result `i`, where the loss depends on it.
    pub fn doutput(&self, i: usize) -> Option<ValueId> {
        self.doutputs[i]
    }

    /// Whether the gradient of operand `i` leads to something that was asked for.
    pub fn wants(&self, i: usize) -> bool {
        self.wanted.get(i).copied().unwrap_or(false)
    }

    /// The graph, to read types.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// Type of a value.
    pub fn ty(&self, v: ValueId) -> &crate::Type {
        self.graph.ty(v)
    }

    /// Appends a node; its path is the forward node's with `.grad`.
    ///
    /// # Errors
    /// Operands that don't fit.
    pub fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let path = self.graph.fresh_name(&format!("{}.grad", self.path));
        self.graph.add_node(&path, op, inputs)
    }

    /// As [`GradContext::emit`], for operators with one result.
    ///
    /// # Errors
    /// Operands that don't fit.
    pub fn emit1(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.emit(op, inputs)?[0])
    }

    /// A scalar constant.
    ///
    /// # Errors
    /// None in a graph that is consistent.
    pub fn scalar(&mut self, value: f32) -> Result<ValueId> {
        self.graph.add_scalar(value)
    }

    /// Says what the gradient of operand `i` is. Ignored where it is not wanted.
    pub fn set(&mut self, i: usize, gradient: ValueId) {
        if self.wants(i) {
            self.dinputs[i] = Some(gradient);
        }
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always [`Error::NotDifferentiable`].
    pub fn not_differentiable(&self, advice: &str) -> Result<()> {
        self.not_differentiable_to(self.wanted.iter().position(|w| *w).unwrap_or(0), advice)
    }

    /// Refuses the gradient of operand `i`.
    ///
    /// # Errors
    /// Always [`Error::NotDifferentiable`].
    pub fn not_differentiable_to(&self, i: usize, advice: &str) -> Result<()> {
        Err(Error::NotDifferentiable {
            path: self.path.clone(),
            operator: self.operator.clone(),
            input: i,
            advice: advice.to_owned(),
        })
    }
}

/// Appends to `graph` the nodes that compute ∂`loss`/∂`wrt[i]` and returns the gradients; `None` where the loss does
/// not depend on `wrt[i]`.
///
/// # Errors
/// [`Error::NotDifferentiable`] where an operator on the way has no gradient; [`Error::Inconsistent`] where the loss
/// is no scalar.
pub fn gradients(graph: &mut Graph, loss: ValueId, wrt: &[ValueId]) -> Result<Vec<Option<ValueId>>> {
    if graph.ty(loss).rank() != 0 {
        let ty = graph.ty(loss);
        return Err(Error::Inconsistent(format!(
            "the loss must be a scalar, found {ty}; reduce it by a mean first"
        )));
    }
    let depends = depends_on(graph, wrt);
    let seed = graph.add_scalar(1.0)?;
    let mut gradient: Vec<Option<ValueId>> = vec![None; graph.values().len()];
    gradient[loss.index()] = Some(seed);
    let forward: Vec<NodeId> = graph.node_ids().collect();
    for id in forward.into_iter().rev() {
        let node = graph.node(id).clone();
        let doutputs: Vec<Option<ValueId>> = node.outputs.iter().map(|v| gradient[v.index()]).collect();
        let wanted: Vec<bool> = node.inputs.iter().map(|v| depends[v.index()]).collect();
        if doutputs.iter().all(Option::is_none) || !wanted.contains(&true) {
            continue;
        }
        let mut context = GradContext {
            path: node.path,
            operator: node.op.operator().name().to_owned(),
            dinputs: vec![None; node.inputs.len()],
            inputs: node.inputs.clone(),
            outputs: node.outputs,
            graph,
            wanted,
            doutputs,
        };
        node.op.operator().grad(&mut context)?;
        let dinputs = context.dinputs;
        for (v, d) in node.inputs.into_iter().zip(dinputs) {
            let Some(d) = d else { continue };
            if graph.ty(d) != graph.ty(v) {
                let (path, a, b) = (&graph.node(id).path, graph.ty(d), graph.ty(v));
                return Err(Error::Inconsistent(format!(
                    "gradient rule of `{path}` gives {a} for an operand {b}"
                )));
            }
            let sum = match gradient[v.index()] {
                None => d,
                Some(before) => {
                    let path = graph.fresh_name(&format!("{}.grad_sum", graph.value(v).name));
                    graph.add_node(&path, Binary { kind: BinaryKind::Add }, &[before, d])?[0]
                }
            };
            gradient[v.index()] = Some(sum);
        }
    }
    Ok(wrt.iter().map(|v| gradient[v.index()]).collect())
}

/// For each value, whether it depends on one of `wrt` through real numbers.
fn depends_on(graph: &Graph, wrt: &[ValueId]) -> Vec<bool> {
    let mut depends = vec![false; graph.values().len()];
    wrt.iter().for_each(|v| depends[v.index()] = true);
    for node in graph.nodes() {
        if node.inputs.iter().any(|v| depends[v.index()]) {
            for v in &node.outputs {
                depends[v.index()] = graph.ty(*v).dtype.is_float();
            }
        }
    }
    depends
}
