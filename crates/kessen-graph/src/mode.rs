//! A model's wiring as it is trained and as it is used.
//!
//! A model is wired once. Batch normalisation and dropout compute something else in training; these two passes write
//! the difference into the graph, so that no mode has to be passed around later.

use std::collections::BTreeMap;

use crate::graph::{ParamId, ValueId};
use crate::ops::attention::Attention;
use crate::ops::batch_norm::{BatchNorm, BatchNormTrain};
use crate::ops::dropout::Dropout;
use crate::{Graph, Node, Op, Result, Rewrite, Rewriter};

impl Graph {
    /// The wiring for training: [`BatchNorm`] becomes [`BatchNormTrain`] and its running statistics get their
    /// updates; [`Dropout`] drops (as does [`Attention`]), with a stream of random numbers named by the node's path. A normalisation that is
    /// used at two places updates its statistics twice, in order.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::conv::conv, shape};
    /// let net = Graph::build("n", |g| {
    ///     g.input("x", shape!["batch", 3, 8, 8]).conv("conv1", conv(4, 3)).batch_norm("bn1").relu().dropout(0.1)
    /// })?;
    /// assert_eq!(net.for_training()?.updates().len(), 2);
    /// assert_eq!(net.for_training()?.for_inference()?.updates().len(), 0);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    ///
    /// # Errors
    /// Statistics over a single value.
    pub fn for_training(&self) -> Result<Self> {
        let mut statistics = BTreeMap::new();
        let mut graph = self.rewrite(|r, node| match &node.op {
            Op::BatchNorm(op) => train_batch_norm(r, node, op, &mut statistics),
            Op::Dropout(op) if !op.training => {
                let op = Dropout { p: op.p, key: stream(&node.path), training: true };
                let operands = r.operands(node)?;
                Ok(Rewrite::Replace(r.node(&node.path, op, &operands)?))
            }
            Op::Attention(op) if !op.training && op.dropout > 0.0 => {
                let op = Attention { key: stream(&node.path), training: true, ..op.clone() };
                let operands = r.operands(node)?;
                Ok(Rewrite::Replace(r.node(&node.path, op, &operands)?))
            }
            _ => Ok(Rewrite::Keep),
        })?;
        for (param, value) in statistics {
            graph.add_update(param, value)?;
        }
        Ok(graph)
    }

    /// The wiring for use: without dropout, with batch normalisation by running statistics, without updates. It is
    /// the reverse of [`Graph::for_training`] for a forward graph.
    ///
    /// # Errors
    /// [`crate::Error::Inconsistent`] where batch statistics are used by something else, as by a gradient.
    pub fn for_inference(&self) -> Result<Self> {
        let mut forward = self.clone();
        forward.clear_updates();
        forward.rewrite(|r, node| match &node.op {
            Op::BatchNormTrain(op) => {
                let operands = r.operands(node)?;
                let op = BatchNorm { eps: op.eps, momentum: op.momentum };
                Ok(Rewrite::Replace(r.node(&node.path, op, &operands)?))
            }
            Op::Dropout(_) => Ok(Rewrite::Replace(r.operands(node)?)),
            Op::Attention(op) if op.training => {
                let operands = r.operands(node)?;
                let op = Attention { key: 0, training: false, ..op.clone() };
                Ok(Rewrite::Replace(r.node(&node.path, op, &operands)?))
            }
            _ => Ok(Rewrite::Keep),
        })
    }
}

/// `statistics` holds each running statistic's newest value.
fn train_batch_norm(
    r: &mut Rewriter<'_>,
    node: &Node,
    op: &BatchNorm,
    statistics: &mut BTreeMap<ParamId, ValueId>,
) -> Result<Rewrite> {
    let mut operands = r.operands(node)?;
    let running = [3, 4].map(|i| r.param_of(operands[i]));
    for (i, param) in [3, 4].into_iter().zip(running) {
        if let Some(newest) = param.and_then(|p| statistics.get(&p)) {
            operands[i] = *newest;
        }
    }
    let op = BatchNormTrain { eps: op.eps, momentum: op.momentum };
    let results = r.node(&node.path, op, &operands)?;
    for (param, new) in running.into_iter().zip(&results[3..]) {
        if let Some(param) = param {
            statistics.insert(param, *new);
        }
    }
    Ok(Rewrite::Replace(results[..1].to_vec()))
}

/// Number of the stream named by a path: FNV-1a, 64 bits, fixed by its definition.
fn stream(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
