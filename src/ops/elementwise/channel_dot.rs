//! Sums of products over the channels: the gradient of what multiplies a voxel.

use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::by_slabs;
use crate::ops::reduce::{MAP_STEPS, Tiling};
use crate::ops::{Cost, Lowering, OpError, Operator, expect_shape, take};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
    channels: u32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "elementwise/channel_dot",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// y[n, v] = sum over c of a[n, c, v] * b[n, c, v]; a, b (N, C, D, H, W), y (N, 1, D, H, W). The gradient of
/// [`super::ScaleVoxels`] with respect to its scale; it has none itself.
#[derive(Debug)]
pub struct ChannelDot;

const OP: &str = "elementwise.channel_dot";

impl Operator for ChannelDot {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [a, b] = take(OP, inputs)?;
        expect_shape(OP, "the second input", a, b)?;
        Ok(vec![a.with_c(1)])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (a, b, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let tiling = Tiling::samples(&[&y, &a, &b], MAP_STEPS);
        let params = Params {
            a_offset: tiling.packs_of(a.offset),
            a_batch: tiling.packs_of(a.batch_stride),
            b_offset: tiling.packs_of(b.offset),
            b_batch: tiling.packs_of(b.batch_stride),
            y_offset: tiling.packs_of(y.offset),
            y_batch: tiling.packs_of(y.batch_stride),
            packs: tiling.packs as u32,
            channels: a.shape.c() as u32,
        };
        let (constants, groups) = (tiling.constants(), tiling.groups());
        to.dispatch(&KERNEL, constants, &params, &[&a, &b, &y], groups);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_slabs(to, |part, _| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 2.0 * elements,
            bytes: 8.0 * elements + 4.0 * outputs[0].len() as f64,
        }
    }
}
