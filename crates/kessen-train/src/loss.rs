//! Losses as data, and how they join a model's graph.
//!
//! Dimensions: `N` samples, `K` classes, `…` positions.

use kessen_graph::ops::bce::BceWithLogits;
use kessen_graph::ops::cross_entropy::CrossEntropy;
use kessen_graph::ops::reshape::element_count;
use kessen_graph::{GraphBuilder, Type, Wire};
use kessen_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What is minimised.
///
/// ```
/// use kessen_train::{Loss, cross_entropy};
///
/// let smooth: Loss = serde_json::from_str(r#"{"kind":"cross-entropy","smoothing":0.1}"#).unwrap();
/// assert_eq!(smooth, cross_entropy().smoothing(0.1));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// −ln of the target class's softmax probability, mean over samples; for logits `[N, K, …]` or `[N, …, K]`.
    CrossEntropy {
        /// Share of the target spread evenly over all classes.
        #[serde(default)]
        smoothing: f64,
        /// One weight per class; empty for equal weights.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        weights: Vec<f32>,
        /// Class whose samples don't count.
        #[serde(default = "default_ignore")]
        ignore: i64,
        /// The logits' dimension of classes. Where none is given: 1, or the last one if dimension 1 is a named one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class_dim: Option<usize>,
    },
    /// Binary cross-entropy of logits with targets 0 to 1.
    Bce {
        /// Weight of the positive class.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        positive_weight: Option<f32>,
    },
    /// Mean squared error.
    Mse {},
    /// Mean absolute error.
    Mae {},
    /// Squared error up to `delta`, absolute beyond (Huber 1964).
    Huber {
        /// Where it turns from one to the other.
        #[serde(default = "default_delta")]
        delta: f64,
    },
}

fn default_ignore() -> i64 {
    -100
}
fn default_delta() -> f64 {
    1.0
}

/// Cross-entropy without smoothing, weights or an ignored class (but PyTorch's −100).
pub fn cross_entropy() -> Loss {
    Loss::CrossEntropy { smoothing: 0.0, weights: Vec::new(), ignore: default_ignore(), class_dim: None }
}

/// Binary cross-entropy of logits.
pub fn bce() -> Loss {
    Loss::Bce { positive_weight: None }
}

/// Mean squared error.
pub fn mse() -> Loss {
    Loss::Mse {}
}

/// Mean absolute error.
pub fn mae() -> Loss {
    Loss::Mae {}
}

/// Huber's loss with the given turning point.
pub fn huber(delta: f64) -> Loss {
    Loss::Huber { delta }
}

impl Loss {
    /// Cross-entropy with label smoothing; the others stay.
    pub fn smoothing(mut self, share: f64) -> Self {
        if let Self::CrossEntropy { smoothing, .. } = &mut self {
            *smoothing = share;
        }
        self
    }

    /// Whether targets are classes.
    pub fn is_classification(&self) -> bool {
        matches!(self, Self::CrossEntropy { .. })
    }

    /// Refuses settings outside their ranges.
    ///
    /// # Errors
    /// [`Error::Option`] with the range.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::CrossEntropy { smoothing, weights, .. } => {
                if !(0.0..=1.0).contains(smoothing) {
                    return Err(Error::option("loss.smoothing", smoothing, "0 to 1"));
                }
                match weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
                    Some(w) => Err(Error::option("loss.weights", w, "numbers of 0 or more")),
                    None => Ok(()),
                }
            }
            Self::Huber { delta } if !(delta.is_finite() && *delta > 0.0) => {
                Err(Error::option("loss.delta", delta, "a number above 0"))
            }
            Self::Bce { positive_weight: Some(w) } if !(w.is_finite() && *w > 0.0) => {
                Err(Error::option("loss.positive_weight", w, "a number above 0"))
            }
            _ => Ok(()),
        }
    }

    /// The dimension of `prediction` that counts classes.
    pub fn class_dim(&self, prediction: &Type) -> usize {
        let last = prediction.rank().saturating_sub(1);
        match self {
            Self::CrossEntropy { class_dim: Some(d), .. } => *d,
            _ if prediction.shape.get(1).is_some_and(|d| d.as_fixed().is_some()) => 1,
            _ => last,
        }
    }

    /// The type of target for a prediction.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the prediction has no dimension of classes.
    pub fn target_type(&self, prediction: &Type) -> Result<Type> {
        if !self.is_classification() {
            return Ok(prediction.clone());
        }
        let d = self.class_dim(prediction);
        if prediction.rank() < 2 || d == 0 || d >= prediction.rank() {
            let expected = "logits [batch, classes, …] for cross-entropy; end with a linear layer per class";
            return Err(Error::mismatch("the model's output", prediction.to_string(), expected));
        }
        let mut shape = prediction.shape.clone();
        shape.remove(d);
        Ok(Type::i64(shape))
    }

    /// Adds the target's input `target`, of element type `dtype` as the data hold it, and the loss.
    pub(crate) fn wire(&self, g: &GraphBuilder, prediction: &Wire, dtype: DType) -> Result<Wire> {
        let ty = self.target_type(&prediction.ty())?;
        if self.is_classification() && dtype != DType::I64 {
            return Err(Error::mismatch(
                "the data's targets",
                dtype.name(),
                "classes (i64) for cross-entropy",
            ));
        }
        let mut target = g.input_of("target", Type { dtype, shape: ty.shape.clone() });
        if dtype != ty.dtype {
            target = target.cast(ty.dtype);
        }
        Ok(match self {
            Self::CrossEntropy { smoothing, weights, ignore, .. } => {
                let (logits, target) = self.classes_second(prediction, &target);
                let class_weights = (!weights.is_empty()).then(|| {
                    let weights = Tensor::from_slice(&[weights.len()], weights);
                    weights.map(|w| g.constant("train.class_weights", w))
                });
                let op = CrossEntropy {
                    label_smoothing: *smoothing,
                    ignore_index: Some(*ignore),
                    ..CrossEntropy::default()
                };
                logits.cross_entropy_with(&target, class_weights.transpose()?.as_ref(), op)
            }
            Self::Bce { positive_weight } => {
                let weight = positive_weight.map(|w| g.scalar(w));
                prediction.bce_with_logits_with(&target, weight.as_ref(), BceWithLogits::default())
            }
            Self::Mse {} => prediction.mse_loss(&target),
            Self::Mae {} => prediction.mae_loss(&target),
            Self::Huber { delta } => prediction.huber_loss(&target, *delta),
        })
    }

    /// Logits `[N, …, K]` as rows `[N·…, K]`, with the targets `[N·…]`; others as they are.
    fn classes_second(&self, logits: &Wire, target: &Wire) -> (Wire, Wire) {
        let shape = logits.ty().shape;
        if self.class_dim(&logits.ty()) != shape.len() - 1 || shape.len() == 2 {
            return (logits.clone(), target.clone());
        }
        let rows = element_count(&shape[..shape.len() - 1]);
        let classes = shape[shape.len() - 1].clone();
        (logits.reshape(vec![rows.clone(), classes]), target.reshape(vec![rows]))
    }
}
