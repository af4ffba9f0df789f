//! The weight gradient by cooperative matrices, for GPUs that have them: `shaders/conv/coop_weight_grad.wgsl`.
//!
//! As for the other directions (`coop.rs`), the operands of a product are as x and dy are stored, and sums are f32.

use super::classes::gcd;
use super::split::Split;
use super::{ConvAttributes, Problem};
use crate::gpu::{
    Access, Constants, CooperativeMatrix, DeviceProfile, Kernel, ParamBlock, shipped_kernel,
};
use crate::ops::{Lowering, Operand};
use crate::param_block;

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
    y_d: u32,
    y_h: u32,
    y_w: u32,
    out_offset: u32,
    out_row: u32,
    out_part: u32,
    channels_in: u32,
    channels_out: u32,
    steps: u32,
    steps_per_part: u32,
    boxes_h: u32,
    boxes_w: u32,
    box_h: u32,
    blocks: u32,
    tiles: u32,
    tap_groups: u32,
    tap_groups_h: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    taps_d: u32,
    taps_h: u32,
    stride_h: u32,
    stride_w: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
    dilation_d: u32,
    dilation_h: u32,
    unit_d: u32,
    unit_h: u32,
    unit_w: u32,
    step_d: u32,
    step_h: u32,
    step_w: u32,
    tap_d: u32,
    tap_h: u32,
    tap_w: u32,
    halo_d: u32,
    halo_h: u32,
    halo_w: u32,
});

static PRODUCT: Kernel = shipped_kernel! {
    name: "conv/coop_weight_grad",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// The edges of matrices that have a specialisation, each with the voxels that a workgroup keeps of a block of channels: as
/// many as 3x3x3 taps see of four rows; of 8, two rows with stride 2.
const TILES: [(u32, usize); 2] = [(8, 256), (16, 324)];

/// Output channels that a workgroup computes.
const CHANNELS: usize = 32;

/// The most rows of a step.
const ROWS: usize = 4;

/// Subgroups that have parts of their own, and the most pairs of a block of input channels and a tap that one computes: 64
/// sums an invocation.
const PARTS: usize = 8;
const SLOTS: usize = 4;

/// Invocations of a workgroup.
const THREADS: u32 = 256;

/// The fewest steps that are worth a part.
const STEPS_PER_PART: usize = 16;

fn constants(edge: u32, halo: usize, slots: usize) -> Constants {
    let list = [
        ("EDGE", edge),
        ("HALO", halo as u32),
        ("SLOTS", slots as u32),
    ];
    list.to_vec()
}

/// The kernel with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let of = |(edge, halo)| (1..=SLOTS).map(move |slots| constants(edge, halo, slots));
    vec![(&PRODUCT, TILES.into_iter().flat_map(of).collect())]
}

/// What a workgroup keeps of x along one axis.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Voxels of x from one that is kept to the next.
    unit: usize,
    /// Kept voxels from one voxel of dy to the next.
    step: usize,
    /// Kept voxels from one tap to the next.
    tap: usize,
    /// Kept voxels.
    count: usize,
}

impl Kept {
    /// For so many taps of the window along `axis`, and so many voxels of dy in a row.
    fn new(a: &ConvAttributes, axis: usize, taps: usize, voxels: usize) -> Self {
        let stride = a.stride[axis];
        let spread = if taps > 1 { a.dilation[axis] } else { 0 };
        let unit = gcd(stride, spread);
        let (step, tap) = (stride / unit, spread / unit);
        Self {
            unit,
            step,
            tap,
            count: (voxels - 1) * step + (taps - 1) * tap + 1,
        }
    }
}

/// What a workgroup computes at once, and what it keeps of x for that.
#[derive(Clone, Copy, Debug)]
struct Staging {
    /// Taps of a group (D, H, W).
    taps: [usize; 3],
    /// Rows of a step.
    box_h: usize,
    /// Blocks of input channels.
    blocks: usize,
    /// Along D, H and W.
    kept: [Kept; 3],
}

impl Staging {
    /// With as many blocks of `edge` channels as `halo` voxels hold; `None` where they do not even hold one.
    fn new(
        problem: &Problem,
        taps: [usize; 3],
        box_h: usize,
        [edge, halo]: [usize; 2],
    ) -> Option<Self> {
        let a = &problem.attributes;
        let kept = [
            Kept::new(a, 0, taps[0], 1),
            Kept::new(a, 1, taps[1], box_h),
            Kept::new(a, 2, taps[2], edge),
        ];
        let voxels = kept.iter().fold(1, |n: usize, k| n.saturating_mul(k.count));
        let of_a_block: usize = taps.iter().product();
        let most = (halo / voxels).min((SLOTS * PARTS / of_a_block).max(1));
        let all = problem.x.c().div_ceil(edge);
        (most > 0).then(|| Self {
            taps,
            box_h,
            blocks: all.div_ceil(all.div_ceil(most)),
            kept,
        })
    }

    /// Pairs of a block and a tap.
    fn pairs(&self) -> usize {
        self.blocks * self.taps.iter().product::<usize>()
    }

    /// Numbers that a step loads for one row of dy and one pair.
    fn loads(&self, edge: usize) -> f64 {
        let [d, h, w] = self.kept;
        let of_x = self.blocks * d.count.min(d.step) * h.count * w.count;
        let of_dy = self.box_h * CHANNELS;
        (edge * (of_x + of_dy)) as f64 / (self.box_h * self.pairs()) as f64
    }
}

/// Matrices, and how they are fed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    matrix: CooperativeMatrix,
    /// Voxels that a workgroup can keep at once.
    halo: usize,
    staging: Staging,
}

impl Plan {
    /// The plan with the largest matrices that the device has for the operands, where these kernels can run it.
    pub(super) fn new(problem: &Problem, device: &DeviceProfile) -> Option<Self> {
        let operands = problem.stored?;
        if problem.attributes.groups != 1 || device.max_invocations < THREADS {
            return None;
        }
        TILES.iter().rev().find_map(|&(edge, halo)| {
            let matrix = CooperativeMatrix { edge, operands };
            let is_able = device.cooperative.contains(&matrix)
                && u64::from(device.max_workgroup_memory) >= workgroup_memory(matrix, halo);
            let staging = is_able.then(|| staging(problem, [edge as usize, halo]))??;
            Some(Self {
                matrix,
                halo,
                staging,
            })
        })
    }
}

/// Bytes.
fn workgroup_memory(matrix: CooperativeMatrix, halo: usize) -> u64 {
    let (edge, number) = (u64::from(matrix.edge), matrix.operands.bytes());
    let gradients = (ROWS * CHANNELS) as u64 * edge * number;
    halo as u64 * (edge * number + 4) + gradients + 4 * PARTS as u64 * edge * edge
}

/// Of groups that are all taps, a plane or a row of them, and of numbers of rows, what loads least for a product.
fn staging(problem: &Problem, [edge, halo]: [usize; 2]) -> Option<Staging> {
    let [d, h, w] = problem.attributes.kernel;
    let highest = problem.y.spatial()[1].next_power_of_two().min(ROWS);
    let groups = [[d, h, w], [1, h, w], [1, 1, w]];
    let rows = [4, 2, 1].into_iter().filter(|&rows| rows <= highest);
    let able =
        rows.flat_map(|rows| groups.map(|taps| Staging::new(problem, taps, rows, [edge, halo])));
    let cheaper = |a: &Staging, b: &Staging| a.loads(edge).total_cmp(&b.loads(edge));
    able.flatten().min_by(cheaper)
}

/// Appends dw = d(conv)/dw applied to dy, of the input channels that x and dw have, in the parts in which all of them are added
/// up; `operands` are x, dy and dw.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    problem: &Problem,
    plan: &Plan,
    [x, dy, dw]: [&Operand; 3],
) {
    let Staging {
        taps,
        box_h,
        blocks,
        kept: [d, h, w],
    } = plan.staging;
    let edge = plan.matrix.edge as usize;
    let a = &problem.attributes;
    let [x_d, x_h, x_w] = x.shape.spatial().map(|e| e as u32);
    let [y_d, y_h, y_w] = dy.shape.spatial();
    let [boxes_h, boxes_w] = [y_h.div_ceil(box_h), y_w.div_ceil(edge)];
    let pairs = plan.staging.pairs();
    let slots = pairs
        .div_ceil(pairs.div_ceil(SLOTS * PARTS))
        .div_ceil(PARTS);
    let tiles = pairs.div_ceil(slots * PARTS);
    let tap_groups = [0, 1].map(|axis| a.kernel[axis] / taps[axis]);
    let tap_groups = [tap_groups[0] * tap_groups[1], tap_groups[1]];
    let groups = |channels: usize| {
        let block_groups = channels.div_ceil(blocks * edge);
        let down = dy.shape.c().div_ceil(CHANNELS);
        [tiles * tap_groups[0] * block_groups, down]
    };
    let steps = dy.shape.n() * boxes_h * boxes_w * y_d;
    let of_all = groups(problem.x.c()).iter().product();
    let len = problem.x.c() * problem.y.c() * a.taps();
    let split = Split::new(steps, STEPS_PER_PART, of_all, len);
    let (partial, out_row) = split.space(to, dw);
    let params = Params {
        x_offset: x.offset,
        x_batch: x.batch_stride,
        x_channel: x.shape.voxels() as u32,
        x_d,
        x_h,
        x_w,
        y_offset: dy.offset,
        y_batch: dy.batch_stride,
        y_channel: dy.shape.voxels() as u32,
        y_d: y_d as u32,
        y_h: y_h as u32,
        y_w: y_w as u32,
        out_offset: partial.offset,
        out_row,
        out_part: dw.shape.len() as u32,
        channels_in: x.shape.c() as u32,
        channels_out: dy.shape.c() as u32,
        steps: split.steps as u32,
        steps_per_part: split.per_part as u32,
        boxes_h: boxes_h as u32,
        boxes_w: boxes_w as u32,
        box_h: box_h as u32,
        blocks: blocks as u32,
        tiles: tiles as u32,
        tap_groups: tap_groups[0] as u32,
        tap_groups_h: tap_groups[1] as u32,
        kernel_d: a.kernel[0] as u32,
        kernel_h: a.kernel[1] as u32,
        kernel_w: a.kernel[2] as u32,
        taps_d: taps[0] as u32,
        taps_h: taps[1] as u32,
        stride_h: a.stride[1] as u32,
        stride_w: a.stride[2] as u32,
        padding_d: a.padding[0] as u32,
        padding_h: a.padding[1] as u32,
        padding_w: a.padding[2] as u32,
        dilation_d: a.dilation[0] as u32,
        dilation_h: a.dilation[1] as u32,
        unit_d: d.unit as u32,
        unit_h: h.unit as u32,
        unit_w: w.unit as u32,
        step_d: d.step as u32,
        step_h: h.step as u32,
        step_w: w.step as u32,
        tap_d: d.tap as u32,
        tap_h: h.tap as u32,
        tap_w: w.tap as u32,
        halo_d: d.count as u32,
        halo_h: h.count as u32,
        halo_w: w.count as u32,
    };
    let [across, down] = groups(x.shape.c()).map(|count| count as u32);
    to.dispatch(
        &PRODUCT,
        constants(plan.matrix.edge, plan.halo, slots),
        &params,
        &[x, dy, &partial],
        [across, down, split.parts as u32],
    );
    split.add_up(to, &partial, dw);
}
