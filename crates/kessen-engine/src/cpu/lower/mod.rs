//! From a group of nodes to steps: one file per kind of operator.

mod argmax;
mod attention;
mod cast;
pub(crate) mod conv;
mod copy;
mod custom;
mod dropout;
mod elementwise;
mod embedding;
mod ids;
mod linear;
pub(crate) mod lookup;
mod loss;
pub(crate) mod norm;
mod optimizer;
pub(crate) mod pool;
pub(crate) mod recurrent;
mod reduce;
mod shape;
mod softmax;
mod tokens;
mod weighted_bce;

use kessen_graph::{NodeId, Op, ValueId};

use super::builder::PlanBuilder;
use crate::{Error, Result};

/// Lowers one group of nodes.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, group: &[NodeId]) -> Result<()> {
    let id = group[0];
    // A function's gradient leads a group only before the gradient of a normalisation.
    if group.len() > 1 && matches!(b.graph.node(group[1]).op, Op::BatchNormGrad(_)) {
        return norm::lower_batch_grad(b, group);
    }
    match &b.graph.node(id).op {
        Op::Binary(_)
        | Op::SumTo(_)
        | Op::Broadcast(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Concat(_)
            if ids::touches(b, id) =>
        {
            ids::lower(b, id)
        }
        Op::Conv(_) => conv::lower(b, group),
        Op::ConvGradInput(_) => conv::lower_grad_input(b, id),
        Op::ConvGradWeight(_) => conv::lower_grad_weight(b, id),
        Op::BatchNormTrain(_) => norm::lower_batch_train(b, group),
        Op::BatchNormGrad(_) => norm::lower_batch_grad(b, group),
        Op::BatchNorm(_) => norm::lower_batch(b, id),
        Op::LayerNorm(_) => norm::lower_layer(b, id),
        Op::LayerNormGrad(_) => norm::lower_layer_grad(b, id),
        Op::Linear(_) => linear::lower(b, group),
        Op::MatMul(_) if group.len() > 1 => linear::lower_update(b, group),
        Op::MatMul(_) => linear::lower_matmul(b, id),
        Op::Unary(_) | Op::UnaryGrad(_) | Op::Binary(_) | Op::Clamp(_) | Op::ClampGrad(_) => {
            elementwise::lower(b, group)
        }
        Op::Reduce(_) => reduce::lower(b, id),
        Op::SumTo(_) => reduce::lower_sum_to(b, id),
        Op::Reshape(_) => shape::lower_alias(b, id),
        Op::Broadcast(_) => shape::lower_broadcast(b, id),
        Op::MaxPool(_) | Op::AvgPool(_) | Op::AdaptivePool(_) => pool::lower(b, id),
        Op::MaxPoolGrad(_) | Op::AvgPoolGrad(_) | Op::AdaptivePoolGrad(_) => pool::lower_grad(b, id),
        Op::ArgMax(_) => argmax::lower(b, id),
        Op::Softmax(_) => softmax::lower(b, id),
        Op::SoftmaxGrad(_) => softmax::lower_grad(b, id),
        Op::CrossEntropy(_) => loss::lower_cross_entropy(b, id),
        Op::CrossEntropyGrad(_) => loss::lower_cross_entropy_grad(b, id),
        Op::RegressionLoss(_) | Op::BceWithLogits(_) => loss::lower_pointwise(b, id),
        Op::RegressionLossGrad(_) | Op::BceWithLogitsGrad(_) => loss::lower_pointwise_grad(b, id),
        Op::Dropout(_) => dropout::lower(b, id),
        Op::SgdStep(_) | Op::AdamStep(_) | Op::RmspropStep(_) => optimizer::lower(b, id),
        Op::GlobalNorm(_) => optimizer::lower_global_norm(b, id),
        Op::Transpose(_) => copy::lower_transpose(b, id),
        Op::Slice(_) => copy::lower_slice(b, id),
        Op::Pad(_) => copy::lower_pad(b, id),
        Op::Concat(_) => copy::lower_concat(b, id),
        Op::Embedding(_) => embedding::lower(b, id),
        Op::EmbeddingGrad(_) if group.len() > 1 => embedding::lower_update(b, group),
        Op::EmbeddingGrad(_) => embedding::lower_grad(b, id),
        Op::Cast(_) => cast::lower(b, id),
        Op::Custom(_) => custom::lower(b, id),
        Op::Attention(_) => attention::lower(b, id),
        Op::AttentionGrad(_) => attention::lower_grad(b, id),
        Op::Recurrent(_) => recurrent::lower(b, id),
        Op::RecurrentGrad(_) => recurrent::lower_grad(b, id),
    }
}

/// The node that computes `v` is beyond what the kernels can do.
pub(crate) fn unsupported(b: &PlanBuilder<'_>, v: ValueId, reason: &str) -> Error {
    let node = b.graph.producer(v).map(|(id, _)| b.graph.node(id));
    Error::Unsupported {
        path: b.graph.value(v).name.clone(),
        backend: "cpu",
        operator: node.map(|n| n.op.operator().name().to_owned()).unwrap_or_default(),
        reason: reason.to_owned(),
    }
}
