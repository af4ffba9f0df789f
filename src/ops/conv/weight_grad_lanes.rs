//! The weight gradient with lanes = output channels, for a CPU with subgroups of 8: padded copies, register tiles over
//! parts of the voxels, and a sum of the parts in fixed order.

use super::Problem;
use super::lanes::{copies, sample};
use crate::gpu::{Access, Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;
use crate::tensor::Shape;

param_block!(TileParams {
    x_first: u32,
    x_batch: u32,
    x_channel: u32,
    x_plane: u32,
    x_row: u32,
    y_first: u32,
    y_batch: u32,
    y_channel: u32,
    y_plane: u32,
    y_row: u32,
    channels_in: u32,
    channels_out: u32,
    x_d: u32,
    y_d: u32,
    tiles_h: u32,
    tiles_w: u32,
    tiles: u32,
    tiles_per_part: u32,
    kernel_d: u32,
    stride_d: u32,
    padding_d: u32,
    dilation_d: u32,
});

static TILES: Kernel = shipped_kernel! {
    name: "conv/weight_grad_lanes",
    params: TileParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(PartsParams {
    w_offset: u32,
    w_batch: u32,
    channels_in: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    pairs: u32,
    parts: u32,
    blocks_out: u32,
    blocks_in: u32,
    block_vectors: u32,
    block_channels: u32,
});

static PARTS: Kernel = shipped_kernel! {
    name: "conv/weight_grad_parts",
    params: PartsParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

const LANES: usize = 8;

/// Voxels of dy in one tile, (H, W): the second shape for images narrower than the first.
const TILE_SHAPES: [[usize; 2]; 2] = [[4, 8], [8, 4]];

/// Tiles that one part adds up: enough that storing its sums costs little, few enough to keep sums short.
const TILES_PER_PART: usize = 64;

/// Bounds on the partial sums: their number and their bytes.
const MAX_PARTS: usize = 64;
const MAX_PARTIAL_BYTES: usize = 32 << 20;

/// Bytes of the padded copy of x that is there at once: some channels of it.
const CHUNK_BYTES: usize = 8 << 20;

/// A window in the plane and how many channels one invocation takes.
#[derive(Debug)]
struct Tiling {
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Output channels, in vectors of 8.
    vectors: usize,
    /// Input channels.
    channels: usize,
}

const fn tiling(kernel: usize, stride: usize, vectors: usize, channels: usize) -> Tiling {
    Tiling {
        kernel: [kernel; 2],
        stride: [stride; 2],
        vectors,
        channels,
    }
}

/// The windows there are kernels for. More channels an invocation is faster (3x3 with 8 of them by a tenth to a sixth) and
/// takes longer to compile (1.4 s for 0.9); fewer waste less of the few channels at the ends of a network. Of equal ones
/// the first is taken.
static TILINGS: [Tiling; 10] = [
    tiling(3, 1, 2, 8),
    tiling(3, 1, 2, 4),
    tiling(3, 1, 1, 4),
    tiling(3, 1, 2, 1),
    tiling(3, 1, 1, 1),
    tiling(3, 2, 2, 4),
    tiling(2, 2, 2, 8),
    tiling(1, 1, 4, 16),
    tiling(1, 1, 1, 16),
    tiling(1, 2, 4, 8),
];

impl Tiling {
    fn of(problem: &Problem) -> Option<&'static Self> {
        let a = &problem.attributes;
        let plane = |e: [usize; 3]| [e[1], e[2]];
        TILINGS
            .iter()
            .filter(|t| t.kernel == plane(a.kernel) && t.stride == plane(a.stride))
            .min_by_key(|t| t.work(problem))
    }

    /// What all invocations do, in multiply-adds of a vector, padded channels among them: to spread the numbers under a
    /// window costs about as much as to use them one and a half times.
    fn work(&self, problem: &Problem) -> usize {
        let blocks_out = problem.y.c().div_ceil(LANES * self.vectors);
        let channels_in = problem.x.c().next_multiple_of(self.channels);
        blocks_out * channels_in * (3 + 2 * self.vectors)
    }

    fn constants(&self, tile: [usize; 2]) -> Constants {
        vec![
            ("OCV", self.vectors as u32),
            ("IC", self.channels as u32),
            ("KH", self.kernel[0] as u32),
            ("KW", self.kernel[1] as u32),
            ("SH", self.stride[0] as u32),
            ("SW", self.stride[1] as u32),
            ("TY", tile[0] as u32),
            ("TX", tile[1] as u32),
        ]
    }
}

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let tiles = TILINGS
        .iter()
        .flat_map(|t| TILE_SHAPES.map(|tile| t.constants(tile)))
        .collect();
    vec![(&TILES, tiles), (&PARTS, vec![vec![]])]
}

/// How a weight gradient is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    tiling: &'static Tiling,
    /// The tile (H, W) that wastes least of a plane of dy, and how many cover it.
    tile: [usize; 2],
    tiles: [usize; 2],
}

impl Plan {
    /// The plan for `problem`, where these kernels can compute its weight gradient on `device`.
    pub(super) fn new(problem: &Problem, device: &DeviceProfile) -> Option<Self> {
        let a = &problem.attributes;
        let is_made_for = device.is_cpu_with_lanes(LANES as u32);
        if !is_made_for || a.groups != 1 || a.dilation[1..] != [1, 1] {
            return None;
        }
        let [_, h, w] = problem.y.spatial();
        let counts = |tile: [usize; 2]| [h.div_ceil(tile[0]), w.div_ceil(tile[1])];
        let tile = TILE_SHAPES
            .into_iter()
            .min_by_key(|&tile| counts(tile).iter().product::<usize>())?;
        Some(Self {
            tiling: Tiling::of(problem)?,
            tile,
            tiles: counts(tile),
        })
    }

    /// Rows and row length of x, in floats; rows are whole vec4.
    fn x_extent(&self) -> [usize; 2] {
        let Self {
            tiling: t,
            tile,
            tiles,
        } = self;
        let rows = (tiles[0] * tile[0] - 1) * t.stride[0] + t.kernel[0];
        let last = (tile[1] - 1) * t.stride[1] + t.kernel[1];
        let row = (tiles[1] - 1) * tile[1] * t.stride[1] + last.next_multiple_of(4);
        [rows, row]
    }

    /// Rows and row length of dy, in floats.
    fn y_extent(&self) -> [usize; 2] {
        [0, 1].map(|i| self.tiles[i] * self.tile[i])
    }
}

/// Appends dw = d(conv)/dw applied to dy.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    problem: &Problem,
    plan: &Plan,
    [x, dy, dw]: [&Operand; 3],
) {
    let a = &problem.attributes;
    let dy = padded(to, dy, [0, 0], plan.y_extent());
    let parts = plan.parts(problem);
    let padding = [a.padding[1], a.padding[2]];
    if is_readable(x, padding, plan.x_extent()) {
        let channels = problem.x.c();
        let partial = to.scratch(Shape::vector(
            parts.count * plan.part_len(problem, channels),
        ));
        return sum_tiles(to, problem, plan, parts, [x, &dy, &partial, dw]);
    }
    // Some channels at a time, so that not all of the padded copy is there at once.
    let x_plane = with_plane(x.shape, plan.x_extent());
    let block = 4 * x_plane.with_c(plan.tiling.channels).len();
    let step = (CHUNK_BYTES / block).max(1) * plan.tiling.channels;
    let step = step.min(problem.x.c());
    let copy = to.scratch_as(x.element, x_plane.with_c(step));
    let partial = to.scratch(Shape::vector(parts.count * plan.part_len(problem, step)));
    for first in (0..problem.x.c()).step_by(step) {
        let channels = step.min(problem.x.c() - first);
        let part = Operand {
            shape: copy.shape.with_c(channels),
            batch_stride: copy.shape.with_c(channels).per_sample() as u32,
            ..copy
        };
        pad(to, &channels_of(x, first, channels), padding, &part);
        let weight = channels_of(dw, first, channels);
        sum_tiles(to, problem, plan, parts, [&part, &dy, &partial, &weight]);
    }
}

/// The voxels' tiles in parts that are summed apart.
#[derive(Clone, Copy)]
struct Parts {
    tiles: usize,
    per_part: usize,
    count: usize,
}

impl Plan {
    fn sums(&self, problem: &Problem) -> Sums {
        let [kernel_h, kernel_w] = self.tiling.kernel;
        Sums {
            kernel: [problem.attributes.kernel[0], kernel_h, kernel_w],
            vectors: self.tiling.vectors,
            channels: self.tiling.channels,
        }
    }

    /// Elements of the sums of one part over `channels` input channels.
    fn part_len(&self, problem: &Problem, channels: usize) -> usize {
        self.sums(problem).len(problem.y.c(), channels)
    }

    fn parts(&self, problem: &Problem) -> Parts {
        let part_len = self.part_len(problem, problem.x.c());
        let tiles = problem.y.n() * problem.y.spatial()[0] * self.tiles[0] * self.tiles[1];
        let wanted = tiles
            .div_ceil(TILES_PER_PART)
            .min(MAX_PARTS)
            .min(MAX_PARTIAL_BYTES / (4 * part_len))
            .max(1);
        let per_part = tiles.div_ceil(wanted);
        Parts {
            tiles,
            per_part,
            count: tiles.div_ceil(per_part),
        }
    }
}

/// Appends the weight gradient of the input channels that `x` and `dw` have, both operands ready to be read.
fn sum_tiles(
    to: &mut Lowering<'_>,
    problem: &Problem,
    plan: &Plan,
    parts: Parts,
    [x, dy, partial, dw]: [&Operand; 4],
) {
    let &Plan {
        tiling,
        tile,
        tiles,
    } = plan;
    let a = &problem.attributes;
    let channels_in = x.shape.c();
    let blocks_out = problem.y.c().div_ceil(LANES * tiling.vectors);
    let blocks_in = channels_in.div_ceil(tiling.channels);
    let rows = Rows::of(x);
    let dy_rows = Rows::of(dy);
    let params = TileParams {
        x_first: rows.first,
        x_batch: rows.batch,
        x_channel: rows.channel,
        x_plane: rows.plane,
        x_row: rows.row,
        y_first: dy_rows.first,
        y_batch: dy_rows.batch,
        y_channel: dy_rows.channel,
        y_plane: dy_rows.plane,
        y_row: dy_rows.row,
        channels_in: channels_in as u32,
        channels_out: problem.y.c() as u32,
        x_d: problem.x.spatial()[0] as u32,
        y_d: problem.y.spatial()[0] as u32,
        tiles_h: tiles[0] as u32,
        tiles_w: tiles[1] as u32,
        tiles: parts.tiles as u32,
        tiles_per_part: parts.per_part as u32,
        kernel_d: a.kernel[0] as u32,
        stride_d: a.stride[0] as u32,
        padding_d: a.padding[0] as u32,
        dilation_d: a.dilation[0] as u32,
    };
    let groups = [
        blocks_out as u32,
        blocks_in as u32,
        (a.kernel[0] * parts.count) as u32,
    ];
    to.dispatch(
        &TILES,
        tiling.constants(tile),
        &params,
        &[x, dy, partial],
        groups,
    );
    let sums = plan.sums(problem);
    let problem = Problem {
        x: problem.x.with_c(channels_in),
        ..*problem
    };
    add_parts(to, sums, &problem, parts.count, [partial, dw]);
}

/// The sums of one block of channels: taps, vectors of output channels, input channels.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub kernel: [usize; 3],
    pub vectors: usize,
    pub channels: usize,
}

impl Sums {
    /// Elements of the sums of one part over all channels.
    pub fn len(&self, channels_out: usize, channels_in: usize) -> usize {
        let taps: usize = self.kernel.iter().product();
        let blocks_out = channels_out.div_ceil(LANES * self.vectors);
        let blocks_in = channels_in.div_ceil(self.channels);
        taps * blocks_out * blocks_in * LANES * self.vectors * self.channels
    }
}

/// Appends the adding up of `parts` partial sums, laid out as `shaders/conv/weight_grad_lanes.wgsl` says, into dw.
pub(super) fn add_parts(
    to: &mut Lowering<'_>,
    sums: Sums,
    problem: &Problem,
    parts: usize,
    [partial, dw]: [&Operand; 2],
) {
    let pairs = problem.y.c() * problem.x.c();
    let params = PartsParams {
        w_offset: dw.offset,
        w_batch: dw.batch_stride,
        channels_in: problem.x.c() as u32,
        kernel_d: sums.kernel[0] as u32,
        kernel_h: sums.kernel[1] as u32,
        kernel_w: sums.kernel[2] as u32,
        pairs: pairs as u32,
        parts: parts as u32,
        blocks_out: problem.y.c().div_ceil(LANES * sums.vectors) as u32,
        blocks_in: problem.x.c().div_ceil(sums.channels) as u32,
        block_vectors: sums.vectors as u32,
        block_channels: sums.channels as u32,
    };
    let groups = grid(pairs.div_ceil(64));
    to.dispatch(&PARTS, vec![], &params, &[partial, dw], groups);
}

/// Where rows of vec4 lie, in vec4.
pub(super) struct Rows {
    pub first: u32,
    pub batch: u32,
    pub channel: u32,
    pub plane: u32,
    pub row: u32,
}

impl Rows {
    pub fn of(operand: &Operand) -> Self {
        let [_, h, w] = operand.shape.spatial();
        Self {
            first: operand.offset / 4,
            batch: operand.batch_stride / 4,
            channel: (operand.shape.voxels() / 4) as u32,
            plane: (h * w / 4) as u32,
            row: (w / 4) as u32,
        }
    }
}

/// `source` itself where it may be read as vec4 rows up to `extent` (H, W), else a copy with `padding` zeros before it
/// and zeros after it up to `extent`.
pub(super) fn padded(
    to: &mut Lowering<'_>,
    source: &Operand,
    padding: [usize; 2],
    extent: [usize; 2],
) -> Operand {
    if is_readable(source, padding, extent) {
        return *source;
    }
    let copy = to.scratch_as(source.element, with_plane(source.shape, extent));
    pad(to, source, padding, &copy);
    copy
}

/// Whether `source` may be read as vec4 rows up to `extent` (H, W) without a copy.
fn is_readable(source: &Operand, padding: [usize; 2], extent: [usize; 2]) -> bool {
    let [_, h, w] = source.shape.spatial();
    let whole = padding == [0, 0] && w.is_multiple_of(4) && extent[0] <= h && extent[1] <= w;
    whole && source.is_vec4()
}

fn with_plane(shape: Shape, [h, w]: [usize; 2]) -> Shape {
    shape.with_spatial([shape.spatial()[0], h, w])
}

/// Some channels of x, or the weights of some input channels.
fn channels_of(x: &Operand, first: usize, channels: usize) -> Operand {
    Operand {
        shape: x.shape.with_c(channels),
        offset: x.offset + (first * x.shape.voxels()) as u32,
        ..*x
    }
}

/// Appends the copy of `source` with `padding` zeros (H, W) before it, and zeros after it up to the extents of `copy`.
fn pad(to: &mut Lowering<'_>, source: &Operand, padding: [usize; 2], copy: &Operand) {
    for n in 0..source.shape.n() as u32 {
        let copy = sample(copy, n);
        copies::pad(to, &sample(source, n), (0, padding), &copy);
    }
}
