//! The same tensor added to every sample: position embeddings.

use std::sync::Arc;

use super::binary::{self, Operation};
use crate::ops::layout::reshape;
use crate::ops::matmul::LinearBiasGrad;
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape, take,
};
use crate::tensor::{Element, Shape};

/// `y[n] = x[n] + p`; x, y (N, C, D, H, W), p (1, C, D, H, W). Gradients dy, and its sum over the samples in their order.
#[derive(Debug)]
pub struct AddBroadcast;

const OP: &str = "elementwise.add_broadcast";

impl Operator for AddBroadcast {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x, p] = take(OP, inputs)?;
        let [_, c, d, h, w] = x.0;
        expect_shape(OP, "the second input", Shape::new(1, c, d, h, w), p)?;
        Ok(vec![x])
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
        let mut grads = vec![Some(dy), None];
        if io.needs[1] {
            let (of_x, of_p) = (graph.shape(dy), graph.shape(io.inputs[1]));
            let rows = Shape::new(of_x.n(), of_x.per_sample(), 1, 1, 1);
            let rows = reshape(graph, dy, rows)?;
            let sum = graph.add(Arc::new(LinearBiasGrad), &[rows])?[0];
            grads[1] = Some(reshape(graph, sum, of_p)?);
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let every_sample = Operand {
            shape: to.inputs[0].shape,
            batch_stride: 0,
            ..to.inputs[1]
        };
        let (inputs, outputs) = ([to.inputs[0], every_sample], [to.outputs[0]]);
        to.part(to.scratch.len(), &inputs, &outputs, |to| {
            binary::lower(Operation::Add, to);
            Ok(())
        })
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn in_place(&self) -> Vec<usize> {
        vec![0]
    }

    fn cost(&self, _inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let elements = outputs[0].len() as f64;
        Cost {
            flops: elements,
            bytes: 8.0 * elements,
        }
    }
}

/// Appends `y[n] = x[n] + p` for every sample; x (N, C, D, H, W), p (1, C, D, H, W).
///
/// # Errors
/// [`OpError::Shape`] where p does not fit.
pub fn add_broadcast(graph: &mut dyn Build, x: ValueId, p: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(AddBroadcast), &[x, p])?[0])
}
