//! Two-dimensional convolution (as networks compute it: cross-correlation, the kernel is not flipped).
//!
//! Dimensions: `N` batch, `C` input channels, `K` output channels, `J`×`L` input, `M` kernel size, `P` padding,
//! `S` stride, `D` dilation, `G` groups.
//!
//! `y[n,k,p,q] = b[k] + Σ_c Σ_r Σ_s w[k,c,r,s] · x[n, c, p·S + r·D − P, q·S + s·D − P]`, zeros outside
//! (the lecture's Σ_i u(i) h′(i−m) with channels). Output size ⌊(J + 2P − D·(M−1) − 1)/S⌋ + 1.

use crate::attribute::Padding;
use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::ops::count;
use crate::ops::reduce::Reduce;
use crate::{DEFAULT_WEIGHT, Dim, GradContext, Init, Result, Type, Wire, operator};

operator! {
    /// Convolution: x `[N, C, J, L]`, weight `[K, C/G, M, M′]`, bias `[K]` (may be left out).
    Conv "conv" {
        /// Step between windows.
        stride: [usize; 2] = [1, 1],
        /// Zeros around the input.
        padding: Padding = Padding::default(),
        /// Distance of neighbouring kernel elements.
        dilation: [usize; 2] = [1, 1],
        /// Independent groups of channels; `C` groups make it depthwise.
        groups: usize = 1,
    }
}

operator! {
    /// Gradient to the input: operands dy, weight; attributes of the convolution and the input's shape.
    ConvGradInput "conv_grad_input" {
        /// As in [`Conv`].
        stride: [usize; 2] = [1, 1],
        /// As in [`Conv`].
        padding: Padding = Padding::default(),
        /// As in [`Conv`].
        dilation: [usize; 2] = [1, 1],
        /// As in [`Conv`].
        groups: usize = 1,
        /// Shape of the convolution's input.
        shape: Vec<Dim> = Vec::new(),
    }
}

operator! {
    /// Gradient to the weight: operands x, dy; attributes of the convolution and the kernel's size.
    ConvGradWeight "conv_grad_weight" {
        /// As in [`Conv`].
        stride: [usize; 2] = [1, 1],
        /// As in [`Conv`].
        padding: Padding = Padding::default(),
        /// As in [`Conv`].
        dilation: [usize; 2] = [1, 1],
        /// As in [`Conv`].
        groups: usize = 1,
        /// Height and width of the kernel.
        kernel: [usize; 2] = [1, 1],
    }
}

/// ⌊(size + padding − dilation·(kernel−1) − 1)/stride⌋ + 1 along one axis.
///
/// # Errors
/// The formula's values, where the window is larger than the padded input.
pub fn window_count(
    size: &Dim,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> Result<Dim, Misfit> {
    if kernel == 0 || stride == 0 || dilation == 0 {
        return Err("kernel, stride and dilation must be at least 1".into());
    }
    let span = dilation * (kernel - 1) + 1;
    if let Some(n) = size.as_fixed()
        && n + padding < span
    {
        return Err(format!(
            "the window spans {span} (kernel {kernel}, dilation {dilation}) but input {n} + padding {padding} = {} is \
             smaller; use a smaller kernel, more padding or a larger input",
            n + padding
        )
        .into());
    }
    Ok((size.clone() + Dim::fixed(padding)).minus(span).floor_div(stride) + Dim::fixed(1))
}

impl Conv {
    fn output(&self, x: &Type, w: &Type) -> Result<Vec<Dim>, Misfit> {
        if x.rank() != 4 || w.rank() != 4 {
            return Err("expected x [N, C, H, W] and weight [K, C/groups, M, M′]".into());
        }
        let fixed = |d: &Dim, what: &str| {
            d.as_fixed().ok_or_else(|| Misfit(format!("{what} must be a fixed number")))
        };
        let (c, k, c_g) = (
            fixed(&x.shape[1], "the number of channels")?,
            fixed(&w.shape[0], "the number of filters")?,
            fixed(&w.shape[1], "the weight's channels")?,
        );
        let g = self.groups;
        if g == 0 || c % g != 0 || k % g != 0 {
            return Err(format!("{g} groups must divide {c} channels and {k} filters").into());
        }
        if c / g != c_g {
            return Err(format!(
                "input has {c} channels (in {g} groups: {} each), the weight expects {c_g} a group",
                c / g
            )
            .into());
        }
        let padding = self.padding.total();
        let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
        for i in 0..2 {
            let kernel = fixed(&w.shape[2 + i], "the kernel's size")?;
            shape.push(window_count(&x.shape[2 + i], kernel, self.stride[i], padding[i], self.dilation[i])?);
        }
        Ok(shape)
    }
}

impl Operator for Conv {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let (x, w) = match inputs {
            [x, w] | [x, w, _] => (x, w),
            _ => return Err("expected x, weight and perhaps bias".into()),
        };
        let shape = self.output(x, w)?;
        if let Some(b) = inputs.get(2)
            && b.shape != [shape[1].clone()]
        {
            return Err(format!("bias is {b}, expected {}", shape[1]).into());
        }
        Ok(vec![x.with_shape(shape)])
    }

    fn macs(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> u64 {
        count(outputs[0]).saturating_mul(count(&inputs[1][1..]))
    }

    fn field(&self) -> Field {
        // The kernel's size is the weight's, which analysis fills in.
        Field::Window {
            kernel: [0, 0],
            stride: self.stride,
            padding: self.padding.before,
            dilation: self.dilation,
        }
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let (x, w) = (context.input(0), context.input(1));
        let Self { stride, padding, dilation, groups } = self.clone();
        if context.wants(0) {
            let shape = context.ty(x).shape.clone();
            let dx = context.emit1(ConvGradInput { stride, padding, dilation, groups, shape }, &[dy, w])?;
            context.set(0, dx);
        }
        if context.wants(1) {
            let kernel = [2, 3].map(|i| context.ty(w).shape[i].as_fixed().unwrap_or(1));
            let dw = context.emit1(ConvGradWeight { stride, padding, dilation, groups, kernel }, &[x, dy])?;
            context.set(1, dw);
        }
        if context.wants(2) {
            let db = context.emit1(Reduce { dims: vec![0, 2, 3], ..Reduce::default() }, &[dy])?;
            context.set(2, db);
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Conv"]
    }
}

impl Operator for ConvGradInput {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [dy, w] = inputs else { return Err("expected dy and weight".into()) };
        let Self { stride, padding, dilation, groups, .. } = self.clone();
        let x = dy.with_shape(self.shape.clone());
        let y = Conv { stride, padding, dilation, groups }.output(&x, w)?;
        if y != dy.shape {
            return Err(format!("the gradient is {dy}, the convolution's output {}", dy.with_shape(y)).into());
        }
        Ok(vec![x])
    }

    fn macs(&self, inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        count(inputs[0]).saturating_mul(count(&inputs[1][1..]))
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["ConvTranspose"]
    }
}

impl Operator for ConvGradWeight {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x, dy] = inputs else { return Err("expected x and dy".into()) };
        if x.rank() != 4 || dy.rank() != 4 {
            return Err("expected x [N, C, H, W] and dy [N, K, H′, W′]".into());
        }
        let Self { stride, padding, dilation, groups, kernel } = self.clone();
        let channels = x.shape[1].as_fixed().filter(|c| groups > 0 && c % groups == 0);
        let channels = channels.ok_or("the groups must divide a fixed number of channels")?;
        let w = dy.with_shape(vec![
            dy.shape[1].clone(),
            (channels / groups).into(),
            kernel[0].into(),
            kernel[1].into(),
        ]);
        let y = Conv { stride, padding, dilation, groups }.output(x, &w)?;
        if y != dy.shape {
            return Err(format!("the gradient is {dy}, the convolution's output {}", dy.with_shape(y)).into());
        }
        Ok(vec![w])
    }

    fn macs(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> u64 {
        count(inputs[1]).saturating_mul(count(&outputs[0][1..]))
    }
}

/// Specification of a convolution layer: `conv(64, 3).padding(1).stride(2)`.
#[derive(Debug, Clone)]
pub struct ConvSpec {
    filters: usize,
    kernel: [usize; 2],
    op: Conv,
    bias: bool,
    init: Init,
}

/// `filters` filters of size `kernel` × `kernel`, stride 1, no padding, with bias.
pub fn conv(filters: usize, kernel: usize) -> ConvSpec {
    conv_rect(filters, [kernel, kernel])
}

/// As [`conv`], with a kernel `[height, width]`.
pub fn conv_rect(filters: usize, kernel: [usize; 2]) -> ConvSpec {
    ConvSpec { filters, kernel, op: Conv::default(), bias: true, init: DEFAULT_WEIGHT }
}

impl ConvSpec {
    /// Step between windows.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.op.stride = [stride, stride];
        self
    }

    /// Zeros around the input: a number, `[height, width]` or a [`Padding`].
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Padding>) -> Self {
        self.op.padding = padding.into();
        self
    }

    /// Distance of neighbouring kernel elements.
    #[must_use]
    pub fn dilation(mut self, dilation: usize) -> Self {
        self.op.dilation = [dilation, dilation];
        self
    }

    /// Independent groups of channels.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.op.groups = groups;
        self
    }

    /// Without bias (before a batch normalisation).
    #[must_use]
    pub fn no_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// Initialiser of the weight.
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// All attributes at once.
    #[must_use]
    pub fn attributes(mut self, op: Conv) -> Self {
        self.op = op;
        self
    }
}

impl Wire {
    /// A convolution layer: parameters `path.weight` (OIHW) and `path.bias`, initialised as PyTorch does.
    ///
    /// ```
    /// use kessen_graph::{Graph, ops::conv::conv, shape};
    /// let net = Graph::build("c", |g| {
    ///     g.input("image", shape!["batch", 3, 32, 32]).conv("c1", conv(16, 5).padding(2).stride(2))
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×16×16×16");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn conv(&self, path: &str, spec: ConvSpec) -> Wire {
        let ConvSpec { filters, kernel, op, bias, init } = spec;
        // A number of groups that does not divide the channels is refused by the shape rule.
        let channels = self.fixed_dim(1, path).div_ceil(op.groups.max(1));
        let shape = [filters, channels, kernel[0], kernel[1]];
        let weight = self.builder().param(&format!("{path}.weight"), &shape, init);
        if !bias {
            return self.apply_named(path, op, &[&weight]);
        }
        let fan_in = channels.saturating_mul(kernel[0]).saturating_mul(kernel[1]);
        let bias = self.builder().param(&format!("{path}.bias"), &[filters], Init::default_bias(fan_in));
        self.apply_named(path, op, &[&weight, &bias])
    }
}
