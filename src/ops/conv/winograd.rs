//! Forward and input gradient by Winograd's F(2, 3) along each axis with three taps, for GPUs: 64 multiplications for eight
//! outputs of a 3x3x3 window instead of 216 (`shaders/conv/winograd_*.wgsl`).
//!
//! Three passes: the source in tiles of 4x4x4, transformed; one matrix product of channels by tiles for each of the 64 points; the products
//! transformed back to 2x2x2 outputs a tile. They run over a chunk of tiles at a time, so that the transformed copies, eight times as
//! large as source and target, stay small. Windows of one tap along an axis (1x3x3) have one point along it.

use super::{Direction, Problem};
use crate::gpu::{
    Access, AdapterClass, Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel,
};
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;
use crate::tensor::Shape;

/// Channels of the source in one step of the product, and invocations of its workgroups.
const STEP: usize = 16;
const THREADS: usize = 256;

/// Workgroup memory of the product's largest specialisation, bytes.
const WORKGROUP_MEMORY: u32 = 12 << 10;

/// Groups of 4 channels and vectors of 4 tiles an invocation of the product.
const BLOCKS: [(usize, usize); 2] = [(8, 1), (16, 2)];

/// The transformed copies of a chunk, each in bytes.
const CHUNK_BYTES: usize = 64 << 20;

/// From so many channels on both sides the multiplications saved outweigh the copies. By counting, not by measuring: for each voxel
/// and channel of either side the copies move 64 bytes, and 38 of 54 operations are saved for each pair of channels.
const MANY_CHANNELS: usize = 64;

/// The windows that have a specialisation, taps (D, H, W).
const WINDOWS: [[usize; 3]; 2] = [[3, 3, 3], [1, 3, 3]];

/// The convolution that is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    taps: [usize; 3],
    /// Zeros before the source (D, H, W).
    padding: [usize; 3],
    /// Whether the taps run backwards and the weight's first axis counts the channels of the source.
    transposed: bool,
    source: Shape,
    target: Shape,
}

impl Plan {
    /// The plan for a problem, where these kernels can run it on this device.
    pub(super) fn new(
        direction: Direction,
        problem: &Problem,
        device: &DeviceProfile,
    ) -> Option<Self> {
        let plan = Self::of(direction, problem)?;
        let limit = device.binding_limit();
        let largest = 4 * plan.weights_len().max(CHUNK_BYTES / 4) as u64;
        let is_able = device.max_invocations >= THREADS as u32
            && device.max_workgroup_memory >= WORKGROUP_MEMORY
            && largest <= limit
            && plan.chunk() > 0;
        is_able.then_some(plan)
    }

    fn of(direction: Direction, problem: &Problem) -> Option<Self> {
        let a = &problem.attributes;
        let is_dilated = (0..3).any(|i| a.kernel[i] > 1 && a.dilation[i] > 1);
        if a.groups != 1 || is_dilated || a.stride != [1; 3] || !WINDOWS.contains(&a.kernel) {
            return None;
        }
        let (source, target, padding) = match direction {
            Direction::Forward => (problem.x, problem.y, a.padding),
            Direction::InputGrad => {
                let [d, h, w] = [0, 1, 2].map(|i| (a.kernel[i] - 1).checked_sub(a.padding[i]));
                (problem.y, problem.x, [d?, h?, w?])
            }
            Direction::WeightGrad => return None,
        };
        Some(Self {
            taps: a.kernel,
            padding,
            transposed: direction == Direction::InputGrad,
            source,
            target,
        })
    }

    /// Whether it is expected to beat the direct product.
    pub(super) fn pays(&self, device: &DeviceProfile) -> bool {
        device.class == AdapterClass::Gpu
            && self.source.c().min(self.target.c()) >= MANY_CHANNELS
            && self.taps == [3; 3]
    }

    /// Numbers of a transformed tile: four an axis with three taps, one an axis with one.
    fn points(&self) -> usize {
        self.taps.iter().map(|&taps| taps + taps / 3).product()
    }

    /// Tiles of a sample of the target (D, H, W): two outputs an axis with three taps.
    fn tiles(&self) -> [usize; 3] {
        let size = self.target.spatial();
        [0, 1, 2].map(|i| size[i].div_ceil(1 + self.taps[i] / 3))
    }

    /// Tiles of a chunk, in fours.
    fn chunk(&self) -> usize {
        let all = self.target.n() * self.tiles().iter().product::<usize>();
        let channels = self.source.c().max(self.target.c());
        let fitting = CHUNK_BYTES / (16 * self.points() * channels) * 4;
        fitting.min(all.next_multiple_of(4))
    }

    /// The block of the product: no half of it empty.
    fn block(&self) -> (usize, usize) {
        let [narrow, wide] = BLOCKS;
        let rest = (self.target.c() - 1) % 64 + 1;
        match self.target.c() < 64 && rest <= 32 {
            true => narrow,
            false => wide,
        }
    }

    fn padded_in(&self) -> usize {
        self.source.c().next_multiple_of(STEP)
    }

    fn padded_out(&self) -> usize {
        self.target.c().next_multiple_of(4 * self.block().0)
    }

    fn weights_len(&self) -> usize {
        self.points() * self.padded_in() * self.padded_out()
    }

    fn constants(&self) -> Constants {
        window(self.taps)
    }
}

fn window([d, h, w]: [usize; 3]) -> Constants {
    let list = [("TAPS_D", d), ("TAPS_H", h), ("TAPS_W", w)];
    list.map(|(name, value)| (name, value as u32)).to_vec()
}

/// The kernels with all specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let windows = WINDOWS.map(window).to_vec();
    vec![
        (&weights::KERNEL, windows.clone()),
        (&source::KERNEL, windows.clone()),
        (&product::KERNEL, BLOCKS.map(product::constants).to_vec()),
        (&target::KERNEL, windows),
    ]
}

/// Appends y = the forward convolution or the input gradient of x, + bias.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    plan: &Plan,
    [x, w, y]: [&Operand; 3],
    bias: Option<&Operand>,
) {
    let u = to.scratch(Shape::vector(plan.weights_len()));
    weights::transform(to, plan, w, &u);
    let chunk = plan.chunk();
    let copy = |channels: usize| Shape::vector(plan.points() * channels * chunk);
    let v = to.scratch(copy(plan.source.c()));
    let m = to.scratch(copy(plan.target.c()));
    let all = plan.target.n() * plan.tiles().iter().product::<usize>();
    for first in (0..all).step_by(chunk) {
        let tiles = Chunk {
            first,
            count: chunk.min(all - first),
            pitch: chunk,
        };
        source::transform(to, plan, &tiles, x, &v);
        product::multiply(to, plan, &tiles, [&u, &v, &m]);
        target::transform(to, plan, &tiles, &m, y, bias);
    }
}

/// Tiles that are worked on at once.
struct Chunk {
    first: usize,
    count: usize,
    /// Tiles from a channel of the copies to the next.
    pitch: usize,
}

impl Chunk {
    /// The grid of a kernel with one invocation a tile and channel.
    fn grid(&self, channels: usize) -> [u32; 3] {
        let [x, y, _] = grid(self.count.div_ceil(64));
        [x, y, channels as u32]
    }
}

mod weights {
    use super::*;

    param_block!(Params {
        w_offset: u32,
        out_stride: u32,
        in_stride: u32,
        channels_in: u32,
        channels_out: u32,
        padded_in: u32,
        padded_out: u32,
        first: u32,
        step: u32,
    });

    pub static KERNEL: Kernel = shipped_kernel! {
        name: "conv/winograd_weights",
        params: Params::FIELDS,
        access: &[Access::Read, Access::Write],
    };

    pub fn transform(to: &mut Lowering<'_>, plan: &Plan, w: &Operand, u: &Operand) {
        let taps = plan.taps.iter().product::<usize>() as u32;
        let (out_stride, in_stride, first, step) = match plan.transposed {
            true => (taps, w.batch_stride, taps - 1, u32::MAX),
            false => (w.batch_stride, taps, 0, 1),
        };
        let (padded_in, padded_out) = (plan.padded_in(), plan.padded_out());
        let params = Params {
            w_offset: w.offset,
            out_stride,
            in_stride,
            channels_in: plan.source.c() as u32,
            channels_out: plan.target.c() as u32,
            padded_in: padded_in as u32,
            padded_out: padded_out as u32,
            first,
            step,
        };
        let groups = grid((padded_in * padded_out).div_ceil(64));
        to.dispatch(&KERNEL, plan.constants(), &params, &[w, u], groups);
    }
}

mod source {
    use super::*;

    param_block!(Params {
        x_offset: u32,
        x_batch: u32,
        x_channel: u32,
        x_d: u32,
        x_h: u32,
        x_w: u32,
        v_point: u32,
        v_channel: u32,
        first_tile: u32,
        tiles: u32,
        tiles_d: u32,
        tiles_h: u32,
        tiles_w: u32,
        padding_d: u32,
        padding_h: u32,
        padding_w: u32,
    });

    pub static KERNEL: Kernel = shipped_kernel! {
        name: "conv/winograd_source",
        params: Params::FIELDS,
        access: &[Access::Read, Access::Write],
    };

    pub fn transform(to: &mut Lowering<'_>, plan: &Plan, chunk: &Chunk, x: &Operand, v: &Operand) {
        let [x_d, x_h, x_w] = x.shape.spatial().map(|e| e as u32);
        let [tiles_d, tiles_h, tiles_w] = plan.tiles().map(|e| e as u32);
        let [padding_d, padding_h, padding_w] = plan.padding.map(|e| e as u32);
        let params = Params {
            x_offset: x.offset,
            x_batch: x.batch_stride,
            x_channel: x.shape.voxels() as u32,
            x_d,
            x_h,
            x_w,
            v_point: (plan.source.c() * chunk.pitch) as u32,
            v_channel: chunk.pitch as u32,
            first_tile: chunk.first as u32,
            tiles: chunk.count as u32,
            tiles_d,
            tiles_h,
            tiles_w,
            padding_d,
            padding_h,
            padding_w,
        };
        let groups = chunk.grid(plan.source.c());
        to.dispatch(&KERNEL, plan.constants(), &params, &[x, v], groups);
    }
}

mod product {
    use super::*;

    param_block!(Params {
        v_point: u32,
        v_channel: u32,
        u_point: u32,
        m_point: u32,
        m_channel: u32,
        channels_in: u32,
        channels_out: u32,
        steps: u32,
        tiles_out: u32,
        vectors: u32,
    });

    pub static KERNEL: Kernel = shipped_kernel! {
        name: "conv/winograd_product",
        params: Params::FIELDS,
        access: &[Access::Read, Access::Read, Access::Write],
    };

    pub fn constants((groups, vectors): (usize, usize)) -> Constants {
        vec![("OG", groups as u32), ("MV", vectors as u32)]
    }

    pub fn multiply(to: &mut Lowering<'_>, plan: &Plan, chunk: &Chunk, [u, v, m]: [&Operand; 3]) {
        let (groups, vectors) = plan.block();
        let pitch = chunk.pitch / 4;
        let tiles_out = plan.padded_out() / (4 * groups);
        let params = Params {
            v_point: (plan.source.c() * pitch) as u32,
            v_channel: pitch as u32,
            u_point: (plan.padded_in() * plan.padded_out() / 4) as u32,
            m_point: (plan.target.c() * pitch) as u32,
            m_channel: pitch as u32,
            channels_in: plan.source.c() as u32,
            channels_out: plan.target.c() as u32,
            steps: (plan.padded_in() / STEP) as u32,
            tiles_out: tiles_out as u32,
            vectors: chunk.count.div_ceil(4) as u32,
        };
        let blocks = chunk.count.div_ceil(4 * vectors * THREADS / groups) * tiles_out;
        let [x, y, _] = grid(blocks);
        to.dispatch(
            &KERNEL,
            constants(plan.block()),
            &params,
            &[v, u, m],
            [x, y, plan.points() as u32],
        );
    }
}

mod target {
    use super::*;

    param_block!(Params {
        y_offset: u32,
        y_batch: u32,
        y_channel: u32,
        y_d: u32,
        y_h: u32,
        y_w: u32,
        m_point: u32,
        m_channel: u32,
        first_tile: u32,
        tiles: u32,
        tiles_d: u32,
        tiles_h: u32,
        tiles_w: u32,
        bias_offset: u32,
        has_bias: u32,
    });

    pub static KERNEL: Kernel = shipped_kernel! {
        name: "conv/winograd_target",
        params: Params::FIELDS,
        access: &[Access::Read, Access::Read, Access::Write],
    };

    pub fn transform(
        to: &mut Lowering<'_>,
        plan: &Plan,
        chunk: &Chunk,
        m: &Operand,
        y: &Operand,
        bias: Option<&Operand>,
    ) {
        let [y_d, y_h, y_w] = y.shape.spatial().map(|e| e as u32);
        let [tiles_d, tiles_h, tiles_w] = plan.tiles().map(|e| e as u32);
        let params = Params {
            y_offset: y.offset,
            y_batch: y.batch_stride,
            y_channel: y.shape.voxels() as u32,
            y_d,
            y_h,
            y_w,
            m_point: (plan.target.c() * chunk.pitch) as u32,
            m_channel: chunk.pitch as u32,
            first_tile: chunk.first as u32,
            tiles: chunk.count as u32,
            tiles_d,
            tiles_h,
            tiles_w,
            bias_offset: bias.map_or(0, |b| b.offset),
            has_bias: u32::from(bias.is_some()),
        };
        let groups = chunk.grid(plan.target.c());
        let bias = bias.unwrap_or(m);
        to.dispatch(&KERNEL, plan.constants(), &params, &[m, bias, y], groups);
    }
}
