//! Reductions over dimensions: sum, mean, largest, smallest, product.

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::binary::{Binary, BinaryKind, broadcast_shapes};
use crate::ops::reshape::{Broadcast, Reshape};
use crate::{Dim, GradContext, Result, Type, ValueId, Wire, choice, operator};

choice! {
    /// Which reduction.
    ReduceKind, "sum, mean, max, min or prod" {
        /// Σ x.
        Sum = "sum",
        /// Σ x / n.
        Mean = "mean",
        /// The largest.
        Max = "reduce_max",
        /// The smallest.
        Min = "reduce_min",
        /// ∏ x.
        Prod = "prod",
    }
}

operator! {
    /// Reduces the dimensions `dims`; all of them where the list is empty.
    Reduce "reduce" {
        /// The reduction.
        kind: ReduceKind = ReduceKind::Sum,
        /// Dimensions to reduce, from 0.
        dims: Vec<usize> = Vec::new(),
        /// Keeps reduced dimensions, as 1.
        keepdim: bool = false,
    }
}

operator! {
    /// Sums to `shape`, the reverse of broadcasting from it.
    SumTo "sum_to" {
        /// Shape of the result.
        shape: Vec<Dim> = Vec::new(),
    }
}

impl Reduce {
    /// The reduced dimensions of an operand of that rank, in order.
    pub fn reduced_dims(&self, rank: usize) -> Vec<usize> {
        let mut dims = if self.dims.is_empty() { (0..rank).collect() } else { self.dims.clone() };
        dims.sort_unstable();
        dims
    }

    fn result_shape(&self, shape: &[Dim], keepdim: bool) -> Result<Vec<Dim>, Misfit> {
        let dims = self.reduced_dims(shape.len());
        if let Some(d) = dims.iter().find(|&&d| d >= shape.len()) {
            return Err(format!("there is no dimension {d}; the operand has {}", shape.len()).into());
        }
        if dims.windows(2).any(|w| w[0] == w[1]) {
            return Err("a dimension is listed twice".into());
        }
        let one = Dim::fixed(1);
        let kept = shape.iter().enumerate().filter(|(i, _)| keepdim || !dims.contains(i));
        Ok(kept.map(|(i, d)| if dims.contains(&i) { one.clone() } else { d.clone() }).collect())
    }
}

impl Operator for Reduce {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        match inputs {
            [x] if x.dtype.is_float() => Ok(vec![x.with_shape(self.result_shape(&x.shape, self.keepdim)?)]),
            _ => Err("expected one operand of real numbers".into()),
        }
    }

    fn word(&self) -> &'static str {
        self.kind.word()
    }

    fn kinds(&self) -> Vec<crate::Op> {
        ReduceKind::ALL.iter().map(|&kind| Self { kind, ..Self::default() }.into()).collect()
    }

    fn field(&self) -> crate::Field {
        crate::Field::Whole
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let (x, y) = (context.input(0), context.output(0));
        let full = context.ty(x).shape.clone();
        let kept = self.result_shape(&full, true).map_err(|m| crate::Error::Inconsistent(m.0))?;
        let spread = |c: &mut GradContext<'_>, v: ValueId| -> Result<ValueId> {
            let v = if c.ty(v).shape == kept { v } else { c.emit1(Reshape { shape: kept.clone() }, &[v])? };
            c.emit1(Broadcast { shape: full.clone() }, &[v])
        };
        let binary = |c: &mut GradContext<'_>, kind, a, b| c.emit1(Binary { kind }, &[a, b]);
        let dx = match self.kind {
            ReduceKind::Sum => spread(context, dy)?,
            ReduceKind::Mean => {
                // Σ of the broadcast ones gives n, whatever the named dimensions are bound to.
                let one = context.scalar(1.0)?;
                let ones = context.emit1(Broadcast { shape: full.clone() }, &[one])?;
                let sum = Self { kind: ReduceKind::Sum, ..self.clone() };
                let n = context.emit1(sum, &[ones])?;
                let share = binary(context, BinaryKind::Div, dy, n)?;
                spread(context, share)?
            }
            ReduceKind::Max | ReduceKind::Min => {
                // 2·greater(x, y) is 1 exactly at ties with the extremum (½ there, 0 elsewhere).
                let extremum = spread(context, y)?;
                let (p, q) = if self.kind == ReduceKind::Max { (x, extremum) } else { (extremum, x) };
                let half = binary(context, BinaryKind::Greater, p, q)?;
                let count = context.emit1(Self { kind: ReduceKind::Sum, ..self.clone() }, &[half])?;
                let share = binary(context, BinaryKind::Div, dy, count)?;
                let share = spread(context, share)?;
                binary(context, BinaryKind::Mul, half, share)?
            }
            ReduceKind::Prod => {
                let product = binary(context, BinaryKind::Mul, dy, y)?;
                let product = spread(context, product)?;
                binary(context, BinaryKind::Div, product, x)?
            }
        };
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        match self.kind {
            ReduceKind::Sum => &["ReduceSum"],
            ReduceKind::Mean => &["ReduceMean", "GlobalAveragePool"],
            ReduceKind::Max => &["ReduceMax", "GlobalMaxPool"],
            ReduceKind::Min => &["ReduceMin"],
            ReduceKind::Prod => &["ReduceProd"],
        }
    }
}

impl Operator for SumTo {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        match inputs {
            [x] if broadcast_shapes(&x.shape, &self.shape)? == x.shape => {
                Ok(vec![x.with_shape(self.shape.clone())])
            }
            _ => Err("expected one operand whose shape the target can be broadcast to".into()),
        }
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let shape = context.ty(context.input(0)).shape.clone();
        let dx = context.emit1(Broadcast { shape }, &[dy])?;
        context.set(0, dx);
        Ok(())
    }
}

macro_rules! reduce_methods {
    ($($(#[$meta:meta])* $method:ident => $kind:ident),* $(,)?) => {
        impl Wire {
            $($(#[$meta])*
            pub fn $method(&self, dims: &[usize]) -> Wire {
                self.apply(Reduce { kind: ReduceKind::$kind, dims: dims.to_vec(), keepdim: false }, &[])
            })*
        }
    };
}
reduce_methods! {
    /// Sum over `dims` (all where empty).
    sum => Sum,
    /// Mean over `dims` (all where empty).
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("m", |g| g.input("x", shape!["batch", 3, 4]).mean(&[2]))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×3");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    mean => Mean,
    /// Largest over `dims` (all where empty).
    reduce_max => Max,
    /// Smallest over `dims` (all where empty).
    reduce_min => Min,
    /// Product over `dims` (all where empty).
    prod => Prod,
}
