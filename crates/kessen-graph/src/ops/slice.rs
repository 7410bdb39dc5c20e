//! A part of a value along one dimension.

use crate::error::Misfit;
use crate::op::Operator;
use crate::ops::pad::Pad;
use crate::ops::reshape::Reshape;
use crate::{Dim, GradContext, Result, Type, ValueId, Wire, operator};

operator! {
    /// The elements `start`, `start + step`, … below `end` along `dim`; other dimensions are kept whole.
    Slice "slice" {
        /// Dimension that is cut, from 0.
        dim: usize = 0,
        /// First position.
        start: Dim = Dim::fixed(0),
        /// Position after the last; at most the dimension's size.
        end: Dim = Dim::fixed(0),
        /// Distance of the elements that are taken.
        step: usize = 1,
    }
}

impl Operator for Slice {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        let Some(size) = x.shape.get(self.dim) else {
            return Err(format!("there is no dimension {}; the operand has {}", self.dim, x.rank()).into());
        };
        let (start, end) = (&self.start, &self.end);
        if self.step == 0 {
            return Err("step must be at least 1".into());
        }
        let beyond =
            |low: &Dim, high: &Dim| matches!((low.as_fixed(), high.as_fixed()), (Some(a), Some(b)) if a > b);
        if beyond(start, end) || beyond(end, size) || beyond(start, size) {
            return Err(format!(
                "can't take {start} to {end} of dimension {} of size {size}; expected start ≤ end ≤ size",
                self.dim
            )
            .into());
        }
        let mut shape = x.shape.clone();
        shape[self.dim] = (end.clone() - start.clone()).ceil_div(self.step);
        Ok(vec![x.with_shape(shape)])
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        let Some(dy) = context.doutput(0) else { return Ok(()) };
        let size = context.ty(context.input(0)).shape[self.dim].clone();
        let (spread, end) = self.spread(context, dy, &size)?;
        let dx = pad_one(context, spread, self.dim, self.start.clone(), size - end)?;
        context.set(0, dx);
        Ok(())
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["Slice"]
    }
}

impl Slice {
    /// dy with `step` − 1 zeros after each element, cut at the input's end; and the position in the input where it
    /// ends.
    fn spread(&self, c: &mut GradContext<'_>, dy: ValueId, size: &Dim) -> Result<(ValueId, Dim)> {
        if self.step == 1 {
            return Ok((dy, self.end.clone()));
        }
        let shape = c.ty(dy).shape.clone();
        let (dim, count) = (self.dim, shape[self.dim].clone());
        let mut apart = shape.clone();
        apart.insert(dim + 1, Dim::fixed(1));
        let column = c.emit1(Reshape { shape: apart }, &[dy])?;
        let filled = pad_one(c, column, dim + 1, Dim::fixed(0), Dim::fixed(self.step - 1))?;
        let mut joined = shape;
        joined[dim] = count.clone() * Dim::fixed(self.step);
        let line = c.emit1(Reshape { shape: joined.clone() }, &[filled])?;
        // The last element's zeros may reach beyond the input, whatever named sizes are bound to; so the line is
        // first made long enough and then cut.
        let rest = size.clone() - self.end.clone();
        let long = pad_one(c, line, dim, Dim::fixed(0), rest)?;
        let end = size.clone() - self.start.clone();
        if c.ty(long).shape[dim] == end {
            return Ok((long, size.clone()));
        }
        let cut = c.emit1(Self { dim, start: Dim::fixed(0), end, step: 1 }, &[long])?;
        Ok((cut, size.clone()))
    }
}

/// `v` with `before` and `after` zeros along `dim`.
fn pad_one(c: &mut GradContext<'_>, v: ValueId, dim: usize, before: Dim, after: Dim) -> Result<ValueId> {
    let none = Dim::fixed(0);
    if before == none && after == none {
        return Ok(v);
    }
    let rank = c.ty(v).rank();
    let at = |d: Dim| (0..rank).map(|i| if i == dim { d.clone() } else { none.clone() }).collect();
    c.emit1(Pad { before: at(before), after: at(after), value: 0.0 }, &[v])
}

impl Wire {
    /// Positions `start..end` of dimension `dim`; numbers, names or [`Dim`]s.
    ///
    /// ```
    /// use kessen_graph::{Graph, dim, shape};
    /// let net = Graph::build("last step", |g| {
    ///     let x = g.input("x", shape!["batch", "time", 64]);
    ///     x.slice(1, dim("time").minus(1), "time")
    /// })?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "batch×1×64");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn slice(&self, dim: usize, start: impl Into<Dim>, end: impl Into<Dim>) -> Wire {
        self.apply(Slice { dim, start: start.into(), end: end.into(), step: 1 }, &[])
    }
}
