//! What happens to a product's sums before they are stored, in the same pass.

/// A function applied to each element on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Activation {
    /// The value itself.
    #[default]
    Identity,
    /// `max(0, v)`.
    Relu,
    /// `v` where positive, else `slope·v`.
    LeakyRelu(f32),
    /// `min(high, max(low, v))`; ReLU6 is `Clamp(0.0, 6.0)`.
    Clamp(f32, f32),
}

/// A bias and the axis it runs along.
#[derive(Clone, Copy, Debug, Default)]
pub enum Bias<'a> {
    /// No bias.
    #[default]
    None,
    /// One value per column of a product (output feature), or per channel of a convolution.
    PerColumn(&'a [f32]),
    /// One value per row of a product.
    PerRow(&'a [f32]),
}

/// `out = activation(alpha·sum + bias + residual + accumulate·out)`, evaluated tile by tile in registers.
///
/// NaN passes through every activation.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Factor of the sum.
    pub alpha: f32,
    /// Added to each row or column.
    pub bias: Bias<'a>,
    /// Added element by element; laid out like the output, with the same strides.
    pub residual: Option<&'a [f32]>,
    /// Adds to what the output holds instead of overwriting it.
    pub accumulate: bool,
    /// Applied last.
    pub activation: Activation,
}

impl Default for Epilogue<'_> {
    fn default() -> Self {
        Epilogue {
            alpha: 1.0,
            bias: Bias::None,
            residual: None,
            accumulate: false,
            activation: Activation::Identity,
        }
    }
}

impl<'a> Epilogue<'a> {
    /// Overwrites the output with the plain sum.
    pub fn store() -> Self {
        Self::default()
    }

    /// Adds the sum to the output.
    pub fn accumulate() -> Self {
        Epilogue { accumulate: true, ..Self::default() }
    }

    /// Adds one value per column or channel.
    pub fn bias(mut self, bias: &'a [f32]) -> Self {
        self.bias = Bias::PerColumn(bias);
        self
    }

    /// Adds one value per row.
    pub fn bias_per_row(mut self, bias: &'a [f32]) -> Self {
        self.bias = Bias::PerRow(bias);
        self
    }

    /// Adds a tensor laid out like the output.
    pub fn residual(mut self, residual: &'a [f32]) -> Self {
        self.residual = Some(residual);
        self
    }

    /// Applies a function last.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }
}
