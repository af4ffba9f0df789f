//! Losses of segmentation: the gradient with respect to the logits.

use super::LossAttributes;
use super::segmentation::{
    Inputs, common_constants, gamma, ignore_code, region_code, specialisations,
};
use super::words;
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::by_slabs;
use crate::ops::{Cost, Lowering, OpError, Operator};
use crate::param_block;
use crate::tensor::{Element, Shape};

const OP: &str = "loss.segmentation_gradient";

/// Invocations of a workgroup.
pub(super) const LANES: usize = 256;

/// Voxels of one invocation, which reads the coefficients once for all of them.
const VOXELS_PER_LANE: usize = 8;

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    class_weight_offset: u32,
    voxel_weight_offset: u32,
    voxel_weight_batch: u32,
    coefficients_offset: u32,
    dloss_offset: u32,
    dx_offset: u32,
    dx_batch: u32,
    voxels: u32,
    parts: u32,
    ignore_label: u32,
    gamma: f32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "loss/gradient",
    params: Params::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

/// dlogits (N, C, D, H, W) from the inputs of [`super::SegmentationLoss`], its coefficients, and dloss (a scalar).
#[derive(Clone, Debug)]
pub struct SegmentationLossGradient {
    /// The choices of the loss.
    pub attributes: LossAttributes,
}

fn constants(attributes: &LossAttributes, classes: usize) -> Constants {
    let mut constants = common_constants(attributes, classes);
    constants.push(("REGION", region_code(attributes)));
    constants
}

/// Workgroups whose invocations take so many voxels of a sample each. The grid is at most 65535 wide; beyond, they take more.
pub(super) fn workgroups(voxels: usize, voxels_per_lane: usize) -> usize {
    voxels.div_ceil(LANES * voxels_per_lane).clamp(1, 65_535)
}

impl Operator for SegmentationLossGradient {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let a = &self.attributes;
        let expected = 4 + usize::from(a.class_weighted) + usize::from(a.voxel_weighted);
        if inputs.len() != expected {
            return Err(OpError::InputCount {
                op: OP,
                expected,
                found: inputs.len(),
            });
        }
        Ok(vec![inputs[0]])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let a = &self.attributes;
        let inputs = Inputs::of(a, to.inputs);
        let (coefficients, dloss) = (
            to.inputs[to.inputs.len() - 2],
            to.inputs[to.inputs.len() - 1],
        );
        let dx = to.outputs[0];
        if words::take(a, to.device, &[&inputs.logits, &dx], &inputs.target) {
            let operands = [&inputs.logits, &inputs.target, &coefficients, &dloss, &dx];
            words::gradient(to, a, operands);
            return Ok(());
        }
        let shape = dx.shape;
        let groups = workgroups(shape.voxels(), VOXELS_PER_LANE);
        let params = Params {
            x_offset: inputs.logits.offset,
            x_batch: inputs.logits.batch_stride,
            truth_offset: inputs.target.offset,
            truth_batch: inputs.target.batch_stride,
            class_weight_offset: inputs.class_weight.offset,
            voxel_weight_offset: inputs.voxel_weight.offset,
            voxel_weight_batch: inputs.voxel_weight.batch_stride,
            coefficients_offset: coefficients.offset,
            dloss_offset: dloss.offset,
            dx_offset: dx.offset,
            dx_batch: dx.batch_stride,
            voxels: shape.voxels() as u32,
            parts: (groups * LANES) as u32,
            ignore_label: ignore_code(a),
            gamma: gamma(a),
        };
        let operands = [
            &inputs.logits,
            &inputs.target,
            &inputs.class_weight,
            &inputs.voxel_weight,
            &coefficients,
            &dloss,
            &dx,
        ];
        let grid = [groups as u32, shape.n() as u32, 1];
        to.dispatch(&KERNEL, constants(a, shape.c()), &params, &operands, grid);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_slabs(to, |part, _| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let bytes = inputs
            .iter()
            .chain(outputs)
            .map(|s| 4.0 * s.len() as f64)
            .sum();
        Cost {
            flops: 16.0 * outputs[0].len() as f64,
            bytes,
        }
    }
}

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&KERNEL, specialisations(constants))]
}
