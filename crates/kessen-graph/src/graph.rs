//! The wiring itself: values, nodes, parameters, in the order in which they can be computed.

use std::collections::HashSet;

use kessen_tensor::{DType, Tensor};

use crate::names::Names;
use crate::{Dim, Error, Init, Op, Result, Type, nearest};

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident),*) => {
        $($(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// Position in the graph's list.
            pub fn index(self) -> usize { self.0 as usize }

            pub(crate) fn new(index: usize) -> Self { Self(u32::try_from(index).unwrap_or(u32::MAX)) }
        })*
    };
}
ids!(
    /// A value of a graph.
    ValueId,
    /// A node of a graph.
    NodeId,
    /// A parameter of a graph.
    ParamId
);

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Given at each run.
    Input,
    /// Kept from run to run.
    Param(ParamId),
    /// Fixed in the wiring.
    Constant(Tensor),
    /// Computed: which output of which node.
    Node(NodeId, usize),
}

/// Something that flows along a wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Unique name: an input's or parameter's, or its node's path (`path#1` for a second output).
    pub name: String,
    /// Element type and shape.
    pub ty: Type,
    /// Where it comes from.
    pub origin: Origin,
}

/// An operator with its operands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique path, such as `layer1.0.conv1`.
    pub path: String,
    /// What is computed.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<ValueId>,
    /// Results.
    pub outputs: Vec<ValueId>,
}

/// What a parameter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParamKind {
    /// Learnt by gradient descent.
    Weight,
    /// Kept with the model, but not learnt by gradient: running statistics, frozen weights.
    Buffer,
    /// Kept with the training run only: moments, averages, accumulated gradients.
    State,
}

/// A value that lasts from run to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// PyTorch's path, such as `layer1.0.conv1.weight`; also the value's name.
    pub path: String,
    /// Dimensions, in PyTorch's layout.
    pub shape: Vec<usize>,
    /// How first values are drawn.
    pub init: Init,
    /// What it is for.
    pub kind: ParamKind,
    /// Its value in the graph.
    pub value: ValueId,
}

/// A network's wiring.
///
/// Nodes stand in an order in which they can be computed. A graph may be a model (forward only) or a whole training
/// step with gradients and updates; it is the same kind of value.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    name: String,
    values: Vec<Value>,
    nodes: Vec<Node>,
    params: Vec<Param>,
    inputs: Vec<ValueId>,
    outputs: Vec<(String, ValueId)>,
    updates: Vec<(ParamId, ValueId)>,
    names: Names,
}

impl PartialEq for Graph {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.values, &self.nodes, &self.params, &self.inputs, &self.outputs, &self.updates)
            == (
                &other.name,
                &other.values,
                &other.nodes,
                &other.params,
                &other.inputs,
                &other.outputs,
                &other.updates,
            )
    }
}

impl Graph {
    /// A graph without values.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Name of the architecture.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// All nodes, in an order in which they can be computed.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All parameters.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Inputs, in the order of declaration.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Outputs with their names.
    pub fn outputs(&self) -> &[(String, ValueId)] {
        &self.outputs
    }

    /// Parameters that take a new value after each run: `(parameter, value)`.
    pub fn updates(&self) -> &[(ParamId, ValueId)] {
        &self.updates
    }

    /// One value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// One parameter.
    pub fn param(&self, id: ParamId) -> &Param {
        &self.params[id.index()]
    }

    /// Type of one value.
    pub fn ty(&self, id: ValueId) -> &Type {
        &self.values[id.index()].ty
    }

    /// The node that computes a value, if one does.
    pub fn producer(&self, id: ValueId) -> Option<(NodeId, usize)> {
        match self.value(id).origin {
            Origin::Node(node, k) => Some((node, k)),
            _ => None,
        }
    }

    /// Ids of all nodes, in order.
    pub fn node_ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId::new)
    }

    /// Ids of all values.
    pub fn value_ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len()).map(ValueId::new)
    }

    /// Ids of all parameters.
    pub fn param_ids(&self) -> impl Iterator<Item = ParamId> + use<> {
        (0..self.params.len()).map(ParamId::new)
    }

    /// For each value, how often nodes, outputs and updates use it.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        let by_nodes = self.nodes.iter().flat_map(|n| &n.inputs);
        let by_ends = self.outputs.iter().map(|(_, v)| v).chain(self.updates.iter().map(|(_, v)| v));
        by_nodes.chain(by_ends).for_each(|v| counts[v.index()] += 1);
        counts
    }

    /// The value of that name.
    ///
    /// # Errors
    /// [`Error::Unknown`], with the nearest name.
    pub fn find(&self, name: &str) -> Result<ValueId> {
        let at = self.values.iter().position(|v| v.name == name);
        at.map(ValueId::new).ok_or_else(|| Error::Unknown {
            kind: "value",
            name: name.to_owned(),
            nearest: nearest(name, self.values.iter().map(|v| v.name.as_str())),
        })
    }

    /// Number of learnt numbers.
    pub fn weight_count(&self) -> usize {
        let weights = self.params.iter().filter(|p| p.kind == ParamKind::Weight);
        weights.map(|p| p.shape.iter().product::<usize>()).sum()
    }

    /// Renames the architecture.
    pub fn set_name(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Declares an input.
    ///
    /// # Errors
    /// A name that is taken or can't be a name.
    pub fn add_input(&mut self, name: &str, ty: Type) -> Result<ValueId> {
        let id = self.push_value(name, ty, Origin::Input)?;
        self.inputs.push(id);
        Ok(id)
    }

    /// Declares a parameter.
    ///
    /// # Errors
    /// A path that is taken or can't be a name.
    pub fn add_param(&mut self, path: &str, shape: &[usize], init: Init, kind: ParamKind) -> Result<ValueId> {
        let ty = Type::f32(shape.iter().map(|&n| Dim::fixed(n)).collect());
        let param = ParamId::new(self.params.len());
        let value = self.push_value(path, ty, Origin::Param(param))?;
        self.params.push(Param { path: path.to_owned(), shape: shape.to_vec(), init, kind, value });
        Ok(value)
    }

    /// Declares a constant.
    ///
    /// # Errors
    /// A name that is taken or can't be a name.
    pub fn add_constant(&mut self, name: &str, tensor: Tensor) -> Result<ValueId> {
        let ty =
            Type { dtype: tensor.dtype(), shape: tensor.shape().iter().map(|&n| Dim::fixed(n)).collect() };
        self.push_value(name, ty, Origin::Constant(tensor))
    }

    /// Declares a scalar constant under a fresh name.
    ///
    /// # Errors
    /// None but those of [`Graph::add_constant`].
    pub fn add_scalar(&mut self, value: f32) -> Result<ValueId> {
        let name = self.fresh_name("constant");
        self.add_constant(&name, Tensor::scalar(value))
    }

    /// Appends a node; its outputs' types follow from the operator's shape rule.
    ///
    /// # Errors
    /// [`Error::Misfit`] where the operands don't fit, or a path that is taken.
    pub fn add_node(&mut self, path: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let op = op.into();
        let types = self.infer(path, &op, inputs)?;
        if types.is_empty() {
            return Err(Error::Inconsistent(format!("node `{path}` has no output")));
        }
        let node = NodeId::new(self.nodes.len());
        let mut outputs = Vec::with_capacity(types.len());
        for (k, ty) in types.into_iter().enumerate() {
            let name = if k == 0 { path.to_owned() } else { format!("{path}#{k}") };
            outputs.push(self.push_value(&name, ty, Origin::Node(node, k))?);
        }
        self.nodes.push(Node {
            path: path.to_owned(),
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
        });
        Ok(outputs)
    }

    /// Names a value as an output of the graph.
    ///
    /// # Errors
    /// [`Error::Duplicate`] where an output has that name.
    pub fn add_output(&mut self, name: &str, value: ValueId) -> Result<()> {
        if self.outputs.iter().any(|(n, _)| n == name) {
            return Err(Error::Duplicate { name: name.to_owned() });
        }
        check_name(name)?;
        self.outputs.push((name.to_owned(), value));
        Ok(())
    }

    /// After each run, `param` takes the value `value`.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] where the shapes differ or the parameter has an update already.
    pub fn add_update(&mut self, param: ParamId, value: ValueId) -> Result<()> {
        let target = &self.params[param.index()];
        if self.ty(target.value) != self.ty(value) {
            let (a, b) = (self.ty(target.value), self.ty(value));
            return Err(Error::Inconsistent(format!(
                "parameter `{}` is {a}, its update is {b}",
                target.path
            )));
        }
        if self.updates.iter().any(|(p, _)| *p == param) {
            return Err(Error::Inconsistent(format!("parameter `{}` is updated twice", target.path)));
        }
        self.updates.push((param, value));
        Ok(())
    }

    /// Takes back all outputs (to name others instead).
    pub fn clear_outputs(&mut self) {
        self.outputs.clear();
    }

    /// Takes back all updates.
    pub fn clear_updates(&mut self) {
        self.updates.clear();
    }

    /// Changes what a parameter is for.
    pub fn set_param_kind(&mut self, param: ParamId, kind: ParamKind) {
        self.params[param.index()].kind = kind;
    }

    /// Changes how a parameter's first values are drawn.
    pub fn set_param_init(&mut self, param: ParamId, init: Init) {
        self.params[param.index()].init = init;
    }

    /// `stem`, or `stem_1`, `stem_2` … where it is taken.
    pub fn fresh_name(&self, stem: &str) -> String {
        self.names.fresh(stem)
    }

    /// Whether a value has that name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Types that `op` gives for `inputs`.
    fn infer(&self, path: &str, op: &Op, inputs: &[ValueId]) -> Result<Vec<Type>> {
        let operands: Vec<&Type> = inputs.iter().map(|&v| self.ty(v)).collect();
        op.operator().infer(&operands).map_err(|misfit| Error::Misfit {
            path: path.to_owned(),
            operator: op.operator().name().to_owned(),
            reason: misfit.0,
            operands: operands.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        })
    }

    /// Checks every rule: operands exist before use, types follow from the shape rules, names are unique.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<()> {
        let mut names = HashSet::new();
        for value in &self.values {
            check_name(&value.name)?;
            if !names.insert(&value.name) {
                return Err(Error::Duplicate { name: value.name.clone() });
            }
        }
        let mut known: Vec<bool> =
            self.values.iter().map(|v| !matches!(v.origin, Origin::Node(..))).collect();
        for node in &self.nodes {
            if let Some(v) = node.inputs.iter().find(|v| !known.get(v.index()).copied().unwrap_or(false)) {
                let problem = format!("node `{}` uses value {} before it is computed", node.path, v.index());
                return Err(Error::Inconsistent(problem));
            }
            let types = self.infer(&node.path, &node.op, &node.inputs)?;
            let declared: Vec<&Type> = node.outputs.iter().map(|&v| self.ty(v)).collect();
            if types.iter().collect::<Vec<_>>() != declared {
                return Err(Error::Inconsistent(format!("node `{}` has outputs of other types", node.path)));
            }
            node.outputs.iter().for_each(|v| known[v.index()] = true);
        }
        Ok(())
    }

    /// Takes names, so that automatic names avoid them.
    pub(crate) fn reserve(&mut self, names: &Names) {
        self.names = names.clone();
    }

    fn push_value(&mut self, name: &str, ty: Type, origin: Origin) -> Result<ValueId> {
        check_name(name)?;
        check_type(name, &ty)?;
        if !self.names.insert(name) {
            return Err(Error::Duplicate { name: name.to_owned() });
        }
        self.values.push(Value { name: name.to_owned(), ty, origin });
        Ok(ValueId::new(self.values.len() - 1))
    }
}

/// Bytes of a name at most.
const MAX_NAME: usize = 1024;

/// Dimensions of a value at most.
const MAX_RANK: usize = 16;

/// Refuses sizes and symbolic dimensions that arithmetic can't handle safely.
fn check_type(name: &str, ty: &Type) -> Result<()> {
    if ty.rank() > MAX_RANK {
        return Err(Error::Inconsistent(format!(
            "`{name}` has {} dimensions; {MAX_RANK} are the most",
            ty.rank()
        )));
    }
    let fixed: Vec<usize> = ty.shape.iter().filter_map(Dim::as_fixed).collect();
    kessen_tensor::element_count(&fixed)?;
    if !Dim::is_modest_product(&ty.shape) {
        return Err(Error::Inconsistent(format!("the shape {ty} of `{name}` is too complicated")));
    }
    match ty.shape.iter().find(|d| !d.is_modest()) {
        Some(d) => Err(Error::Inconsistent(format!(
            "dimension {d} of `{name}` is negative, too complicated or has a name that is no word of ASCII letters"
        ))),
        None => Ok(()),
    }
}

fn check_name(name: &str) -> Result<()> {
    let first = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    let rest = name.chars().all(|c| c.is_alphanumeric() || "_-.#".contains(c));
    if first && rest && name != "_" && name.len() <= MAX_NAME {
        Ok(())
    } else {
        Err(Error::BadName { name: name.to_owned() })
    }
}

/// A value of whole numbers: class labels, token ids.
impl Type {
    /// A value of `i64`.
    pub fn i64(shape: Vec<Dim>) -> Self {
        Self { dtype: DType::I64, shape }
    }
}
