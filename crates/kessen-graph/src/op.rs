//! What every operator has to say of itself.

use std::fmt;
use std::sync::Arc;

use crate::attribute::{AttributeText, Attributes};
use crate::error::Misfit;
use crate::grad::GradContext;
use crate::{Result, Type};

/// All that is known of an operator. One file in `ops` per operator implements it.
pub trait Operator: Attributes + fmt::Debug {
    /// Shape rule: the outputs' types for the operands' types.
    ///
    /// # Errors
    /// What does not fit: found, expected, the formula's values.
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit>;

    /// The word for what a node of this operator does: the name, or the kind where the operator has kinds (`relu`).
    fn word(&self) -> &'static str {
        self.name()
    }

    /// The operator in each of its kinds, with the usual attributes of each; empty where it has no kinds.
    fn kinds(&self) -> Vec<crate::Op> {
        Vec::new()
    }

    /// Multiply-accumulate operations for the given operand and result shapes.
    fn macs(&self, _inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        0
    }

    /// How an output position depends on input positions.
    fn field(&self) -> Field {
        Field::Point
    }

    /// Gradient rule: emits the nodes that compute the gradients of the operands.
    ///
    /// # Errors
    /// [`crate::Error::NotDifferentiable`] where there is none; [`Operator`]s without the method have none.
    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        context.not_differentiable("remove the operator from the path between the loss and the parameters")
    }

    /// ONNX operator types that mean the same (possibly among others, by attribute).
    fn onnx(&self) -> &'static [&'static str] {
        &[]
    }
}

/// How one output position of an operator depends on positions of its first operand (spatially).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Only on the same position.
    Point,
    /// On a window, `[height, width]`.
    Window {
        /// Window size.
        kernel: [usize; 2],
        /// Step between windows.
        stride: [usize; 2],
        /// Zeros before the first position.
        padding: [usize; 2],
        /// Distance of neighbouring window elements.
        dilation: [usize; 2],
    },
    /// On every position.
    Whole,
}

/// An operator written outside this crate: shape rule, forward and backward computation.
///
/// Register the value with [`crate::GraphBuilder::custom`]; nothing else of the system has to change.
pub trait CustomOperator: fmt::Debug + Send + Sync {
    /// Name in the text form, unlike every built-in operator's.
    fn name(&self) -> &str;

    /// Shape rule; one output.
    ///
    /// # Errors
    /// What does not fit.
    fn infer(&self, inputs: &[&Type]) -> Result<Type, Misfit>;

    /// Multiply-accumulate operations.
    fn macs(&self, _inputs: &[&[usize]], _output: &[usize]) -> u64 {
        0
    }

    /// Computes the output from the operands, row-major.
    fn forward(&self, inputs: &[CustomTensor<'_>], output: &mut [f32]);

    /// Computes the gradient of every operand from the output's. `dinputs[i]` is zero on entry and has the length
    /// of `inputs[i]`.
    fn backward(&self, inputs: &[CustomTensor<'_>], doutput: &[f32], dinputs: &mut [&mut [f32]]);
}

/// A row-major operand of a [`CustomOperator`].
#[derive(Debug, Clone, Copy)]
pub struct CustomTensor<'a> {
    /// Dimensions.
    pub shape: &'a [usize],
    /// Elements.
    pub data: &'a [f32],
}

/// A node's custom operator, or the gradient of one.
#[derive(Debug, Clone)]
pub struct Custom {
    /// The user's operator.
    pub operator: Arc<dyn CustomOperator>,
    /// Whether the node computes the operands' gradients: inputs are the operands, then the output's gradient.
    pub backward: bool,
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        self.backward == other.backward && self.operator.name() == other.operator.name()
    }
}

impl Attributes for Custom {
    fn name(&self) -> &'static str {
        if self.backward { "custom_grad" } else { "custom" }
    }

    fn attributes(&self) -> Vec<AttributeText> {
        vec![AttributeText { key: "operator", value: self.operator.name().to_owned(), is_default: false }]
    }

    fn set_attribute(&mut self, key: &str, _text: &str) -> Result<()> {
        Err(crate::Error::Unknown {
            kind: "attribute of a custom operator",
            name: key.to_owned(),
            nearest: None,
        })
    }

    fn bind(&mut self, _bindings: &crate::Bindings) -> Result<()> {
        Ok(())
    }
}

impl Operator for Custom {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, Misfit> {
        if !self.backward {
            return self.operator.infer(inputs).map(|t| vec![t]);
        }
        let (doutput, operands) = inputs.split_last().ok_or("the gradient of the output is missing")?;
        let output = self.operator.infer(operands)?;
        if output != **doutput {
            return Err(format!("gradient of type {doutput} for an output of type {output}").into());
        }
        Ok(operands.iter().map(|&t| t.clone()).collect())
    }

    fn macs(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> u64 {
        match (self.backward, inputs.split_last()) {
            (true, Some((doutput, operands))) => 2 * self.operator.macs(operands, doutput),
            _ => self.operator.macs(inputs, outputs[0]),
        }
    }

    fn grad(&self, context: &mut GradContext<'_>) -> Result<()> {
        if self.backward {
            return context.not_differentiable("second derivatives of custom operators are not supported");
        }
        let Some(doutput) = context.doutput(0) else { return Ok(()) };
        let mut operands: Vec<_> = (0..context.input_count()).map(|i| context.input(i)).collect();
        operands.push(doutput);
        let op = crate::Op::Custom(Self { operator: Arc::clone(&self.operator), backward: true });
        let dinputs = context.emit(op, &operands)?;
        for (i, d) in dinputs.into_iter().enumerate() {
            context.set(i, d);
        }
        Ok(())
    }
}
