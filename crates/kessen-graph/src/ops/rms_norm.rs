//! Root-mean-square normalisation (Zhang & Sennrich 2019), composed: y = x / √(mean(x²) + eps) · weight, the mean over
//! the last dimension.

use crate::ops::binary::{Binary, BinaryKind};
use crate::ops::reduce::{Reduce, ReduceKind};
use crate::ops::unary::{Unary, UnaryKind};
use crate::{Init, Wire};

impl Wire {
    /// Root-mean-square normalisation over the last dimension: weight `path.weight` (1).
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("n", |g| g.input("x", shape!["batch", "time", 64]).rms_norm("norm", 1e-6))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×time×64");
    /// assert_eq!(net.weight_count(), 64);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn rms_norm(&self, path: &str, eps: f32) -> Wire {
        let last = self.ty().rank().saturating_sub(1);
        let features = self.fixed_dim(last, path);
        let weight = self.builder().param(&format!("{path}.weight"), &[features], Init::Constant(1.0));
        let eps = self.builder().scalar(eps);
        let unary = |wire: &Wire, name: &str, kind| {
            wire.apply_named(&format!("{path}.{name}"), Unary::new(kind), &[])
        };
        let mean = Reduce { kind: ReduceKind::Mean, dims: vec![last], keepdim: true };
        let mean = unary(self, "square", UnaryKind::Square).apply_named(&format!("{path}.mean"), mean, &[]);
        let mean = mean.apply_named(&format!("{path}.mean_eps"), Binary { kind: BinaryKind::Add }, &[&eps]);
        let root = unary(&mean, "root", UnaryKind::Sqrt);
        let y = self.apply_named(&format!("{path}.normalised"), Binary { kind: BinaryKind::Div }, &[&root]);
        y.apply_named(path, Binary { kind: BinaryKind::Mul }, &[&weight])
    }
}
