//! Windows that tile the image without overlap, on adapters that are a CPU with subgroups of 8 and u64: forward and input
//! gradient by `shaders/conv/patches.wgsl`.
//!
//! Downsampling by kernel = stride, transposed convolution that undoes it, and the pointwise convolution. In all of them
//! each voxel of the fine side belongs to one window, so that both directions are one matrix product: coarse
//! voxels by channels, by taps of channels. A pointwise convolution of many channels whose voxels are no whole words, such as
//! a layer on an odd number of tokens, is run on copies of rows that are filled up.

use super::lanes::sample;
use super::rows::{cut_rows, fill_rows};
use super::{Direction, Problem, patches_weight_grad};
use crate::gpu::{Access, Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel};
use crate::ops::layout::copy;
use crate::ops::words::{WORD, starts_at_words, words};
use crate::ops::{Lowering, Operand, grid, grid_of};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    x_channel: u32,
    x_slab: u32,
    x_plane: u32,
    x_row: u32,
    y_offset: u32,
    y_batch: u32,
    y_channel: u32,
    y_slab: u32,
    y_plane: u32,
    y_row: u32,
    words: u32,
    row_words: u32,
    rows: u32,
    bias_offset: u32,
    has_bias: u32,
    channels_in: u32,
    channels_out: u32,
    channel_steps: u32,
    planes: u32,
    tiles: u32,
    blocks_out: u32,
    blocks: u32,
});

static PATCHES: Kernel = shipped_kernel! {
    name: "conv/patches",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

param_block!(PackParams {
    w_offset: u32,
    out_stride: u32,
    in_stride: u32,
    channels_in: u32,
    channels_out: u32,
    blocks_out: u32,
    steps: u32,
    planes: u32,
    words: u32,
});

static PACK: Kernel = shipped_kernel! {
    name: "conv/patches_pack",
    params: PackParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// Lanes of a subgroup, each a channel.
pub(super) const LANES: usize = 8;

/// Words of a tile.
const WORDS: usize = 8;

/// Products of one result in a step.
const TAPS: usize = 8;

/// Channels on both sides from which on copies in whole words pay.
const MANY_CHANNELS: usize = 32;

/// The windows: the usual ones, and that of one tap.
const KERNELS: [[usize; 3]; 3] = [[1, 1, 1], [1, 2, 2], [2, 2, 2]];

/// Whether these kernels, or for the weight gradient those of [`patches_weight_grad`], can compute `direction` of `problem`
/// on `device`.
pub(super) fn supports(direction: Direction, problem: &Problem, device: &DeviceProfile) -> bool {
    tiles(problem, device)
        && match direction {
            Direction::WeightGrad => patches_weight_grad::is_filled(problem),
            Direction::Forward | Direction::InputGrad => {
                let plan = Plan::new(direction, &whole(problem));
                4 * plan.packed_len() as u64 <= device.binding_limit()
            }
        }
}

/// Whether the windows of `problem` tile its image, with rows of whole words, and the device is made for these kernels.
fn tiles(problem: &Problem, device: &DeviceProfile) -> bool {
    let is_made_for = device.moves_words() && device.has_subgroups_of(LANES as u32);
    let a = &problem.attributes;
    let is_dilated = (0..3).any(|i| a.kernel[i] > 1 && a.dilation[i] > 1);
    let pads = a.padding != [0; 3] || a.padding_after != [0; 3];
    let [x, y] = [problem.x, problem.y].map(|s| s.spatial());
    let tiles = (0..3).all(|i| x[i] == y[i] * a.kernel[i]);
    let has_words = match a.kernel {
        [1, 1, 1] => {
            problem.y.voxels().is_multiple_of(WORD)
                || problem.x.c().min(problem.y.c()) >= MANY_CHANNELS
        }
        _ => y[2].is_multiple_of(WORD),
    };
    is_made_for
        && problem.stored == Some(Element::F32)
        && a.groups == 1
        && KERNELS.contains(&a.kernel)
        && a.stride == a.kernel
        && !is_dilated
        && !pads
        && tiles
        && has_words
}

/// The problem with samples of whole words: a pointwise one as a row that is filled up.
pub(super) fn whole(problem: &Problem) -> Problem {
    let voxels = problem.y.voxels();
    if problem.attributes.kernel != [1; 3] || voxels.is_multiple_of(WORD) {
        return *problem;
    }
    let row = [1, 1, voxels.next_multiple_of(WORD)];
    Problem {
        x: problem.x.with_spatial(row),
        y: problem.y.with_spatial(row),
        ..*problem
    }
}

/// One side of the product: its taps and its strides in words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    channels: usize,
    /// Taps of a window along D, and along H and W.
    taps: [usize; 2],
    /// From one channel to the next.
    pub channel: usize,
    /// From the windows of one plane to those of the next, from one tap along D to the next, from one row to the next.
    pub slab: usize,
    pub plane: usize,
    pub row: usize,
}

impl Side {
    /// The side of extents `shape`, where `kernel` of its voxels are a window.
    pub fn new(shape: Shape, kernel: [usize; 3]) -> Self {
        let [_, h, w] = shape.spatial();
        Self {
            channels: shape.c(),
            taps: [kernel[0], kernel[1]],
            channel: shape.voxels() / WORD,
            slab: kernel[0] * h * w / WORD,
            plane: h * w / WORD,
            row: w / WORD,
        }
    }

    /// Words of a row of the windows `shape` and rows of a plane; windows of one tap need not be told apart by rows.
    pub fn rows(&self, kernel: [usize; 3], shape: Shape) -> (usize, usize) {
        match kernel {
            [1, 1, 1] => (self.channel, 1),
            _ => (self.row, shape.spatial()[1]),
        }
    }
}

/// The product that is run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    source: Side,
    target: Side,
    /// Words of a sample's windows, of a row of them, and rows of a plane.
    words: usize,
    row_words: usize,
    rows: usize,
    /// Whether the weight's first axis counts the channels of the source.
    transposed: bool,
}

impl Plan {
    fn new(direction: Direction, problem: &Problem) -> Self {
        let fine = Side::new(problem.x, problem.attributes.kernel);
        let coarse = Side::new(problem.y, [1; 3]);
        let transposed = direction == Direction::InputGrad;
        let (source, target) = match transposed {
            false => (fine, coarse),
            true => (coarse, fine),
        };
        let (row_words, rows) = coarse.rows(problem.attributes.kernel, problem.y);
        Self {
            source,
            target,
            words: coarse.channel,
            row_words,
            rows,
            transposed,
        }
    }

    /// Vectors of output channels of one invocation.
    fn channel_blocks(&self) -> usize {
        match self.target.taps[1] {
            1 => self
                .target
                .channels
                .div_ceil(LANES)
                .next_power_of_two()
                .min(4),
            _ => 1,
        }
    }

    fn blocks_out(&self) -> usize {
        self.target.channels.div_ceil(LANES * self.channel_blocks())
    }

    /// Blocks of all results of a window.
    fn blocks(&self) -> usize {
        self.blocks_out() * self.target.taps[0]
    }

    fn channel_steps(&self) -> usize {
        let [_, taps] = self.source.taps;
        self.source.channels.div_ceil(TAPS / (taps * taps))
    }

    fn steps(&self) -> usize {
        self.channel_steps() * self.source.taps[0]
    }

    /// Vectors of results in a block.
    fn vectors(&self) -> usize {
        let [_, taps] = self.target.taps;
        self.channel_blocks() * taps * taps
    }

    fn packed_len(&self) -> usize {
        self.blocks() * self.steps() * self.vectors() * LANES * TAPS
    }

    fn constants(&self) -> Constants {
        constants(
            self.source.taps[1],
            self.target.taps[1],
            self.channel_blocks(),
        )
    }
}

fn constants(source: usize, target: usize, blocks: usize) -> Constants {
    let list = [
        ("SOURCE", source),
        ("TARGET", target),
        ("CHANNEL_BLOCKS", blocks),
    ];
    list.map(|(name, value)| (name, value as u32)).to_vec()
}

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let mut list = vec![constants(1, 2, 1)];
    for blocks in [1, 2, 4] {
        list.extend([1, 2].map(|source| constants(source, 1, blocks)));
    }
    vec![(&PATCHES, list.clone()), (&PACK, list)]
}

/// Appends target = the forward convolution or the input gradient of `source`, + bias.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    direction: Direction,
    problem: &Problem,
    [source, w, target]: [&Operand; 3],
    bias: Option<&Operand>,
) {
    let problem = &whole(problem);
    let plan = Plan::new(direction, problem);
    let packed = to.scratch(Shape::vector(plan.packed_len()));
    pack(to, &plan, w, &packed);
    let (of_source, of_target) = match direction {
        Direction::InputGrad => (problem.y, problem.x),
        Direction::Forward | Direction::WeightGrad => (problem.x, problem.y),
    };
    let source = in_words(to, source, of_source);
    let apart = (!lies_in_words(target, of_target)).then(|| to.scratch(of_target));
    let into = apart.as_ref().unwrap_or(target);
    let tiles = plan.words.div_ceil(WORDS);
    let params = Params {
        x_offset: words(source.offset),
        x_batch: words(source.batch_stride),
        x_channel: plan.source.channel as u32,
        x_slab: plan.source.slab as u32,
        x_plane: plan.source.plane as u32,
        x_row: plan.source.row as u32,
        y_offset: words(into.offset),
        y_batch: words(into.batch_stride),
        y_channel: plan.target.channel as u32,
        y_slab: plan.target.slab as u32,
        y_plane: plan.target.plane as u32,
        y_row: plan.target.row as u32,
        words: plan.words as u32,
        row_words: plan.row_words as u32,
        rows: plan.rows as u32,
        bias_offset: bias.map_or(0, |b| b.offset),
        has_bias: u32::from(bias.is_some()),
        channels_in: plan.source.channels as u32,
        channels_out: plan.target.channels as u32,
        channel_steps: plan.channel_steps() as u32,
        planes: plan.source.taps[0] as u32,
        tiles: tiles as u32,
        blocks_out: plan.blocks_out() as u32,
        blocks: plan.blocks() as u32,
    };
    let [gx, gy, _] = grid(tiles * plan.blocks());
    // A binding cannot stay empty, so without a bias the packed weights stand in and are not read as one.
    let operands = [&source, &packed, bias.unwrap_or(&packed), into];
    let groups = [gx, gy, target.shape.n() as u32];
    to.dispatch(&PATCHES, plan.constants(), &params, &operands, groups);
    if let Some(apart) = &apart {
        out_of_words(to, apart, target);
    }
}

/// Appends the packing of w, the weight of the convolution in either direction.
fn pack(to: &mut Lowering<'_>, plan: &Plan, w: &Operand, packed: &Operand) {
    let [_, _, d, h, w_taps] = w.shape.0.map(|e| e as u32);
    let taps = d * h * w_taps;
    let (out_stride, in_stride) = match plan.transposed {
        true => (taps, w.batch_stride),
        false => (w.batch_stride, taps),
    };
    let words = plan.packed_len() / TAPS;
    let params = PackParams {
        w_offset: w.offset,
        out_stride,
        in_stride,
        channels_in: plan.source.channels as u32,
        channels_out: plan.target.channels as u32,
        blocks_out: plan.blocks_out() as u32,
        steps: plan.steps() as u32,
        planes: plan.source.taps[0] as u32,
        words: words as u32,
    };
    let groups = grid_of(&PACK, words);
    to.dispatch(&PACK, plan.constants(), &params, &[w, packed], groups);
}

/// Whether `operand` has samples of whole words and is of extents `shape`.
fn lies_in_words(operand: &Operand, shape: Shape) -> bool {
    starts_at_words(operand) && operand.shape.voxels() == shape.voxels()
}

/// `operand` where it [lies in words](lies_in_words), else a copy, filled up with zeros.
pub(super) fn in_words(to: &mut Lowering<'_>, operand: &Operand, shape: Shape) -> Operand {
    if lies_in_words(operand, shape) {
        return *operand;
    }
    let apart = to.scratch(shape);
    if operand.shape.voxels() == shape.voxels() {
        copy(to, operand, &apart, 0);
        return apart;
    }
    for n in 0..shape.n() as u32 {
        fill_rows(to, &row(&sample(operand, n)), &sample(&apart, n));
    }
    apart
}

/// Appends the copy of `apart`, of whole words, to where it belongs.
fn out_of_words(to: &mut Lowering<'_>, apart: &Operand, target: &Operand) {
    if target.shape.voxels() == apart.shape.voxels() {
        return copy(to, apart, target, 0);
    }
    for n in 0..target.shape.n() as u32 {
        cut_rows(to, &sample(apart, n), &row(&sample(target, n)));
    }
}

/// Each channel as one row.
fn row(operand: &Operand) -> Operand {
    Operand {
        shape: operand.shape.with_spatial([1, 1, operand.shape.voxels()]),
        ..*operand
    }
}
