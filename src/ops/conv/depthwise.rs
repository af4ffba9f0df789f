//! Convolutions in which each group is one input channel: bound by memory, so strips of outputs share a row of inputs.

use super::{Direction, Problem};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid};
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
    w_offset: u32,
    w_batch: u32,
    w_first: u32,
    w_step: i32,
    bias_offset: u32,
    has_bias: u32,
    channels: u32,
    multiplier: u32,
    strips: u32,
    kernel_d: u32,
    kernel_h: u32,
    stride_d: u32,
    stride_h: u32,
    dilation_d: u32,
    dilation_h: u32,
    first_d: i32,
    first_h: i32,
    first_w: i32,
});

static CORRELATE: Kernel = shipped_kernel! {
    name: "conv/depthwise",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

param_block!(WeightParams {
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
    w_offset: u32,
    w_batch: u32,
    batch: u32,
    channels: u32,
    multiplier: u32,
    strips: u32,
    kernel_d: u32,
    kernel_h: u32,
    stride_d: u32,
    stride_h: u32,
    dilation_d: u32,
    dilation_h: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
});

static WEIGHT_GRAD: Kernel = shipped_kernel! {
    name: "conv/depthwise_weight_grad",
    params: WeightParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// Outputs along x of one invocation.
const STRIP: usize = 8;

/// (kernel, stride) along x that there are kernels for.
const ROWS: [(usize, usize); 6] = [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (7, 2)];

fn constants((kernel, stride): (usize, usize)) -> Constants {
    vec![("KW", kernel as u32), ("SW", stride as u32)]
}

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let all = ROWS.map(constants).to_vec();
    vec![(&CORRELATE, all.clone()), (&WEIGHT_GRAD, all)]
}

/// Whether these kernels can compute `direction` of `problem`: one input channel a group and a row that there is a kernel
/// for; the input gradient also needs stride 1 and as many output channels as input channels.
pub(super) fn supports(direction: Direction, problem: &Problem) -> bool {
    let a = &problem.attributes;
    let one_to_one = a.stride == [1; 3] && problem.x.c() == problem.y.c();
    a.groups == problem.x.c()
        && a.groups > 1
        && a.dilation[2] == 1
        && ROWS.contains(&(a.kernel[2], a.stride[2]))
        && (direction != Direction::InputGrad || one_to_one)
}

/// Appends target = the forward convolution or the input gradient of source, + bias; `operands` are source, weight and
/// target.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    direction: Direction,
    problem: &Problem,
    operands: [&Operand; 3],
    bias: Option<&Operand>,
) {
    let [x, w, y] = operands;
    let a = &problem.attributes;
    let backwards = direction == Direction::InputGrad;
    let first = [0, 1, 2].map(|axis| match backwards {
        true => a.padding[axis] as i32 - (a.span(axis) as i32 - 1),
        false => -(a.padding[axis] as i32),
    });
    let [x_d, x_h, x_w] = x.shape.spatial().map(|e| e as u32);
    let [y_d, y_h, y_w] = y.shape.spatial().map(|e| e as u32);
    let strips = y.shape.spatial()[2].div_ceil(STRIP);
    let params = Params {
        x_offset: x.offset,
        x_batch: x.batch_stride,
        x_d,
        x_h,
        x_w,
        y_offset: y.offset,
        y_batch: y.batch_stride,
        y_d,
        y_h,
        y_w,
        w_offset: w.offset,
        w_batch: w.batch_stride,
        w_first: if backwards { a.taps() as u32 - 1 } else { 0 },
        w_step: if backwards { -1 } else { 1 },
        bias_offset: bias.map_or(0, |b| b.offset),
        has_bias: u32::from(bias.is_some()),
        channels: y.shape.c() as u32,
        multiplier: (y.shape.c() / x.shape.c()) as u32,
        strips: strips as u32,
        kernel_d: a.kernel[0] as u32,
        kernel_h: a.kernel[1] as u32,
        stride_d: a.stride[0] as u32,
        stride_h: a.stride[1] as u32,
        dilation_d: a.dilation[0] as u32,
        dilation_h: a.dilation[1] as u32,
        first_d: first[0],
        first_h: first[1],
        first_w: first[2],
    };
    let invocations = y.shape.c() * (y_d * y_h) as usize * strips;
    let [gx, gy, _] = grid(invocations.div_ceil(64));
    to.dispatch(
        &CORRELATE,
        constants((a.kernel[2], a.stride[2])),
        &params,
        // A binding cannot stay empty, so without a bias the weight stands in and is not read as one.
        &[x, w, bias.unwrap_or(w), y],
        [gx, gy, y.shape.n() as u32],
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
    let a = &problem.attributes;
    let [x_d, x_h, x_w] = x.shape.spatial().map(|e| e as u32);
    let [y_d, y_h, y_w] = dy.shape.spatial().map(|e| e as u32);
    let [padding_d, padding_h, padding_w] = a.padding.map(|e| e as u32);
    let params = WeightParams {
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
        w_offset: dw.offset,
        w_batch: dw.batch_stride,
        batch: x.shape.n() as u32,
        channels: dy.shape.c() as u32,
        multiplier: (dy.shape.c() / x.shape.c()) as u32,
        strips: dy.shape.spatial()[2].div_ceil(STRIP) as u32,
        kernel_d: a.kernel[0] as u32,
        kernel_h: a.kernel[1] as u32,
        stride_d: a.stride[0] as u32,
        stride_h: a.stride[1] as u32,
        dilation_d: a.dilation[0] as u32,
        dilation_h: a.dilation[1] as u32,
        padding_d,
        padding_h,
        padding_w,
    };
    let rows = dy.shape.c() * a.kernel[0] * a.kernel[1];
    let constants = constants((a.kernel[2], a.stride[2]));
    to.dispatch(&WEIGHT_GRAD, constants, &params, &[x, dy, dw], grid(rows));
}
