//! Writing a wiring in Rust.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use kessen_tensor::{DType, Tensor};

use crate::graph::{Origin, ParamKind, ValueId};
use crate::op::{Custom, CustomOperator};
use crate::{Dim, Error, Graph, Init, Op, Result, Type};

/// Collects a graph while user code calls methods on [`Wire`]s.
///
/// The first error is kept and reported by [`Graph::build`]; what is written after it has no effect. So user code
/// reads like the wiring, without a `?` on each line. Builder and wires share the graph by reference count, so that
/// neither has a lifetime in the signatures of user code.
#[derive(Debug, Clone)]
pub struct GraphBuilder {
    state: Rc<RefCell<State>>,
}

#[derive(Debug)]
struct State {
    graph: Graph,
    error: Option<Error>,
}

/// A value while the graph is written. Layers and operators are its methods.
#[derive(Clone)]
pub struct Wire {
    builder: GraphBuilder,
    id: Option<ValueId>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => {
                let state = self.builder.state.borrow();
                write!(f, "Wire({}: {})", state.graph.value(id).name, state.graph.ty(id))
            }
            None => f.write_str("Wire(after an error)"),
        }
    }
}

impl Graph {
    /// Builds a graph from a closure that wires it and returns its outputs: one wire (named `output`), or a vector
    /// or array of `(name, wire)`.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    ///
    /// let net = Graph::build("mlp", |g| {
    ///     let x = g.input("x", shape!["batch", 1]);
    ///     x.linear("hidden", 16).sigmoid().linear("out", 1)
    /// })?;
    /// assert_eq!(net.weight_count(), 16 + 16 + 16 + 1);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first error of the wiring, with the node's path.
    pub fn build<O>(name: &str, wire: impl FnOnce(&GraphBuilder) -> O) -> Result<Self>
    where
        O: BuiltOutputs,
    {
        let builder = GraphBuilder::from_graph(Self::new(name));
        let outputs = wire(&builder).names_and_values();
        builder.finish(outputs)
    }

    /// Continues a graph in the builder: the closure gets the outputs so far as wires, and what it returns becomes
    /// the outputs.
    ///
    /// # Errors
    /// As [`Graph::build`].
    pub fn extend<O>(self, wire: impl FnOnce(&GraphBuilder, Vec<ValueId>) -> O) -> Result<Self>
    where
        O: BuiltOutputs,
    {
        let before: Vec<ValueId> = self.outputs().iter().map(|(_, v)| *v).collect();
        let mut graph = self;
        graph.clear_outputs();
        let builder = GraphBuilder::from_graph(graph);
        let outputs = wire(&builder, before).names_and_values();
        builder.finish(outputs)
    }
}

/// What a wiring closure may return.
pub trait BuiltOutputs {
    /// Names and values; `None` after an error.
    fn names_and_values(self) -> Vec<(String, Option<ValueId>)>;
}

impl BuiltOutputs for Wire {
    fn names_and_values(self) -> Vec<(String, Option<ValueId>)> {
        vec![("output".to_owned(), self.id)]
    }
}

impl<S: Into<String>> BuiltOutputs for Vec<(S, Wire)> {
    fn names_and_values(self) -> Vec<(String, Option<ValueId>)> {
        self.into_iter().map(|(name, wire)| (name.into(), wire.id)).collect()
    }
}

impl<S: Into<String>, const N: usize> BuiltOutputs for [(S, Wire); N] {
    fn names_and_values(self) -> Vec<(String, Option<ValueId>)> {
        self.into_iter().map(|(name, wire)| (name.into(), wire.id)).collect()
    }
}

impl GraphBuilder {
    pub(crate) fn from_graph(graph: Graph) -> Self {
        Self { state: Rc::new(RefCell::new(State { graph, error: None })) }
    }

    fn finish(self, outputs: Vec<(String, Option<ValueId>)>) -> Result<Graph> {
        // A wire that outlived the closure may still share the state.
        let State { graph, error } = &mut *self.state.borrow_mut();
        if let Some(error) = error.take() {
            return Err(error);
        }
        let mut graph = std::mem::take(graph);
        for (name, value) in outputs {
            match value {
                Some(value) => graph.add_output(&name, value)?,
                None => return Err(Error::Inconsistent(format!("output `{name}` has no value"))),
            }
        }
        Ok(graph)
    }

    /// Runs `f` on the graph unless there was an error, and keeps the error if there is one now.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Graph) -> Result<T>) -> Option<T> {
        let mut state = self.state.borrow_mut();
        if state.error.is_some() {
            return None;
        }
        match f(&mut state.graph) {
            Ok(t) => Some(t),
            Err(error) => {
                state.error = Some(error);
                None
            }
        }
    }

    /// Takes the first error, so that the wiring could go on.
    pub(crate) fn take_error(&self) -> Option<Error> {
        self.state.borrow_mut().error.take()
    }

    /// Changes how the first values of the parameter `path` are drawn.
    pub fn set_init(&self, path: &str, init: Init) {
        self.with(|g| {
            let value = g.find(path)?;
            match g.value(value).origin {
                Origin::Param(param) => g.set_param_init(param, init),
                _ => return Err(Error::Inconsistent(format!("`{path}` is no parameter"))),
            }
            Ok(())
        });
    }

    /// Reports that the wiring can't go on, for builder methods written outside this crate.
    pub fn fail(&self, error: Error) -> Wire {
        let _ = self.with::<()>(|_| Err(error));
        Wire { builder: self.clone(), id: None }
    }

    fn wire(&self, id: Option<ValueId>) -> Wire {
        Wire { builder: self.clone(), id }
    }

    /// The wire of a value that exists already.
    pub fn wire_of(&self, id: ValueId) -> Wire {
        self.wire(Some(id))
    }

    /// An input of real numbers; see [`shape!`](crate::shape).
    pub fn input(&self, name: &str, shape: Vec<Dim>) -> Wire {
        self.input_of(name, Type::f32(shape))
    }

    /// An input of class labels or token ids (`i64`).
    pub fn input_ids(&self, name: &str, shape: Vec<Dim>) -> Wire {
        self.input_of(name, Type { dtype: DType::I64, shape })
    }

    /// An input of any type.
    pub fn input_of(&self, name: &str, ty: Type) -> Wire {
        self.wire(self.with(|g| g.add_input(name, ty)))
    }

    /// A parameter that is learnt.
    pub fn param(&self, path: &str, shape: &[usize], init: Init) -> Wire {
        self.wire(self.with(|g| g.add_param(path, shape, init, ParamKind::Weight)))
    }

    /// A parameter that is kept but not learnt by gradient.
    pub fn buffer(&self, path: &str, shape: &[usize], init: Init) -> Wire {
        self.wire(self.with(|g| g.add_param(path, shape, init, ParamKind::Buffer)))
    }

    /// A constant.
    pub fn constant(&self, name: &str, tensor: Tensor) -> Wire {
        self.wire(self.with(|g| g.add_constant(name, tensor)))
    }

    /// A scalar constant.
    pub fn scalar(&self, value: f32) -> Wire {
        self.wire(self.with(|g| g.add_scalar(value)))
    }

    /// A node under a path of its own, or under the operator's name where `path` is `None`.
    pub fn node(&self, path: Option<&str>, op: impl Into<Op>, inputs: &[&Wire]) -> Vec<Wire> {
        let op = op.into();
        let count = self.with(|g| {
            let ids: Vec<ValueId> = inputs.iter().filter_map(|w| w.id).collect();
            if ids.len() != inputs.len() {
                return Err(Error::Inconsistent("an operand has no value".to_owned()));
            }
            let path = path.map_or_else(|| g.fresh_name(op.operator().word()), str::to_owned);
            g.add_node(&path, op, &ids)
        });
        match count {
            Some(ids) => ids.into_iter().map(|id| self.wire(Some(id))).collect(),
            None => (0..8).map(|_| self.wire(None)).collect(),
        }
    }

    /// A node of an operator written outside this crate.
    pub fn custom(&self, path: &str, operator: Arc<dyn CustomOperator>, inputs: &[&Wire]) -> Wire {
        self.node(Some(path), Op::Custom(Custom { operator, backward: false }), inputs).swap_remove(0)
    }
}

impl Wire {
    /// The builder that the wire belongs to.
    pub fn builder(&self) -> &GraphBuilder {
        &self.builder
    }

    /// The value's id; `None` after an error.
    pub fn id(&self) -> Option<ValueId> {
        self.id
    }

    /// Type of the value; a scalar after an error.
    pub fn ty(&self) -> Type {
        let state = self.builder.state.borrow();
        self.id.map_or_else(|| Type::f32(Vec::new()), |id| state.graph.ty(id).clone())
    }

    /// Dimension `i` as a number, for the layer `path` whose parameters depend on it. Where it is a name or does not
    /// exist, the error is kept and 1 returned.
    pub fn fixed_dim(&self, i: usize, path: &str) -> usize {
        let ty = self.ty();
        let found = match ty.shape.get(i).map(Dim::as_fixed) {
            _ if self.id.is_none() => return 1,
            Some(Some(n)) => return n,
            Some(None) => "is not a fixed number",
            None => "does not exist",
        };
        self.builder.fail(Error::Misfit {
            path: path.to_owned(),
            operator: "layer".to_owned(),
            reason: format!("dimension {i} of the input {found}, so the layer can't size its parameters"),
            operands: ty.to_string(),
        });
        1
    }

    /// Applies an operator with this wire as first operand, under the operator's name.
    pub fn apply(&self, op: impl Into<Op>, others: &[&Wire]) -> Wire {
        self.apply_at(None, op, others)
    }

    /// As [`Wire::apply`], under `path`.
    pub fn apply_named(&self, path: &str, op: impl Into<Op>, others: &[&Wire]) -> Wire {
        self.apply_at(Some(path), op, others)
    }

    fn apply_at(&self, path: Option<&str>, op: impl Into<Op>, others: &[&Wire]) -> Wire {
        let operands: Vec<&Wire> = std::iter::once(self).chain(others.iter().copied()).collect();
        self.builder.node(path, op, &operands).swap_remove(0)
    }
}
