//! A factor for each voxel, the same for all channels: spatial attention.

use std::sync::Arc;

use super::channel_dot::ChannelDot;
use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::reduce::{MAP_STEPS, Tiling};
use crate::ops::{Backward, Build, Cost, Lowering, OpError, Operator, ValueId, expect_shape, take};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    scale_offset: u32,
    scale_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "elementwise/scale_voxels",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

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
        let (x, scale, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let tiling = Tiling::channels(&[&x, &scale, &y], MAP_STEPS);
        let params = Params {
            x_offset: tiling.packs_of(x.offset),
            x_batch: tiling.packs_of(x.batch_stride),
            scale_offset: tiling.packs_of(scale.offset),
            scale_batch: tiling.packs_of(scale.batch_stride),
            y_offset: tiling.packs_of(y.offset),
            y_batch: tiling.packs_of(y.batch_stride),
            packs: tiling.packs as u32,
        };
        let (constants, groups) = (tiling.constants(), tiling.groups());
        to.dispatch(&KERNEL, constants, &params, &[&x, &scale, &y], groups);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: elements,
            bytes: 8.0 * elements + 4.0 * inputs[1].len() as f64,
        }
    }
}

/// Appends y[n, c, v] = scale[n, v] * x[n, c, v]; x (N, C, D, H, W), scale (N, 1, D, H, W).
///
/// # Errors
/// [`OpError::Shape`] where the scale does not fit.
pub fn scale_voxels(graph: &mut dyn Build, x: ValueId, scale: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(ScaleVoxels), &[x, scale])?[0])
}
