//! Forward and input gradient as implicit matrix products, for GPUs: `shaders/conv/gemm_correlate.wgsl`.

use super::classes::{Class, STEP, channels};
use super::{Direction, Problem};
use crate::gpu::{Access, Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    x_channel: u32,
    x_d: u32,
    x_h: u32,
    x_w: u32,
    y_offset: u32,
    y_batch: u32,
    y_channel: u32,
    y_h: u32,
    y_w: u32,
    w_first: u32,
    bias_offset: u32,
    has_bias: u32,
    channels_in: u32,
    channels_out: u32,
    steps: u32,
    tiles_out: u32,
    count_d: u32,
    count_h: u32,
    count_w: u32,
    taps_d: u32,
    taps_h: u32,
    taps_w: u32,
    first_d: i32,
    first_h: i32,
    first_w: i32,
    step_d: i32,
    step_h: i32,
    step_w: i32,
    tap_step_d: i32,
    tap_step_h: i32,
    tap_step_w: i32,
    out_first_d: u32,
    out_first_h: u32,
    out_first_w: u32,
    out_step_d: u32,
    out_step_h: u32,
    out_step_w: u32,
});

static CORRELATE: Kernel = shipped_kernel! {
    name: "conv/gemm_correlate",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

/// Invocations of a workgroup.
const THREADS: usize = 256;

/// Workgroups that a large GPU wants before bigger tiles pay.
const MANY_GROUPS: usize = 512;

/// Workgroup memory of the largest specialisation, bytes.
const WORKGROUP_MEMORY: u32 = 12 << 10;

/// Groups of 4 output channels and vectors of 4 voxels an invocation.
const TILES: [(usize, usize); 3] = [(8, 1), (16, 1), (16, 2)];

/// Below so many channels on either side most of a tile is empty, and the naive kernel does as well.
const FEW_CHANNELS: usize = 8;

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&CORRELATE, TILES.map(constants).to_vec())]
}

fn constants((groups, vectors): (usize, usize)) -> Constants {
    vec![("OG", groups as u32), ("MV", vectors as u32)]
}

/// Floats of the packed weight: one side filled up to whole steps, the other to whole tiles of any shape.
fn packed_len(problem: &Problem, direction: Direction) -> usize {
    let [from, to] = channels(problem, direction);
    problem.attributes.taps() * from.next_multiple_of(STEP) * to.next_multiple_of(64)
}

/// Whether these kernels can compute `direction` of `problem` on `device`.
pub(super) fn supports(direction: Direction, problem: &Problem, device: &DeviceProfile) -> bool {
    let limit = device.binding_limit();
    problem.attributes.groups == 1
        && device.max_invocations >= THREADS as u32
        && device.max_workgroup_memory >= WORKGROUP_MEMORY
        && (direction == Direction::WeightGrad
            || 4 * packed_len(problem, direction) as u64 <= limit)
}

/// Whether they are the better choice than the naive kernels: also on a CPU, where they are 5 to 9 times as fast for 32
/// channels, 3x3x3.
pub(super) fn pays(direction: Direction, problem: &Problem) -> bool {
    let [from, to] = channels(problem, direction);
    match direction {
        Direction::WeightGrad => from * problem.attributes.taps() >= STEP && to >= FEW_CHANNELS,
        Direction::Forward | Direction::InputGrad => from >= FEW_CHANNELS && to >= FEW_CHANNELS,
    }
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
    let [source, w, target] = operands;
    let packed = Shape::vector(packed_len(problem, direction));
    let packed = to.scratch_as(source.element, packed);
    let mut first = 0;
    for class in Class::all(direction, problem) {
        let tile = tile(&class, target);
        let len = class.pack(to, [w, &packed], 4 * tile.0, first);
        correlate(to, &class, tile, [source, &packed, target], first, bias);
        first += len;
    }
}

fn groups(class: &Class, (groups, vectors): (usize, usize), target: &Operand) -> usize {
    let voxels = 4 * vectors * THREADS / groups;
    class.voxels().div_ceil(voxels) * target.shape.c().div_ceil(4 * groups)
}

/// The largest tile that leaves no half of it empty and a GPU no part idle.
fn tile(class: &Class, target: &Operand) -> (usize, usize) {
    let [narrow, small, large] = TILES;
    let rest = (target.shape.c() - 1) % 64 + 1;
    if target.shape.c() < 64 && rest <= 32 {
        narrow
    } else if groups(class, large, target) * target.shape.n() >= MANY_GROUPS {
        large
    } else {
        small
    }
}

/// Appends one dense correlation; its weight begins at number `packed_first` of the packed vec4.
fn correlate(
    to: &mut Lowering<'_>,
    class: &Class,
    tile: (usize, usize),
    operands: [&Operand; 3],
    packed_first: usize,
    bias: Option<&Operand>,
) {
    let [x, packed, y] = operands;
    let [d, h, w] = class.axes;
    let [x_d, x_h, x_w] = x.shape.spatial().map(|e| e as u32);
    let params = Params {
        x_offset: x.offset,
        x_batch: x.batch_stride,
        x_channel: x.shape.voxels() as u32,
        x_d,
        x_h,
        x_w,
        y_offset: y.offset,
        y_batch: y.batch_stride,
        y_channel: y.shape.voxels() as u32,
        y_h: y.shape.spatial()[1] as u32,
        y_w: y.shape.spatial()[2] as u32,
        w_first: packed_first as u32,
        bias_offset: bias.map_or(0, |b| b.offset),
        has_bias: u32::from(bias.is_some()),
        channels_in: x.shape.c() as u32,
        channels_out: y.shape.c() as u32,
        steps: x.shape.c().div_ceil(STEP) as u32,
        tiles_out: y.shape.c().div_ceil(4 * tile.0) as u32,
        count_d: d.count as u32,
        count_h: h.count as u32,
        count_w: w.count as u32,
        taps_d: d.taps as u32,
        taps_h: h.taps as u32,
        taps_w: w.taps as u32,
        first_d: d.first,
        first_h: h.first,
        first_w: w.first,
        step_d: d.step,
        step_h: h.step,
        step_w: w.step,
        tap_step_d: d.tap_step,
        tap_step_h: h.tap_step,
        tap_step_w: w.tap_step,
        out_first_d: d.out_first as u32,
        out_first_h: h.out_first as u32,
        out_first_w: w.out_first as u32,
        out_step_d: d.out_step as u32,
        out_step_h: h.out_step as u32,
        out_step_w: w.out_step as u32,
    };
    let [gx, gy, _] = grid(groups(class, tile, y));
    // A binding cannot stay empty, so without a bias the source stands in and is not read as one.
    to.dispatch(
        &CORRELATE,
        constants(tile),
        &params,
        &[x, packed, bias.unwrap_or(x), y],
        [gx, gy, y.shape.n() as u32],
    );
}
