//! Forward and input gradient on adapters that are a CPU with subgroups of 8: `shaders/conv/lanes.wgsl` and the copies
//! around it.
//!
//! Both directions become one dense cross-correlation from a source to a target. For the input gradient with stride s the
//! target is dx split into s^3 parity classes, dx[s * t + r]: tap k reaches dy[(s * t + r + padding - k) / s] only where
//! that division is exact, which leaves each class a small window of stride 1. With i the offset dy[t + i],
//! k = r + padding - s * i; over all classes i runs from ceil((padding - K + 1) / s) to floor((s - 1 + padding) / s). A transposed
//! convolution with kernel = stride so becomes s^3 pointwise ones in one dispatch.

use super::{Direction, Problem};
use crate::gpu::{
    Access, AdapterClass, Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel,
};
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    x_offset: u32,
    x_channel: u32,
    x_plane: u32,
    x_row: u32,
    y_offset: u32,
    y_class: u32,
    y_channel: u32,
    y_plane: u32,
    y_row: u32,
    y_d: u32,
    y_h: u32,
    bias_offset: u32,
    has_bias: u32,
    channels_out: u32,
    channel_steps: u32,
    planes: u32,
    stride_d: u32,
    tiles_h: u32,
    tiles_w: u32,
    tiles: u32,
    blocks_out: u32,
    blocks: u32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "conv/lanes",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

/// Lanes of a subgroup, each an output channel.
const LANES: usize = 8;

/// Windows in the plane (taps, stride; H, W) that have a specialisation: what the U-Net family uses, forward and
/// backward. Along D a window may be anything, as it is walked plane by plane.
const WINDOWS: [([usize; 2], [usize; 2]); 6] = [
    ([3, 3], [1, 1]),
    ([3, 3], [2, 2]),
    ([2, 2], [1, 1]),
    ([2, 2], [2, 2]),
    ([5, 5], [1, 1]),
    ([1, 1], [2, 2]),
];

/// Register tiles (D, H, W) of a window: flat ones for large planes, cubes where a flat one would overhang.
const FLAT: [usize; 3] = [1, 8, 8];
const CUBE: [usize; 3] = [4, 4, 4];

/// The tile of a pointwise convolution, which sees a sample as one row, and the source's channels that it takes a step.
const POINTWISE: ([usize; 3], usize) = ([1, 1, 64], 4);

/// The tile that covers `size` with the fewer voxels.
fn tile_for(size: [usize; 3]) -> [usize; 3] {
    let covered =
        |tile: [usize; 3]| -> usize { (0..3).map(|i| size[i].next_multiple_of(tile[i])).product() };
    if covered(CUBE) < covered(FLAT) {
        CUBE
    } else {
        FLAT
    }
}

/// The copies are cut into slabs of about so many bytes, but into few of them: they overlap by their halo.
const SLAB_BYTES: usize = 8 << 20;
const MAX_SLABS: usize = 4;

/// The cross-correlation that is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    taps: [usize; 3],
    stride: [usize; 3],
    /// Zeros before the source.
    padding: [usize; 3],
    /// Parity classes of the target, each of extents `size`.
    classes: [usize; 3],
    size: [usize; 3],
    source: Shape,
    channels_out: usize,
    /// Tap of w for tap j of class r: first + r + step * j.
    first: [i32; 3],
    step: [i32; 3],
    tile: [usize; 3],
    /// Channels of the source in one step.
    channels: usize,
}

impl Plan {
    /// The plan for a problem, where the lanes kernel can run it on this device.
    pub(super) fn new(
        direction: Direction,
        problem: &Problem,
        device: &DeviceProfile,
    ) -> Option<Self> {
        let is_made_for =
            device.class == AdapterClass::CpuLike && device.has_subgroups_of(LANES as u32);
        let plan = is_made_for.then(|| Self::of(direction, problem))??;
        // Cut into parts, it is at least a plane of the target with all of the source's channels.
        let mut plane = plan;
        plane.size[0] = 1;
        let least = plan.packed_len().max(plane.padded().len());
        (4 * least as u64 <= device.binding_limit()).then_some(plan)
    }

    fn of(direction: Direction, problem: &Problem) -> Option<Self> {
        let a = &problem.attributes;
        let dilated = (0..3).any(|i| a.kernel[i] > 1 && a.dilation[i] > 1);
        if a.groups != 1 || dilated {
            return None;
        }
        let mut plan = Self {
            taps: a.kernel,
            stride: a.stride,
            padding: a.padding,
            classes: [1; 3],
            size: problem.y.spatial(),
            source: problem.x,
            channels_out: problem.y.c(),
            first: [0; 3],
            step: [1; 3],
            tile: FLAT,
            channels: 1,
        };
        match direction {
            Direction::Forward => {}
            Direction::InputGrad => plan.transpose(problem)?,
            Direction::WeightGrad => return None,
        }
        if !copies::STRIDES.contains(&plan.classes) {
            return None;
        }
        if plan.is_pointwise() {
            (plan.tile, plan.channels) = POINTWISE;
            return Some(plan);
        }
        plan.tile = tile_for(plan.size);
        let ([_, kh, kw], [_, sh, sw]) = (plan.taps, plan.stride);
        WINDOWS.contains(&([kh, kw], [sh, sw])).then_some(plan)
    }

    fn transpose(&mut self, problem: &Problem) -> Option<()> {
        let a = &problem.attributes;
        self.source = problem.y;
        self.channels_out = problem.x.c();
        self.classes = a.stride;
        self.stride = [1; 3];
        for i in 0..3 {
            let [p, k, s] = [a.padding[i], a.kernel[i], a.stride[i]].map(|e| e as i32);
            let lowest = -(k - 1 - p).div_euclid(s);
            let highest = (s - 1 + p).div_euclid(s);
            self.padding[i] = usize::try_from(-lowest).ok()?;
            self.taps[i] = usize::try_from(highest - lowest + 1).ok()?;
            self.first[i] = p - s * lowest;
            self.step[i] = -s;
            self.size[i] = problem.x.spatial()[i].div_ceil(a.stride[i]);
        }
        Some(())
    }

    fn is_pointwise(&self) -> bool {
        self.taps == [1; 3] && self.stride == [1; 3]
    }

    /// Blocks of 8 output channels a lane.
    fn blocks(&self) -> usize {
        if self.channels_out <= LANES { 1 } else { 2 }
    }

    fn blocks_out(&self) -> usize {
        self.channels_out.div_ceil(LANES * self.blocks())
    }

    fn class_count(&self) -> usize {
        self.classes.iter().product()
    }

    fn channel_steps(&self) -> usize {
        self.source.c().div_ceil(self.channels)
    }

    fn tiles(&self) -> [usize; 3] {
        [0, 1, 2].map(|i| self.size[i].div_ceil(self.tile[i]))
    }

    /// The padded copy of one sample of the source, rows of whole vec4.
    fn padded(&self) -> Shape {
        let channels = self.channel_steps() * self.channels;
        if self.is_pointwise() {
            let [d, h, w] = self.size;
            return Shape::new(1, channels, d, h, w.next_multiple_of(4));
        }
        let (tiles, tile) = (self.tiles(), self.tile);
        let extent = |i: usize| (tiles[i] * tile[i] - 1) * self.stride[i] + self.taps[i];
        let last = (tiles[2] - 1) * tile[2] * self.stride[2];
        let row = (tile[2] - 1) * self.stride[2] + self.taps[2];
        Shape::new(
            1,
            channels,
            extent(0),
            extent(1),
            last + row.next_multiple_of(4),
        )
    }

    /// The classes of one sample of the target side by side, rows of whole vec4.
    fn classes_side_by_side(&self) -> Shape {
        let [d, h, w] = self.size;
        Shape::new(
            self.class_count(),
            self.channels_out,
            d,
            h,
            w.next_multiple_of(4),
        )
    }

    /// This plan cut along D, so that not all of what is copied is there at once, nor more than `limit` bytes of a copy where
    /// that can be: the first plane of each slab in the target, and its plan.
    fn slabs(&self, copied: usize, limit: usize) -> Vec<(usize, Self)> {
        let bytes = 4 * copied;
        let count = bytes
            .div_ceil(SLAB_BYTES)
            .min(MAX_SLABS)
            .max(bytes.div_ceil(limit));
        let depth = self.size[0];
        let planes = match self.is_pointwise() {
            true => depth.div_ceil(count),
            false => depth.div_ceil(count).next_multiple_of(self.tile[0]),
        };
        (0..depth)
            .step_by(planes)
            .map(|first| {
                let mut slab = *self;
                slab.size[0] = planes.min(depth - first);
                (first, slab)
            })
            .collect()
    }

    fn packed_len(&self) -> usize {
        let taps = self.channels * self.taps[1] * self.taps[2];
        let a_step = taps.div_ceil(4) * 4 * self.blocks() * LANES;
        self.class_count() * self.blocks_out() * self.channel_steps() * self.taps[0] * a_step
    }

    fn constants(&self) -> Constants {
        let ([_, kh, kw], [_, sh, sw]) = (self.taps, self.stride);
        constants([kh, kw], [sh, sw], self.tile, self.channels, self.blocks())
    }
}

fn constants(
    [kernel_h, kernel_w]: [usize; 2],
    [stride_h, stride_w]: [usize; 2],
    tile: [usize; 3],
    channels: usize,
    blocks: usize,
) -> Constants {
    let list = [
        ("KERNEL_H", kernel_h),
        ("KERNEL_W", kernel_w),
        ("STRIDE_H", stride_h),
        ("STRIDE_W", stride_w),
        ("TILE_D", tile[0]),
        ("TILE_H", tile[1]),
        ("TILE_W", tile[2]),
        ("CHANNELS", channels),
        ("BLOCKS", blocks),
    ];
    list.map(|(name, value)| (name, value as u32)).to_vec()
}

/// All specialisations in use.
pub(super) fn specialisations() -> Vec<Constants> {
    let mut list = Vec::new();
    for blocks in [1, 2] {
        for (taps, stride) in WINDOWS {
            list.extend([FLAT, CUBE].map(|tile| constants(taps, stride, tile, 1, blocks)));
        }
        let (tile, channels) = POINTWISE;
        list.push(constants([1, 1], [1, 1], tile, channels, blocks));
    }
    list
}

/// Appends target = the forward convolution or the input gradient of `source`, + bias.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    plan: &Plan,
    [source, w, target]: [&Operand; 3],
    bias: Option<&Operand>,
) {
    let packed = to.scratch_as(source.element, Shape::vector(plan.packed_len()));
    copies::pack(to, plan, w, &packed);
    let row_free = plan.is_pointwise();
    let same_extents =
        plan.source.spatial() == plan.size && plan.source.c().is_multiple_of(plan.channels);
    let read_in_place = row_free && same_extents && source.is_vec4();
    let whole_rows = plan.size[2].is_multiple_of(4) || read_in_place;
    let write_in_place = plan.class_count() == 1 && whole_rows && target.is_vec4();
    // A sample in one row is cut between whole packs, and not where the whole target is written as one.
    let [_, h, w] = plan.size;
    let has_whole_planes = !read_in_place || (h * w).is_multiple_of(4);
    let is_cut = !row_free || (!write_in_place && has_whole_planes);
    let copies = [
        (!read_in_place).then(|| plan.padded().len()),
        (!write_in_place).then(|| plan.classes_side_by_side().len()),
    ];
    let slabs = match copies.into_iter().flatten().max().filter(|_| is_cut) {
        Some(copied) => plan.slabs(copied, to.device.binding_limit() as usize),
        None => vec![(0, *plan)],
    };
    let side_by_side = |slab: &Plan| match read_in_place {
        true => slab.classes_side_by_side().with_spatial(slab.size),
        false => slab.classes_side_by_side(),
    };
    // The first slab is the largest.
    let padded = (!read_in_place).then(|| to.scratch_as(source.element, slabs[0].1.padded()));
    let apart = (!write_in_place).then(|| {
        let shape = side_by_side(&slabs[0].1);
        to.scratch_as(target.element, shape)
    });
    for n in 0..target.shape.n() as u32 {
        let (source, target) = (sample(source, n), sample(target, n));
        for &(first, ref slab) in &slabs {
            let from = match &padded {
                Some(padded) => {
                    let part = Operand {
                        shape: slab.padded(),
                        ..*padded
                    };
                    copies::pad(to, slab, first, &source, &part);
                    part
                }
                None => source,
            };
            let read = if read_in_place { first * h * w } else { 0 };
            let Some(apart) = &apart else {
                correlate(to, slab, [read, first], [&from, &packed, &target], bias);
                continue;
            };
            let classes = Operand {
                shape: side_by_side(slab),
                ..*apart
            };
            correlate(to, slab, [read, 0], [&from, &packed, &classes], bias);
            let first = first * plan.classes[0];
            let last = target.shape.spatial()[0].min(first + slab.size[0] * plan.classes[0]);
            copies::interleave(to, plan.classes, &classes, &target, first..last);
        }
    }
}

/// Sample `n` alone.
pub(super) fn sample(operand: &Operand, n: u32) -> Operand {
    let [_, c, d, h, w] = operand.shape.0;
    Operand {
        shape: Shape::new(1, c, d, h, w),
        offset: operand.offset + n * operand.batch_stride,
        ..*operand
    }
}

/// Appends planes of the target: they begin at plane `first` of `into`, and what they see at voxel `read` of `from`.
fn correlate(
    to: &mut Lowering<'_>,
    plan: &Plan,
    [read, first]: [usize; 2],
    [from, packed, into]: [&Operand; 3],
    bias: Option<&Operand>,
) {
    let strides = |shape: Shape| {
        let [d, h, w] = shape.spatial();
        match plan.is_pointwise() {
            true => [d * h * w / 4, 0, d * h * w / 4],
            false => [d * h * w / 4, h * w / 4, w / 4],
        }
        .map(|e| e as u32)
    };
    let [y_channel, y_plane, y_row] = strides(into.shape);
    let [x_channel, x_plane, x_row] = match plan.is_pointwise() {
        // In place, the source's channels go on beyond the slab.
        true => [(from.shape.voxels() / 4) as u32, 0, y_row],
        false => strides(from.shape),
    };
    let (size, tiles) = match plan.is_pointwise() {
        true => ([1, 1], [1, 1, into.shape.voxels().div_ceil(plan.tile[2])]),
        false => ([plan.size[0], plan.size[1]], plan.tiles()),
    };
    let count = tiles.iter().product::<usize>();
    let blocks = plan.blocks_out() * plan.class_count();
    let params = Params {
        x_offset: (from.offset + read as u32) / 4,
        x_channel,
        x_plane,
        x_row,
        y_offset: into.offset / 4 + first as u32 * y_plane,
        y_class: plan.channels_out as u32 * y_channel,
        y_channel,
        y_plane,
        y_row,
        y_d: size[0] as u32,
        y_h: size[1] as u32,
        bias_offset: bias.map_or(0, |b| b.offset),
        has_bias: u32::from(bias.is_some()),
        channels_out: plan.channels_out as u32,
        channel_steps: plan.channel_steps() as u32,
        planes: plan.taps[0] as u32,
        stride_d: plan.stride[0] as u32,
        tiles_h: tiles[1] as u32,
        tiles_w: tiles[2] as u32,
        tiles: count as u32,
        blocks_out: plan.blocks_out() as u32,
        blocks: blocks as u32,
    };
    let groups = grid(count * blocks);
    let bias = bias.unwrap_or(packed);
    to.dispatch(
        &KERNEL,
        plan.constants(),
        &params,
        &[from, packed, bias, into],
        groups,
    );
}

#[path = "lanes_copies.rs"]
pub(super) mod copies;
