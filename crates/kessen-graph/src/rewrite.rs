//! Rebuilding a graph node by node: the one way in which passes change a wiring.
//!
//! The rejected alternative, editing nodes in place, leaves holes in the lists of values and an order to repair.

use kessen_tensor::Tensor;

use crate::attribute::Attribute;
use crate::graph::{Origin, ParamId, ValueId};
use crate::{Bindings, Error, Graph, Node, Op, Result};

/// What a rule of [`Graph::rewrite`] makes of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Rewrite {
    /// The same node.
    Keep,
    /// These values of the new graph stand for the node's results, in order. A result without one must not be used.
    Replace(Vec<ValueId>),
}

/// The new graph while [`Graph::rewrite`] writes it.
#[derive(Debug)]
pub struct Rewriter<'g> {
    source: &'g Graph,
    target: Graph,
    map: Vec<Option<ValueId>>,
}

impl<'g> Rewriter<'g> {
    fn new(source: &'g Graph) -> Self {
        Self { source, target: Graph::new(source.name()), map: vec![None; source.values().len()] }
    }

    /// The old graph.
    pub fn source(&self) -> &'g Graph {
        self.source
    }

    /// The new graph so far.
    pub fn target(&self) -> &Graph {
        &self.target
    }

    /// The value of the new graph that stands for `old`.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] where nothing stands for it.
    pub fn get(&self, old: ValueId) -> Result<ValueId> {
        self.map[old.index()].ok_or_else(|| {
            Error::Inconsistent(format!(
                "value `{}` was removed but is still used",
                self.source.value(old).name
            ))
        })
    }

    /// The values of the new graph that stand for a node's operands.
    ///
    /// # Errors
    /// As [`Rewriter::get`].
    pub fn operands(&self, node: &Node) -> Result<Vec<ValueId>> {
        node.inputs.iter().map(|&v| self.get(v)).collect()
    }

    /// Appends a node to the new graph; operands are values of the new graph.
    ///
    /// # Errors
    /// Operands that don't fit, or a path that is taken.
    pub fn node(&mut self, path: &str, op: impl Into<Op>, operands: &[ValueId]) -> Result<Vec<ValueId>> {
        self.target.add_node(path, op, operands)
    }

    /// Appends a scalar constant to the new graph.
    ///
    /// # Errors
    /// None in a graph that is consistent.
    pub fn scalar(&mut self, value: f32) -> Result<ValueId> {
        let name = self.fresh_name("constant");
        self.target.add_constant(&name, Tensor::scalar(value))
    }

    /// `stem`, or `stem_1`, `stem_2` … where the old or the new graph has a value of that name.
    pub fn fresh_name(&self, stem: &str) -> String {
        let mut name = self.target.fresh_name(stem);
        let mut k = 0u64;
        while self.source.has_name(&name) || self.target.has_name(&name) {
            k += 1;
            name = format!("{stem}_{k}");
        }
        name
    }

    /// The parameter of the new graph behind a value of the new graph, where it is one.
    pub fn param_of(&self, new: ValueId) -> Option<ParamId> {
        match self.target.value(new).origin {
            Origin::Param(param) => Some(param),
            _ => None,
        }
    }

    /// Copies an input, parameter or constant under its name.
    fn copy(&mut self, old: ValueId) -> Result<()> {
        let value = self.source.value(old);
        let new = match &value.origin {
            Origin::Input => self.target.add_input(&value.name, value.ty.clone())?,
            Origin::Param(id) => {
                let param = self.source.param(*id);
                self.target.add_param(&param.path, &param.shape, param.init, param.kind)?
            }
            Origin::Constant(tensor) => self.target.add_constant(&value.name, tensor.clone())?,
            Origin::Node(..) => return Ok(()),
        };
        self.map[old.index()] = Some(new);
        Ok(())
    }

    fn apply(&mut self, node: &Node, rewrite: Rewrite) -> Result<()> {
        let new = match rewrite {
            Rewrite::Keep => {
                let operands = self.operands(node)?;
                self.target.add_node(&node.path, node.op.clone(), &operands)?
            }
            Rewrite::Replace(new) => new,
        };
        node.outputs.iter().zip(new).for_each(|(old, new)| self.map[old.index()] = Some(new));
        Ok(())
    }

    /// Copies outputs and updates and checks the result.
    fn finish(mut self) -> Result<Graph> {
        for (name, value) in self.source.outputs() {
            let value = self.get(*value)?;
            self.target.add_output(name, value)?;
        }
        for (param, value) in self.source.updates() {
            let (target, value) = (self.get(self.source.param(*param).value)?, self.get(*value)?);
            if let Some(param) = self.param_of(target) {
                self.target.add_update(param, value)?;
            }
        }
        self.target.check()?;
        Ok(self.target)
    }
}

impl Graph {
    /// The graph with each node kept or replaced as `rule` says; inputs, parameters, constants, outputs and updates
    /// stay, names and order too. The rule sees the nodes in order, after their operands. The result is checked.
    ///
    /// ```
    /// use kessen_graph::{Graph, Op, Rewrite, ops::unary::{Unary, UnaryKind}, shape};
    /// let net = Graph::build("n", |g| g.input("x", shape!["batch", 4]).sigmoid().linear("fc", 2))?;
    /// let with_relu = net.rewrite(|r, node| match &node.op {
    ///     Op::Unary(u) if u.kind == UnaryKind::Sigmoid => {
    ///         let operands = r.operands(node)?;
    ///         Ok(Rewrite::Replace(r.node(&node.path, Unary::new(UnaryKind::Relu), &operands)?))
    ///     }
    ///     _ => Ok(Rewrite::Keep),
    /// })?;
    /// assert_eq!(with_relu.nodes()[0].op.operator().word(), "relu");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the rule; a removed value that is still used; a graph that breaks a rule.
    pub fn rewrite(&self, mut rule: impl FnMut(&mut Rewriter<'_>, &Node) -> Result<Rewrite>) -> Result<Self> {
        let mut rewriter = Rewriter::new(self);
        for id in self.value_ids() {
            match self.value(id).origin {
                Origin::Node(node, 0) => {
                    let node = self.node(node);
                    let rewrite = rule(&mut rewriter, node)?;
                    rewriter.apply(node, rewrite)?;
                }
                _ => rewriter.copy(id)?,
            }
        }
        rewriter.finish()
    }

    /// The graph for one choice of sizes: numbers in place of the named dimensions, in types and attributes. As every
    /// shape rule is applied again, what can only be refused for certain sizes is refused here, with the node's path.
    ///
    /// ```
    /// use kessen_graph::{Bindings, Graph, shape};
    /// let net = Graph::build("n", |g| g.input("x", shape!["batch", 3, "h", "h"]).max_pool(2))?;
    /// let bound = net.bind(&Bindings::from([("batch", 2), ("h", 8)]))?;
    /// assert_eq!(bound.ty(bound.outputs()[0].1).to_string(), "2×3×4×4");
    /// let error = net.bind(&Bindings::from([("batch", 2), ("h", 1)])).unwrap_err();
    /// assert!(error.to_string().contains("`max_pool`"));
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unbound`] for a name without a number; [`Error::Misfit`] for sizes that don't fit.
    pub fn bind(&self, bindings: &Bindings) -> Result<Self> {
        let mut rewriter = Rewriter::new(self);
        for id in self.value_ids() {
            let value = self.value(id);
            match value.origin {
                Origin::Node(node, 0) => {
                    let node = self.node(node);
                    let mut op = node.op.clone();
                    op.attributes_mut().bind(bindings)?;
                    let operands = rewriter.operands(node)?;
                    let results = rewriter.node(&node.path, op, &operands)?;
                    rewriter.apply(node, Rewrite::Replace(results))?;
                }
                Origin::Input => {
                    let mut ty = value.ty.clone();
                    ty.shape.bind(bindings)?;
                    rewriter.map[id.index()] = Some(rewriter.target.add_input(&value.name, ty)?);
                }
                _ => rewriter.copy(id)?,
            }
        }
        rewriter.finish()
    }

    /// The graph without what no output and no update depends on: nodes, parameters and constants. Inputs stay, they
    /// are what a caller gives.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let mut net = Graph::build("n", |g| {
    ///     let h = g.input("x", shape!["batch", 4]).linear("a", 3);
    ///     [("features", h.clone()), ("logits", h.relu().linear("b", 2))]
    /// })?;
    /// let features = net.outputs()[0].1;
    /// net.clear_outputs();
    /// net.add_output("features", features)?;
    /// let features = net.prune()?;
    /// assert_eq!(features.nodes().len(), 1);
    /// assert_eq!(features.weight_count(), 4 * 3 + 3);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    ///
    /// # Errors
    /// None for a graph that is consistent.
    pub fn prune(&self) -> Result<Self> {
        let (values, nodes) = self.live();
        let mut rewriter = Rewriter::new(self);
        for id in self.value_ids() {
            match self.value(id).origin {
                Origin::Node(node, 0) if nodes[node.index()] => {
                    rewriter.apply(self.node(node), Rewrite::Keep)?;
                }
                Origin::Node(..) => {}
                Origin::Input => rewriter.copy(id)?,
                _ if values[id.index()] => rewriter.copy(id)?,
                _ => {}
            }
        }
        rewriter.finish()
    }

    /// Which values and nodes some output or update depends on, and the parameters that are updated.
    fn live(&self) -> (Vec<bool>, Vec<bool>) {
        let mut values = vec![false; self.values().len()];
        let mut nodes = vec![false; self.nodes().len()];
        self.outputs().iter().for_each(|(_, v)| values[v.index()] = true);
        for (param, v) in self.updates() {
            values[v.index()] = true;
            values[self.param(*param).value.index()] = true;
        }
        for id in self.node_ids().rev() {
            let node = self.node(id);
            if node.outputs.iter().any(|v| values[v.index()]) {
                nodes[id.index()] = true;
                node.inputs.iter().for_each(|v| values[v.index()] = true);
            }
        }
        (values, nodes)
    }
}
