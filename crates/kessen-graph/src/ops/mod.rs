//! The vocabulary of operators: one file each.
//!
//! A file holds all that is known of its operator: the formula with its source, the attributes, the shape rule, the
//! cost, the receptive field, the gradient rule, the ONNX names, and the builder methods of the layers that use it.
//! Adding an operator is one file here and one line in the list below; the compiler then lists the kernels that are
//! still owed.

use crate::attribute::Attributes;
use crate::error::Misfit;
use crate::op::{Custom, Operator};
use crate::{Error, Result, nearest};

pub mod adaptive_pool;
pub mod argmax;
pub mod attention;
pub mod attention_layer;
pub mod avg_pool;
pub mod batch_norm;
pub mod bce;
pub mod binary;
pub mod cast;
pub mod clamp;
pub mod concat;
pub mod conv;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod global_norm;
pub mod group_norm;
pub mod layer_norm;
pub mod linear;
pub mod loss;
pub mod max_pool;
pub mod optimizer;
pub mod pad;
pub mod recurrent;
pub mod recurrent_layer;
pub mod reduce;
pub mod regression_loss;
pub mod reshape;
pub mod rms_norm;
pub mod slice;
pub mod softmax;
pub mod transformer_layer;
pub mod transpose;
pub mod unary;

macro_rules! operators {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// One operator with its attributes.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "each variant is documented at its struct")]
        pub enum Op {
            $($name($module::$name),)*
            /// An operator written outside this crate.
            Custom(Custom),
        }

        impl Op {
            /// What the operator says of itself.
            pub fn operator(&self) -> &dyn Operator {
                match self {
                    $(Self::$name(op) => op,)*
                    Self::Custom(op) => op,
                }
            }

            /// The operator's attributes, to set them.
            pub fn attributes_mut(&mut self) -> &mut dyn Attributes {
                match self {
                    $(Self::$name(op) => op,)*
                    Self::Custom(op) => op,
                }
            }

            /// Every built-in operator with its default attributes.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$name(Default::default())),*]
            }
        }

        $(impl From<$module::$name> for Op {
            fn from(op: $module::$name) -> Self { Self::$name(op) }
        })*
    };
}

operators! {
    adaptive_pool::AdaptivePool,
    adaptive_pool::AdaptivePoolGrad,
    argmax::ArgMax,
    attention::Attention,
    attention::AttentionGrad,
    avg_pool::AvgPool,
    avg_pool::AvgPoolGrad,
    batch_norm::BatchNorm,
    batch_norm::BatchNormTrain,
    batch_norm::BatchNormGrad,
    bce::BceWithLogits,
    bce::BceWithLogitsGrad,
    binary::Binary,
    cast::Cast,
    clamp::Clamp,
    clamp::ClampGrad,
    concat::Concat,
    conv::Conv,
    conv::ConvGradInput,
    conv::ConvGradWeight,
    cross_entropy::CrossEntropy,
    cross_entropy::CrossEntropyGrad,
    dropout::Dropout,
    embedding::Embedding,
    embedding::EmbeddingGrad,
    global_norm::GlobalNorm,
    layer_norm::LayerNorm,
    layer_norm::LayerNormGrad,
    linear::Linear,
    linear::MatMul,
    max_pool::MaxPool,
    max_pool::MaxPoolGrad,
    optimizer::SgdStep,
    optimizer::AdamStep,
    optimizer::RmspropStep,
    pad::Pad,
    recurrent::Recurrent,
    recurrent::RecurrentGrad,
    reduce::Reduce,
    reduce::SumTo,
    regression_loss::RegressionLoss,
    regression_loss::RegressionLossGrad,
    reshape::Reshape,
    reshape::Broadcast,
    slice::Slice,
    softmax::Softmax,
    softmax::SoftmaxGrad,
    transpose::Transpose,
    unary::Unary,
    unary::UnaryGrad,
}

/// Elements of a shape, for costs: the largest number where it is too large.
pub(crate) fn count(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |n: u64, &d| n.saturating_mul(d as u64))
}

impl Op {
    /// The built-in operator of that name, with its default attributes.
    ///
    /// # Errors
    /// [`Error::Unknown`], with the nearest name.
    pub fn by_name(name: &str) -> Result<Self> {
        let mut all = Self::all();
        match all.iter().position(|op| op.operator().name() == name) {
            Some(at) => Ok(all.swap_remove(at)),
            None => Err(Error::Unknown {
                kind: "operator",
                name: name.to_owned(),
                nearest: nearest(name, all.iter().map(|op| op.operator().name())),
            }),
        }
    }
}

/// Refuses a number outside `0 ≤ value < below`, for shape rules.
pub(crate) fn check_range(what: &str, value: f64, below: f64) -> Result<(), Misfit> {
    if value >= 0.0 && value < below {
        return Ok(());
    }
    let limit = if below.is_finite() { format!("below {below}") } else { "finite".to_owned() };
    Err(format!("{what} is {value}, expected a number ≥ 0 and {limit}").into())
}
