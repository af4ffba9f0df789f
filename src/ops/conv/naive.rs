//! The naive kernels: one output per invocation, any window, any groups. The truth on the device.

use super::Problem;
use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    w_offset: u32,
    w_batch: u32,
    bias_offset: u32,
    has_bias: u32,
    batch: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    y_d: u32,
    y_h: u32,
    y_w: u32,
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
    groups: u32,
    group_in: u32,
    group_out: u32,
});

pub(super) static FORWARD: Kernel = shipped_kernel! {
    name: "conv/naive_forward",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

pub(super) static INPUT_GRAD: Kernel = shipped_kernel! {
    name: "conv/naive_input_grad",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

pub(super) static WEIGHT_GRAD: Kernel = shipped_kernel! {
    name: "conv/naive_weight_grad",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

fn params(
    problem: &Problem,
    x: &Operand,
    y: &Operand,
    w: &Operand,
    bias: Option<&Operand>,
) -> Params {
    let a = &problem.attributes;
    let [x_d, x_h, x_w] = problem.x.spatial().map(|e| e as u32);
    let [y_d, y_h, y_w] = problem.y.spatial().map(|e| e as u32);
    let [kernel_d, kernel_h, kernel_w] = a.kernel.map(|e| e as u32);
    let [stride_d, stride_h, stride_w] = a.stride.map(|e| e as u32);
    let [padding_d, padding_h, padding_w] = a.padding.map(|e| e as u32);
    let [dilation_d, dilation_h, dilation_w] = a.dilation.map(|e| e as u32);
    Params {
        x_offset: x.offset,
        x_batch: x.batch_stride,
        y_offset: y.offset,
        y_batch: y.batch_stride,
        w_offset: w.offset,
        w_batch: w.batch_stride,
        bias_offset: bias.map_or(0, |b| b.offset),
        has_bias: u32::from(bias.is_some()),
        batch: problem.x.n() as u32,
        x_d,
        x_h,
        x_w,
        y_d,
        y_h,
        y_w,
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
        groups: a.groups as u32,
        group_in: (problem.x.c() / a.groups) as u32,
        group_out: (problem.y.c() / a.groups) as u32,
    }
}

/// 256 outputs of one sample a workgroup, samples along z.
fn groups_of(out: &Operand) -> [u32; 3] {
    let [gx, gy, _] = grid(out.shape.per_sample().div_ceil(256));
    [gx, gy, out.shape.n() as u32]
}

/// Appends y = conv(x, w) + bias.
pub(super) fn forward(
    to: &mut Lowering<'_>,
    problem: &Problem,
    x: &Operand,
    w: &Operand,
    bias: Option<&Operand>,
    y: &Operand,
) {
    let params = params(problem, x, y, w, bias);
    // A binding cannot stay empty, so without a bias the weight stands in and is not read as one.
    to.dispatch(
        &FORWARD,
        vec![],
        &params,
        &[x, w, bias.unwrap_or(w), y],
        groups_of(y),
    );
}

/// Appends dx = d(conv)/dx applied to dy, + bias.
pub(super) fn input_grad(
    to: &mut Lowering<'_>,
    problem: &Problem,
    dy: &Operand,
    w: &Operand,
    bias: Option<&Operand>,
    dx: &Operand,
) {
    let params = params(problem, dx, dy, w, bias);
    to.dispatch(
        &INPUT_GRAD,
        vec![],
        &params,
        &[dy, w, bias.unwrap_or(w), dx],
        groups_of(dx),
    );
}

/// Appends dw = d(conv)/dw applied to dy.
pub(super) fn weight_grad(
    to: &mut Lowering<'_>,
    problem: &Problem,
    x: &Operand,
    dy: &Operand,
    dw: &Operand,
) {
    let params = params(problem, x, dy, dw, None);
    to.dispatch(
        &WEIGHT_GRAD,
        vec![],
        &params,
        &[x, dy, dw],
        grid(dw.shape.len()),
    );
}
