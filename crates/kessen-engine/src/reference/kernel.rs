//! Which function computes which operator.

use kessen_graph::ops::slice::Slice;
use kessen_graph::{Bindings, Dim, Node, Op};

use super::array::{Array, Value};
use super::{
    adaptive_pool, argmax, attention, avg_pool, batch_norm, bce, binary, cast, clamp, conv, cross_entropy,
    custom, dropout, embedding, global_norm, layer_norm, linear, max_pool, movement, optimizer, recurrent,
    reduce, regression_loss, reshape, softmax, unary,
};
use crate::{Clock, Error, Result};

/// What a node's computation sees.
#[derive(Debug)]
pub(super) struct Operands<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its operands.
    pub values: Vec<&'a Value>,
    /// Numbers for the dimensions in attributes.
    pub bindings: &'a Bindings,
    /// What random numbers are keyed by.
    pub clock: Clock,
}

impl<'a> Operands<'a> {
    /// Operand `i`, real numbers.
    pub fn real(&self, i: usize) -> Result<&'a Array<f64>> {
        match self.values.get(i) {
            Some(Value::Real(a)) => Ok(a),
            _ => Err(self.unsupported(format!("operand {i} must be real numbers"))),
        }
    }

    /// Operand `i`, labels or token ids.
    pub fn ids(&self, i: usize) -> Result<&'a Array<i64>> {
        match self.values.get(i) {
            Some(Value::Ids(a)) => Ok(a),
            _ => Err(self.unsupported(format!("operand {i} must be whole numbers"))),
        }
    }

    /// `N` operands from `start` on, real numbers.
    pub fn reals<const N: usize>(&self, start: usize) -> Result<[&'a Array<f64>; N]> {
        let list: Vec<_> = (start..start + N).map(|i| self.real(i)).collect::<Result<_>>()?;
        list.try_into().map_err(|_| self.unsupported(format!("expected {N} operands from {start} on")))
    }

    /// Operand `i`, where there is one.
    pub fn optional(&self, i: usize) -> Result<Option<&'a Array<f64>>> {
        if i < self.values.len() { self.real(i).map(Some) } else { Ok(None) }
    }

    /// All operands, real numbers.
    pub fn all_real(&self) -> Result<Vec<&'a Array<f64>>> {
        (0..self.values.len()).map(|i| self.real(i)).collect()
    }

    /// All results, real numbers.
    pub fn all_results<'r>(&self, results: &'r mut [Value]) -> Result<Vec<&'r mut Array<f64>>> {
        let array = |v: &'r mut Value| match v {
            Value::Real(a) => Ok(a),
            Value::Ids(_) => Err(self.unsupported("expected results of real numbers".to_owned())),
        };
        results.iter_mut().map(array).collect()
    }

    /// Results as `N` arrays of real numbers.
    pub fn results<'r, const N: usize>(&self, results: &'r mut [Value]) -> Result<[&'r mut Array<f64>; N]> {
        let arrays = self.all_results(results)?.try_into();
        arrays.map_err(|_| self.unsupported(format!("expected {N} results of real numbers")))
    }

    /// An index that was read from the data, checked to be below `limit`.
    pub fn index(&self, index: i64, position: usize, limit: usize) -> Result<usize> {
        usize::try_from(index).ok().filter(|&i| i < limit).ok_or_else(|| Error::Index {
            path: self.node.path.clone(),
            operator: self.node.op.operator().name().to_owned(),
            index,
            position,
            limit,
        })
    }

    fn unsupported(&self, reason: String) -> Error {
        let operator = self.node.op.operator().name().to_owned();
        Error::Unsupported { path: self.node.path.clone(), backend: "reference", operator, reason }
    }
}

/// Calls a function that only moves elements, for whichever kind of element there is.
macro_rules! moved {
    ($operands:expr, $results:expr, |$x:ident, $y:ident| $call:expr) => {
        match ($operands.values.first(), &mut $results[0]) {
            (Some(Value::Real($x)), Value::Real($y)) => $call,
            (Some(Value::Ids($x)), Value::Ids($y)) => $call,
            _ => return Err($operands.unsupported("operand and result differ in kind".to_owned())),
        }
    };
}

/// Dimensions as numbers.
fn numbers(dims: &[Dim], bindings: &Bindings) -> Result<Vec<usize>> {
    Ok(dims.iter().map(|d| d.eval(bindings)).collect::<kessen_graph::Result<_>>()?)
}

/// Where a slice starts, once it is known to lie within an operand of that shape.
fn slice_start(o: &Operands<'_>, op: &Slice, shape: &[usize]) -> Result<usize> {
    let (start, end) = (op.start.eval(o.bindings)?, op.end.eval(o.bindings)?);
    if start > end || end > shape[op.dim] {
        let (dim, size) = (op.dim, shape[op.dim]);
        return Err(o.unsupported(format!("takes {start}..{end} of dimension {dim}, whose size is {size}")));
    }
    Ok(start)
}

fn concat(o: &Operands<'_>, dim: usize, result: &mut Value) -> Result<()> {
    match result {
        Value::Real(y) => movement::concat(dim, &o.all_real()?, y),
        Value::Ids(y) => {
            let operands: Vec<_> = (0..o.values.len()).map(|i| o.ids(i)).collect::<Result<_>>()?;
            movement::concat(dim, &operands, y);
        }
    }
    Ok(())
}

fn pad(o: &Operands<'_>, before: &[usize], value: f64, result: &mut Value) -> Result<()> {
    match result {
        Value::Real(y) => movement::pad(before, value, o.real(0)?, y),
        Value::Ids(y) => movement::pad(before, value as i64, o.ids(0)?, y),
    }
    Ok(())
}

/// Computes a node. Results have their shapes and are zero on entry.
///
/// There is no wildcard: a new operator does not compile until its formula stands here.
pub(super) fn compute(o: &Operands<'_>, results: &mut [Value]) -> Result<()> {
    macro_rules! y {
        () => {{
            let [y] = o.results(results)?;
            y
        }};
    }
    match &o.node.op {
        Op::AdaptivePool(op) => adaptive_pool::adaptive_pool(op, o.real(0)?, y!()),
        Op::AdaptivePoolGrad(op) => {
            adaptive_pool::adaptive_pool_grad(op, o.real(0)?, o.optional(1)?, y!());
        }
        Op::ArgMax(op) => match &mut results[0] {
            Value::Ids(y) => argmax::argmax(op, o.real(0)?, y),
            Value::Real(_) => return Err(o.unsupported("expected a result of whole numbers".to_owned())),
        },
        Op::Attention(op) => attention::attention(op, o, results)?,
        Op::AttentionGrad(op) => attention::attention_grad(&op.forward(), o, results)?,
        Op::AvgPool(op) => avg_pool::avg_pool(op, o.real(0)?, y!()),
        Op::AvgPoolGrad(op) => avg_pool::avg_pool_grad(op, o.real(0)?, y!()),
        Op::BatchNorm(op) => batch_norm::batch_norm(op, o.reals(0)?, y!()),
        Op::BatchNormTrain(op) => batch_norm::batch_norm_train(op, o.reals(0)?, o.results(results)?),
        Op::BatchNormGrad(_) => batch_norm::batch_norm_grad(o.reals(0)?, o.results(results)?),
        Op::BceWithLogits(op) => {
            bce::bce_with_logits(op, o.real(0)?, o.real(1)?, o.optional(2)?, y!());
        }
        Op::BceWithLogitsGrad(op) => bce::bce_with_logits_grad(op, o.reals(0)?, o.optional(3)?, y!()),
        Op::Binary(op) => binary::binary(op, o.real(0)?, o.real(1)?, y!()),
        Op::Cast(op) => cast::cast(op.to, o.values[0], &mut results[0]),
        Op::Clamp(op) => clamp::clamp(op, o.real(0)?, y!()),
        Op::ClampGrad(op) => clamp::clamp_grad(op, o.real(0)?, o.real(1)?, y!()),
        Op::Concat(op) => concat(o, op.dim, &mut results[0])?,
        Op::Conv(op) => conv::conv(op, o.real(0)?, o.real(1)?, o.optional(2)?, y!()),
        Op::ConvGradInput(op) => conv::conv_grad_input(op, o.real(0)?, o.real(1)?, y!()),
        Op::ConvGradWeight(op) => conv::conv_grad_weight(op, o.real(0)?, o.real(1)?, y!()),
        Op::CrossEntropy(op) => {
            cross_entropy::cross_entropy(op, o, (o.real(0)?, o.ids(1)?, o.optional(2)?), y!())?;
        }
        Op::CrossEntropyGrad(op) => {
            let operands = (o.real(1)?, o.ids(2)?, o.optional(3)?);
            cross_entropy::cross_entropy_grad(op, o, o.real(0)?, operands, y!())?;
        }
        Op::Dropout(op) => dropout::dropout(op, o.clock, o.real(0)?, y!()),
        Op::Embedding(_) => embedding::embedding(o, o.ids(0)?, o.real(1)?, y!())?,
        Op::EmbeddingGrad(op) => embedding::embedding_grad(op, o, o.real(0)?, o.ids(1)?, y!())?,
        Op::GlobalNorm(_) => global_norm::global_norm(&o.all_real()?, y!()),
        Op::LayerNorm(op) => {
            layer_norm::layer_norm(op, o.real(0)?, o.optional(1)?, o.optional(2)?, o.results(results)?);
        }
        Op::LayerNormGrad(_) => match o.optional(4)? {
            Some(weight) => {
                let [dx, dweight, dbias] = o.results(results)?;
                layer_norm::layer_norm_grad(o.reals(0)?, Some(weight), dx, Some([dweight, dbias]));
            }
            None => layer_norm::layer_norm_grad(o.reals(0)?, None, y!(), None),
        },
        Op::Linear(_) => linear::linear(o.real(0)?, o.real(1)?, o.optional(2)?, y!()),
        Op::MatMul(op) => linear::matmul(op, o.real(0)?, o.real(1)?, y!()),
        Op::MaxPool(op) => max_pool::max_pool(op, o.real(0)?, y!()),
        Op::MaxPoolGrad(op) => max_pool::max_pool_grad(op, o.real(0)?, o.real(1)?, y!()),
        Op::SgdStep(op) => optimizer::sgd_step(op, &o.all_real()?, &mut o.all_results(results)?),
        Op::AdamStep(op) => optimizer::adam_step(op, &o.all_real()?, &mut o.all_results(results)?),
        Op::RmspropStep(op) => optimizer::rmsprop_step(op, &o.all_real()?, &mut o.all_results(results)?),
        Op::Pad(op) => pad(o, &numbers(&op.before, o.bindings)?, op.value, &mut results[0])?,
        Op::Recurrent(op) => recurrent::recurrent(op, o, results)?,
        Op::RecurrentGrad(op) => recurrent::recurrent_grad(op, o, results)?,
        Op::Reduce(op) => reduce::reduce(op, o.real(0)?, y!()),
        Op::SumTo(_) => reduce::sum_to(o.real(0)?, y!()),
        Op::RegressionLoss(op) => regression_loss::regression_loss(op, o.real(0)?, o.real(1)?, y!()),
        Op::RegressionLossGrad(op) => regression_loss::regression_loss_grad(op, o.reals(0)?, y!()),
        Op::Reshape(_) => moved!(o, results, |x, y| reshape::reshape(x, y)),
        Op::Broadcast(_) => moved!(o, results, |x, y| reshape::broadcast(x, y)),
        Op::Slice(op) => {
            let start = slice_start(o, op, o.values[0].shape())?;
            moved!(o, results, |x, y| movement::slice(op.dim, start, op.step, x, y));
        }
        Op::Softmax(op) => softmax::softmax(op, o.real(0)?, y!()),
        Op::SoftmaxGrad(op) => softmax::softmax_grad(op, o.real(0)?, o.real(1)?, y!()),
        Op::Transpose(op) => moved!(o, results, |x, y| movement::transpose(&op.dims, x, y)),
        Op::Unary(op) => unary::unary(op, o.real(0)?, y!()),
        Op::UnaryGrad(op) => unary::unary_grad(op, o.real(0)?, o.real(1)?, y!()),
        Op::Custom(op) => {
            let operands = o.all_real()?;
            match op.backward {
                false => custom::forward(op.operator.as_ref(), &operands, y!()),
                true => custom::backward(op.operator.as_ref(), &operands, results),
            }
        }
    }
    Ok(())
}
