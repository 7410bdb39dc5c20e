//! Element-wise functions of two values, with NumPy's broadcasting.
//!
//! Shapes are aligned at the last dimension; a dimension of 1 (or a missing one) is repeated.

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::reduce::SumTo;
use crate::ops::unary::{Unary, UnaryKind};
use crate::{Dim, GradContext, Result, Type, ValueId, Wire, choice, operator};

choice! {
    /// Which function.
    BinaryKind, "add, sub, mul, div, max, min, pow or greater" {
        /// a + b.
        Add = "add",
        /// a − b.
        Sub = "sub",
        /// a·b.
        Mul = "mul",
        /// a / b.
        Div = "div",
        /// The larger.
        Max = "max",
        /// The smaller.
        Min = "min",
        /// a to the power b.
        Pow = "pow",
        /// 1 where a > b, ½ where they are equal, else 0: how `max` splits its gradient.
        Greater = "greater",
    }
}

operator! {
    /// y = f(a, b), element by element.
    Binary "binary" {
        /// The function.
        kind: BinaryKind = BinaryKind::Add,
    }
}

/// Shape of two broadcast shapes.
///
/// # Errors
/// The first pair of dimensions that differ with neither being 1.
pub fn broadcast_shapes(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, Misfit> {
    let rank = a.len().max(b.len());
    let one = Dim::fixed(1);
    let at = |shape: &[Dim], i: usize| {
        (i + shape.len()).checked_sub(rank).map_or(one.clone(), |j| shape[j].clone())
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == one => Ok(x),
            (x, y) if x == one => Ok(y),
            (x, y) => Err(format!(
                "dimensions {x} and {y} (position {i} of {rank}) can't be broadcast; they must be equal or one be 1"
            )
            .into()),
        })
        .collect()
}

impl Operator for Binary {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        match inputs {
            [a, b] if a.dtype == b.dtype => Ok(vec![a.with_shape(broadcast_shapes(&a.shape, &b.shape)?)]),
            _ => Err("expected two operands of the same element type".into()),
        }
    }

    fn word(&self) -> &'static str {
        self.kind.word()
    }

    fn kinds(&self) -> Vec<crate::Op> {
        BinaryKind::ALL.iter().map(|&kind| Self { kind }.into()).collect()
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let (a, b, y) = (context.input(0), context.input(1), context.output(0));
        for (i, operand) in [a, b].into_iter().enumerate() {
            if !context.wants(i) {
                continue;
            }
            let d = self.partial(context, i, [a, b, y], dy)?;
            let d = sum_to(context, d, operand)?;
            context.set(i, d);
        }
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        match self.kind {
            BinaryKind::Add => &["Add", "Sum"],
            BinaryKind::Sub => &["Sub"],
            BinaryKind::Mul => &["Mul"],
            BinaryKind::Div => &["Div"],
            BinaryKind::Max => &["Max"],
            BinaryKind::Min => &["Min"],
            BinaryKind::Pow => &["Pow"],
            BinaryKind::Greater => &[],
        }
    }
}

impl Binary {
    /// dy·∂f/∂(operand i), in the result's shape.
    fn partial(&self, c: &mut GradContext<'_>, i: usize, aby: [ValueId; 3], dy: ValueId) -> Result<ValueId> {
        let [a, b, y] = aby;
        let binary = |c: &mut GradContext<'_>, kind, p, q| c.emit1(Binary { kind }, &[p, q]);
        let unary = |c: &mut GradContext<'_>, kind, p| c.emit1(Unary::new(kind), &[p]);
        match (self.kind, i) {
            (BinaryKind::Add, _) | (BinaryKind::Sub, 0) => Ok(dy),
            (BinaryKind::Sub, _) => unary(c, UnaryKind::Neg, dy),
            (BinaryKind::Mul, _) => binary(c, BinaryKind::Mul, dy, if i == 0 { b } else { a }),
            (BinaryKind::Div, 0) => binary(c, BinaryKind::Div, dy, b),
            (BinaryKind::Div, _) => {
                // ∂(a/b)/∂b = −y/b.
                let q = binary(c, BinaryKind::Div, y, b)?;
                let q = unary(c, UnaryKind::Neg, q)?;
                binary(c, BinaryKind::Mul, dy, q)
            }
            (BinaryKind::Max | BinaryKind::Min, _) => {
                let first_wins = (self.kind == BinaryKind::Max) == (i == 0);
                let (p, q) = if first_wins { (a, b) } else { (b, a) };
                let mask = binary(c, BinaryKind::Greater, p, q)?;
                binary(c, BinaryKind::Mul, dy, mask)
            }
            (BinaryKind::Pow, 0) => {
                let one = c.scalar(1.0)?;
                let exponent = binary(c, BinaryKind::Sub, b, one)?;
                let power = binary(c, BinaryKind::Pow, a, exponent)?;
                let slope = binary(c, BinaryKind::Mul, b, power)?;
                binary(c, BinaryKind::Mul, dy, slope)
            }
            (BinaryKind::Pow, _) => {
                let log = unary(c, UnaryKind::Log, a)?;
                let slope = binary(c, BinaryKind::Mul, y, log)?;
                binary(c, BinaryKind::Mul, dy, slope)
            }
            (BinaryKind::Greater, _) => {
                c.not_differentiable("a comparison is constant almost everywhere; don't train through it")?;
                Ok(dy)
            }
        }
    }
}

/// Sums `d` down to the shape of `operand`, undoing its broadcast.
pub(crate) fn sum_to(context: &mut GradContext<'_>, d: ValueId, operand: ValueId) -> Result<ValueId> {
    let shape = context.ty(operand).shape.clone();
    if context.ty(d).shape == shape { Ok(d) } else { context.emit1(SumTo { shape }, &[d]) }
}

macro_rules! binary_methods {
    ($($(#[$meta:meta])* $method:ident => $kind:ident),* $(,)?) => {
        impl Wire {
            $($(#[$meta])*
            pub fn $method(&self, other: &Wire) -> Wire {
                self.apply(Binary { kind: BinaryKind::$kind }, &[other])
            })*

            /// Every element times `factor`.
            pub fn scale(&self, factor: f32) -> Wire {
                self.mul(&self.builder().scalar(factor))
            }
        }
    };
}
binary_methods! {
    /// a + b, broadcast.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("residual", |g| {
    ///     let x = g.input("x", shape!["batch", 8]);
    ///     x.linear("f", 8).relu().add(&x)
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×8");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    add => Add,
    /// a − b, broadcast.
    sub => Sub,
    /// a·b, broadcast.
    mul => Mul,
    /// a / b, broadcast.
    div => Div,
    /// The larger of a and b, broadcast; at a tie the gradient is split.
    max => Max,
    /// The smaller of a and b, broadcast; at a tie the gradient is split.
    min => Min,
    /// a to the power b, broadcast.
    pow => Pow,
}
