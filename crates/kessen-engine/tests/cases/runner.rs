//! Runs a case on a backend: results, and the gradients of Σ_k Σ results[k]·cotangent[k].

use kessen_engine::{Backend, Clock, CompileOptions, Data, Executable};
use kessen_graph::ops::binary::{Binary, BinaryKind};
use kessen_graph::ops::reduce::Reduce;
use kessen_graph::{Bindings, Graph, ValueId, gradients};

use super::{Case, Fill, Operand};

/// Random numbers of the cases.
pub const CLOCK: Clock = Clock { seed: 11, step: 3 };

/// An array that came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// A compiled case with its operands.
pub struct Run {
    executable: Box<dyn Executable>,
    operands: Vec<Operand>,
    /// Number of results; the loss and the gradients follow them in the outputs.
    pub results: usize,
    /// Operand of each gradient.
    pub wrt: Vec<usize>,
}

/// How much of a case's graph is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The operator alone.
    Forward,
    /// The operator and the loss.
    Loss,
    /// The operator, the loss and the gradients.
    Backward,
}

/// The case as a graph: outputs `result0` …, then `loss`, then `gradient0` … by operand.
pub fn graph(case: &Case, part: Part) -> Result<Graph, kessen_graph::Error> {
    let mut graph = Graph::new(&case.name);
    let mut inputs = Vec::new();
    for (i, operand) in case.operands().iter().enumerate() {
        inputs.push(graph.add_input(&format!("x{i}"), operand.ty())?);
    }
    let results = graph.add_node("node", case.operator(), &inputs)?;
    for (k, v) in results.iter().enumerate() {
        graph.add_output(&format!("result{k}"), *v)?;
    }
    if part == Part::Forward {
        return Ok(graph);
    }
    let mut loss = None;
    for k in case.differentiable() {
        let weighted = weighted_sum(&mut graph, k, results[k])?;
        loss = Some(match loss {
            None => weighted,
            Some(sum) => {
                graph.add_node(&format!("loss{k}"), Binary { kind: BinaryKind::Add }, &[sum, weighted])?[0]
            }
        });
    }
    let Some(loss) = loss else { return Ok(graph) };
    graph.add_output("loss", loss)?;
    if part == Part::Loss {
        return Ok(graph);
    }
    let wrt = case.wrt();
    let values: Vec<ValueId> = wrt.iter().map(|&i| inputs[i]).collect();
    for (i, d) in wrt.iter().zip(gradients(&mut graph, loss, &values)?) {
        let Some(d) = d else {
            return Err(kessen_graph::Error::Inconsistent(format!(
                "the loss does not depend on operand {i}"
            )));
        };
        graph.add_output(&format!("gradient{i}"), d)?;
    }
    graph.check()?;
    Ok(graph)
}

/// Σ result·cotangent, the cotangent an input of its own.
fn weighted_sum(graph: &mut Graph, k: usize, result: ValueId) -> Result<ValueId, kessen_graph::Error> {
    let ty = graph.ty(result).clone();
    let cotangent = graph.add_input(&format!("cotangent{k}"), ty)?;
    let product =
        graph.add_node(&format!("product{k}"), Binary { kind: BinaryKind::Mul }, &[result, cotangent])?[0];
    Ok(graph.add_node(&format!("sum{k}"), Reduce::default(), &[product])?[0])
}

impl Run {
    /// Compiles the case and writes its operands.
    pub fn new(
        case: &Case,
        part: Part,
        backend: &dyn Backend,
        options: &CompileOptions,
    ) -> Result<Self, kessen_engine::Error> {
        let graph = graph(case, part)?;
        let mut executable = backend.compile(&graph, &Bindings::default(), options)?;
        let mut operands = case.operands();
        for &input in &graph.inputs()[operands.len()..] {
            let value = graph.value(input);
            let shape: Vec<usize> = value.ty.shape.iter().map(|d| d.as_fixed().unwrap()).collect();
            operands.push(Operand::named(&format!("{}/{}", case.name, value.name), &shape));
        }
        for (i, operand) in operands.iter().enumerate() {
            write(executable.as_mut(), backend, i, operand, &operand.fill())?;
        }
        let results = graph.outputs().iter().filter(|(name, _)| name.starts_with("result")).count();
        let wrt = if graph.outputs().len() > results { case.wrt() } else { Vec::new() };
        Ok(Self { executable, operands, results, wrt })
    }

    /// Computes everything.
    pub fn run(&mut self) -> Result<(), kessen_engine::Error> {
        self.executable.run(CLOCK).map(|_| ())
    }

    /// Computes everything from operands that the caller keeps, off the bounds of vectors; what was written before is
    /// gone.
    pub fn run_on(&mut self) -> Result<(), kessen_engine::Error> {
        let ids: Vec<Vec<i64>> = self.operands.iter().map(|o| o.ids()).collect();
        let numbers: Vec<Vec<f32>> = self
            .operands
            .iter()
            .map(|o| std::iter::once(f32::NAN).chain(o.fill().iter().map(|&v| v as f32)).collect())
            .collect();
        let mut given = Vec::new();
        for (i, operand) in self.operands.iter().enumerate() {
            if matches!(operand.fill, Fill::Ids(_)) {
                self.executable.write_input(i, Data::I64(&vec![0; ids[i].len()]))?;
                given.push((i, Data::I64(&ids[i])));
            } else {
                self.executable.write_input(i, Data::F32(&vec![f32::NAN; numbers[i].len() - 1]))?;
                given.push((i, Data::F32(&numbers[i][1..])));
            }
        }
        self.executable.run_on(&given, CLOCK).map(|_| ())
    }

    /// Output `i` of the graph.
    pub fn output(&self, i: usize) -> Array {
        let data = self.executable.output(i);
        Array {
            shape: self.executable.output_shape(i).to_vec(),
            data: (0..data.len()).map(|k| data.at(k)).collect(),
        }
    }

    /// The gradient of the `i`-th of [`Run::wrt`].
    pub fn gradient(&self, i: usize) -> Array {
        self.output(self.results + 1 + i)
    }

    /// The loss at other numbers of operand `input`, in f64.
    pub fn loss_at(&mut self, input: usize, numbers: &[f64]) -> f64 {
        self.executable.write_input(input, Data::F64(numbers)).unwrap();
        self.executable.run(CLOCK).unwrap();
        self.executable.output(self.results).at(0)
    }

    /// Operand `i`.
    pub fn operand(&self, i: usize) -> &Operand {
        &self.operands[i]
    }
}

/// Writes an operand in the element type that the backend takes.
fn write(
    executable: &mut dyn Executable,
    backend: &dyn Backend,
    input: usize,
    operand: &Operand,
    numbers: &[f64],
) -> Result<(), kessen_engine::Error> {
    if matches!(operand.fill, Fill::Ids(_)) {
        return executable.write_input(input, Data::I64(&operand.ids()));
    }
    if backend.name() == "reference" {
        return executable.write_input(input, Data::F64(numbers));
    }
    let single: Vec<f32> = numbers.iter().map(|&v| v as f32).collect();
    executable.write_input(input, Data::F32(&single))
}
