//! Forward and input gradient by cooperative matrices, for GPUs that have them: `shaders/conv/coop_correlate.wgsl`.
//!
//! The operands of a product are as the source is stored: f32 where the adapter multiplies matrices of f32 (Apple's), f16
//! only where activations are stored as f16. Sums are f32 in either case.

use super::classes::{Axis, Class, STEP, channels};
use super::{Direction, Problem};
use crate::gpu::{
    Access, Constants, CooperativeMatrix, DeviceProfile, Kernel, ParamBlock, shipped_kernel,
};
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
    w_row: u32,
    w_rows: u32,
    bias_offset: u32,
    has_bias: u32,
    channels_in: u32,
    channels_out: u32,
    steps: u32,
    tiles_out: u32,
    count_d: u32,
    count_h: u32,
    count_w: u32,
    boxes_h: u32,
    boxes_w: u32,
    box_d: u32,
    box_h: u32,
    taps_d: u32,
    taps_h: u32,
    taps_w: u32,
    stage_taps: u32,
    first_d: i32,
    first_h: i32,
    first_w: i32,
    step_d: u32,
    step_h: u32,
    step_w: u32,
    tap_step_d: u32,
    tap_step_h: u32,
    tap_step_w: u32,
    halo_h: u32,
    halo_w: u32,
    halo_unit_h: u32,
    halo_step_h: u32,
    halo_tap_h: u32,
    out_first_d: u32,
    out_first_h: u32,
    out_first_w: u32,
    out_step_d: u32,
    out_step_h: u32,
    out_step_w: u32,
});

static CORRELATE: Kernel = shipped_kernel! {
    name: "conv/coop_correlate",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

/// Rows of voxels of a box, and channels that a column of its parts computes.
const ROWS: usize = 16;
const CHANNELS: usize = 32;

/// The edges of matrices that have a specialisation, each with the voxels that a workgroup keeps: of 16, as many as a row of
/// taps with stride 2 needs.
const TILES: [(u32, usize); 2] = [(8, 320), (16, 528)];

/// Invocations of a workgroup with two columns.
const THREADS: u32 = 256;

/// Matrices, and how much of the source is kept for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    matrix: CooperativeMatrix,
    /// Voxels that a workgroup keeps at once.
    halo: usize,
    /// Subgroups side by side along the channels of the target.
    columns: usize,
}

fn constants(edge: u32, halo: usize, columns: usize) -> Constants {
    let list = [
        ("EDGE", edge),
        ("HALO", halo as u32),
        ("COLUMNS", columns as u32),
    ];
    list.to_vec()
}

/// The kernels with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let of = |(edge, halo)| [1, 2].map(|columns| constants(edge, halo, columns));
    vec![(&CORRELATE, TILES.map(of).concat())]
}

impl Plan {
    /// The plan with the largest matrices that the device has for the operands, where these kernels can run it.
    pub(super) fn new(
        direction: Direction,
        problem: &Problem,
        device: &DeviceProfile,
    ) -> Option<Self> {
        let stored = problem.stored?;
        if problem.attributes.groups != 1 {
            return None;
        }
        let [_, to] = channels(problem, direction);
        let columns = 2 - to.div_ceil(CHANNELS) % 2;
        let plans = TILES.iter().rev().map(|&(edge, halo)| Self {
            matrix: CooperativeMatrix {
                edge,
                operands: stored,
            },
            halo,
            columns,
        });
        let mut able = plans.filter(|plan| plan.fits(direction, problem, device));
        able.next()
    }

    fn fits(&self, direction: Direction, problem: &Problem, device: &DeviceProfile) -> bool {
        let limit = device.binding_limit();
        device.cooperative.contains(&self.matrix)
            && device.max_invocations >= THREADS
            && u64::from(device.max_workgroup_memory) >= self.workgroup_memory()
            && self.matrix.operands.bytes() * self.packed_len(direction, problem) as u64 <= limit
            && self.staged(direction, problem).is_some()
    }

    fn edge(&self) -> usize {
        self.matrix.edge as usize
    }

    /// Bytes.
    fn workgroup_memory(&self) -> u64 {
        let voxel = u64::from(self.matrix.edge) * self.matrix.operands.bytes() + 4;
        let results = 4 * 4 * self.columns * self.edge() * self.edge();
        self.halo as u64 * voxel + results as u64
    }

    /// Channels of the target that a workgroup computes.
    fn width(&self) -> usize {
        self.columns * CHANNELS
    }

    fn packed_len(&self, direction: Direction, problem: &Problem) -> usize {
        let [from, to] = channels(problem, direction);
        let padded = from.next_multiple_of(STEP) * to.next_multiple_of(self.width());
        problem.attributes.taps() * padded
    }

    /// Whether it adds up `part` in the order in which `whole` adds up all of a target: matrices and rows of taps that are kept
    /// at once are alike.
    pub(super) fn is_like(
        &self,
        direction: Direction,
        part: &Problem,
        (whole, all): (&Self, &Problem),
    ) -> bool {
        let rows = |plan: &Self, problem: &Problem| -> Option<Vec<usize>> {
            let staged = plan.staged(direction, problem)?;
            Some(staged.iter().map(|(_, staging)| staging.taps).collect())
        };
        self.matrix == whole.matrix && rows(self, part) == rows(whole, all)
    }

    /// The correlations with what their workgroups keep of the source; `None` where not even what a row of taps sees fits.
    fn staged(&self, direction: Direction, problem: &Problem) -> Option<Vec<(Class, Staging)>> {
        let classes = Class::all(direction, problem).into_iter();
        let staged = classes.map(|class| {
            let class = class.ascending();
            let staging = self.staging(&class.axes)?;
            Some((class, staging))
        });
        staged.collect()
    }

    fn staging(&self, [_, h, w]: &[Axis; 3]) -> Option<Staging> {
        let seen = |axis: &Axis, voxels: usize| {
            (voxels - 1) * axis.step as usize
                + axis.taps.saturating_sub(1) * axis.tap_step as usize
                + 1
        };
        let box_h = h.count.next_power_of_two().min(ROWS);
        let of = |taps, halo_h, [unit_h, step_h, tap_h]: [usize; 3]| Staging {
            boxed: [ROWS / box_h, box_h],
            taps,
            halo: [halo_h, seen(w, self.edge())],
            unit_h,
            step_h,
            tap_h,
        };
        let (step, tap_step) = (h.step as usize, h.tap_step as usize);
        let plane = of(h.taps, seen(h, box_h), [1, step, tap_step]);
        let row = of(h.taps.min(1), box_h, [step, 1, 0]);
        let fits = |staging: &Staging| staging.voxels() <= self.halo;
        if h.taps > 1 && fits(&plane) {
            return Some(plane);
        }
        fits(&row).then_some(row)
    }
}

/// The part of a plane of the source that a workgroup keeps, for so many rows of taps.
struct Staging {
    /// Rows of a box along D and H.
    boxed: [usize; 2],
    /// Rows of taps.
    taps: usize,
    /// Rows and voxels a row that are kept for each plane of the box.
    halo: [usize; 2],
    /// Rows of the source from one kept row to the next.
    unit_h: usize,
    /// Kept rows from one row of the box to the next.
    step_h: usize,
    /// Kept rows from one row of taps to the next.
    tap_h: usize,
}

impl Staging {
    fn voxels(&self) -> usize {
        self.boxed[0] * self.halo[0] * self.halo[1]
    }

    /// Boxes of a class (D, H, W).
    fn boxes(&self, class: &Class, edge: usize) -> [usize; 3] {
        let [d, h, w] = class.axes.map(|axis| axis.count);
        let [box_d, box_h] = self.boxed;
        [d.div_ceil(box_d), h.div_ceil(box_h), w.div_ceil(edge)]
    }
}

/// Appends target = the forward convolution or the input gradient of source, + bias; `operands` are source, weight and
/// target.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    plan: &Plan,
    direction: Direction,
    problem: &Problem,
    operands: [&Operand; 3],
    bias: Option<&Operand>,
) {
    let [source, w, target] = operands;
    let packed = Shape::vector(plan.packed_len(direction, problem));
    let packed = to.scratch_as(source.element, packed);
    let mut first = 0;
    let staged = plan.staged(direction, problem);
    for (class, staging) in staged.into_iter().flatten() {
        let len = class.pack(to, [w, &packed], plan.width(), first);
        let operands = [source, &packed, target];
        correlate(to, plan, &class, &staging, operands, first, bias);
        first += len;
    }
}

/// Appends one dense correlation; its weight begins at number `packed_first` of the packed vec4.
fn correlate(
    to: &mut Lowering<'_>,
    plan: &Plan,
    class: &Class,
    staging: &Staging,
    [x, packed, y]: [&Operand; 3],
    packed_first: usize,
    bias: Option<&Operand>,
) {
    let [d, h, w] = class.axes;
    let [x_d, x_h, x_w] = x.shape.spatial().map(|e| e as u32);
    let boxes = staging.boxes(class, plan.edge());
    let tiles_out = y.shape.c().div_ceil(plan.width());
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
        w_first: 4 * packed_first as u32,
        w_row: y.shape.c().next_multiple_of(plan.width()) as u32,
        w_rows: x.shape.c().next_multiple_of(STEP) as u32,
        bias_offset: bias.map_or(0, |b| b.offset),
        has_bias: u32::from(bias.is_some()),
        channels_in: x.shape.c() as u32,
        channels_out: y.shape.c() as u32,
        steps: x.shape.c().div_ceil(plan.edge()) as u32,
        tiles_out: tiles_out as u32,
        count_d: d.count as u32,
        count_h: h.count as u32,
        count_w: w.count as u32,
        boxes_h: boxes[1] as u32,
        boxes_w: boxes[2] as u32,
        box_d: staging.boxed[0] as u32,
        box_h: staging.boxed[1] as u32,
        taps_d: d.taps as u32,
        taps_h: h.taps as u32,
        taps_w: w.taps as u32,
        stage_taps: staging.taps as u32,
        first_d: d.first,
        first_h: h.first,
        first_w: w.first,
        step_d: d.step as u32,
        step_h: h.step as u32,
        step_w: w.step as u32,
        tap_step_d: d.tap_step as u32,
        tap_step_h: h.tap_step as u32,
        tap_step_w: w.tap_step as u32,
        halo_h: staging.halo[0] as u32,
        halo_w: staging.halo[1] as u32,
        halo_unit_h: staging.unit_h as u32,
        halo_step_h: staging.step_h as u32,
        halo_tap_h: staging.tap_h as u32,
        out_first_d: d.out_first as u32,
        out_first_h: h.out_first as u32,
        out_first_w: w.out_first as u32,
        out_step_d: d.out_step as u32,
        out_step_h: h.out_step as u32,
        out_step_w: w.out_step as u32,
    };
    let [gx, gy, _] = grid(boxes.iter().product::<usize>() * tiles_out);
    // A binding cannot stay empty, so without a bias the source stands in and is not read as one.
    to.dispatch(
        &CORRELATE,
        constants(plan.matrix.edge, plan.halo, plan.columns),
        &params,
        &[x, packed, bias.unwrap_or(x), y],
        [gx, gy, y.shape.n() as u32],
    );
}
