//! Transformer layers with PyTorch's parameters (`torch.nn.TransformerEncoderLayer`, `TransformerDecoderLayer`).
//!
//! `sa` attention to itself, `ca` attention to the encoder's output, `ff` = linear2(f(linear1(x))), `norm` layer
//! normalisation. Post-norm (Vaswani et al. 2017): x = norm1(x + sa(x)), x = norm2(x + ff(x)). Pre-norm (Xiong et al.
//! 2020): x = x + sa(norm1(x)), x = x + ff(norm2(x)). A decoder layer has ca with the second norm between the two and
//! ff with the third. In training, what each of them adds is dropped with probability `dropout`, as are weights of
//! the attention and outputs of f.

use super::attention_layer::{AttentionMasks, AttentionSpec, attention};
use super::layer_norm::LayerNorm;
use super::unary::{Unary, UnaryKind};
use crate::Wire;

/// Specification of a Transformer layer: `transformer(8, 2048).norm_first().dropout(0.1)`.
#[derive(Debug, Clone)]
pub struct TransformerSpec {
    heads: usize,
    feedforward: usize,
    activation: UnaryKind,
    norm_first: bool,
    causal: bool,
    dropout: f64,
    eps: f64,
    masks: AttentionMasks,
    memory_masks: AttentionMasks,
}

/// A layer with `heads` heads and `feedforward` hidden units: post-norm, ReLU, no dropout, everything visible.
pub fn transformer(heads: usize, feedforward: usize) -> TransformerSpec {
    TransformerSpec {
        heads,
        feedforward,
        activation: UnaryKind::Relu,
        norm_first: false,
        causal: false,
        dropout: 0.0,
        eps: 1e-5,
        masks: AttentionMasks::default(),
        memory_masks: AttentionMasks::default(),
    }
}

impl TransformerSpec {
    /// Normalises before attention and feed-forward instead of after.
    #[must_use]
    pub fn norm_first(mut self) -> Self {
        self.norm_first = true;
        self
    }

    /// f; usually ReLU or GELU.
    #[must_use]
    pub fn activation(mut self, activation: UnaryKind) -> Self {
        self.activation = activation;
        self
    }

    /// Each position sees itself and those before it only.
    #[must_use]
    pub fn causal(mut self) -> Self {
        self.causal = true;
        self
    }

    /// Probability with which elements are dropped in training.
    #[must_use]
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// Added to variances in the normalisations.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// What the layer's own positions hide from each other.
    #[must_use]
    pub fn masks(mut self, masks: AttentionMasks) -> Self {
        self.masks = masks;
        self
    }

    /// What of the encoder's output is hidden from a decoder layer.
    #[must_use]
    pub fn memory_masks(mut self, masks: AttentionMasks) -> Self {
        self.memory_masks = masks;
        self
    }

    fn own_attention(&self) -> AttentionSpec {
        let spec = attention(self.heads).dropout(self.dropout).masks(self.masks.clone());
        if self.causal { spec.causal() } else { spec }
    }
}

/// x with what `part` makes of it added, normalised before or after under the name `norm`.
fn residual(x: &Wire, norm: &str, spec: &TransformerSpec, part: impl FnOnce(&Wire) -> Wire) -> Wire {
    let normalise =
        |x: &Wire| x.layer_norm_with(norm, LayerNorm { eps: spec.eps, ..LayerNorm::default() }, true);
    let dropped = |y: Wire| if spec.dropout > 0.0 { y.dropout(spec.dropout) } else { y };
    if spec.norm_first { x.add(&dropped(part(&normalise(x)))) } else { normalise(&x.add(&dropped(part(x)))) }
}

impl Wire {
    /// A Transformer encoder layer on x `[B, T, E]`; with [`TransformerSpec::causal`], a decoder-only layer.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::transformer_layer::transformer, shape};
    /// let net = Graph::build("t", |g| {
    ///     g.input("x", shape!["batch", "time", 64]).transformer_encoder_layer("layers.0", transformer(4, 256))
    /// })?;
    /// assert_eq!(net.params()[0].path, "layers.0.self_attn.in_proj_weight");
    /// assert_eq!(net.weight_count(), 4 * 64 * 65 + 256 * 65 + 64 * 257 + 2 * 2 * 64);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn transformer_encoder_layer(&self, path: &str, spec: TransformerSpec) -> Wire {
        let at = |name: &str| format!("{path}.{name}");
        let h =
            residual(self, &at("norm1"), &spec, |x| x.self_attention(&at("self_attn"), spec.own_attention()));
        residual(&h, &at("norm2"), &spec, |x| x.feed_forward(path, &spec))
    }

    /// A Transformer decoder layer on x `[B, T, E]` and the encoder's output `memory` `[B, S, E]`.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::transformer_layer::transformer, shape};
    /// let net = Graph::build("t", |g| {
    ///     let memory = g.input("memory", shape!["batch", "source", 64]);
    ///     let x = g.input("x", shape!["batch", "time", 64]);
    ///     x.transformer_decoder_layer("layers.0", &memory, transformer(4, 256).causal())
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×time×64");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn transformer_decoder_layer(&self, path: &str, memory: &Wire, spec: TransformerSpec) -> Wire {
        let at = |name: &str| format!("{path}.{name}");
        let h =
            residual(self, &at("norm1"), &spec, |x| x.self_attention(&at("self_attn"), spec.own_attention()));
        let cross = attention(spec.heads).dropout(spec.dropout).masks(spec.memory_masks.clone());
        let h =
            residual(&h, &at("norm2"), &spec, |x| x.cross_attention(&at("multihead_attn"), memory, cross));
        residual(&h, &at("norm3"), &spec, |x| x.feed_forward(path, &spec))
    }

    /// linear2(f(linear1(x))).
    fn feed_forward(&self, path: &str, spec: &TransformerSpec) -> Wire {
        let features = self.fixed_dim(2, path);
        let h = self.linear(&format!("{path}.linear1"), spec.feedforward);
        let h = h.apply(Unary::new(spec.activation), &[]);
        let h = if spec.dropout > 0.0 { h.dropout(spec.dropout) } else { h };
        h.linear(&format!("{path}.linear2"), features)
    }
}
