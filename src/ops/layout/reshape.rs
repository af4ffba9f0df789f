//! Other extents for the same elements.

use std::sync::Arc;

use crate::ops::{Backward, Build, Cost, Layout, Lowering, OpError, Operator, ValueId, take};
use crate::tensor::Shape;

/// y has the elements of x in the same order, with other extents; N stays. A view: no kernel runs.
#[derive(Debug)]
pub struct Reshape {
    /// The new shape.
    pub to: Shape,
}

const OP: &str = "layout.reshape";

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        if x.n() != self.to.n() || x.per_sample() != self.to.per_sample() {
            return Err(OpError::Shape {
                op: OP,
                what: "the input",
                expected: format!("of as many samples and elements as {}", self.to),
                found: x,
            });
        }
        Ok(vec![self.to])
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        let shape = graph.shape(io.inputs[0]);
        Ok(vec![Some(reshape(graph, dy, shape)?)])
    }

    fn lower(&self, _to: &mut Lowering<'_>) -> Result<(), OpError> {
        Ok(())
    }

    fn cost(&self, _inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        Cost::default()
    }

    fn layout(&self) -> Layout {
        Layout::Reshape
    }
}

/// Appends `x` with the extents of `to`.
///
/// # Errors
/// [`OpError::Shape`] where N or the number of elements differ.
pub fn reshape(graph: &mut dyn Build, x: ValueId, to: Shape) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(Reshape { to }), &[x])?[0])
}
