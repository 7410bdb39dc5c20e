//! Optimisers as data: their settings, with PyTorch's names and defaults.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How parameters follow their gradients.
///
/// ```
/// use kessen_train::{Optimizer, adam, sgd};
///
/// assert_eq!(adam(1e-3).lr(), 1e-3);
/// let json = serde_json::to_string(&sgd(0.1).momentum(0.9)).unwrap();
/// assert_eq!(serde_json::from_str::<Optimizer>(&json).unwrap(), sgd(0.1).momentum(0.9));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent: v ← μ·v + (1 − dampening)·(g + λ·w), w ← w − lr·v (Nesterov: g + λ·w + μ·v).
    Sgd {
        /// Learning rate.
        lr: f64,
        /// μ.
        #[serde(default)]
        momentum: f64,
        /// Share of a new gradient that momentum does not take.
        #[serde(default)]
        dampening: f64,
        /// Looks ahead (Nesterov 1983).
        #[serde(default)]
        nesterov: bool,
        /// λ, added to the gradient.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam (Kingma & Ba 2015); decay is added to the gradient.
    Adam {
        /// Learning rate.
        #[serde(default = "default_lr")]
        lr: f64,
        /// Decay of the first and second moment.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the root of the second moment.
        #[serde(default = "default_eps")]
        eps: f64,
        /// λ, added to the gradient.
        #[serde(default)]
        weight_decay: f64,
    },
    /// AdamW (Loshchilov & Hutter 2019): decay apart from the gradient, w ← w − lr·λ·w.
    Adamw {
        /// Learning rate.
        #[serde(default = "default_lr")]
        lr: f64,
        /// Decay of the first and second moment.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the root of the second moment.
        #[serde(default = "default_eps")]
        eps: f64,
        /// λ.
        #[serde(default = "default_decay")]
        weight_decay: f64,
    },
    /// RMSprop (Hinton 2012).
    Rmsprop {
        /// Learning rate.
        #[serde(default = "default_rmsprop_lr")]
        lr: f64,
        /// Decay of the mean square.
        #[serde(default = "default_alpha")]
        alpha: f64,
        /// Added to the root of the mean square.
        #[serde(default = "default_eps")]
        eps: f64,
        /// Momentum of the scaled gradient.
        #[serde(default)]
        momentum: f64,
        /// Subtracts the mean gradient's square from the mean square.
        #[serde(default)]
        centered: bool,
        /// λ, added to the gradient.
        #[serde(default)]
        weight_decay: f64,
    },
}

fn default_lr() -> f64 {
    1e-3
}
fn default_rmsprop_lr() -> f64 {
    1e-2
}
fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}
fn default_eps() -> f64 {
    1e-8
}
fn default_decay() -> f64 {
    1e-2
}
fn default_alpha() -> f64 {
    0.99
}

/// SGD without momentum.
pub fn sgd(lr: f64) -> Optimizer {
    Optimizer::Sgd { lr, momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
}

/// Adam with PyTorch's defaults.
pub fn adam(lr: f64) -> Optimizer {
    Optimizer::Adam { lr, betas: default_betas(), eps: default_eps(), weight_decay: 0.0 }
}

/// AdamW with PyTorch's defaults.
pub fn adamw(lr: f64) -> Optimizer {
    Optimizer::Adamw { lr, betas: default_betas(), eps: default_eps(), weight_decay: default_decay() }
}

/// RMSprop with PyTorch's defaults.
pub fn rmsprop(lr: f64) -> Optimizer {
    let (alpha, eps) = (default_alpha(), default_eps());
    Optimizer::Rmsprop { lr, alpha, eps, momentum: 0.0, centered: false, weight_decay: 0.0 }
}

impl Optimizer {
    /// The learning rate that schedules multiply.
    pub fn lr(&self) -> f64 {
        match *self {
            Self::Sgd { lr, .. }
            | Self::Adam { lr, .. }
            | Self::Adamw { lr, .. }
            | Self::Rmsprop { lr, .. } => lr,
        }
    }

    /// λ.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            Self::Sgd { weight_decay, .. }
            | Self::Adam { weight_decay, .. }
            | Self::Adamw { weight_decay, .. }
            | Self::Rmsprop { weight_decay, .. } => weight_decay,
        }
    }

    /// The same optimiser with another λ.
    pub fn decay(mut self, lambda: f64) -> Self {
        match &mut self {
            Self::Sgd { weight_decay, .. }
            | Self::Adam { weight_decay, .. }
            | Self::Adamw { weight_decay, .. }
            | Self::Rmsprop { weight_decay, .. } => *weight_decay = lambda,
        }
        self
    }

    /// The same optimiser with momentum μ; Adam's first moment is its β₁ already and stays.
    pub fn momentum(mut self, mu: f64) -> Self {
        if let Self::Sgd { momentum, .. } | Self::Rmsprop { momentum, .. } = &mut self {
            *momentum = mu;
        }
        self
    }

    /// SGD with Nesterov's look ahead; the others stay.
    pub fn nesterov(mut self) -> Self {
        if let Self::Sgd { nesterov, .. } = &mut self {
            *nesterov = true;
        }
        self
    }

    /// Refuses settings outside their ranges.
    ///
    /// # Errors
    /// [`Error::Option`] with the range.
    pub fn check(&self) -> Result<()> {
        let lr = self.lr();
        if !(lr > 0.0 && lr.is_finite()) {
            return Err(Error::option("optimizer.lr", lr, "a number above 0"));
        }
        let decay = self.weight_decay();
        if !(decay >= 0.0 && decay.is_finite()) {
            return Err(Error::option("optimizer.weight_decay", decay, "0 or more"));
        }
        let below_one = |name: &str, v: f64| match (0.0..1.0).contains(&v) {
            true => Ok(()),
            false => Err(Error::option(format!("optimizer.{name}"), v, "0 or more and below 1")),
        };
        let positive = |v: f64| match v > 0.0 && v.is_finite() {
            true => Ok(()),
            false => Err(Error::option("optimizer.eps", v, "a number above 0")),
        };
        match *self {
            Self::Sgd { momentum, dampening, nesterov, .. } => {
                below_one("momentum", momentum)?;
                if nesterov && (momentum == 0.0 || dampening != 0.0) {
                    let found = format!("true with momentum {momentum} and dampening {dampening}");
                    return Err(Error::option(
                        "optimizer.nesterov",
                        found,
                        "momentum above 0 and no dampening",
                    ));
                }
                match (0.0..=1.0).contains(&dampening) {
                    true => Ok(()),
                    false => Err(Error::option("optimizer.dampening", dampening, "0 to 1")),
                }
            }
            Self::Adam { betas, eps, .. } | Self::Adamw { betas, eps, .. } => {
                below_one("betas", betas[0])?;
                below_one("betas", betas[1])?;
                positive(eps)
            }
            Self::Rmsprop { alpha, eps, momentum, .. } => {
                below_one("alpha", alpha)?;
                below_one("momentum", momentum)?;
                positive(eps)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let cases = [
            (sgd(-0.1), "optimizer.lr"),
            (sgd(f64::NAN), "optimizer.lr"),
            (sgd(0.1).nesterov(), "optimizer.nesterov"),
            (sgd(0.1).momentum(1.0), "optimizer.momentum"),
            (adam(0.1).decay(-1.0), "optimizer.weight_decay"),
            (Optimizer::Adam { lr: 0.1, betas: [0.9, 1.0], eps: 1e-8, weight_decay: 0.0 }, "optimizer.betas"),
        ];
        for (optimizer, name) in cases {
            let error = optimizer.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        assert!(sgd(0.1).momentum(0.9).nesterov().check().is_ok());
    }

    #[test]
    fn a_recipe_needs_only_the_kind() {
        let found: Optimizer = serde_json::from_str(r#"{"kind":"adamw"}"#).unwrap();
        assert_eq!(found, adamw(1e-3));
        let error = serde_json::from_str::<Optimizer>(r#"{"kind":"adam","beta":1}"#).unwrap_err().to_string();
        assert!(error.contains("betas"), "{error}");
    }
}
