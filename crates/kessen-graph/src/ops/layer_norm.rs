//! Layer normalisation (Ba et al. 2016).
//!
//! Dimensions: `R…` leading dimensions (rows), `D…` the trailing ones that are normalised, `D` their product.
//! With each row's mean μ and variance σ² = 1/D·Σ(x − μ)²:
//!
//! y = (x − μ)·invstd·weight + bias, invstd = 1/√(σ² + eps).

use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::ops::check_range;
use crate::{GradContext, Init, Result, Type, Wire, operator};

operator! {
    /// Normalisation of each row: operands x `[R…, D…]`, and perhaps weight and bias `[D…]`; results y `[R…, D…]`,
    /// mean and invstd `[R…]`.
    LayerNorm "layer_norm" {
        /// Number of trailing dimensions that make a row.
        dims: usize = 1,
        /// Added to the variance.
        eps: f64 = 1e-5,
    }
}

operator! {
    /// Gradient of [`LayerNorm`]: operands dy, x, mean, invstd, and weight where there is one; results dx, and then
    /// dweight, dbias.
    ///
    /// With x̂ = (x − mean)·invstd and g = dy·weight: dx = invstd·(g − mean(g) − x̂·mean(g·x̂)), means over the row;
    /// dweight = Σ dy·x̂ and dbias = Σ dy over the rows.
    LayerNormGrad "layer_norm_grad" {
        /// As in [`LayerNorm`].
        dims: usize = 1,
    }
}

/// x's rank less `dims`, and the check that `affine` have the trailing dimensions.
fn rows(x: &Type, dims: usize, affine: &[&Type]) -> Result<usize, Misfit> {
    if dims == 0 || dims > x.rank() || !x.dtype.is_float() {
        return Err(format!("expected x of real numbers with {} or more dimensions", dims.max(1)).into());
    }
    let rows = x.rank() - dims;
    if x.shape[rows..].iter().any(|d| d.as_fixed() == Some(0)) {
        return Err("a row is empty; there is nothing to normalise".into());
    }
    let expected = x.with_shape(x.shape[rows..].to_vec());
    match affine.iter().find(|t| ***t != expected) {
        Some(t) => Err(format!("weight or bias is {t}, expected {expected}").into()),
        None => Ok(rows),
    }
}

impl Operator for LayerNorm {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let (x, affine) = match inputs {
            [x] => (x, &inputs[1..]),
            [x, _, _] => (x, &inputs[1..]),
            _ => return Err("expected x, and perhaps weight and bias".into()),
        };
        check_range("eps", self.eps, f64::INFINITY)?;
        let rows = rows(x, self.dims, affine)?;
        let row = x.with_shape(x.shape[..rows].to_vec());
        Ok(vec![(*x).clone(), row.clone(), row])
    }

    fn field(&self) -> Field {
        if self.dims == 1 { Field::Point } else { Field::Whole }
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        if (1..3).any(|i| context.doutput(i).is_some()) {
            return context.not_differentiable("the statistics are results to keep, not to train through");
        }
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let mut operands = vec![dy, context.input(0), context.output(1), context.output(2)];
        if context.input_count() == 3 {
            operands.push(context.input(1));
        }
        let d = context.emit(LayerNormGrad { dims: self.dims }, &operands)?;
        for (i, d) in d.into_iter().enumerate() {
            context.set(i, d);
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["LayerNormalization"]
    }
}

impl Operator for LayerNormGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let (dy, x, statistics, weight) = match inputs {
            [dy, x, _, _] | [dy, x, _, _, _] => (dy, x, &inputs[2..4], &inputs[4..]),
            _ => return Err("expected dy, x, mean, invstd and perhaps weight".into()),
        };
        let rows = rows(x, self.dims, weight)?;
        let row = x.with_shape(x.shape[..rows].to_vec());
        if let Some(t) = statistics.iter().find(|t| ***t != row) {
            return Err(format!("mean or invstd is {t}, expected {row}").into());
        }
        if dy != x {
            return Err(format!("the gradient is {dy}, x is {x}").into());
        }
        let affine = weight.iter().flat_map(|w| [(*w).clone(), (*w).clone()]);
        Ok(std::iter::once((*x).clone()).chain(affine).collect())
    }
}

impl Wire {
    /// Layer normalisation over the last dimension: weights `path.weight` (1) and `path.bias` (0).
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("n", |g| g.input("x", shape!["batch", "time", 256]).layer_norm("norm1"))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×time×256");
    /// assert_eq!(net.weight_count(), 512);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn layer_norm(&self, path: &str) -> Wire {
        self.layer_norm_with(path, LayerNorm::default(), true)
    }

    /// As [`Wire::layer_norm`], with all attributes and the choice to leave weight and bias out.
    pub fn layer_norm_with(&self, path: &str, op: LayerNorm, affine: bool) -> Wire {
        if !affine {
            return self.apply_named(path, op, &[]);
        }
        let rank = self.ty().rank();
        let first = rank.saturating_sub(op.dims);
        let shape: Vec<usize> = (first..rank).map(|i| self.fixed_dim(i, path)).collect();
        let weight = self.builder().param(&format!("{path}.weight"), &shape, Init::Constant(1.0));
        let bias = self.builder().param(&format!("{path}.bias"), &shape, Init::Constant(0.0));
        self.apply_named(path, op, &[&weight, &bias])
    }
}
