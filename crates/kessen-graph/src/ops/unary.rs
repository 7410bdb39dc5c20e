//! Element-wise functions of one value, y = f(x).
//!
//! `x` input, `y` output, `dx`, `dy` their gradients. The derivative is written in terms of y where that saves
//! keeping x (sigmoid: y·(1−y)), else in terms of x; [`UnaryKind::grad_uses`] says which.

use crate::error::Misfit;
use crate::op::Operator;
use crate::{GradContext, Result, Type, Wire, choice, operator};

choice! {
    /// Which function.
    UnaryKind, "a function such as relu, sigmoid or tanh" {
        /// max(x, 0).
        Relu = "relu",
        /// x for x > 0, else alpha·x (Maas et al. 2013; alpha 0.01).
        LeakyRelu = "leaky_relu",
        /// 1 / (1 + e^−x).
        Sigmoid = "sigmoid",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// x·Φ(x), Φ the standard normal distribution function (Hendrycks & Gimpel 2016).
        Gelu = "gelu",
        /// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), the usual approximation of `gelu`.
        GeluTanh = "gelu_tanh",
        /// x·sigmoid(x) (Elfwing et al. 2017).
        Silu = "silu",
        /// ln(1 + e^x).
        Softplus = "softplus",
        /// x for x > 0, else alpha·(e^x − 1) (Clevert et al. 2015; alpha 1).
        Elu = "elu",
        /// e^x.
        Exp = "exp",
        /// Natural logarithm.
        Log = "log",
        /// Square root.
        Sqrt = "sqrt",
        /// −x.
        Neg = "neg",
        /// |x|.
        Abs = "abs",
        /// x².
        Square = "square",
        /// 1/x.
        Reciprocal = "reciprocal",
        /// Sine.
        Sin = "sin",
        /// Cosine.
        Cos = "cos",
        /// Error function.
        Erf = "erf",
    }
}

/// What the derivative is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GradUses {
    /// The operand x.
    Input,
    /// The result y.
    Output,
}

impl UnaryKind {
    /// Whether the derivative is computed from x or from y.
    pub const fn grad_uses(self) -> GradUses {
        match self {
            Self::Relu
            | Self::LeakyRelu
            | Self::Sigmoid
            | Self::Tanh
            | Self::Exp
            | Self::Sqrt
            | Self::Reciprocal => GradUses::Output,
            _ => GradUses::Input,
        }
    }

    /// The usual alpha of the kinds that have one.
    pub const fn default_alpha(self) -> f64 {
        match self {
            Self::LeakyRelu => 0.01,
            _ => 1.0,
        }
    }
}

operator! {
    /// y = f(x), element by element.
    Unary "unary" {
        /// The function.
        kind: UnaryKind = UnaryKind::Relu,
        /// Slope of `leaky_relu` and scale of `elu` below zero; without meaning for the others.
        alpha: f64 = 1.0,
    }
}

operator! {
    /// dx = dy·f′, element by element; operands: dy, then x or y as [`UnaryKind::grad_uses`] says.
    UnaryGrad "unary_grad" {
        /// The function.
        kind: UnaryKind = UnaryKind::Relu,
        /// As in [`Unary`].
        alpha: f64 = 1.0,
    }
}

impl Unary {
    /// A function with its usual alpha.
    pub const fn new(kind: UnaryKind) -> Self {
        Self { kind, alpha: kind.default_alpha() }
    }
}

impl Operator for Unary {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        match inputs {
            [x] if x.dtype.is_float() => Ok(vec![(*x).clone()]),
            _ => Err("expected one operand of real numbers".into()),
        }
    }

    fn word(&self) -> &'static str {
        self.kind.word()
    }

    fn kinds(&self) -> Vec<crate::Op> {
        UnaryKind::ALL.iter().map(|&kind| Self::new(kind).into()).collect()
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let known = match self.kind.grad_uses() {
            GradUses::Input => context.input(0),
            GradUses::Output => context.output(0),
        };
        let dx = context.emit1(UnaryGrad { kind: self.kind, alpha: self.alpha }, &[dy, known])?;
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        match self.kind {
            UnaryKind::Relu => &["Relu"],
            UnaryKind::LeakyRelu => &["LeakyRelu"],
            UnaryKind::Sigmoid => &["Sigmoid"],
            UnaryKind::Tanh => &["Tanh"],
            UnaryKind::Gelu | UnaryKind::GeluTanh => &["Gelu"],
            UnaryKind::Silu => &["Swish"],
            UnaryKind::Softplus => &["Softplus"],
            UnaryKind::Elu => &["Elu"],
            UnaryKind::Exp => &["Exp"],
            UnaryKind::Log => &["Log"],
            UnaryKind::Sqrt => &["Sqrt"],
            UnaryKind::Neg => &["Neg"],
            UnaryKind::Abs => &["Abs"],
            UnaryKind::Square => &[],
            UnaryKind::Reciprocal => &["Reciprocal"],
            UnaryKind::Sin => &["Sin"],
            UnaryKind::Cos => &["Cos"],
            UnaryKind::Erf => &["Erf"],
        }
    }
}

impl Operator for UnaryGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        match inputs {
            [dy, known] if dy == known => Ok(vec![(*dy).clone()]),
            _ => Err("expected the output's gradient and a value of the same type".into()),
        }
    }
}

macro_rules! unary_methods {
    ($($(#[$meta:meta])* $method:ident => $kind:ident),* $(,)?) => {
        impl Wire {
            $($(#[$meta])*
            pub fn $method(&self) -> Wire {
                self.apply(Unary::new(UnaryKind::$kind), &[])
            })*

            /// x for x > 0, else `slope`·x.
            pub fn leaky_relu(&self, slope: f64) -> Wire {
                self.apply(Unary { kind: UnaryKind::LeakyRelu, alpha: slope }, &[])
            }

            /// x for x > 0, else `alpha`·(e^x − 1).
            pub fn elu(&self, alpha: f64) -> Wire {
                self.apply(Unary { kind: UnaryKind::Elu, alpha }, &[])
            }
        }
    };
}
unary_methods! {
    /// max(x, 0).
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("r", |g| g.input("x", shape!["batch", 4]).relu())?;
    /// assert_eq!(net.nodes()[0].path, "relu");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    relu => Relu,
    /// 1 / (1 + e^−x).
    sigmoid => Sigmoid,
    /// Hyperbolic tangent.
    tanh => Tanh,
    /// x·Φ(x), exactly.
    gelu => Gelu,
    /// The tanh approximation of `gelu`.
    gelu_tanh => GeluTanh,
    /// x·sigmoid(x).
    silu => Silu,
    /// ln(1 + e^x).
    softplus => Softplus,
    /// e^x.
    exp => Exp,
    /// Natural logarithm.
    log => Log,
    /// Square root.
    sqrt => Sqrt,
    /// −x.
    neg => Neg,
    /// |x|.
    abs => Abs,
    /// x².
    square => Square,
    /// 1/x.
    reciprocal => Reciprocal,
    /// Sine.
    sin => Sin,
    /// Cosine.
    cos => Cos,
    /// Error function.
    erf => Erf,
}
