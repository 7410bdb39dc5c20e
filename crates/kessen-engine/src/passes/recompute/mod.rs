//! Computing forward values again in the backward part instead of keeping them.
//!
//! A training graph is a forward part and, from its first gradient on, a backward part. A forward value that the
//! backward part reads lies in memory from the one to the other, unless the pass puts a copy of the nodes that compute
//! it before its first reader there. Copies are the same operators on the same operands, dropout's key included, so
//! the results are the same bits; running statistics are taken from the first computation alone.
//!
//! Which values are kept is a [`Choice`], from cheap to thorough: a pass over memory (activations, normalisations,
//! pooling) is repeated from values that are kept anyway; or whole segments between checkpoints are (Chen et al.,
//! "Training deep nets with sublinear memory cost", 2016). The rejected alternative, an optimal schedule by integer
//! programming (Jain et al., "Checkmate", 2020), needs a solver and minutes for a few percent of time.

mod choose;
mod parts;

use std::collections::{BTreeSet, HashMap};

use kessen_graph::{Graph, Node, NodeId, Result, Rewrite, Rewriter, ValueId};

use self::choose::is_cheap;
pub(crate) use self::choose::{CHOICES, Choice};
pub(crate) use self::parts::Parts;

/// The graph in which the values that `choice` does not keep are computed again where the backward part reads them.
pub(crate) fn recompute(parts: &Parts<'_>, choice: Choice) -> Result<Graph> {
    let mut again = Again { parts, choice, kept: parts.kept(choice), copies: HashMap::new() };
    parts.graph.rewrite(|r, node| again.rewrite(r, node))
}

/// The pass under way.
struct Again<'p> {
    parts: &'p Parts<'p>,
    choice: Choice,
    /// Per value: whether it lies in memory where the backward part reads it.
    kept: Vec<bool>,
    /// Results of the nodes that were copied, in the new graph.
    copies: HashMap<NodeId, Vec<ValueId>>,
}

impl Again<'_> {
    fn rewrite(&mut self, r: &mut Rewriter<'_>, node: &Node) -> Result<Rewrite> {
        let backward = self.parts.is_backward(node);
        let companion = self.parts.companion(node);
        let mut reads = node.inputs.iter().copied().chain(companion);
        if !backward || !reads.any(|v| self.is_dropped(v)) {
            return Ok(Rewrite::Keep);
        }
        if let Some(v) = companion {
            self.value(r, v)?;
        }
        let operands = node.inputs.iter().map(|&v| self.value(r, v)).collect::<Result<Vec<_>>>()?;
        Ok(Rewrite::Replace(r.node(&node.path, node.op.clone(), &operands)?))
    }

    fn is_dropped(&self, v: ValueId) -> bool {
        self.parts.forward_producer(v).is_some() && !self.kept[v.index()]
    }

    /// What stands for `v` in the backward part of the new graph: itself, or the copy, made where there is none yet.
    fn value(&mut self, r: &mut Rewriter<'_>, v: ValueId) -> Result<ValueId> {
        let Some((id, k)) = self.parts.forward_producer(v).filter(|_| self.is_dropped(v)) else {
            return r.get(v);
        };
        if !self.copies.contains_key(&id) {
            for missing in self.missing(id) {
                self.copy(r, missing)?;
            }
            if self.choice.is_thrifty() {
                // What was cheap on the way is computed once more where it is wanted itself.
                let graph = self.parts.graph;
                self.copies.retain(|&n, _| n == id || !is_cheap(&graph.node(n).op));
            }
        }
        Ok(self.copies[&id][k])
    }

    /// The nodes without which `id` cannot be copied, in order, itself included.
    fn missing(&self, id: NodeId) -> BTreeSet<NodeId> {
        let (mut missing, mut open) = (BTreeSet::from([id]), vec![id]);
        while let Some(next) = open.pop() {
            let dropped = self.parts.graph.node(next).inputs.iter().filter(|&&v| self.is_dropped(v));
            for (producer, _) in dropped.filter_map(|&v| self.parts.forward_producer(v)) {
                if !self.copies.contains_key(&producer) && missing.insert(producer) {
                    open.push(producer);
                }
            }
        }
        missing
    }

    fn copy(&mut self, r: &mut Rewriter<'_>, id: NodeId) -> Result<()> {
        let node = self.parts.graph.node(id);
        let mut operands = Vec::with_capacity(node.inputs.len());
        for &v in &node.inputs {
            let copied = self.parts.forward_producer(v).filter(|_| self.is_dropped(v));
            operands.push(match copied {
                Some((producer, k)) => self.copies[&producer][k],
                None => r.get(v)?,
            });
        }
        let path = r.fresh_name(&format!("{}.again", node.path));
        let results = r.node(&path, node.op.clone(), &operands)?;
        self.copies.insert(id, results);
        Ok(())
    }
}
