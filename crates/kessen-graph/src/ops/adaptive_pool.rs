//! Pooling to a given output size: the windows follow from the input.
//!
//! Dimensions: `N` batch, `C` channels, `J`×`L` input, `Q`×`R` output. Output position p of `Q` sees the input
//! positions ⌊p·J/Q⌋ … ⌈(p+1)·J/Q⌉ − 1, and likewise along the width (PyTorch's `adaptive_avg_pool2d`). Size 1 is
//! global pooling.

use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::{Dim, GradContext, Result, Type, Wire, choice, operator};

choice! {
    /// What is taken of a window.
    PoolKind, "avg or max" {
        /// The mean.
        Avg = "avg",
        /// The largest; of equal ones the first.
        Max = "max",
    }
}

operator! {
    /// Pooling to a given size: x `[N, C, J, L]` → y `[N, C, Q, R]`.
    AdaptivePool "adaptive_pool" {
        /// What is taken of a window.
        kind: PoolKind = PoolKind::Avg,
        /// Height and width of the output.
        size: [usize; 2] = [1, 1],
    }
}

operator! {
    /// Gradient of [`AdaptivePool`]: operand dy for `avg`, operands dy, x for `max`; result dx.
    AdaptivePoolGrad "adaptive_pool_grad" {
        /// As in [`AdaptivePool`].
        kind: PoolKind = PoolKind::Avg,
        /// As in [`AdaptivePool`].
        size: [usize; 2] = [1, 1],
        /// Shape of the pooling's input.
        shape: Vec<Dim> = Vec::new(),
    }
}

impl AdaptivePool {
    /// The input positions `start..end` that output position `p` of `count` sees in an input of `size`.
    pub const fn window(p: usize, size: usize, count: usize) -> (usize, usize) {
        (p * size / count, ((p + 1) * size).div_ceil(count))
    }

    fn output(&self, x: &Type) -> Result<Type, Misfit> {
        if x.rank() != 4 || !x.dtype.is_float() {
            return Err("expected x [N, C, H, W] of real numbers".into());
        }
        if self.size.contains(&0) {
            return Err("the output's size must be at least 1".into());
        }
        if x.shape[2..].iter().any(|d| d.as_fixed() == Some(0)) {
            return Err("the input is empty; a window needs at least one element".into());
        }
        let mut shape = x.shape.clone();
        shape[2] = self.size[0].into();
        shape[3] = self.size[1].into();
        Ok(x.with_shape(shape))
    }
}

impl Operator for AdaptivePool {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        Ok(vec![self.output(x)?])
    }

    fn word(&self) -> &'static str {
        match self.kind {
            PoolKind::Avg => "adaptive_avg_pool",
            PoolKind::Max => "adaptive_max_pool",
        }
    }

    fn kinds(&self) -> Vec<crate::Op> {
        PoolKind::ALL.iter().map(|&kind| Self { kind, ..Self::default() }.into()).collect()
    }

    fn field(&self) -> Field {
        Field::Whole
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let x = context.input(0);
        let shape = context.ty(x).shape.clone();
        let op = AdaptivePoolGrad { kind: self.kind, size: self.size, shape };
        let dx = match self.kind {
            PoolKind::Avg => context.emit1(op, &[dy])?,
            PoolKind::Max => context.emit1(op, &[dy, x])?,
        };
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        match self.kind {
            PoolKind::Avg => &["GlobalAveragePool"],
            PoolKind::Max => &["GlobalMaxPool"],
        }
    }
}

impl Operator for AdaptivePoolGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let dy = match (self.kind, inputs) {
            (PoolKind::Avg, [dy]) => dy,
            (PoolKind::Max, [dy, x]) if x.shape == self.shape => dy,
            (PoolKind::Avg, _) => return Err("expected dy".into()),
            (PoolKind::Max, _) => return Err("expected dy and x of the pooling's input shape".into()),
        };
        let x = dy.with_shape(self.shape.clone());
        let y = AdaptivePool { kind: self.kind, size: self.size }.output(&x)?;
        if y != **dy {
            return Err(format!("the gradient is {dy}, the pooling's output {y}").into());
        }
        Ok(vec![x])
    }
}

impl Wire {
    /// Mean over the whole image: `[N, C, H, W]` → `[N, C, 1, 1]`.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("p", |g| g.input("x", shape!["batch", 512, "h", "w"]).global_avg_pool().flatten())?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×512");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn global_avg_pool(&self) -> Wire {
        self.adaptive_avg_pool(1, 1)
    }

    /// Mean over windows that give an output of `height` × `width`.
    pub fn adaptive_avg_pool(&self, height: usize, width: usize) -> Wire {
        self.apply(AdaptivePool { kind: PoolKind::Avg, size: [height, width] }, &[])
    }

    /// Maximum over windows that give an output of `height` × `width`.
    pub fn adaptive_max_pool(&self, height: usize, width: usize) -> Wire {
        self.apply(AdaptivePool { kind: PoolKind::Max, size: [height, width] }, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_input_and_overlap_where_sizes_do_not_divide() {
        // torch.nn.functional.adaptive_avg_pool1d(torch.arange(7.), 3): means of 0..3, 2..5, 4..7.
        let windows: Vec<_> = (0..3).map(|p| AdaptivePool::window(p, 7, 3)).collect();
        assert_eq!(windows, [(0, 3), (2, 5), (4, 7)]);
        // An output larger than the input repeats positions.
        let windows: Vec<_> = (0..4).map(|p| AdaptivePool::window(p, 2, 4)).collect();
        assert_eq!(windows, [(0, 1), (0, 1), (1, 2), (1, 2)]);
    }
}
