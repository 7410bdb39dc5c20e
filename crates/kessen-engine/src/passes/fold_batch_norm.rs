//! Batch normalisation by running statistics becomes part of the product before it.
//!
//! With s = weight/√(var + eps): s·((x ∗ w + b) − mean) + bias = x ∗ (s·w) + (s·(b − mean) + bias). The new weight and
//! bias depend on parameters alone, so a plan computes them once. Where no convolution or linear layer precedes,
//! s·x + (bias − s·mean) remains, an element-wise map.

use kessen_graph::ops::batch_norm::BatchNorm;
use kessen_graph::ops::binary::{Binary, BinaryKind};
use kessen_graph::ops::reshape::Reshape;
use kessen_graph::ops::unary::{Unary, UnaryKind};
use kessen_graph::{Dim, Graph, Node, Op, Result, Rewrite, Rewriter, ValueId};

/// Rewrites every [`BatchNorm`]. A product that is folded stays behind unused where nothing else reads it.
pub(crate) fn fold_batch_norm(graph: &Graph) -> Result<Graph> {
    let uses = graph.use_counts();
    graph.rewrite(|r, node| match &node.op {
        Op::BatchNorm(op) => {
            let x = node.inputs[0];
            let product = graph.producer(x).map(|(id, _)| graph.node(id));
            match product.filter(|p| uses[x.index()] == 1 && matches!(p.op, Op::Conv(_) | Op::Linear(_))) {
                Some(product) => fold(r, node, op, product),
                None => spread(r, node, op),
            }
        }
        _ => Ok(Rewrite::Keep),
    })
}

/// Appends nodes under names derived from the normalisation's path.
struct Emit<'r, 'g> {
    rewriter: &'r mut Rewriter<'g>,
    path: String,
}

impl Emit<'_, '_> {
    fn node(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId> {
        let path = self.rewriter.fresh_name(&format!("{}.folded", self.path));
        Ok(self.rewriter.node(&path, op, operands)?[0])
    }

    fn binary(&mut self, kind: BinaryKind, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.node(Binary { kind }, &[a, b])
    }

    /// s = weight/√(var + eps) for operands (x, weight, bias, mean, var).
    fn scale(&mut self, operands: &[ValueId], op: &BatchNorm) -> Result<ValueId> {
        let eps = self.rewriter.scalar(op.eps as f32)?;
        let variance = self.binary(BinaryKind::Add, operands[4], eps)?;
        let deviation = self.node(Unary::new(UnaryKind::Sqrt), &[variance])?;
        self.binary(BinaryKind::Div, operands[1], deviation)
    }

    /// `[C]` as `[C, 1, …]` with `trailing` ones.
    fn column(&mut self, v: ValueId, trailing: usize) -> Result<ValueId> {
        let mut shape = self.rewriter.target().ty(v).shape.clone();
        shape.extend(std::iter::repeat_n(Dim::fixed(1), trailing));
        self.node(Reshape { shape }, &[v])
    }
}

fn fold(r: &mut Rewriter<'_>, node: &Node, op: &BatchNorm, product: &Node) -> Result<Rewrite> {
    let (operands, of_product) = (r.operands(node)?, r.operands(product)?);
    let mut e = Emit { rewriter: r, path: node.path.clone() };
    let scale = e.scale(&operands, op)?;
    let trailing = e.rewriter.target().ty(of_product[1]).rank() - 1;
    let column = e.column(scale, trailing)?;
    let weight = e.binary(BinaryKind::Mul, of_product[1], column)?;
    let shift = match of_product.get(2) {
        Some(&b) => e.binary(BinaryKind::Sub, b, operands[3])?,
        None => e.node(Unary::new(UnaryKind::Neg), &[operands[3]])?,
    };
    let shift = e.binary(BinaryKind::Mul, shift, scale)?;
    let bias = e.binary(BinaryKind::Add, shift, operands[2])?;
    let results = r.node(&node.path, product.op.clone(), &[of_product[0], weight, bias])?;
    Ok(Rewrite::Replace(results))
}

fn spread(r: &mut Rewriter<'_>, node: &Node, op: &BatchNorm) -> Result<Rewrite> {
    let operands = r.operands(node)?;
    let trailing = r.target().ty(operands[0]).rank().saturating_sub(2);
    let mut e = Emit { rewriter: r, path: node.path.clone() };
    let scale = e.scale(&operands, op)?;
    let shift = e.binary(BinaryKind::Mul, operands[3], scale)?;
    let shift = e.binary(BinaryKind::Sub, operands[2], shift)?;
    let (scale, shift) = (e.column(scale, trailing)?, e.column(shift, trailing)?);
    let scaled = e.binary(BinaryKind::Mul, operands[0], scale)?;
    let results = r.node(&node.path, Binary { kind: BinaryKind::Add }, &[scaled, shift])?;
    Ok(Rewrite::Replace(results))
}
