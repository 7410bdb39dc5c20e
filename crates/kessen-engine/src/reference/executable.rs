//! Runs a graph node by node.

use std::time::{Duration, Instant};

use kessen_graph::{Bindings, Graph, NodeId, Origin, ParamId};
use kessen_tensor::Tensor;

use super::array::Value;
use super::kernel::{Operands, compute};
use crate::{Clock, CompileOptions, Data, Error, Executable, Given, Outcome, Result, StepFacts};

/// A graph with every value's numbers.
#[derive(Debug)]
pub(super) struct ReferenceExecutable {
    graph: Graph,
    bindings: Bindings,
    values: Vec<Value>,
    /// Index of the value that must stay finite.
    guard: Option<usize>,
}

impl ReferenceExecutable {
    pub fn new(graph: &Graph, bindings: &Bindings, options: &CompileOptions) -> Result<Self> {
        graph.check()?;
        let guard = options.guarded_value(graph)?.map(|v| v.index());
        let shapes = graph.shapes(bindings)?;
        let needed = shapes.iter().map(|s| 8 * s.iter().product::<usize>()).fold(0, usize::saturating_add);
        if let Some(limit) = options.memory_limit.filter(|&limit| needed > limit) {
            let lasting = graph.params().iter().map(|p| 8 * p.shape.iter().product::<usize>()).sum();
            return Err(Error::Memory { needed, limit, lasting });
        }
        let values = graph.values().iter().zip(&shapes).map(|(value, shape)| match &value.origin {
            Origin::Constant(tensor) => Value::from_tensor(tensor),
            _ => Value::zeros(value.ty.dtype, shape),
        });
        Ok(Self { values: values.collect(), graph: graph.clone(), bindings: bindings.clone(), guard })
    }

    /// Computes one node from its operands.
    fn compute_node(&mut self, id: NodeId, clock: Clock) -> Result<()> {
        let node = self.graph.node(id);
        let mut results: Vec<Value> = Vec::with_capacity(node.outputs.len());
        for v in &node.outputs {
            let mut result = std::mem::replace(&mut self.values[v.index()], Value::zeros(DTYPE, &[]));
            result.clear();
            results.push(result);
        }
        let values = node.inputs.iter().map(|v| &self.values[v.index()]).collect();
        let operands = Operands { node, values, bindings: &self.bindings, clock };
        let outcome = compute(&operands, &mut results);
        for (v, result) in node.outputs.iter().zip(results) {
            self.values[v.index()] = result;
        }
        outcome
    }

    /// Computes all nodes, calling `done` after each, and then takes the updates.
    fn run_nodes(&mut self, clock: Clock, mut done: impl FnMut(usize)) -> Result<Outcome> {
        for (i, id) in self.graph.node_ids().enumerate() {
            self.compute_node(id, clock)?;
            done(i);
        }
        if self.guard.is_some_and(|v| !self.values[v].is_finite()) {
            return Ok(Outcome::NonFinite);
        }
        // All new values are taken before any is written: an update may read a parameter that another one changes.
        let updates: Vec<(usize, Value)> = self
            .graph
            .updates()
            .iter()
            .map(|(p, v)| (self.graph.param(*p).value.index(), self.values[v.index()].clone()))
            .collect();
        for (param, mut value) in updates {
            value.round_to_f32();
            self.values[param] = value;
        }
        Ok(Outcome::Done)
    }

    fn write_inputs(&mut self, given: &[Given<'_>]) -> Result<()> {
        given.iter().try_for_each(|&(input, data)| self.write_input(input, data))
    }

    fn mismatch(kind: &'static str, name: &str, expected: &Value, found: String) -> Error {
        let expected = format!("{} of shape {:?}", expected.data().dtype(), expected.shape());
        Error::Mismatch { kind, name: name.to_owned(), expected, found }
    }
}

/// Element type of the placeholder that stands in for a value while it is computed.
const DTYPE: kessen_tensor::DType = kessen_tensor::DType::F64;

impl Executable for ReferenceExecutable {
    fn write_input(&mut self, input: usize, data: Data<'_>) -> Result<()> {
        let Some(&id) = self.graph.inputs().get(input) else {
            return Err(Error::Unknown {
                kind: "input",
                name: input.to_string(),
                known: format!("{} inputs", self.graph.inputs().len()),
            });
        };
        let value = &mut self.values[id.index()];
        if value.write(data) {
            return Ok(());
        }
        let found = format!("{} elements of {}", data.len(), data.dtype());
        Err(Self::mismatch("input", &self.graph.value(id).name, value, found))
    }

    fn run_on(&mut self, given: &[Given<'_>], clock: Clock) -> Result<Outcome> {
        self.write_inputs(given)?;
        self.run_nodes(clock, |_| {})
    }

    fn output(&self, output: usize) -> Data<'_> {
        self.values[self.graph.outputs()[output].1.index()].data()
    }

    fn output_shape(&self, output: usize) -> &[usize] {
        self.values[self.graph.outputs()[output].1.index()].shape()
    }

    fn write_param(&mut self, param: ParamId, tensor: &Tensor) -> Result<()> {
        let Some(declared) = self.graph.params().get(param.index()) else {
            return Err(Error::Unknown {
                kind: "parameter",
                name: param.index().to_string(),
                known: format!("{} parameters", self.graph.params().len()),
            });
        };
        let value = &mut self.values[declared.value.index()];
        let new = Value::from_tensor(tensor);
        if new.shape() != value.shape() || !value.write(new.data()) {
            let found = format!("{} of shape {:?}", tensor.dtype(), tensor.shape());
            return Err(Self::mismatch("parameter", &declared.path, value, found));
        }
        Ok(())
    }

    fn read_param(&self, param: ParamId) -> Result<Tensor> {
        let value = &self.values[self.graph.param(param).value.index()];
        let numbers = (0..value.data().len()).map(|i| value.data().at(i) as f32).collect();
        Ok(Tensor::from_vec(value.shape(), numbers)?)
    }

    fn first_non_finite(&mut self, given: &[Given<'_>], clock: Clock) -> Result<Option<String>> {
        self.write_inputs(given)?;
        for id in self.graph.node_ids() {
            self.compute_node(id, clock)?;
            let node = self.graph.node(id);
            if node.outputs.iter().any(|v| !self.values[v.index()].is_finite()) {
                return Ok(Some(node.path.clone()));
            }
        }
        Ok(None)
    }

    fn memory(&self) -> usize {
        let params = self.graph.params().iter().map(|p| 8 * p.shape.iter().product::<usize>()).sum::<usize>();
        self.values.iter().map(|v| 8 * v.data().len()).sum::<usize>() - params
    }

    fn describe(&self) -> String {
        let mut text = String::from("reference: each node by its formula, in f64\n");
        for node in self.graph.nodes() {
            let shape = |v: &kessen_graph::ValueId| format!("{:?}", self.values[v.index()].shape());
            let list = |ids: &[kessen_graph::ValueId]| ids.iter().map(shape).collect::<Vec<_>>().join(", ");
            let word = node.op.operator().word();
            text += &format!("{}: {word} {} -> {}\n", node.path, list(&node.inputs), list(&node.outputs));
        }
        text
    }

    fn steps(&self) -> Vec<StepFacts> {
        let bytes = |v: &kessen_graph::ValueId| 8 * self.values[v.index()].data().len() as u64;
        let shape = |v: &kessen_graph::ValueId| self.values[v.index()].shape();
        let facts = |node: &kessen_graph::Node| {
            let (x, y): (Vec<_>, Vec<_>) =
                (node.inputs.iter().map(shape).collect(), node.outputs.iter().map(shape).collect());
            StepFacts {
                path: node.path.clone(),
                kernel: node.op.operator().word().to_owned(),
                macs: node.op.operator().macs(&x, &y),
                bytes: node.inputs.iter().chain(&node.outputs).map(bytes).sum(),
            }
        };
        self.graph.nodes().iter().map(facts).collect()
    }

    fn run_timed(&mut self, given: &[Given<'_>], clock: Clock, times: &mut [Duration]) -> Result<Outcome> {
        self.write_inputs(given)?;
        let mut last = Instant::now();
        self.run_nodes(clock, |i| {
            let now = Instant::now();
            times[i] += now - last;
            last = now;
        })
    }
}
