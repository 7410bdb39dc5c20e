//! A learnt vector per token.
//!
//! `V` size of the vocabulary, `D` features, `…` any dimensions: `y[…, :] = weight[ids[…], :]`.

use kessen_tensor::DType;

use crate::error::Misfit;
use crate::op::Operator;
use crate::{GradContext, Init, Result, Type, Wire, operator};

operator! {
    /// Rows of a table: operands ids `[…]` (`i64`, 0 ≤ id < V), weight `[V, D]`; result `[…, D]`.
    Embedding "embedding" {
        /// Row that receives no gradient.
        padding_index: Option<usize> = None,
    }
}

operator! {
    /// Gradient of [`Embedding`]: operands dy `[…, D]`, ids `[…]`; result dweight `[V, D]`, the sum of dy over each
    /// id's occurrences.
    EmbeddingGrad "embedding_grad" {
        /// As in [`Embedding`].
        padding_index: Option<usize> = None,
        /// V, the number of rows.
        rows: usize = 0,
    }
}

fn check_padding_index(padding_index: Option<usize>, rows: usize) -> Result<(), Misfit> {
    match padding_index {
        Some(i) if i >= rows => Err(format!("padding_index is {i}, but there are only {rows} rows").into()),
        _ => Ok(()),
    }
}

impl Operator for Embedding {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [ids, weight] = inputs else { return Err("expected ids and weight".into()) };
        if ids.dtype != DType::I64 {
            return Err("ids must be i64; declare the input with input_ids".into());
        }
        let [rows, features] = weight.shape.as_slice() else { return Err("expected weight [V, D]".into()) };
        if let Some(rows) = rows.as_fixed() {
            check_padding_index(self.padding_index, rows)?;
        }
        let mut shape = ids.shape.clone();
        shape.push(features.clone());
        Ok(vec![weight.with_shape(shape)])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        if context.wants(1) {
            let ids = context.input(0);
            let Some(rows) = context.ty(context.input(1)).shape[0].as_fixed() else {
                return context.not_differentiable_to(1, "the table's number of rows must be a fixed number");
            };
            let op = EmbeddingGrad { padding_index: self.padding_index, rows };
            let dweight = context.emit1(op, &[dy, ids])?;
            context.set(1, dweight);
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Gather"]
    }
}

impl Operator for EmbeddingGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [dy, ids] = inputs else { return Err("expected dy and ids".into()) };
        check_padding_index(self.padding_index, self.rows)?;
        match dy.shape.split_last() {
            Some((features, rest)) if rest == ids.shape && ids.dtype == DType::I64 => {
                Ok(vec![dy.with_shape(vec![self.rows.into(), features.clone()])])
            }
            _ => Err("expected dy […, D] and ids […] (i64)".into()),
        }
    }
}

impl Wire {
    /// An embedding layer on token ids: parameter `path.weight` `[vocabulary, features]`, N(0, 1) as in PyTorch.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("e", |g| g.input_ids("tokens", shape!["batch", "time"]).embedding("emb", 1000, 64))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×time×64");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn embedding(&self, path: &str, vocabulary: usize, features: usize) -> Wire {
        self.embedding_with(path, vocabulary, features, Embedding::default(), Init::Normal(1.0))
    }

    /// As [`Wire::embedding`], with all attributes and an initialiser. The row `padding_index` is drawn like the
    /// others and, receiving no gradient, stays as it was drawn.
    pub fn embedding_with(
        &self,
        path: &str,
        vocabulary: usize,
        features: usize,
        op: Embedding,
        init: Init,
    ) -> Wire {
        let weight = self.builder().param(&format!("{path}.weight"), &[vocabulary, features], init);
        self.apply_named(path, op, &[&weight])
    }
}
