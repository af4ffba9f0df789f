//! Forward and input gradient as implicit matrix products, for GPUs: `shaders/conv/gemm_correlate.wgsl`.
//!
//! Along one axis, voxel q = s * p + r of dx (s the stride, r < s) receives dy[i] w[k] where s * i = q + padding -
//! d * k. The taps k that can divide so repeat with period s / gcd(s, d), and as k rises by that period i falls by
//! d / gcd(s, d). So each residue r is a correlation of stride 1 with a window of its own, and each tap belongs to the
//! windows of all residues together exactly once.

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

param_block!(PackParams {
    w_offset: u32,
    out_stride: u32,
    in_stride: u32,
    channels_in: u32,
    channels_out: u32,
    padded_in: u32,
    vectors_out: u32,
    packed_first: u32,
    taps_d: u32,
    taps_h: u32,
    taps_w: u32,
    first_d: u32,
    first_h: u32,
    first_w: u32,
    step_d: u32,
    step_h: u32,
    step_w: u32,
    kernel_h: u32,
    kernel_w: u32,
});

static PACK: Kernel = shipped_kernel! {
    name: "conv/gemm_pack",
    params: PackParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// Input channels of one step of the kernel.
const STEP: usize = 16;

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

/// One axis of a class: source = p * step + first + tap * tap_step, target = p * out_step + out_first, weight tap =
/// k_first + tap * k_step.
#[derive(Clone, Copy)]
struct Axis {
    count: usize,
    taps: usize,
    first: i32,
    step: i32,
    tap_step: i32,
    out_first: usize,
    out_step: usize,
    k_first: usize,
    k_step: usize,
}

impl Axis {
    fn forward(problem: &Problem, axis: usize) -> Vec<Self> {
        let a = &problem.attributes;
        vec![Self {
            count: problem.y.spatial()[axis],
            taps: a.kernel[axis],
            first: -(a.padding[axis] as i32),
            step: a.stride[axis] as i32,
            tap_step: a.dilation[axis] as i32,
            out_first: 0,
            out_step: 1,
            k_first: 0,
            k_step: 1,
        }]
    }

    /// One for each residue that dx has voxels of.
    fn input_grad(problem: &Problem, axis: usize) -> Vec<Self> {
        let a = &problem.attributes;
        let (kernel, stride) = (a.kernel[axis], a.stride[axis]);
        let (padding, dilation) = (a.padding[axis], a.dilation[axis]);
        let size = problem.x.spatial()[axis];
        let k_step = stride / gcd(stride, dilation);
        (0..stride.min(size))
            .map(|residue| {
                let distance = |k: usize| (residue + padding) as i32 - (dilation * k) as i32;
                let found = (0..kernel.min(k_step)).find(|&k| distance(k) % stride as i32 == 0);
                let k_first = found.unwrap_or(0);
                Self {
                    count: (size - residue).div_ceil(stride),
                    taps: found.map_or(0, |k| (kernel - k).div_ceil(k_step)),
                    first: distance(k_first) / stride as i32,
                    step: 1,
                    tap_step: -((dilation * k_step / stride) as i32),
                    out_first: residue,
                    out_step: stride,
                    k_first,
                    k_step,
                }
            })
            .collect()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let correlate = TILES.map(constants).to_vec();
    vec![(&CORRELATE, correlate), (&PACK, vec![vec![]])]
}

fn constants((groups, vectors): (usize, usize)) -> Constants {
    vec![("OG", groups as u32), ("MV", vectors as u32)]
}

/// Floats of the packed weight: one side filled up to whole steps, the other to whole tiles of any shape.
fn packed_len(problem: &Problem, direction: Direction) -> usize {
    let [from, to] = channels(problem, direction);
    problem.attributes.taps() * from.next_multiple_of(STEP) * to.next_multiple_of(64)
}

/// Channels of the source and of the target.
fn channels(problem: &Problem, direction: Direction) -> [usize; 2] {
    match direction {
        Direction::InputGrad => [problem.y.c(), problem.x.c()],
        Direction::Forward | Direction::WeightGrad => [problem.x.c(), problem.y.c()],
    }
}

/// Whether these kernels can compute `direction` of `problem` on `device`.
pub(super) fn supports(direction: Direction, problem: &Problem, device: &DeviceProfile) -> bool {
    let limit = device.max_binding.min(device.max_buffer);
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
    let axes = [0, 1, 2].map(|axis| match direction {
        Direction::InputGrad => Axis::input_grad(problem, axis),
        Direction::Forward | Direction::WeightGrad => Axis::forward(problem, axis),
    });
    let packed = Shape::vector(packed_len(problem, direction));
    let packed = to.scratch_as(source.element, packed);
    let mut packed_first = 0;
    for &d in &axes[0] {
        for &h in &axes[1] {
            for &w_axis in &axes[2] {
                let class = Class {
                    axes: [d, h, w_axis],
                    direction,
                    packed_first,
                };
                let tile = class.tile(target);
                packed_first += class.pack(to, problem, tile, w, &packed);
                class.correlate(to, tile, [source, &packed, target], bias);
            }
        }
    }
}

/// One dense correlation.
struct Class {
    axes: [Axis; 3],
    direction: Direction,
    /// Where its part of the packed weight begins, in vec4.
    packed_first: usize,
}

impl Class {
    fn voxels(&self) -> usize {
        self.axes.iter().map(|a| a.count).product()
    }

    fn taps(&self) -> usize {
        self.axes.iter().map(|a| a.taps).product()
    }

    fn groups(&self, (groups, vectors): (usize, usize), target: &Operand) -> usize {
        let voxels = 4 * vectors * THREADS / groups;
        self.voxels().div_ceil(voxels) * target.shape.c().div_ceil(4 * groups)
    }

    /// The largest tile that leaves no half of it empty and a GPU no part idle.
    fn tile(&self, target: &Operand) -> (usize, usize) {
        let [narrow, small, large] = TILES;
        let rest = (target.shape.c() - 1) % 64 + 1;
        if target.shape.c() < 64 && rest <= 32 {
            narrow
        } else if self.groups(large, target) * target.shape.n() >= MANY_GROUPS {
            large
        } else {
            small
        }
    }

    /// Appends the packing of this class's taps; returns its length in vec4.
    fn pack(
        &self,
        to: &mut Lowering<'_>,
        problem: &Problem,
        (groups, _): (usize, usize),
        w: &Operand,
        packed: &Operand,
    ) -> usize {
        let [channels_in, channels_out] = channels(problem, self.direction);
        let [d, h, x] = self.axes;
        let taps = problem.attributes.taps() as u32;
        let (out_stride, in_stride) = match self.direction {
            Direction::InputGrad => (taps, w.batch_stride),
            Direction::Forward | Direction::WeightGrad => (w.batch_stride, taps),
        };
        let padded_in = channels_in.next_multiple_of(STEP);
        let vectors_out = channels_out.next_multiple_of(4 * groups) / 4;
        let params = PackParams {
            w_offset: w.offset,
            out_stride,
            in_stride,
            channels_in: channels_in as u32,
            channels_out: channels_out as u32,
            padded_in: padded_in as u32,
            vectors_out: vectors_out as u32,
            packed_first: self.packed_first as u32,
            taps_d: d.taps as u32,
            taps_h: h.taps as u32,
            taps_w: x.taps as u32,
            first_d: d.k_first as u32,
            first_h: h.k_first as u32,
            first_w: x.k_first as u32,
            step_d: d.k_step as u32,
            step_h: h.k_step as u32,
            step_w: x.k_step as u32,
            kernel_h: problem.attributes.kernel[1] as u32,
            kernel_w: problem.attributes.kernel[2] as u32,
        };
        let len = self.taps() * padded_in * vectors_out;
        if len > 0 {
            let grid = grid(len.div_ceil(64));
            to.dispatch(&PACK, vec![], &params, &[w, packed], grid);
        }
        len
    }

    fn correlate(
        &self,
        to: &mut Lowering<'_>,
        tile: (usize, usize),
        operands: [&Operand; 3],
        bias: Option<&Operand>,
    ) {
        let [x, packed, y] = operands;
        let [d, h, w] = self.axes;
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
            w_first: self.packed_first as u32,
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
        let [gx, gy, _] = grid(self.groups(tile, y));
        // A binding cannot stay empty, so without a bias the source stands in and is not read as one.
        to.dispatch(
            &CORRELATE,
            constants(tile),
            &params,
            &[x, packed, bias.unwrap_or(x), y],
            [gx, gy, y.shape.n() as u32],
        );
    }
}
