//! Fully connected layers and matrix products.
//!
//! `N` rows (samples, positions), `I` input features, `O` output features.

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::binary::{broadcast_shapes, sum_to};
use crate::ops::count;
use crate::ops::reduce::SumTo;
use crate::ops::reshape::{Reshape, element_count};
use crate::{DEFAULT_WEIGHT, Dim, GradContext, Init, Result, Type, ValueId, Wire, operator};

operator! {
    /// y = x·Wᵀ + b: x `[…, I]`, W `[O, I]`, b `[O]` (may be left out), y `[…, O]`.
    ///
    /// Back-propagation: dx = dy·W, dW = dyᵀ·x, db = Σ dy over rows (the lecture's
    /// ∂L/∂w_ji = δ_j·z_i, summed over samples).
    Linear "linear" {}
}

operator! {
    /// y = op(a)·op(b), op optionally the transpose of the last two dimensions; leading dimensions are broadcast.
    MatMul "matmul" {
        /// Transposes a.
        trans_a: bool = false,
        /// Transposes b.
        trans_b: bool = false,
    }
}

impl Operator for Linear {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let (x, w) = match inputs {
            [x, w] | [x, w, _] if x.rank() >= 1 && w.rank() == 2 => (x, w),
            _ => return Err("expected x […, I], weight [O, I] and perhaps bias [O]".into()),
        };
        let (features, outputs) = (&x.shape[x.rank() - 1], &w.shape[0]);
        if *features != w.shape[1] {
            return Err(format!("x has {features} features, the weight expects {}", w.shape[1]).into());
        }
        if let Some(b) = inputs.get(2)
            && b.shape != [outputs.clone()]
        {
            return Err(format!("bias is {b}, expected {outputs}").into());
        }
        let mut shape = x.shape.clone();
        shape[x.rank() - 1] = outputs.clone();
        Ok(vec![x.with_shape(shape)])
    }

    fn macs(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> u64 {
        count(outputs[0]).saturating_mul(inputs[1][1] as u64)
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let (x, w) = (context.input(0), context.input(1));
        if context.wants(0) {
            let dx = match context.ty(dy).rank() {
                1 => {
                    let row = as_rows(context, dy)?;
                    let dx = context.emit1(MatMul::default(), &[row, w])?;
                    let shape = context.ty(x).shape.clone();
                    context.emit1(Reshape { shape }, &[dx])?
                }
                _ => context.emit1(MatMul::default(), &[dy, w])?,
            };
            context.set(0, dx);
        }
        if context.wants(1) {
            let (rows_dy, rows_x) = (as_rows(context, dy)?, as_rows(context, x)?);
            let dw = context.emit1(MatMul { trans_a: true, trans_b: false }, &[rows_dy, rows_x])?;
            context.set(1, dw);
        }
        if context.wants(2) {
            let shape = context.ty(context.input(2)).shape.clone();
            let db = context.emit1(SumTo { shape }, &[dy])?;
            context.set(2, db);
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Gemm"]
    }
}

/// `[…, F]` as a matrix of rows.
fn as_rows(context: &mut GradContext<'_>, v: ValueId) -> Result<ValueId> {
    let shape = context.ty(v).shape.clone();
    match shape.split_last() {
        Some((last, rows)) if rows.len() != 1 => {
            context.emit1(Reshape { shape: vec![element_count(rows), last.clone()] }, &[v])
        }
        _ => Ok(v),
    }
}

impl MatMul {
    /// Rows and columns of op(shape) as `[rows, columns]`, and the leading dimensions.
    fn split(shape: &[Dim], transposed: bool) -> Result<(&[Dim], [&Dim; 2]), Misfit> {
        let [batch @ .., r, c] = shape else {
            return Err("expected operands of two dimensions or more".into());
        };
        Ok((batch, if transposed { [c, r] } else { [r, c] }))
    }
}

impl Operator for MatMul {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [a, b] = inputs else { return Err("expected two operands".into()) };
        let (batch_a, [m, k]) = Self::split(&a.shape, self.trans_a)?;
        let (batch_b, [k2, n]) = Self::split(&b.shape, self.trans_b)?;
        if k != k2 {
            return Err(format!("inner dimensions differ: {m}×{k} times {k2}×{n}").into());
        }
        let mut shape = broadcast_shapes(batch_a, batch_b)?;
        shape.extend([m.clone(), n.clone()]);
        Ok(vec![a.with_shape(shape)])
    }

    fn macs(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> u64 {
        let a = inputs[0];
        let k = if self.trans_a { a[a.len() - 2] } else { a[a.len() - 1] };
        count(outputs[0]).saturating_mul(k as u64)
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let (a, b) = (context.input(0), context.input(1));
        let product =
            |c: &mut GradContext<'_>, p, trans_a, q, trans_b| c.emit1(Self { trans_a, trans_b }, &[p, q]);
        if context.wants(0) {
            let da = match self.trans_a {
                false => product(context, dy, false, b, !self.trans_b)?,
                true => product(context, b, self.trans_b, dy, true)?,
            };
            let da = sum_to(context, da, a)?;
            context.set(0, da);
        }
        if context.wants(1) {
            let db = match self.trans_b {
                false => product(context, a, !self.trans_a, dy, false)?,
                true => product(context, dy, true, a, self.trans_a)?,
            };
            let db = sum_to(context, db, b)?;
            context.set(1, db);
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["MatMul"]
    }
}

impl Wire {
    /// A fully connected layer: parameters `path.weight` `[outputs, inputs]` and `path.bias` `[outputs]`, both
    /// initialised as PyTorch does.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("l", |g| g.input("x", shape!["batch", 3]).linear("fc", 2))?;
    /// assert_eq!(net.params()[0].path, "fc.weight");
    /// assert_eq!(net.params()[0].shape, [2, 3]);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn linear(&self, path: &str, outputs: usize) -> Wire {
        self.linear_with(path, outputs, DEFAULT_WEIGHT, true)
    }

    /// As [`Wire::linear`], with an initialiser for the weight and the choice to leave the bias out.
    pub fn linear_with(&self, path: &str, outputs: usize, init: Init, bias: bool) -> Wire {
        let inputs = self.fixed_dim(self.ty().rank().saturating_sub(1), path);
        let weight = self.builder().param(&format!("{path}.weight"), &[outputs, inputs], init);
        if !bias {
            return self.apply_named(path, Linear {}, &[&weight]);
        }
        let bias = self.builder().param(&format!("{path}.bias"), &[outputs], Init::default_bias(inputs));
        self.apply_named(path, Linear {}, &[&weight, &bias])
    }

    /// The matrix product of the last two dimensions; leading dimensions are broadcast.
    pub fn matmul(&self, other: &Wire) -> Wire {
        self.apply(MatMul::default(), &[other])
    }
}
