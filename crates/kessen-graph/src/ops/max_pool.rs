//! Maximum over windows.
//!
//! Dimensions: `N` batch, `C` channels, `J`×`L` input, `M` kernel size, `P` padding, `S` stride, `D` dilation.
//!
//! `y[n,c,p,q] = max over r, s of x[n, c, p·S + r·D − P, q·S + s·D − P]`; positions outside the input don't
//! count.
//! Output size ⌊(J + 2P − D·(M−1) − 1)/S⌋ + 1, or with `ceil_mode` as [`pool_count`] says.

use crate::attribute::Padding;
use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::ops::conv::window_count;
use crate::{Dim, GradContext, Result, Type, Wire, operator};

operator! {
    /// Maximum over windows: x `[N, C, J, L]` → y `[N, C, J′, L′]`.
    ///
    /// Of equal elements the first in row-major order counts as the maximum, as in PyTorch; a NaN in the window is
    /// the maximum.
    MaxPool "max_pool" {
        /// Window size.
        kernel: [usize; 2] = [2, 2],
        /// Step between windows.
        stride: [usize; 2] = [2, 2],
        /// Positions around the input that never win; at most half the window.
        padding: Padding = Padding::default(),
        /// Distance of neighbouring window elements.
        dilation: [usize; 2] = [1, 1],
        /// Keeps a last window that reaches beyond the padded input.
        ceil_mode: bool = false,
    }
}

operator! {
    /// Gradient of [`MaxPool`]: operands dy, x; result dx. Each dy is added at its window's maximum, which is looked
    /// for again.
    MaxPoolGrad "max_pool_grad" {
        /// As in [`MaxPool`].
        kernel: [usize; 2] = [2, 2],
        /// As in [`MaxPool`].
        stride: [usize; 2] = [2, 2],
        /// As in [`MaxPool`].
        padding: Padding = Padding::default(),
        /// As in [`MaxPool`].
        dilation: [usize; 2] = [1, 1],
        /// As in [`MaxPool`].
        ceil_mode: bool = false,
    }
}

/// Number of windows along one axis, PyTorch's rule (`pooling_output_shape`).
///
/// Without `ceil_mode` as [`window_count`]. With it ⌈(J + P + P′ − span)/S⌉ + 1 where span = D·(M−1) + 1, but the
/// last window must start inside the input or the padding before it: one less where it would not. Both together
/// are ⌈(J + P − max(span − P′, S))/S⌉ + 1, which holds for named sizes too.
///
/// # Errors
/// A padding of more than half the window, an input that a dilated window can miss, or the formula's values where no window fits.
pub fn pool_count(
    size: &Dim,
    kernel: usize,
    stride: usize,
    padding: [usize; 2],
    dilation: usize,
    ceil_mode: bool,
) -> Result<Dim, Misfit> {
    let [before, after] = padding;
    if kernel == 0 || stride == 0 || dilation == 0 {
        return Err("kernel, stride and dilation must be at least 1".into());
    }
    let span = dilation.saturating_mul(kernel - 1).saturating_add(1);
    if before.max(after) > span / 2 {
        return Err(format!(
            "padding {} is more than half of the window, which spans {span} (kernel {kernel}, dilation {dilation}); \
             use at most {}",
            before.max(after),
            span / 2
        )
        .into());
    }
    if before > 0 && size.as_fixed().is_some_and(|n| n < dilation) {
        return Err(format!(
            "input {size} is smaller than dilation {dilation}, so that a window may miss it; use a smaller dilation"
        )
        .into());
    }
    if !ceil_mode {
        return window_count(size, kernel, stride, before + after, dilation);
    }
    if size.as_fixed() == Some(0) {
        return Err("the input is empty; a window needs at least one element".into());
    }
    let count = (size.clone() + Dim::fixed(before)).minus((span - after).max(stride)).ceil_div(stride)
        + Dim::fixed(1);
    match (size.as_fixed(), count.as_fixed()) {
        (Some(n), None | Some(0)) => Err(format!(
            "no window fits: it spans {span} (kernel {kernel}, dilation {dilation}), the padded input {}; use a \
             smaller kernel, more padding or a larger input",
            n + before + after
        )
        .into()),
        _ => Ok(count),
    }
}

impl MaxPool {
    fn output(&self, x: &Type) -> Result<Type, Misfit> {
        if x.rank() != 4 || !x.dtype.is_float() {
            return Err("expected x [N, C, H, W] of real numbers".into());
        }
        let mut shape = x.shape.clone();
        for i in 0..2 {
            let padding = [self.padding.before[i], self.padding.after[i]];
            shape[2 + i] = pool_count(
                &x.shape[2 + i],
                self.kernel[i],
                self.stride[i],
                padding,
                self.dilation[i],
                self.ceil_mode,
            )?;
        }
        Ok(x.with_shape(shape))
    }
}

impl Operator for MaxPool {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        Ok(vec![self.output(x)?])
    }

    fn field(&self) -> Field {
        Field::Window {
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding.before,
            dilation: self.dilation,
        }
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let Self { kernel, stride, padding, dilation, ceil_mode } = self.clone();
        let op = MaxPoolGrad { kernel, stride, padding, dilation, ceil_mode };
        let dx = context.emit1(op, &[dy, context.input(0)])?;
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["MaxPool"]
    }
}

impl Operator for MaxPoolGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [dy, x] = inputs else { return Err("expected dy and x".into()) };
        let Self { kernel, stride, padding, dilation, ceil_mode } = self.clone();
        let y = MaxPool { kernel, stride, padding, dilation, ceil_mode }.output(x)?;
        if y != **dy {
            return Err(format!("the gradient is {dy}, the pooling's output {y}").into());
        }
        Ok(vec![(*x).clone()])
    }
}

impl Wire {
    /// Maximum over windows of `kernel` × `kernel` that don't overlap.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("p", |g| g.input("x", shape!["batch", 6, 28, 28]).max_pool(2))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×6×14×14");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn max_pool(&self, kernel: usize) -> Wire {
        self.max_pool_with(MaxPool { kernel: [kernel; 2], stride: [kernel; 2], ..MaxPool::default() })
    }

    /// Maximum over windows, with all attributes.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::max_pool::MaxPool, shape};
    /// let overlapping = MaxPool { kernel: [3, 3], ceil_mode: true, ..MaxPool::default() };
    /// let net = Graph::build("p", |g| g.input("x", shape!["batch", 64, 112, 112]).max_pool_with(overlapping))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×64×56×56");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn max_pool_with(&self, pool: MaxPool) -> Wire {
        self.apply(pool, &[])
    }
}
