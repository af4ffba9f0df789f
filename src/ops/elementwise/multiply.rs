//! Product of two tensors of one shape.

use std::sync::Arc;

use super::binary::{self, Operation};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{Backward, Build, Cost, Lowering, OpError, Operator, ValueId, expect_shape, take};
use crate::tensor::{Element, Shape};

/// y = a * b element by element; a, b, y (N, C, D, H, W). Gradients dy * b and dy * a.
#[derive(Debug)]
pub struct Multiply;

const OP: &str = "elementwise.multiply";

impl Operator for Multiply {
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
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        let mut times = |needed: bool, other: ValueId| match needed {
            true => multiply(graph, dy, other).map(Some),
            false => Ok(None),
        };
        Ok(vec![
            times(io.needs[0], io.inputs[1])?,
            times(io.needs[1], io.inputs[0])?,
        ])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        binary::lower(Operation::Multiply, to);
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

/// Appends y = a * b, element by element.
///
/// # Errors
/// [`OpError::Shape`] where the shapes differ.
pub fn multiply(graph: &mut dyn Build, a: ValueId, b: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(Multiply), &[a, b])?[0])
}
