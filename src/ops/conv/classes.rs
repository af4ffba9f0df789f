//! A convolution forward or its input gradient as dense correlations, and the weight packed as their kernels read it.
//!
//! Along one axis, voxel q = s * p + r of dx (s the stride, r < s) receives dy[i] w[k] where s * i = q + padding -
//! d * k. The taps k that can divide so repeat with period s / gcd(s, d), and as k rises by that period i falls by
//! d / gcd(s, d). So each residue r is a correlation of stride 1 with a window of its own, and each tap belongs to the
//! windows of all residues together exactly once.

use super::{Direction, Problem};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;

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

/// Input channels of the packed weight come in multiples of this.
pub(super) const STEP: usize = 16;

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&PACK, vec![vec![]])]
}

/// Channels of the source and of the target.
pub(super) fn channels(problem: &Problem, direction: Direction) -> [usize; 2] {
    match direction {
        Direction::InputGrad => [problem.y.c(), problem.x.c()],
        Direction::Forward | Direction::WeightGrad => [problem.x.c(), problem.y.c()],
    }
}

/// One axis of a class: source = p * step + first + tap * tap_step, target = p * out_step + out_first, weight tap =
/// k_first + tap * k_step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub count: usize,
    pub taps: usize,
    pub first: i32,
    pub step: i32,
    pub tap_step: i32,
    pub out_first: usize,
    pub out_step: usize,
    pub k_first: usize,
    pub k_step: i32,
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

    /// The same sum with its taps in the order of the source.
    fn ascending(self) -> Self {
        if self.tap_step >= 0 || self.taps == 0 {
            return self;
        }
        let last = self.taps as i32 - 1;
        Self {
            first: self.first + last * self.tap_step,
            tap_step: -self.tap_step,
            k_first: (self.k_first as i32 + last * self.k_step) as usize,
            k_step: -self.k_step,
            ..self
        }
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
                    k_step: k_step as i32,
                }
            })
            .collect()
    }
}

/// The greatest number that divides both; of a number and 0 it is the number.
pub(super) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One dense correlation: a convolution forward is one, its input gradient one for each residue by the stride.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// D, H, W.
    pub axes: [Axis; 3],
    direction: Direction,
    channels: [usize; 2],
    kernel: [usize; 3],
}

impl Class {
    /// All of `direction` of `problem`.
    pub(super) fn all(direction: Direction, problem: &Problem) -> Vec<Self> {
        let [depth, height, width] = [0, 1, 2].map(|axis| match direction {
            Direction::InputGrad => Axis::input_grad(problem, axis),
            Direction::Forward | Direction::WeightGrad => Axis::forward(problem, axis),
        });
        let mut classes = Vec::with_capacity(depth.len() * height.len() * width.len());
        for &d in &depth {
            for &h in &height {
                classes.extend(width.iter().map(|&w| Self {
                    axes: [d, h, w],
                    direction,
                    channels: channels(problem, direction),
                    kernel: problem.attributes.kernel,
                }));
            }
        }
        classes
    }

    /// The same with its taps in the order of the source.
    pub(super) fn ascending(mut self) -> Self {
        self.axes = self.axes.map(Axis::ascending);
        self
    }

    /// Voxels of the target.
    pub(super) fn voxels(&self) -> usize {
        self.axes.iter().map(|a| a.count).product()
    }

    fn taps(&self) -> usize {
        self.axes.iter().map(|a| a.taps).product()
    }

    /// Appends the packing of its taps, output channels filled up to a multiple of `width`, from number `first` of the
    /// packed vec4 on; gives how many they are.
    pub(super) fn pack(
        &self,
        to: &mut Lowering<'_>,
        [w, packed]: [&Operand; 2],
        width: usize,
        first: usize,
    ) -> usize {
        let [channels_in, channels_out] = self.channels;
        let [d, h, x] = self.axes;
        let taps = self.kernel.iter().product::<usize>() as u32;
        let (out_stride, in_stride) = match self.direction {
            Direction::InputGrad => (taps, w.batch_stride),
            Direction::Forward | Direction::WeightGrad => (w.batch_stride, taps),
        };
        let padded_in = channels_in.next_multiple_of(STEP);
        let vectors_out = channels_out.next_multiple_of(width) / 4;
        let params = PackParams {
            w_offset: w.offset,
            out_stride,
            in_stride,
            channels_in: channels_in as u32,
            channels_out: channels_out as u32,
            padded_in: padded_in as u32,
            vectors_out: vectors_out as u32,
            packed_first: first as u32,
            taps_d: d.taps as u32,
            taps_h: h.taps as u32,
            taps_w: x.taps as u32,
            first_d: d.k_first as u32,
            first_h: h.k_first as u32,
            first_w: x.k_first as u32,
            step_d: d.k_step as u32,
            step_h: h.k_step as u32,
            step_w: x.k_step as u32,
            kernel_h: self.kernel[1] as u32,
            kernel_w: self.kernel[2] as u32,
        };
        let len = self.taps() * padded_in * vectors_out;
        if len > 0 {
            let grid = grid(len.div_ceil(64));
            to.dispatch(&PACK, vec![], &params, &[w, packed], grid);
        }
        len
    }
}
