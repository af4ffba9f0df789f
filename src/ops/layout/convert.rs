//! The same numbers, stored as another type of element.

use std::sync::Arc;

use super::copy::copy;
use crate::ops::{Backward, Build, Lowering, OpError, Operator, ValueId, take};
use crate::tensor::{Element, Shape};

/// y (N, C, D, H, W) = x, stored as `to`: where activations in f16 begin, and where they end.
#[derive(Debug, Clone, Copy)]
pub struct Convert {
    /// How y is stored.
    pub to: Element,
}

const OP: &str = "layout.convert";

impl Operator for Convert {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        Ok(vec![x])
    }

    fn element(&self, _index: usize, _inputs: &[Element]) -> Element {
        self.to
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let (dy, stored) = (io.grad(OP)?, graph.element(io.inputs[0]));
        Ok(vec![Some(convert(graph, dy, stored)?)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        copy(to, &x, &y, 0);
        Ok(())
    }

    fn is_cheap(&self) -> bool {
        true
    }
}

/// Appends `x` stored as `to`; x itself where it is stored so already.
///
/// # Errors
/// None today; the signature is that of all builders.
pub fn convert(graph: &mut dyn Build, x: ValueId, to: Element) -> Result<ValueId, OpError> {
    if graph.element(x) == to {
        return Ok(x);
    }
    Ok(graph.add(Arc::new(Convert { to }), &[x])?[0])
}
