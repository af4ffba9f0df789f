//! Sums of products over voxels: gradients of what multiplies a channel.

use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{Cost, Lowering, OpError, Operator, expect_shape, take};
use crate::param_block;
use crate::tensor::Shape;

use super::{SUM_STEPS, Sums, Tiling};

param_block!(Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    packs: u32,
    slots: u32,
    partial_n: u32,
    partial_c: u32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "reduce/products",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// sum(a * b) over the voxels of each channel; a, b (N, C, D, H, W).
#[derive(Debug)]
pub struct ChannelProducts {
    /// Whether only the negative part of b counts: sum(a * min(b, 0)).
    pub negative_part: bool,
    /// Whether the samples are added up as well: (1, C, 1, 1, 1) and not (N, C, 1, 1, 1).
    pub over_batch: bool,
}

const OP: &str = "reduce.products";

impl Operator for ChannelProducts {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [a, b] = take(OP, inputs)?;
        expect_shape(OP, "the second input", a, b)?;
        let samples = if self.over_batch { 1 } else { a.n() };
        Ok(vec![Shape::new(samples, a.c(), 1, 1, 1)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (a, b, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let tiling = Tiling::channels(&[&a, &b], SUM_STEPS);
        let (slots, channels, samples) = (tiling.slots(), a.shape.c(), a.shape.n());
        let (partial_n, partial_c) = match self.over_batch {
            true => (slots, samples * slots),
            false => (channels * slots, slots),
        };
        let rows = y.shape.len();
        let members = samples * channels * slots / rows;
        let partials = Sums::scratch(to, rows, members, tiling.width);
        let params = Params {
            a_offset: tiling.packs_of(a.offset),
            a_batch: tiling.packs_of(a.batch_stride),
            b_offset: tiling.packs_of(b.offset),
            b_batch: tiling.packs_of(b.batch_stride),
            packs: tiling.packs as u32,
            slots: slots as u32,
            partial_n: partial_n as u32,
            partial_c: partial_c as u32,
        };
        let mut constants = tiling.constants();
        constants.push(("NEGATIVE", u32::from(self.negative_part)));
        let groups = tiling.groups();
        to.dispatch(
            &KERNEL,
            constants,
            &params,
            &[&a, &b, &partials.data],
            groups,
        );
        partials.total_into(to, &y);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let samples = match self.over_batch {
            true => Samples::Together,
            false => Samples::Apart,
        };
        by_channels(to, 1, samples, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 2.0 * elements,
            bytes: 8.0 * elements,
        }
    }
}
