//! Position of the largest element.

use crate::error::Misfit;
use crate::op::{Field, Operator};
use crate::{Dim, Result, Type, Wire, operator};

operator! {
    /// Position (`i64`) of the largest element along `dim`; of equal ones the first. It has no gradient.
    ArgMax "argmax" {
        /// Dimension that is searched, from 0.
        dim: usize = 1,
        /// Keeps the searched dimension, as 1.
        keepdim: bool = false,
    }
}

impl Operator for ArgMax {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        let [x] = inputs else { return Err("expected one operand".into()) };
        match x.shape.get(self.dim) {
            None => {
                return Err(
                    format!("there is no dimension {}; the operand has {}", self.dim, x.rank()).into()
                );
            }
            Some(d) if d.as_fixed() == Some(0) => {
                return Err(format!("dimension {} is empty", self.dim).into());
            }
            Some(_) => {}
        }
        let mut shape = x.shape.clone();
        if self.keepdim {
            shape[self.dim] = Dim::fixed(1);
        } else {
            shape.remove(self.dim);
        }
        Ok(vec![Type::i64(shape)])
    }

    fn field(&self) -> Field {
        if self.dim < 2 { Field::Point } else { Field::Whole }
    }

    fn onnx(&self) -> &'static [&'static str] {
        &["ArgMax"]
    }
}

impl Wire {
    /// Position of the largest element along `dim`: the predicted class.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// let net = Graph::build("a", |g| g.input("logits", shape!["batch", 10]).argmax(1))?;
    /// assert_eq!(net.ty(net.outputs()[0].1).to_string(), "i64 batch");
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    pub fn argmax(&self, dim: usize) -> Wire {
        self.apply(ArgMax { dim, keepdim: false }, &[])
    }
}
