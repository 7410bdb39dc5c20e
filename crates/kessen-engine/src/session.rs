//! A compiled graph with names.

use std::borrow::Cow;

use kessen_graph::{Bindings, Graph, ParamId, ParamKind};
use kessen_tensor::{DType, Tensor};

use crate::{Backend, Clock, CompileOptions, Data, Error, Executable, Outcome, Result};

/// A compiled graph, its memory and its parameters.
pub struct Session {
    graph: Graph,
    executable: Box<dyn Executable>,
    input_types: Vec<(DType, Vec<usize>)>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.graph.name())
    }
}

impl Session {
    /// Compiles `graph` on `backend`; parameters are zero until they are initialised or written.
    ///
    /// # Errors
    /// As [`Backend::compile`].
    pub fn new(
        backend: &dyn Backend,
        graph: &Graph,
        bindings: &Bindings,
        options: &CompileOptions,
    ) -> Result<Self> {
        // Sizes that don't fit are refused here, with the node's path.
        graph.bind(bindings)?;
        let executable = backend.compile(graph, bindings, options)?;
        let shapes = graph.shapes(bindings)?;
        let input_types =
            graph.inputs().iter().map(|&v| (graph.ty(v).dtype, shapes[v.index()].clone())).collect();
        Ok(Self { graph: graph.clone(), executable, input_types })
    }

    /// The graph that was compiled.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The executable, for access by index.
    pub fn executable(&mut self) -> &mut dyn Executable {
        self.executable.as_mut()
    }

    /// Draws every parameter's first values from its initialiser.
    ///
    /// # Errors
    /// A parameter too large for this machine.
    pub fn init_params(&mut self, seed: u64) -> Result<()> {
        for id in self.graph.param_ids() {
            let param = self.graph.param(id);
            let value = param.init.sample(&param.shape, seed, &param.path)?;
            self.executable.write_param(id, &value)?;
        }
        Ok(())
    }

    /// Writes the parameter `path`.
    ///
    /// # Errors
    /// No such parameter; another shape or element type.
    pub fn write_param(&mut self, path: &str, value: &Tensor) -> Result<()> {
        let id = self.graph.param_ids().find(|&id| self.graph.param(id).path == path);
        let known = || self.graph.params().iter().map(|p| p.path.as_str()).collect::<Vec<_>>().join(", ");
        let id =
            id.ok_or_else(|| Error::Unknown { kind: "parameter", name: path.to_owned(), known: known() })?;
        self.executable.write_param(id, value)
    }

    /// Reads one parameter in PyTorch's layout.
    ///
    /// # Errors
    /// None in a plan that is consistent.
    pub fn read_param(&self, param: ParamId) -> Result<Tensor> {
        self.executable.read_param(param)
    }

    /// Every parameter of the given kinds with its path, in PyTorch's layout.
    ///
    /// # Errors
    /// None in a plan that is consistent.
    pub fn read_params(&self, kinds: &[ParamKind]) -> Result<Vec<(String, Tensor)>> {
        let ids = self.graph.param_ids().filter(|&id| kinds.contains(&self.graph.param(id).kind));
        ids.map(|id| Ok((self.graph.param(id).path.clone(), self.executable.read_param(id)?))).collect()
    }

    /// Position of the input `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn input_index(&self, name: &str) -> Result<usize> {
        let names: Vec<&str> =
            self.graph.inputs().iter().map(|&v| self.graph.value(v).name.as_str()).collect();
        position("input", name, &names)
    }

    /// Position of the output `name`.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn output_index(&self, name: &str) -> Result<usize> {
        let names: Vec<&str> = self.graph.outputs().iter().map(|(n, _)| n.as_str()).collect();
        position("output", name, &names)
    }

    /// Copies a tensor into the input `name`, checking its shape.
    ///
    /// # Errors
    /// No such input; another shape or element type.
    pub fn write_input(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let (index, value) = self.fitting(name, value)?;
        self.executable.write_input(index, data(&value)?)
    }

    /// Position of the input `name`, and a tensor of its shape in its element type.
    fn fitting<'t>(&self, name: &str, value: &'t Tensor) -> Result<(usize, Cow<'t, Tensor>)> {
        let index = self.input_index(name)?;
        let (dtype, shape) = &self.input_types[index];
        if value.shape() != shape {
            return Err(Error::Mismatch {
                kind: "input",
                name: name.to_owned(),
                expected: format!("{dtype} of shape {shape:?}"),
                found: format!("{} of shape {:?}", value.dtype(), value.shape()),
            });
        }
        let same = value.dtype() == *dtype;
        Ok((index, if same { Cow::Borrowed(value) } else { Cow::Owned(value.cast(*dtype)?) }))
    }

    /// Runs on the inputs, which hold for this run ([`Executable::run_on`]), and returns the outputs with their names,
    /// as f32.
    ///
    /// # Errors
    /// As [`Session::write_input`] and [`Executable::run_on`].
    pub fn run(&mut self, inputs: &[(&str, &Tensor)], clock: Clock) -> Result<Vec<(String, Tensor)>> {
        let fitting = inputs.iter().map(|(name, value)| self.fitting(name, value));
        let fitting = fitting.collect::<Result<Vec<_>>>()?;
        let given = fitting.iter().map(|(at, value)| Ok((*at, data(value)?)));
        self.executable.run_on(&given.collect::<Result<Vec<_>>>()?, clock)?;
        (0..self.graph.outputs().len())
            .map(|i| Ok((self.graph.outputs()[i].0.clone(), self.output_tensor(i)?)))
            .collect()
    }

    /// Runs on the inputs as they were last written.
    ///
    /// # Errors
    /// As [`Executable::run`].
    pub fn step(&mut self, clock: Clock) -> Result<Outcome> {
        self.executable.run(clock)
    }

    /// Output `index` of the last run as a tensor of f32 (i64 stays i64).
    ///
    /// # Errors
    /// None in a plan that is consistent.
    pub fn output_tensor(&self, index: usize) -> Result<Tensor> {
        let shape = self.executable.output_shape(index);
        Ok(match self.executable.output(index) {
            Data::F32(d) => Tensor::from_slice(shape, d)?,
            Data::I64(d) => Tensor::from_slice(shape, d)?,
            Data::F64(d) => Tensor::from_vec(shape, d.iter().map(|&v| v as f32).collect())?,
        })
    }
}

/// A tensor's numbers as an executable takes them.
fn data(value: &Tensor) -> Result<Data<'_>> {
    Ok(match value.dtype() {
        DType::I64 => Data::I64(value.as_slice()?),
        _ => Data::F32(value.as_slice()?),
    })
}

fn position(kind: &'static str, name: &str, names: &[&str]) -> Result<usize> {
    names.iter().position(|n| *n == name).ok_or_else(|| Error::Unknown {
        kind,
        name: name.to_owned(),
        known: names.join(", "),
    })
}
