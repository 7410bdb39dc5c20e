//! Multi-head attention with PyTorch's parameters (`torch.nn.MultiheadAttention`).
//!
//! For the path `self_attn` and E features: `self_attn.in_proj_weight` `[3·E, E]` (Xavier uniform) and
//! `self_attn.in_proj_bias` `[3·E]` (0), which give q, k and v, and `self_attn.out_proj.weight` `[E, E]` and
//! `self_attn.out_proj.bias` `[E]` (0).

use super::attention::Attention;
use super::linear::Linear;
use crate::{DEFAULT_WEIGHT, Init, Wire};

/// Specification of multi-head attention: `attention(8).causal()`.
#[derive(Debug, Clone, Default)]
pub struct AttentionSpec {
    op: Attention,
    no_bias: bool,
    masks: AttentionMasks,
}

/// What is hidden from queries.
#[derive(Debug, Clone, Default)]
pub struct AttentionMasks {
    /// Keys of each sample, `[B]` (`i64`).
    pub lengths: Option<Wire>,
    /// `[B, S]`, 0 where a key is hidden.
    pub keys: Option<Wire>,
    /// `[T, S]`, added to the products; −∞ to hide.
    pub bias: Option<Wire>,
}

/// Attention with `heads` heads, everything visible.
pub fn attention(heads: usize) -> AttentionSpec {
    AttentionSpec { op: Attention { heads, ..Attention::default() }, ..AttentionSpec::default() }
}

impl AttentionSpec {
    /// Query t sees keys 0 to t only.
    #[must_use]
    pub fn causal(mut self) -> Self {
        self.op.causal = true;
        self
    }

    /// Probability with which a weight of the attention is dropped in training.
    #[must_use]
    pub fn dropout(mut self, p: f64) -> Self {
        self.op.dropout = p;
        self
    }

    /// Without biases of the projections.
    #[must_use]
    pub fn no_bias(mut self) -> Self {
        self.no_bias = true;
        self
    }

    /// What is hidden.
    #[must_use]
    pub fn masks(mut self, masks: AttentionMasks) -> Self {
        self.masks = masks;
        self
    }
}

impl Wire {
    /// Multi-head attention of x `[B, T, E]` to itself.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::attention_layer::attention, shape};
    /// let net = Graph::build("a", |g| {
    ///     g.input("x", shape!["batch", "time", 64]).self_attention("self_attn", attention(4).causal())
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×time×64");
    /// assert_eq!(net.params()[0].path, "self_attn.in_proj_weight");
    /// assert_eq!(net.weight_count(), 4 * 64 * 64 + 4 * 64);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn self_attention(&self, path: &str, spec: AttentionSpec) -> Wire {
        let (weight, bias) = self.in_projection(path, &spec);
        let mut operands = vec![&weight];
        operands.extend(&bias);
        let qkv = self.apply_named(&format!("{path}.in_proj"), Linear {}, &operands);
        qkv.attend(path, &spec, true, &[])
    }

    /// Multi-head attention of x `[B, T, E]` to `memory` `[B, S, E]`.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::attention_layer::attention, shape};
    /// let net = Graph::build("a", |g| {
    ///     let memory = g.input("memory", shape!["batch", "source", 64]);
    ///     g.input("x", shape!["batch", "time", 64]).cross_attention("multihead_attn", &memory, attention(4))
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×time×64");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn cross_attention(&self, path: &str, memory: &Wire, spec: AttentionSpec) -> Wire {
        let (weight, bias) = self.in_projection(path, &spec);
        let features = self.fixed_dim(2, path);
        // One third of the projection each; k and v read another operand than q.
        let part = |x: &Wire, name: &str, i: usize| {
            let cut = |w: &Wire| w.slice(0, i * features, (i + 1) * features);
            let mut operands = vec![cut(&weight)];
            operands.extend(bias.as_ref().map(cut));
            x.apply_named(&format!("{path}.{name}_proj"), Linear {}, &operands.iter().collect::<Vec<_>>())
        };
        let (q, k, v) = (part(self, "q", 0), part(memory, "k", 1), part(memory, "v", 2));
        q.attend(path, &spec, false, &[&k, &v])
    }

    fn in_projection(&self, path: &str, spec: &AttentionSpec) -> (Wire, Option<Wire>) {
        let (g, features) = (self.builder(), self.fixed_dim(2, path));
        let weight =
            g.param(&format!("{path}.in_proj_weight"), &[3 * features, features], Init::XavierUniform(1.0));
        let bias = || g.param(&format!("{path}.in_proj_bias"), &[3 * features], Init::Constant(0.0));
        (weight, (!spec.no_bias).then(bias))
    }

    /// Attention on projected operands, and the projection of its result.
    fn attend(&self, path: &str, spec: &AttentionSpec, packed: bool, others: &[&Wire]) -> Wire {
        let AttentionMasks { lengths, keys, bias } = &spec.masks;
        let op = Attention {
            packed,
            lengths: lengths.is_some(),
            key_mask: keys.is_some(),
            bias: bias.is_some(),
            ..spec.op.clone()
        };
        let mut operands = others.to_vec();
        operands.extend([lengths, keys, bias].into_iter().flatten());
        let attended = self.apply_named(path, op, &operands);
        let features = attended.fixed_dim(2, path);
        let out = format!("{path}.out_proj");
        let y = attended.linear_with(&out, features, DEFAULT_WEIGHT, !spec.no_bias);
        if !spec.no_bias {
            y.builder().set_init(&format!("{out}.bias"), Init::Constant(0.0));
        }
        y
    }
}
