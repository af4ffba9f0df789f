//! A factor for each voxel, the same for all channels: spatial attention.

use std::sync::Arc;

use super::channel_dot::ChannelDot;
use super::scale::{self, Factors};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{Backward, Build, Cost, Lowering, OpError, Operator, ValueId, expect_shape, take};
use crate::tensor::{Element, Shape};

/// y[n, c, v] = scale[n, v] * x[n, c, v]; x, y (N, C, D, H, W), scale (N, 1, D, H, W).
#[derive(Debug)]
pub struct ScaleVoxels;

const OP: &str = "elementwise.scale_voxels";

impl Operator for ScaleVoxels {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x, scale] = take(OP, inputs)?;
        expect_shape(OP, "the scale", x.with_c(1), scale)?;
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
            grads[0] = Some(scale_voxels(graph, dy, scale)?);
        }
        if io.needs[1] {
            grads[1] = Some(graph.add(Arc::new(ChannelDot), &[dy, x])?[0]);
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        scale::lower(Factors::OfVoxels, to);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        scale::cost(inputs)
    }
}

/// Appends y[n, c, v] = scale[n, v] * x[n, c, v]; x (N, C, D, H, W), scale (N, 1, D, H, W).
///
/// # Errors
/// [`OpError::Shape`] where the scale does not fit.
pub fn scale_voxels(graph: &mut dyn Build, x: ValueId, scale: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(ScaleVoxels), &[x, scale])?[0])
}
