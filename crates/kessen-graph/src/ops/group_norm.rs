//! Group normalisation (Wu & He 2018), composed: the channels of each sample are normalised in groups.
//!
//! `N` batch, `C` channels, `G` groups, `…` positions. The rows `[N, G, C/G·…]` are normalised as by
//! [`LayerNorm`]; then each channel is scaled and shifted.

use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::layer_norm::LayerNorm;
use crate::ops::reshape::{Reshape, element_count};
use crate::{Dim, Error, Init, Wire};

impl Wire {
    /// Group normalisation of x `[N, C, …]` with PyTorch's defaults (eps 1e-5): weights `path.weight` (1) and
    /// `path.bias` (0), one per channel.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("n", |g| g.input("x", shape!["batch", 32, 8, 8]).group_norm("norm", 4))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×32×8×8");
    /// assert_eq!(net.weight_count(), 64);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn group_norm(&self, path: &str, groups: usize) -> Wire {
        let (ty, channels) = (self.ty(), self.fixed_dim(1, path));
        if groups == 0 || channels % groups != 0 {
            return self.builder().fail(Error::Misfit {
                path: path.to_owned(),
                operator: "layer".to_owned(),
                reason: format!("{groups} groups must divide {channels} channels"),
                operands: ty.to_string(),
            });
        }
        let weight = self.builder().param(&format!("{path}.weight"), &[channels], Init::Constant(1.0));
        let bias = self.builder().param(&format!("{path}.bias"), &[channels], Init::Constant(0.0));
        let mut per_channel = vec![Dim::fixed(1); ty.rank().saturating_sub(1)];
        if let Some(c) = per_channel.first_mut() {
            *c = channels.into();
        }
        let batch = ty.shape.first().cloned().unwrap_or_else(|| 1.into());
        let positions = element_count(ty.shape.get(2..).unwrap_or_default());
        let row = Dim::fixed(channels / groups) * positions;
        let inner = |wire: &Wire, name: &str, shape: Vec<Dim>| {
            wire.apply_named(&format!("{path}.{name}"), Reshape { shape }, &[])
        };
        let rows = inner(self, "groups", vec![batch, groups.into(), row]);
        let rows = rows.apply_named(&format!("{path}.normalised"), LayerNorm::default(), &[]);
        let y = inner(&rows, "channels", ty.shape);
        let scale = inner(&weight, "scale", per_channel.clone());
        let shift = inner(&bias, "shift", per_channel);
        let y = y.apply_named(&format!("{path}.scaled"), Binary { kind: BinaryKind::Mul }, &[&scale]);
        y.apply_named(path, Binary { kind: BinaryKind::Add }, &[&shift])
    }
}
