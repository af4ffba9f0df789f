//! Addition of two tensors of one shape.

use std::sync::Arc;

use super::binary::{self, Operation};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape, take,
};
use crate::tensor::{Element, Shape};

/// y = a + b; a, b, y (N, C, D, H, W). Both gradients are dy.
#[derive(Debug)]
pub struct Add;

const OP: &str = "elementwise.add";

impl Operator for Add {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [a, b] = take(OP, inputs)?;
        expect_shape(OP, "the second input", a, b)?;
        Ok(vec![a])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn backward(
        &self,
        _graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        Ok(vec![Some(dy), Some(dy)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        binary::lower(Operation::Add, to);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn in_place(&self) -> Vec<usize> {
        vec![0, 1]
    }

    fn cost(&self, _inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let elements = outputs[0].len() as f64;
        Cost {
            flops: elements,
            bytes: 12.0 * elements,
        }
    }
}

/// Appends sum = sum + term, of one shape, in place.
pub(in crate::ops) fn add_to(
    to: &mut Lowering<'_>,
    sum: &Operand,
    term: &Operand,
) -> Result<(), OpError> {
    to.part(to.scratch.len(), &[*sum, *term], &[*sum], |part| {
        Add.lower(part)
    })
}

/// Appends y = a + b.
///
/// # Errors
/// [`OpError::Shape`] where the shapes differ.
pub fn add(graph: &mut dyn Build, a: ValueId, b: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(Add), &[a, b])?[0])
}
