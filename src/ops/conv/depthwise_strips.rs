//! Convolutions in which each group is one input channel, on a CPU that plays a GPU: each invocation walks along x over a
//! tile of rows that it holds in registers.

use super::lanes::sample;
use super::rows::{Rows, cut_rows, padded};
use super::{Direction, Problem};
use crate::gpu::{
    Access, AdapterClass, Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel,
};
use crate::ops::reduce::Sums;
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    x_first: u32,
    x_batch: u32,
    x_channel: u32,
    x_plane: u32,
    x_row: u32,
    x_d: u32,
    x_h: u32,
    y_first: u32,
    y_batch: u32,
    y_channel: u32,
    y_plane: u32,
    y_row: u32,
    y_d: u32,
    y_h: u32,
    w_offset: u32,
    w_batch: u32,
    w_first: u32,
    w_step: i32,
    bias_offset: u32,
    has_bias: u32,
    channels: u32,
    multiplier: u32,
    tiles_d: u32,
    tiles_h: u32,
    first_d: i32,
    first_h: i32,
});

static CORRELATE: Kernel = shipped_kernel! {
    name: "conv/depthwise_strips",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

param_block!(WeightParams {
    x_first: u32,
    x_batch: u32,
    x_channel: u32,
    x_plane: u32,
    x_row: u32,
    x_d: u32,
    x_h: u32,
    y_first: u32,
    y_batch: u32,
    y_channel: u32,
    y_plane: u32,
    y_row: u32,
    y_d: u32,
    y_h: u32,
    channels: u32,
    multiplier: u32,
    tiles_d: u32,
    tiles_h: u32,
    tiles: u32,
    parts: u32,
    first_d: i32,
    first_h: i32,
});

static WEIGHT_GRAD: Kernel = shipped_kernel! {
    name: "conv/depthwise_strips_weight_grad",
    params: WeightParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(SpreadParams {
    x_offset: u32,
    x_batch: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    channels: u32,
    y_d: u32,
    y_h: u32,
    y_row: u32,
    stride_d: u32,
    stride_h: u32,
    stride_w: u32,
});

static SPREAD: Kernel = shipped_kernel! {
    name: "conv/spread",
    params: SpreadParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// A window that there are kernels for, with the rows of outputs (D, H) of one invocation.
#[derive(Debug)]
pub struct Tiling {
    kernel: [usize; 3],
    stride: [usize; 3],
    tile: [usize; 2],
}

const fn tiling(kernel: [usize; 3], stride: [usize; 3], tile: [usize; 2]) -> Tiling {
    Tiling {
        kernel,
        stride,
        tile,
    }
}

/// The windows of published networks. Larger tiles load fewer rows an output and take longer to compile.
static TILINGS: [Tiling; 9] = [
    tiling([3, 3, 3], [1, 1, 1], [4, 4]),
    tiling([1, 3, 3], [1, 1, 1], [1, 8]),
    tiling([3, 3, 3], [2, 2, 2], [2, 2]),
    tiling([1, 3, 3], [1, 2, 2], [1, 4]),
    tiling([5, 5, 5], [1, 1, 1], [2, 2]),
    tiling([1, 5, 5], [1, 1, 1], [1, 4]),
    tiling([5, 5, 5], [2, 2, 2], [1, 2]),
    tiling([1, 5, 5], [1, 2, 2], [1, 4]),
    tiling([1, 7, 7], [1, 1, 1], [1, 4]),
];

/// Invocations of a workgroup, as the kernels have it.
const GROUP: usize = 16;

/// Partial sums of one weight: what `reduce::Sums` adds up in one dispatch.
const PARTS: usize = 32;

impl Tiling {
    /// The one for `direction` of `problem`, where these kernels can compute it on `device`: one input channel a group, a
    /// window in the table, centred along x; for the input gradient as many output channels as input channels. That is a
    /// convolution of stride 1, over dy spread out where the stride is 2.
    pub(super) fn of(
        direction: Direction,
        problem: &Problem,
        device: &DeviceProfile,
    ) -> Option<&'static Self> {
        let a = &problem.attributes;
        let one_to_one = problem.x.c() == problem.y.c();
        let limit = device.binding_limit();
        let fits = |shape: Shape| 4 * whole_rows(shape).len() as u64 <= limit;
        let able = device.class == AdapterClass::CpuLike
            && a.groups == problem.x.c()
            && a.groups > 1
            && a.dilation == [1; 3]
            && a.stride.iter().all(|&s| s <= 2)
            && a.padding[2] == a.kernel[2] / 2
            && fits(problem.x)
            && fits(problem.y)
            && fits(spread_out(problem))
            && (direction != Direction::InputGrad || one_to_one);
        if !able {
            return None;
        }
        let stride = match direction {
            Direction::InputGrad => [1; 3],
            Direction::Forward | Direction::WeightGrad => a.stride,
        };
        TILINGS
            .iter()
            .find(|t| t.kernel == a.kernel && t.stride == stride)
    }

    fn constants(&self) -> Constants {
        let ([kd, kh, kw], [sd, sh, sw], [tz, ty]) = (self.kernel, self.stride, self.tile);
        let list = [
            ("KD", kd),
            ("KH", kh),
            ("KW", kw),
            ("SD", sd),
            ("SH", sh),
            ("SW", sw),
            ("TZ", tz),
            ("TY", ty),
        ];
        list.map(|(name, value)| (name, value as u32)).to_vec()
    }

    /// Tiles along D and H that cover `shape`.
    fn tiles(&self, shape: Shape) -> [usize; 2] {
        let [d, h, _] = shape.spatial();
        [d.div_ceil(self.tile[0]), h.div_ceil(self.tile[1])]
    }
}

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let all: Vec<Constants> = TILINGS.iter().map(Tiling::constants).collect();
    vec![
        (&CORRELATE, all.clone()),
        (&WEIGHT_GRAD, all),
        (&SPREAD, vec![vec![]]),
    ]
}

/// `shape` with rows of whole vec4.
fn whole_rows(shape: Shape) -> Shape {
    let [d, h, w] = shape.spatial();
    shape.with_spatial([d, h, w.next_multiple_of(4)])
}

/// `operand` itself where its rows are whole vec4, else a copy whose rows are filled up with zeros.
fn in_whole_rows(to: &mut Lowering<'_>, operand: &Operand) -> Operand {
    let [_, h, w] = whole_rows(operand.shape).spatial();
    padded(to, operand, 4, [0, 0], [h, w])
}

/// The shape of y with zeros between, so that strides become 1.
fn spread_out(problem: &Problem) -> Shape {
    let (stride, size) = (problem.attributes.stride, problem.y.spatial());
    problem
        .y
        .with_spatial([0, 1, 2].map(|i| (size[i] - 1) * stride[i] + 1))
}

/// Appends the copy of dy with zeros between, in rows of whole vec4.
fn spread(to: &mut Lowering<'_>, problem: &Problem, dy: &Operand) -> Operand {
    let copy = to.scratch_as(dy.element, whole_rows(spread_out(problem)));
    let [x_d, x_h, x_w] = dy.shape.spatial().map(|e| e as u32);
    let [y_d, y_h, y_w] = copy.shape.spatial().map(|e| e as u32);
    let [stride_d, stride_h, stride_w] = problem.attributes.stride.map(|e| e as u32);
    let params = SpreadParams {
        x_offset: dy.offset,
        x_batch: dy.batch_stride,
        x_d,
        x_h,
        x_w,
        channels: dy.shape.c() as u32,
        y_d,
        y_h,
        y_row: y_w / 4,
        stride_d,
        stride_h,
        stride_w,
    };
    let [gx, gy, _] = grid((copy.shape.per_sample() / 4).div_ceil(64));
    let groups = [gx, gy, dy.shape.n() as u32];
    to.dispatch(&SPREAD, vec![], &params, &[dy, &copy], groups);
    copy
}

/// Appends target = the forward convolution or the input gradient of source, + bias; `operands` are source, weight and
/// target.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    direction: Direction,
    problem: &Problem,
    tiling: &Tiling,
    [x, w, y]: [&Operand; 3],
    bias: Option<&Operand>,
) {
    let whole = whole_rows(y.shape);
    let target = match whole == y.shape && y.is_vec4() {
        true => *y,
        false => to.scratch_as(y.element, whole),
    };
    let x = match tiling.stride == problem.attributes.stride {
        true => in_whole_rows(to, x),
        false => spread(to, problem, x),
    };
    correlate(to, direction, problem, tiling, [&x, w, &target], bias);
    if target.buffer == y.buffer {
        return;
    }
    for n in 0..y.shape.n() as u32 {
        cut_rows(to, &sample(&target, n), &sample(y, n));
    }
}

fn correlate(
    to: &mut Lowering<'_>,
    direction: Direction,
    problem: &Problem,
    tiling: &Tiling,
    [x, w, y]: [&Operand; 3],
    bias: Option<&Operand>,
) {
    let a = &problem.attributes;
    let backwards = direction == Direction::InputGrad;
    let first = [0, 1].map(|axis| match backwards {
        true => a.padding[axis] as i32 - (a.kernel[axis] as i32 - 1),
        false => -(a.padding[axis] as i32),
    });
    let (from, into) = (Rows::of(x, 4), Rows::of(y, 4));
    let [tiles_d, tiles_h] = tiling.tiles(y.shape);
    let params = Params {
        x_first: from.first,
        x_batch: from.batch,
        x_channel: from.channel,
        x_plane: from.plane,
        x_row: from.row,
        x_d: x.shape.spatial()[0] as u32,
        x_h: x.shape.spatial()[1] as u32,
        y_first: into.first,
        y_batch: into.batch,
        y_channel: into.channel,
        y_plane: into.plane,
        y_row: into.row,
        y_d: y.shape.spatial()[0] as u32,
        y_h: y.shape.spatial()[1] as u32,
        w_offset: w.offset,
        w_batch: w.batch_stride,
        w_first: if backwards { a.taps() as u32 - 1 } else { 0 },
        w_step: if backwards { -1 } else { 1 },
        bias_offset: bias.map_or(0, |b| b.offset),
        has_bias: u32::from(bias.is_some()),
        channels: y.shape.c() as u32,
        multiplier: (y.shape.c() / x.shape.c()) as u32,
        tiles_d: tiles_d as u32,
        tiles_h: tiles_h as u32,
        first_d: first[0],
        first_h: first[1],
    };
    let invocations = y.shape.c() * tiles_d * tiles_h;
    let [gx, gy, _] = grid(invocations.div_ceil(GROUP));
    to.dispatch(
        &CORRELATE,
        tiling.constants(),
        &params,
        // A binding cannot stay empty, so without a bias the weight stands in and is not read as one.
        &[x, w, bias.unwrap_or(w), y],
        [gx, gy, y.shape.n() as u32],
    );
}

/// Appends dw = d(conv)/dw applied to dy; `operands` are x, dy and dw.
pub(super) fn weight_grad(
    to: &mut Lowering<'_>,
    problem: &Problem,
    tiling: &Tiling,
    [x, dy, dw]: [&Operand; 3],
) {
    let a = &problem.attributes;
    let x = in_whole_rows(to, x);
    let dy = in_whole_rows(to, dy);
    let (from, with) = (Rows::of(&x, 4), Rows::of(&dy, 4));
    let [tiles_d, tiles_h] = tiling.tiles(dy.shape);
    let tiles = dy.shape.n() * tiles_d * tiles_h;
    let parts = tiles.min(PARTS);
    let partials = Sums::scratch(to, dw.shape.len(), parts, 1);
    let params = WeightParams {
        x_first: from.first,
        x_batch: from.batch,
        x_channel: from.channel,
        x_plane: from.plane,
        x_row: from.row,
        x_d: x.shape.spatial()[0] as u32,
        x_h: x.shape.spatial()[1] as u32,
        y_first: with.first,
        y_batch: with.batch,
        y_channel: with.channel,
        y_plane: with.plane,
        y_row: with.row,
        y_d: dy.shape.spatial()[0] as u32,
        y_h: dy.shape.spatial()[1] as u32,
        channels: dy.shape.c() as u32,
        multiplier: (dy.shape.c() / x.shape.c()) as u32,
        tiles_d: tiles_d as u32,
        tiles_h: tiles_h as u32,
        tiles: tiles as u32,
        parts: parts as u32,
        first_d: -(a.padding[0] as i32),
        first_h: -(a.padding[1] as i32),
    };
    let groups = grid((dy.shape.c() * parts).div_ceil(GROUP));
    to.dispatch(
        &WEIGHT_GRAD,
        tiling.constants(),
        &params,
        &[&x, &dy, &partials.data],
        groups,
    );
    partials.total_into(to, dw);
}
