//! The weight gradient with lanes = output channels, for a CPU with subgroups of 8: padded copies, register tiles or strips
//! over parts of the voxels, and a sum of the parts in fixed order.

use super::Problem;
use super::rows::{Rows, is_readable, pad, padded, with_plane};
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

static STRIPS: Kernel = shipped_kernel! {
    name: "conv/weight_grad_strips",
    params: TileParams::FIELDS,
    access: TILES.access,
};

param_block!(PartsParams {
    w_offset: u32,
    w_batch: u32,
    channels_in: u32,
    channels_out: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
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

/// Width of a strip in voxels, and the least height: below it most steps are those without a new row of dy.
const STRIP: usize = 8;
const MIN_STRIP_HEIGHT: usize = 8;

/// Voxels of x that are loaded at once.
const PACK: usize = 4;

/// Voxels that one part adds up: enough that storing its sums costs little, few enough to keep sums short.
const VOXELS_PER_PART: usize = 2048;

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
static TILINGS: [Tiling; 17] = [
    tiling(3, 1, 2, 8),
    tiling(3, 1, 2, 4),
    tiling(3, 1, 1, 4),
    tiling(3, 1, 2, 1),
    tiling(3, 1, 1, 1),
    tiling(5, 1, 2, 4),
    tiling(5, 1, 2, 1),
    tiling(4, 1, 2, 4),
    tiling(4, 1, 2, 1),
    tiling(7, 1, 2, 1),
    tiling(7, 1, 1, 1),
    tiling(3, 2, 2, 4),
    tiling(2, 1, 2, 8),
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

    /// Whether the kernel for strips takes it.
    fn walks_strips(&self) -> bool {
        self.kernel[0] > 2 && self.stride == [1, 1]
    }

    /// Whether the kernel for tiles does: wider windows would be too much text.
    fn has_tiles(&self) -> bool {
        self.kernel[0] <= 3
    }

    fn constants(&self, cut: Cut, is_guarded: bool) -> Constants {
        let mut constants = vec![
            ("OCV", self.vectors as u32),
            ("IC", self.channels as u32),
            ("KH", self.kernel[0] as u32),
            ("KW", self.kernel[1] as u32),
        ];
        match cut {
            Cut::Tiles(tile) => constants.extend([
                ("SH", self.stride[0] as u32),
                ("SW", self.stride[1] as u32),
                ("TY", tile[0] as u32),
                ("TX", tile[1] as u32),
            ]),
            Cut::Strips => constants.push(("GUARDED", u32::from(is_guarded))),
        }
        constants
    }
}

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let tiles = TILINGS
        .iter()
        .filter(|t| t.has_tiles())
        .flat_map(|t| TILE_SHAPES.map(|tile| t.constants(Cut::Tiles(tile), false)))
        .collect();
    let strips = TILINGS.iter().filter(|t| t.walks_strips());
    let strips = strips
        .flat_map(|t| [false, true].map(|is_guarded| t.constants(Cut::Strips, is_guarded)))
        .collect();
    vec![(&TILES, tiles), (&STRIPS, strips), (&PARTS, vec![vec![]])]
}

/// What a plane of dy is cut into.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Tiles of (H, W) voxels.
    Tiles([usize; 2]),
    /// Strips as high as the plane.
    Strips,
}

/// How a weight gradient is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    tiling: &'static Tiling,
    cut: Cut,
    /// The voxels (H, W) of a tile or strip, and how many cover a plane.
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
        let tiling = Tiling::of(problem)?;
        let mut tile = TILE_SHAPES
            .into_iter()
            .min_by_key(|&tile| counts(tile).iter().product::<usize>())?;
        let mut cut = Cut::Tiles(tile);
        let is_large = tile[1] == STRIP && h >= MIN_STRIP_HEIGHT;
        if tiling.walks_strips() && (is_large || !tiling.has_tiles()) {
            (cut, tile) = (Cut::Strips, [h, STRIP]);
        }
        Some(Self {
            tiling,
            cut,
            tile,
            tiles: counts(tile),
        })
    }

    /// Voxels of dy that are loaded at once; of x it is [`PACK`].
    fn dy_pack(&self) -> usize {
        match self.cut {
            Cut::Tiles(_) => PACK,
            Cut::Strips => STRIP,
        }
    }

    /// Whether `x` is read where it lies, with zeros for what is outside: then it has the extents of dy.
    fn guards(&self, problem: &Problem, x: &Operand) -> bool {
        let a = &problem.attributes;
        let is_same = (1..3).all(|i| a.kernel[i] % 2 == 1 && a.padding[i] == a.kernel[i] / 2);
        matches!(self.cut, Cut::Strips) && is_same && is_readable(x, PACK, [0, 0], [0, 0])
    }

    /// Rows and row length of x, in floats; rows are whole packs.
    fn x_extent(&self) -> [usize; 2] {
        let Self {
            tiling: t,
            tile,
            tiles,
            ..
        } = self;
        let rows = (tiles[0] * tile[0] - 1) * t.stride[0] + t.kernel[0];
        let last = (tile[1] - 1) * t.stride[1] + t.kernel[1];
        let row = (tiles[1] - 1) * tile[1] * t.stride[1] + last.next_multiple_of(PACK);
        [rows, row]
    }

    /// Rows and row length of dy, in floats.
    fn y_extent(&self) -> [usize; 2] {
        [0, 1].map(|i| self.tiles[i] * self.tile[i])
    }
}

/// Appends dw = d(conv)/dw applied to dy, of the input channels that `x` and `dw` have.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    problem: &Problem,
    plan: &Plan,
    [x, dy, dw]: [&Operand; 3],
) {
    let a = &problem.attributes;
    let dy = padded(to, dy, plan.dy_pack(), [0, 0], plan.y_extent());
    let parts = plan.parts(problem);
    let padding = [a.padding[1], a.padding[2]];
    let is_guarded = plan.guards(problem, x);
    if is_guarded || is_readable(x, PACK, padding, plan.x_extent()) {
        let channels = x.shape.c();
        let partial = to.scratch(Shape::vector(
            parts.count * plan.part_len(problem, channels),
        ));
        let constants = plan.tiling.constants(plan.cut, is_guarded);
        return sum_tiles(to, problem, plan, parts, constants, [x, &dy, &partial, dw]);
    }
    // Some channels at a time, so that not all of the padded copy is there at once.
    let x_plane = with_plane(x.shape, plan.x_extent());
    let block = 4 * x_plane.with_c(plan.tiling.channels).len();
    let step = (CHUNK_BYTES / block).max(1) * plan.tiling.channels;
    let step = step.min(x.shape.c());
    let copy = to.scratch_as(x.element, x_plane.with_c(step));
    let partial = to.scratch(Shape::vector(parts.count * plan.part_len(problem, step)));
    for first in (0..x.shape.c()).step_by(step) {
        let channels = step.min(x.shape.c() - first);
        let part = Operand {
            shape: copy.shape.with_c(channels),
            batch_stride: copy.shape.with_c(channels).per_sample() as u32,
            ..copy
        };
        pad(to, &channels_of(x, first, channels), padding, &part);
        let weight = channels_of(dw, first, channels);
        let constants = plan.tiling.constants(plan.cut, false);
        let operands = [&part, &dy, &partial, &weight];
        sum_tiles(to, problem, plan, parts, constants, operands);
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
        let wanted = (tiles * self.tile[0] * self.tile[1])
            .div_ceil(VOXELS_PER_PART)
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
    constants: Constants,
    [x, dy, partial, dw]: [&Operand; 4],
) {
    let &Plan {
        tiling,
        cut,
        tile,
        tiles,
    } = plan;
    let a = &problem.attributes;
    let channels_in = x.shape.c();
    let blocks_out = problem.y.c().div_ceil(LANES * tiling.vectors);
    let blocks_in = channels_in.div_ceil(tiling.channels);
    let rows = Rows::of(x, PACK);
    let dy_rows = Rows::of(dy, plan.dy_pack());
    let (kernel, tiles_h) = match cut {
        Cut::Tiles(_) => (&TILES, tiles[0]),
        Cut::Strips => (&STRIPS, tile[0]),
    };
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
        tiles_h: tiles_h as u32,
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
    to.dispatch(kernel, constants, &params, &[x, dy, partial], groups);
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
    let blocks_in = problem.x.c().div_ceil(sums.channels);
    let params = PartsParams {
        w_offset: dw.offset,
        w_batch: dw.batch_stride,
        channels_in: problem.x.c() as u32,
        channels_out: problem.y.c() as u32,
        kernel_d: sums.kernel[0] as u32,
        kernel_h: sums.kernel[1] as u32,
        kernel_w: sums.kernel[2] as u32,
        parts: parts as u32,
        blocks_out: problem.y.c().div_ceil(LANES * sums.vectors) as u32,
        blocks_in: blocks_in as u32,
        block_vectors: sums.vectors as u32,
        block_channels: sums.channels as u32,
    };
    let groups = grid((problem.y.c() * blocks_in).div_ceil(64));
    to.dispatch(&PARTS, vec![], &params, &[partial, dw], groups);
}

/// Some channels of x, or the weights of some input channels.
fn channels_of(x: &Operand, first: usize, channels: usize) -> Operand {
    Operand {
        shape: x.shape.with_c(channels),
        offset: x.offset + (first * x.shape.voxels()) as u32,
        ..*x
    }
}
