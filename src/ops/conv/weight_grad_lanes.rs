//! The weight gradient with lanes = output channels, for a CPU with subgroups of 8: padded copies, register tiles over
//! parts of the voxels, and a sum of the parts in fixed order.

use super::Problem;
use crate::gpu::{Access, AdapterClass, Constants, DeviceProfile, Kernel, ParamBlock};
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

static TILES: Kernel = Kernel {
    name: "conv/weight_grad_lanes",
    source: include_str!("../../../shaders/conv/weight_grad_lanes.wgsl"),
    params: TileParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(PadParams {
    x_offset: u32,
    x_batch: u32,
    x_h: u32,
    x_w: u32,
    planes: u32,
    y_h: u32,
    y_row: u32,
    padding_h: u32,
    padding_w: u32,
});

static PAD: Kernel = Kernel {
    name: "conv/weight_grad_pad",
    source: include_str!("../../../shaders/conv/weight_grad_pad.wgsl"),
    params: PadParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

param_block!(PartsParams {
    w_offset: u32,
    w_batch: u32,
    channels_in: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    total: u32,
    parts: u32,
    blocks_out: u32,
    blocks_in: u32,
    block_vectors: u32,
    block_channels: u32,
});

static PARTS: Kernel = Kernel {
    name: "conv/weight_grad_parts",
    source: include_str!("../../../shaders/conv/weight_grad_parts.wgsl"),
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

/// The windows there are kernels for. More channels an invocation is faster (3x3 with 8 of them by a fifth) and takes
/// several times as long to compile.
static TILINGS: [Tiling; 5] = [
    tiling(3, 1, 2, 4),
    tiling(3, 2, 2, 4),
    tiling(2, 2, 2, 8),
    tiling(1, 1, 4, 16),
    tiling(1, 2, 4, 8),
];

impl Tiling {
    fn of(problem: &Problem) -> Option<&'static Self> {
        let a = &problem.attributes;
        let plane = |e: [usize; 3]| [e[1], e[2]];
        TILINGS
            .iter()
            .find(|t| t.kernel == plane(a.kernel) && t.stride == plane(a.stride))
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
    vec![
        (&TILES, tiles),
        (&PAD, vec![vec![]]),
        (&PARTS, vec![vec![]]),
    ]
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
        let is_made_for =
            device.class == AdapterClass::CpuLike && device.has_subgroups_of(LANES as u32);
        if !is_made_for || a.groups != 1 || a.dilation[1..] != [1, 1] {
            return None;
        }
        let [_, h, w] = problem.y.spatial();
        let counts = |tile: [usize; 2]| [h.div_ceil(tile[0]), w.div_ceil(tile[1])];
        let tile = TILE_SHAPES
            .into_iter()
            .min_by_key(|&tile| counts(tile).iter().product::<usize>())?;
        let plan = Self {
            tiling: Tiling::of(problem)?,
            tile,
            tiles: counts(tile),
        };
        let limit = device.max_binding.min(device.max_buffer);
        let fits = |source: Shape, [h, w]: [usize; 2]| {
            4 * source.with_spatial([source.spatial()[0], h, w]).len() as u64 <= limit
        };
        (fits(problem.x, plan.x_extent()) && fits(problem.y, plan.y_extent())).then_some(plan)
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
    let &Plan {
        tiling,
        tile,
        tiles,
    } = plan;
    let a = &problem.attributes;
    let x = padded(to, x, [a.padding[1], a.padding[2]], plan.x_extent());
    let dy = padded(to, dy, [0, 0], plan.y_extent());

    let blocks_out = problem.y.c().div_ceil(LANES * tiling.vectors);
    let blocks_in = problem.x.c().div_ceil(tiling.channels);
    let block_len =
        LANES * tiling.vectors * tiling.channels * tiling.kernel.iter().product::<usize>();
    let part_len = a.kernel[0] * blocks_out * blocks_in * block_len;
    let total = problem.y.n() * problem.y.spatial()[0] * tiles[0] * tiles[1];
    let wanted = total
        .div_ceil(TILES_PER_PART)
        .min(MAX_PARTS)
        .min(MAX_PARTIAL_BYTES / (4 * part_len))
        .max(1);
    let per_part = total.div_ceil(wanted);
    let parts = total.div_ceil(per_part);
    let partial = to.scratch(Shape::new(parts, part_len, 1, 1, 1));

    let rows = Rows::of(&x);
    let dy_rows = Rows::of(&dy);
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
        channels_in: problem.x.c() as u32,
        channels_out: problem.y.c() as u32,
        x_d: problem.x.spatial()[0] as u32,
        y_d: problem.y.spatial()[0] as u32,
        tiles_h: tiles[0] as u32,
        tiles_w: tiles[1] as u32,
        tiles: total as u32,
        tiles_per_part: per_part as u32,
        kernel_d: a.kernel[0] as u32,
        stride_d: a.stride[0] as u32,
        padding_d: a.padding[0] as u32,
        dilation_d: a.dilation[0] as u32,
    };
    let groups = [
        blocks_out as u32,
        blocks_in as u32,
        (a.kernel[0] * parts) as u32,
    ];
    to.dispatch(
        &TILES,
        tiling.constants(tile),
        &params,
        &[&x, &dy, &partial],
        groups,
    );
    let params = PartsParams {
        w_offset: dw.offset,
        w_batch: dw.batch_stride,
        channels_in: problem.x.c() as u32,
        kernel_d: a.kernel[0] as u32,
        kernel_h: a.kernel[1] as u32,
        kernel_w: a.kernel[2] as u32,
        total: dw.shape.len() as u32,
        parts: parts as u32,
        blocks_out: blocks_out as u32,
        blocks_in: blocks_in as u32,
        block_vectors: tiling.vectors as u32,
        block_channels: tiling.channels as u32,
    };
    let groups = grid(dw.shape.len().div_ceil(64));
    to.dispatch(&PARTS, vec![], &params, &[&partial, dw], groups);
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
    let [d, h, w] = source.shape.spatial();
    let whole = padding == [0, 0] && w.is_multiple_of(4) && extent[0] <= h && extent[1] <= w;
    if whole && source.is_vec4() {
        return *source;
    }
    let copy = to.scratch(source.shape.with_spatial([d, extent[0], extent[1]]));
    let params = PadParams {
        x_offset: source.offset,
        x_batch: source.batch_stride,
        x_h: h as u32,
        x_w: w as u32,
        planes: (source.shape.c() * d) as u32,
        y_h: extent[0] as u32,
        y_row: (extent[1] / 4) as u32,
        padding_h: padding[0] as u32,
        padding_w: padding[1] as u32,
    };
    let [gx, gy, _] = grid((copy.shape.per_sample() / 4).div_ceil(64));
    let groups = [gx, gy, source.shape.n() as u32];
    to.dispatch(&PAD, vec![], &params, &[source, &copy], groups);
    copy
}
