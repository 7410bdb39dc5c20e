//! Batch normalisation (Ioffe & Szegedy 2015).
//!
//! Dimensions: `N` batch, `C` channels (dimension 1), `…` none, one or two more; `m` = number of elements of one
//! channel, N·…. With per-channel mean μ and variance σ²:
//!
//! y = weight·(x − μ)·invstd + bias, invstd = 1/√(σ² + eps).
//!
//! A model is wired with [`BatchNorm`], whose μ and σ² are the running statistics. [`crate::Graph::for_training`]
//! turns it into [`BatchNormTrain`], whose μ and σ² = 1/m·Σ(x − μ)² are the batch's.

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::check_range;
use crate::ops::reduce::Reduce;
use crate::ops::reshape::{Reshape, element_count};
use crate::ops::unary::{Unary, UnaryKind};
use crate::{Dim, GradContext, Init, Result, Type, ValueId, Wire, operator};

operator! {
    /// Normalisation by running statistics: operands x `[N, C, …]`, weight, bias, running_mean, running_var `[C]`.
    BatchNorm "batch_norm" {
        /// Added to the variance.
        eps: f64 = 1e-5,
        /// Share of the batch's statistics in the new running ones, for training.
        momentum: f64 = 0.1,
    }
}

operator! {
    /// Normalisation by the batch's statistics: operands as [`BatchNorm`]; results y, mean, invstd,
    /// new_running_mean, new_running_var (all but y `[C]`).
    ///
    /// new = (1 − momentum)·running + momentum·batch, with the unbiased variance Σ(x − μ)²/(m − 1) in the running
    /// one, as PyTorch does.
    BatchNormTrain "batch_norm_train" {
        /// As in [`BatchNorm`].
        eps: f64 = 1e-5,
        /// As in [`BatchNorm`].
        momentum: f64 = 0.1,
    }
}

operator! {
    /// Gradient of [`BatchNormTrain`]: operands dy, x, weight, mean, invstd; results dx, dweight, dbias.
    ///
    /// With x̂ = (x − mean)·invstd and sums over one channel: dbias = Σ dy, dweight = Σ dy·x̂,
    /// dx = weight·invstd·(dy − dbias/m − x̂·dweight/m).
    BatchNormGrad "batch_norm_grad" {
        /// As in [`BatchNorm`].
        eps: f64 = 1e-5,
    }
}

/// The channel dimension of x and the check that `others` are one value per channel.
fn channels<'a>(x: &'a Type, others: &[&Type]) -> Result<&'a Dim, Misfit> {
    if !(2..=4).contains(&x.rank()) || !x.dtype.is_float() {
        return Err("expected x [N, C], [N, C, L] or [N, C, H, W] of real numbers".into());
    }
    let c = &x.shape[1];
    let expected = x.with_shape(vec![c.clone()]);
    match others.iter().find(|t| ***t != expected) {
        Some(t) => Err(format!("x has {c} channels, but a per-channel operand is {t}").into()),
        None => Ok(c),
    }
}

impl Operator for BatchNorm {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x, rest @ ..] = inputs else { return Err(OPERANDS.into()) };
        if rest.len() != 4 {
            return Err(OPERANDS.into());
        }
        check_range("eps", self.eps, f64::INFINITY)?;
        check_range("momentum", self.momentum, 1.0 + f64::EPSILON)?;
        channels(x, rest)?;
        Ok(vec![(*x).clone()])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        if let Some(i) = [3, 4].into_iter().find(|&i| context.wants(i)) {
            return context.not_differentiable_to(
                i,
                "running statistics are not learnt; make them buffers, not weights",
            );
        }
        let [x, weight, mean, var] = [0, 1, 3, 4].map(|i| context.input(i));
        let eps = context.scalar(self.eps as f32)?;
        let var = binary(context, BinaryKind::Add, var, eps)?;
        let std = context.emit1(Unary::new(UnaryKind::Sqrt), &[var])?;
        if context.wants(0) {
            let scale = binary(context, BinaryKind::Div, weight, std)?;
            let scale = per_channel(context, scale, x)?;
            let dx = binary(context, BinaryKind::Mul, dy, scale)?;
            context.set(0, dx);
        }
        let dims: Vec<usize> = (0..context.ty(x).rank()).filter(|&d| d != 1).collect();
        let sum = Reduce { dims, ..Reduce::default() };
        if context.wants(1) {
            let mean = per_channel(context, mean, x)?;
            let centred = binary(context, BinaryKind::Sub, x, mean)?;
            let product = binary(context, BinaryKind::Mul, dy, centred)?;
            let product = context.emit1(sum.clone(), &[product])?;
            let dweight = binary(context, BinaryKind::Div, product, std)?;
            context.set(1, dweight);
        }
        if context.wants(2) {
            let dbias = context.emit1(sum, &[dy])?;
            context.set(2, dbias);
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["BatchNormalization"]
    }
}

const OPERANDS: &str = "expected x, weight, bias, running_mean and running_var";

fn binary(c: &mut GradContext<'_>, kind: BinaryKind, a: ValueId, b: ValueId) -> Result<ValueId> {
    c.emit1(Binary { kind }, &[a, b])
}

/// `v` `[C]` under a shape that broadcasts to x: `[C, 1, 1]` for four dimensions.
fn per_channel(context: &mut GradContext<'_>, v: ValueId, x: ValueId) -> Result<ValueId> {
    let mut shape = vec![Dim::fixed(1); context.ty(x).rank() - 1];
    if shape.len() == 1 {
        return Ok(v);
    }
    shape[0] = context.ty(v).shape[0].clone();
    context.emit1(Reshape { shape }, &[v])
}

impl Operator for BatchNormTrain {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x, rest @ ..] = inputs else { return Err(OPERANDS.into()) };
        if rest.len() != 4 {
            return Err(OPERANDS.into());
        }
        check_range("eps", self.eps, f64::INFINITY)?;
        check_range("momentum", self.momentum, 1.0 + f64::EPSILON)?;
        let c = channels(x, rest)?;
        let others: Vec<Dim> =
            x.shape.iter().enumerate().filter(|(i, _)| *i != 1).map(|(_, d)| d.clone()).collect();
        if let Some(m @ (0 | 1)) = element_count(&others).as_fixed() {
            return Err(format!(
                "batch statistics need more than one value per channel, found {m}; use a larger batch or image"
            )
            .into());
        }
        let channel = x.with_shape(vec![c.clone()]);
        Ok(vec![(*x).clone(), channel.clone(), channel.clone(), channel.clone(), channel])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        if (1..5).any(|i| context.doutput(i).is_some()) {
            return context.not_differentiable("the statistics are results to keep, not to train through");
        }
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let (x, weight) = (context.input(0), context.input(1));
        let (mean, invstd) = (context.output(1), context.output(2));
        let d = context.emit(BatchNormGrad { eps: self.eps }, &[dy, x, weight, mean, invstd])?;
        for (i, d) in d.into_iter().enumerate() {
            context.set(i, d);
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["BatchNormalization"]
    }
}

impl Operator for BatchNormGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [dy, x, weight, mean, invstd] = inputs else {
            return Err("expected dy, x, weight, mean and invstd".into());
        };
        channels(x, &[weight, mean, invstd])?;
        if dy != x {
            return Err(format!("the gradient is {dy}, x is {x}").into());
        }
        Ok(vec![(*x).clone(), (*weight).clone(), (*weight).clone()])
    }
}

impl Wire {
    /// Batch normalisation with PyTorch's defaults: weights `path.weight` (1) and `path.bias` (0), buffers
    /// `path.running_mean` (0) and `path.running_var` (1).
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::conv::conv, shape};
    /// let net = Graph::build("b", |g| {
    ///     g.input("x", shape!["batch", 3, 32, 32]).conv("conv1", conv(64, 7).no_bias()).batch_norm("bn1").relu()
    /// })?;
    /// assert_eq!(net.params()[1].path, "bn1.weight");
    /// assert_eq!(net.weight_count(), 64 * 3 * 7 * 7 + 64 + 64);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn batch_norm(&self, path: &str) -> Wire {
        self.batch_norm_with(path, BatchNorm::default())
    }

    /// As [`Wire::batch_norm`], with all attributes.
    pub fn batch_norm_with(&self, path: &str, op: BatchNorm) -> Wire {
        let shape = [self.fixed_dim(1, path)];
        let g = self.builder();
        let weight = g.param(&format!("{path}.weight"), &shape, Init::Constant(1.0));
        let bias = g.param(&format!("{path}.bias"), &shape, Init::Constant(0.0));
        let mean = g.buffer(&format!("{path}.running_mean"), &shape, Init::Constant(0.0));
        let var = g.buffer(&format!("{path}.running_var"), &shape, Init::Constant(1.0));
        self.apply_named(path, op, &[&weight, &bias, &mean, &var])
    }
}
