//! A factor for each channel: squeeze and excitation, channel attention.

use std::sync::Arc;

use super::scale::{self, Factors};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::reduce::ChannelProducts;
use crate::ops::{Backward, Build, Cost, Lowering, OpError, Operator, ValueId, expect_shape, take};
use crate::tensor::{Element, Shape};

/// y[n, c] = scale[n, c] * x[n, c]; x, y (N, C, D, H, W), scale (N, C, 1, 1, 1).
#[derive(Debug)]
pub struct ScaleChannels;

const OP: &str = "elementwise.scale_channels";

impl Operator for ScaleChannels {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x, scale] = take(OP, inputs)?;
        expect_shape(OP, "the scale", x.with_spatial([1, 1, 1]), scale)?;
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
        let (dy, [x, scale]) = (io.grad(OP)?, [io.inputs[0], io.inputs[1]]);
        let mut grads = vec![None, None];
        if io.needs[0] {
            grads[0] = Some(scale_channels(graph, dy, scale)?);
        }
        if io.needs[1] {
            let op = ChannelProducts {
                negative_part: false,
                over_batch: false,
            };
            grads[1] = Some(graph.add(Arc::new(op), &[dy, x])?[0]);
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        scale::lower(Factors::OfChannels, to);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        scale::cost(inputs)
    }
}

/// Appends y[n, c] = scale[n, c] * x[n, c]; x (N, C, D, H, W), scale (N, C, 1, 1, 1).
///
/// # Errors
/// [`OpError::Shape`] where the scale does not fit.
pub fn scale_channels(
    graph: &mut dyn Build,
    x: ValueId,
    scale: ValueId,
) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(ScaleChannels), &[x, scale])?[0])
}
