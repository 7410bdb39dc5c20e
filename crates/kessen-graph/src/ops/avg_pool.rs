//! Mean over windows.
//!
//! Dimensions: `N` batch, `C` channels, `J`×`L` input, `M` kernel size, `P` padding, `S` stride.
//!
//! `y[n,c,p,q] = 1/d · Σ_r Σ_s x[n, c, p·S + r − P, q·S + s − P]`, zeros outside. The divisor d is the number
//! of the window's positions inside the padded input where `count_include_pad` (so with `ceil_mode` what reaches
//! beyond the padding is not counted), else of those inside the input itself: PyTorch's `avg_pool2d`.

use crate::attribute::Padding;
use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::ops::max_pool::pool_count;
use crate::{Dim, GradContext, Result, Type, Wire, operator};

operator! {
    /// Mean over windows: x `[N, C, J, L]` → y `[N, C, J′, L′]`.
    AvgPool "avg_pool" {
        /// Window size.
        kernel: [usize; 2] = [2, 2],
        /// Step between windows.
        stride: [usize; 2] = [2, 2],
        /// Zeros around the input; at most half the window.
        padding: Padding = Padding::default(),
        /// Keeps a last window that reaches beyond the padded input.
        ceil_mode: bool = false,
        /// Counts the padding's zeros in the mean.
        count_include_pad: bool = true,
    }
}

operator! {
    /// Gradient of [`AvgPool`]: operand dy, result dx. Each dy/d is added at all of its window's positions.
    AvgPoolGrad "avg_pool_grad" {
        /// As in [`AvgPool`].
        kernel: [usize; 2] = [2, 2],
        /// As in [`AvgPool`].
        stride: [usize; 2] = [2, 2],
        /// As in [`AvgPool`].
        padding: Padding = Padding::default(),
        /// As in [`AvgPool`].
        ceil_mode: bool = false,
        /// As in [`AvgPool`].
        count_include_pad: bool = true,
        /// Shape of the pooling's input.
        shape: Vec<Dim> = Vec::new(),
    }
}

impl AvgPool {
    fn output(&self, x: &Type) -> Result<Type, Misfit> {
        if x.rank() != 4 || !x.dtype.is_float() {
            return Err("expected x [N, C, H, W] of real numbers".into());
        }
        let mut shape = x.shape.clone();
        for i in 0..2 {
            let padding = [self.padding.before[i], self.padding.after[i]];
            shape[2 + i] =
                pool_count(&x.shape[2 + i], self.kernel[i], self.stride[i], padding, 1, self.ceil_mode)?;
        }
        Ok(x.with_shape(shape))
    }
}

impl Operator for AvgPool {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        Ok(vec![self.output(x)?])
    }

    fn field(&self) -> Field {
        Field::Window {
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding.before,
            dilation: [1, 1],
        }
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let shape = context.ty(context.input(0)).shape.clone();
        let Self { kernel, stride, padding, ceil_mode, count_include_pad } = self.clone();
        let op = AvgPoolGrad { kernel, stride, padding, ceil_mode, count_include_pad, shape };
        let dx = context.emit1(op, &[dy])?;
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["AveragePool"]
    }
}

impl Operator for AvgPoolGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [dy] = inputs else { return Err("expected dy".into()) };
        let Self { kernel, stride, padding, ceil_mode, count_include_pad, shape } = self.clone();
        let x = dy.with_shape(shape);
        let y = AvgPool { kernel, stride, padding, ceil_mode, count_include_pad }.output(&x)?;
        if y != **dy {
            return Err(format!("the gradient is {dy}, the pooling's output {y}").into());
        }
        Ok(vec![x])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        // The map dy → dx is linear and its transpose is the pooling itself.
        let Some(d) = context.doutput(0) else { return Ok(()) };
        let Self { kernel, stride, padding, ceil_mode, count_include_pad, .. } = self.clone();
        let op = AvgPool { kernel, stride, padding, ceil_mode, count_include_pad };
        let ddy = context.emit1(op, &[d])?;
        context.set(0, ddy);
        Ok(())
    }
}

impl Wire {
    /// Mean over windows of `kernel` × `kernel` that don't overlap.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("p", |g| g.input("x", shape!["batch", 6, 28, 28]).avg_pool(2))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×6×14×14");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn avg_pool(&self, kernel: usize) -> Wire {
        self.avg_pool_with(AvgPool { kernel: [kernel; 2], stride: [kernel; 2], ..AvgPool::default() })
    }

    /// Mean over windows, with all attributes.
    pub fn avg_pool_with(&self, pool: AvgPool) -> Wire {
        self.apply(pool, &[])
    }
}
