//! Scaled dot-product attention with several heads (Vaswani et al. 2017), fused: no matrix of all pairs is a value.
//!
//! `B` batch, `T` queries, `S` keys, `H` heads, `E` features of all heads, `D` = E/H of one. Heads lie side by side in
//! rows of E, as projections leave them, so that no transpose is needed; the rejected alternative, `[B, H, T, D]`,
//! costs four copies a layer. With s = scale·q·kᵀ (+ bias) for each head, p = softmax(s) over the keys that a query
//! sees, out = p·v; a query that sees none has out = 0. ln Σ eˢ of each query is kept for the gradient.

use kessen_tensor::DType;

use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::ops::check_range;
use crate::{Dim, GradContext, Result, Type, ValueId, operator};

operator! {
    /// Operands: q `[B, T, E]`, k and v `[B, S, E]`, or with `packed` one operand `[B, T, 3·E]` that holds q, k and v
    /// side by side; then with `lengths` the number of keys of each sample `[B]` (`i64`, 0 to S), with `key_mask` a
    /// mask `[B, S]` whose zeros hide a key, with `bias` a bias `[T, S]` added to the products, −∞ to hide.
    ///
    /// Results: out `[B, T, E]`; logsumexp `[B, H, T]`, +∞ where a query sees no key.
    Attention "attention" {
        /// H.
        heads: usize = 1,
        /// Whether q, k and v are one operand.
        packed: bool = false,
        /// Whether query t sees the keys 0 to t only.
        causal: bool = false,
        /// Factor of the products; 1/√D where absent.
        scale: Option<f64> = None,
        /// Whether each sample has its own number of keys.
        lengths: bool = false,
        /// Whether there is a mask of keys.
        key_mask: bool = false,
        /// Whether there is a bias.
        bias: bool = false,
        /// Probability with which an element of p is dropped in training (and the others scaled by 1/(1 − dropout)).
        dropout: f64 = 0.0,
        /// Stream of random numbers; [`crate::Graph::for_training`] derives it from the node's path.
        key: u64 = 0,
        /// Whether elements of p are dropped.
        training: bool = false,
    }
}

operator! {
    /// Gradient of [`Attention`]. Operands: dout, then those of [`Attention`], then out and logsumexp; results dq, dk
    /// and dv, or with `packed` one that holds them side by side.
    ///
    /// With p computed again from logsumexp: dv = pᵀ·dout, dp = dout·vᵀ, ds = p·(dp − Σ dout·out),
    /// dq = scale·ds·k, dk = scale·dsᵀ·q. Lengths, mask and bias have no gradient.
    AttentionGrad "attention_grad" {
        /// As in [`Attention`].
        heads: usize = 1,
        /// As in [`Attention`].
        packed: bool = false,
        /// As in [`Attention`].
        causal: bool = false,
        /// As in [`Attention`].
        scale: Option<f64> = None,
        /// As in [`Attention`].
        lengths: bool = false,
        /// As in [`Attention`].
        key_mask: bool = false,
        /// As in [`Attention`].
        bias: bool = false,
        /// As in [`Attention`].
        dropout: f64 = 0.0,
        /// As in [`Attention`].
        key: u64 = 0,
        /// As in [`Attention`].
        training: bool = false,
    }
}

/// Positions of [`Attention`]'s operands; q or the packed one is operand 0, k and v are 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionPlaces {
    /// Operand lengths.
    pub lengths: Option<usize>,
    /// Operand mask.
    pub key_mask: Option<usize>,
    /// Operand bias.
    pub bias: Option<usize>,
    /// Number of operands.
    pub operands: usize,
}

impl Attention {
    /// Where the operands stand.
    pub fn places(&self) -> AttentionPlaces {
        let mut next = if self.packed { 1 } else { 3 };
        let mut take = |there: bool| {
            let at = next;
            next += usize::from(there);
            there.then_some(at)
        };
        let [lengths, key_mask, bias] = [self.lengths, self.key_mask, self.bias].map(&mut take);
        AttentionPlaces { lengths, key_mask, bias, operands: next }
    }

    /// Factor of the products for heads of `width` features.
    pub fn factor(&self, width: usize) -> f64 {
        self.scale.unwrap_or_else(|| 1.0 / (width.max(1) as f64).sqrt())
    }

    /// Its gradient.
    pub fn gradient(&self) -> AttentionGrad {
        let Self { heads, packed, causal, scale, lengths, key_mask, bias, dropout, key, training } = *self;
        AttentionGrad { heads, packed, causal, scale, lengths, key_mask, bias, dropout, key, training }
    }

    /// Types of q, k and of the batch's dimensions, where the operands fit.
    fn operands(&self, inputs: &[&Type]) -> Result<Sizes, Misfit> {
        if inputs.len() != self.places().operands {
            let (found, wanted) = (inputs.len(), self.places().operands);
            return Err(format!(
                "found {found} operands, expected {wanted} by packed, lengths, key_mask and bias"
            )
            .into());
        }
        let [batch, queries, features] = inputs[0].shape.as_slice() else {
            return Err("expected q [B, T, E] (batch first), or [B, T, 3·E] with packed".into());
        };
        if self.heads == 0 {
            return Err("expected at least one head".into());
        }
        let parts = if self.packed { 3 } else { 1 };
        let whole = Dim::fixed(self.heads * parts);
        let Some(width) = features.exact_div(&whole) else {
            return Err(format!("{features} features can't be shared by {} heads", self.heads).into());
        };
        let features = Dim::fixed(self.heads) * width;
        let keys = if self.packed { queries.clone() } else { self.keys(inputs, batch, &features)? };
        if self.causal && keys != *queries {
            return Err(
                format!("causal attention of {queries} queries to {keys} keys; expected as many").into()
            );
        }
        Ok(Sizes { batch: batch.clone(), queries: queries.clone(), keys, features })
    }

    /// S, where k and v are alike and fit q.
    fn keys(&self, inputs: &[&Type], batch: &Dim, features: &Dim) -> Result<Dim, Misfit> {
        let [q, k, v] = inputs[..3] else { return Err("expected q, k and v".into()) };
        let keys = k.shape.get(1).cloned().unwrap_or_else(|| Dim::fixed(0));
        let expected = q.with_shape(vec![batch.clone(), keys.clone(), features.clone()]);
        match [("k", k), ("v", v)].iter().find(|(_, t)| **t != expected) {
            Some((what, t)) => Err(format!("{what} is {t}, expected {expected}").into()),
            None => Ok(keys),
        }
    }
}

struct Sizes {
    batch: Dim,
    queries: Dim,
    keys: Dim,
    features: Dim,
}

impl AttentionGrad {
    /// The operator that this is the gradient of.
    pub fn forward(&self) -> Attention {
        let Self { heads, packed, causal, scale, lengths, key_mask, bias, dropout, key, training } = *self;
        Attention { heads, packed, causal, scale, lengths, key_mask, bias, dropout, key, training }
    }
}

/// Multiply-accumulate operations of one product of all pairs.
fn pairs(op: &Attention, inputs: &[&[usize]]) -> u64 {
    let q = inputs[0];
    let keys = if op.packed { q[1] } else { inputs[1][1] };
    (q.iter().product::<usize>() / if op.packed { 3 } else { 1 }) as u64 * keys as u64
}

impl Operator for Attention {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        check_range("dropout", self.dropout, 1.0 + f64::EPSILON)?;
        let Sizes { batch, queries, keys, features } = self.operands(inputs)?;
        let (x, places) = (inputs[0], self.places());
        if !x.dtype.is_float() {
            return Err("expected q of real numbers".into());
        }
        let checks = [
            ("lengths", places.lengths, Type { dtype: DType::I64, shape: vec![batch.clone()] }),
            ("the mask of keys", places.key_mask, x.with_shape(vec![batch.clone(), keys.clone()])),
            ("the bias", places.bias, x.with_shape(vec![queries.clone(), keys])),
        ];
        for (what, at, expected) in checks {
            if let Some(found) = at.map(|i| inputs[i]).filter(|t| **t != expected) {
                return Err(format!("{what} is {found}, expected {expected}").into());
            }
        }
        let out = x.with_shape(vec![batch.clone(), queries.clone(), features]);
        Ok(vec![out, x.with_shape(vec![batch, self.heads.into(), queries])])
    }

    fn macs(&self, inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        2 * pairs(self, inputs)
    }

    fn field(&self) -> Field {
        Field::Whole
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        if context.doutput(1).is_some() {
            return context.not_differentiable("logsumexp is a result to keep, not to train through");
        }
        let Some(dout) = context.doutput(0) else { return Ok(()) };
        let parts = if self.packed { 1 } else { 3 };
        if let Some(i) = (parts..context.input_count()).find(|&i| context.wants(i)) {
            return context.not_differentiable_to(i, "masks and biases of attention are given, not learnt");
        }
        let mut operands: Vec<ValueId> = vec![dout];
        operands.extend((0..context.input_count()).map(|i| context.input(i)));
        operands.extend([context.output(0), context.output(1)]);
        let d = context.emit(self.gradient(), &operands)?;
        for (i, d) in d.into_iter().enumerate() {
            context.set(i, d);
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Attention"]
    }
}

impl Operator for AttentionGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let forward = self.forward();
        let [dout, operands @ .., out, sums] = inputs else {
            return Err("expected dout, the operands, out and logsumexp".into());
        };
        let expected = forward.infer(operands)?;
        for (what, found, expected) in
            [("dout", dout, &expected[0]), ("out", out, &expected[0]), ("logsumexp", sums, &expected[1])]
        {
            if *found != expected {
                return Err(format!("{what} is {found}, expected {expected}").into());
            }
        }
        Ok(operands[..if self.packed { 1 } else { 3 }].iter().map(|&t| t.clone()).collect())
    }

    fn macs(&self, inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        5 * pairs(&self.forward(), &inputs[1..])
    }

    fn field(&self) -> Field {
        Field::Whole
    }
}
