//! The weight gradient as a matrix product split along the voxels, for GPUs.

use super::Problem;
use super::split::Split;
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand};
use crate::param_block;

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    y_offset: u32,
    y_batch: u32,
    y_d: u32,
    y_h: u32,
    y_w: u32,
    out_offset: u32,
    out_row: u32,
    out_part: u32,
    channels_out: u32,
    columns: u32,
    steps_per_sample: u32,
    steps: u32,
    steps_per_part: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_d: u32,
    stride_h: u32,
    stride_w: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
    dilation_d: u32,
    dilation_h: u32,
    dilation_w: u32,
});

static PRODUCT: Kernel = shipped_kernel! {
    name: "conv/gemm_weight_grad",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// Voxels of one step of the kernel.
const STEP: usize = 16;

/// The fewest steps that are worth a part.
const STEPS_PER_PART: usize = 32;

/// Groups of 4 output channels of a tile; the columns take the rest of 256 invocations.
const GROUPS: [usize; 2] = [8, 16];

fn constants(groups: usize) -> Constants {
    vec![("OG", groups as u32)]
}

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&PRODUCT, GROUPS.map(constants).to_vec())]
}

/// Appends dw = d(conv)/dw applied to dy, for one group of channels: of the input channels that `x` and `dw` have, in the parts
/// in which all of them are added up.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    problem: &Problem,
    x: &Operand,
    dy: &Operand,
    dw: &Operand,
) {
    let columns = dw.shape.per_sample();
    let all_columns = problem.x.c() * problem.attributes.taps();
    let groups = if dw.shape.n() <= 32 {
        GROUPS[0]
    } else {
        GROUPS[1]
    };
    let tiles = |columns: usize| {
        let rows = dw.shape.n().div_ceil(4 * groups);
        [columns.div_ceil(4 * 256 / groups), rows]
    };
    let steps_per_sample = dy.shape.voxels().div_ceil(STEP);
    let steps = dy.shape.n() * steps_per_sample;
    let groups_of_all = tiles(all_columns).iter().product();
    let len = all_columns * dw.shape.n();
    let split = Split::new(steps, STEPS_PER_PART, groups_of_all, len);
    let (partial, out_row) = split.space(to, dw);

    let a = &problem.attributes;
    let [x_d, x_h, x_w] = x.shape.spatial().map(|e| e as u32);
    let [y_d, y_h, y_w] = dy.shape.spatial().map(|e| e as u32);
    let [kernel_d, kernel_h, kernel_w] = a.kernel.map(|e| e as u32);
    let [stride_d, stride_h, stride_w] = a.stride.map(|e| e as u32);
    let [padding_d, padding_h, padding_w] = a.padding.map(|e| e as u32);
    let [dilation_d, dilation_h, dilation_w] = a.dilation.map(|e| e as u32);
    let params = Params {
        x_offset: x.offset,
        x_batch: x.batch_stride,
        x_d,
        x_h,
        x_w,
        y_offset: dy.offset,
        y_batch: dy.batch_stride,
        y_d,
        y_h,
        y_w,
        out_offset: partial.offset,
        out_row,
        out_part: dw.shape.len() as u32,
        channels_out: dw.shape.n() as u32,
        columns: columns as u32,
        steps_per_sample: steps_per_sample as u32,
        steps: split.steps as u32,
        steps_per_part: split.per_part as u32,
        kernel_d,
        kernel_h,
        kernel_w,
        stride_d,
        stride_h,
        stride_w,
        padding_d,
        padding_h,
        padding_w,
        dilation_d,
        dilation_h,
        dilation_w,
    };
    let [across, down] = tiles(columns).map(|count| count as u32);
    let workgroups = [across, down, split.parts as u32];
    let operands = [x, dy, &partial];
    to.dispatch(&PRODUCT, constants(groups), &params, &operands, workgroups);
    split.add_up(to, &partial, dw);
}
