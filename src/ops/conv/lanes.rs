//! Forward and input gradient on adapters that are a CPU with subgroups of 8: `shaders/conv/lanes.wgsl` and the copies
//! around it.
//!
//! Both directions become one dense cross-correlation from a source to a target. For the input gradient with stride s the
//! target is dx split into s^3 parity classes, dx[s * t + r]: tap k reaches dy[(s * t + r + padding - k) / s] only where
//! that division is exact, which leaves each class a small window of stride 1. With i the offset dy[t + i],
//! k = r + padding - s * i; over all classes i runs from ceil((padding - K + 1) / s) to floor((s - 1 + padding) / s).
//!
//! With stride 2 along W a lane computes the two classes of a row together and writes them where they belong; the classes
//! of planes and rows are a dispatch each, with no more taps than they have. What has no kernel of that kind is computed
//! with the window of all classes in one dispatch, side by side, and put together by a copy.

use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    x_offset: u32,
    x_channel: u32,
    x_plane: u32,
    x_row: u32,
    x_d: u32,
    x_h: u32,
    before_d: u32,
    before_h: u32,
    before_w: u32,
    y_offset: u32,
    y_class: u32,
    y_channel: u32,
    y_plane: u32,
    y_row: u32,
    y_d: u32,
    y_h: u32,
    y_w: u32,
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

/// Appends target = the forward convolution or the input gradient of `source`, + bias.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    plan: &Plan,
    [source, w, target]: [&Operand; 3],
    bias: Option<&Operand>,
) {
    let plan = plan.reading(source);
    let writes_in_place = plan.writes_in_place(target);
    let slabs = plan.slabs(writes_in_place, to.device.binding_limit());
    let classes: Vec<Class> = plan
        .dispatches()
        .into_iter()
        .map(|class| Class::new(to, class, [source, w]))
        .collect();
    // The first slab is the largest.
    let largest = slabs[0].1;
    let padded =
        (plan.reads == Reads::Copy).then(|| to.scratch_as(source.element, largest.padded()));
    let apart = (!writes_in_place).then(|| to.scratch_as(target.element, largest.apart()));
    for n in 0..target.shape.n() as u32 {
        let (source, target) = (sample(source, n), sample(target, n));
        for &(first, ref slab) in &slabs {
            let from = match &padded {
                Some(padded) => {
                    let shape = slab.padded();
                    let part = Operand { shape, ..*padded };
                    copies::pad(to, &source, slab.padding_from(first), &part);
                    part
                }
                None => source,
            };
            let into = match &apart {
                Some(apart) => {
                    let shape = slab.apart();
                    Operand { shape, ..*apart }
                }
                None => target,
            };
            let at = At {
                first,
                written: if apart.is_some() { 0 } else { first },
            };
            for class in &classes {
                class.correlate(to, (at, slab), [&from, &into], bias);
            }
            if apart.is_some() {
                let first = first * plan.classes[0];
                let last = target.shape.spatial()[0].min(first + slab.size[0] * plan.classes[0]);
                copies::interleave(to, plan.classes_apart(), &into, &target, first..last);
            }
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

/// Where a slab lies.
#[derive(Clone, Copy)]
struct At {
    /// Its first plane in the target, of those of a class.
    first: usize,
    /// Where that lies in what is written.
    written: usize,
}

/// What one dispatch computes: a class of rows, or all classes side by side.
struct Class {
    /// Its first plane and row in the target.
    parity: [usize; 2],
    plan: Plan,
    packed: Operand,
}

impl Class {
    /// Appends the packing of its weights, as numbers of the kind that `source` has.
    fn new(
        to: &mut Lowering<'_>,
        (parity, plan): ([usize; 2], Plan),
        [source, w]: [&Operand; 2],
    ) -> Self {
        let packed = to.scratch_as(source.element, Shape::vector(plan.packed_len()));
        copies::pack(to, &plan, w, &packed);
        Self {
            parity,
            plan,
            packed,
        }
    }

    /// Appends what `slab`, whose source is `from`, makes of this class in `into`.
    fn correlate(
        &self,
        to: &mut Lowering<'_>,
        (at, slab): (At, &Plan),
        [from, into]: [&Operand; 2],
        bias: Option<&Operand>,
    ) {
        let Self {
            parity,
            plan,
            packed,
        } = self;
        let planes = slab.size[0].min(plan.size[0].saturating_sub(at.first));
        let plan = &Plan {
            size: [planes, plan.size[1], plan.size[2]],
            ..*plan
        };
        let strides = |shape: Shape| {
            let [d, h, w] = shape.spatial();
            match plan.is_pointwise() {
                true => [d * h * w / 4, 0, d * h * w / 4],
                false => [d * h * w / 4, h * w / 4, w / 4],
            }
        };
        let [y_channel, plane, row] = strides(into.shape);
        let [x_channel, x_plane, x_row] = match plan.is_pointwise() {
            // In place, the source's channels go on beyond the slab.
            true => [from.shape.voxels() / 4, 0, row],
            false => strides(from.shape),
        };
        let (size, tiles) = match plan.is_pointwise() {
            true => ([1, 1], [1, 1, into.shape.voxels().div_ceil(plan.tile[2])]),
            false => ([plan.size[0], plan.size[1]], plan.tiles()),
        };
        // From one plane or row of a class to its next.
        let [y_plane, y_row] = match plan.pair {
            1 => [plane, row],
            _ => [plane * slab.classes[0], row * slab.classes[1]],
        };
        let [_, h, w] = from.shape.spatial();
        let (read, before) = match plan.reads {
            Reads::Copy => (0, (0, [0; 2])),
            Reads::InPlace => (at.first * h * w / 4, (0, [0; 2])),
            Reads::Guarded => (0, plan.padding_from(at.first)),
        };
        let (before_d, [before_h, before_w]) = before;
        let count = tiles.iter().product::<usize>();
        let blocks = plan.blocks_out() * plan.class_count();
        let params = Params {
            x_offset: from.offset / 4 + read as u32,
            x_channel: x_channel as u32,
            x_plane: x_plane as u32,
            x_row: x_row as u32,
            x_d: plan.source.spatial()[0] as u32,
            x_h: plan.source.spatial()[1] as u32,
            // Modulo 2^32, as the kernel counts.
            before_d: before_d as u32,
            before_h: before_h as u32,
            before_w: ((before_w + plan.shift()) / 4) as u32,
            y_offset: into.offset / 4
                + (parity[0] * plane + parity[1] * row + at.written * y_plane) as u32,
            y_class: (plan.channels_out * y_channel) as u32,
            y_channel: y_channel as u32,
            y_plane: y_plane as u32,
            y_row: y_row as u32,
            y_d: size[0] as u32,
            y_h: size[1] as u32,
            y_w: row as u32,
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
        let operands = [from, packed, bias.unwrap_or(packed), into];
        to.dispatch(
            &KERNEL,
            plan.constants(),
            &params,
            &operands,
            grid(count * blocks),
        );
    }
}

#[path = "lanes_copies.rs"]
pub(super) mod copies;
#[path = "lanes_plan.rs"]
mod plan;

use plan::{LANES, Reads};
pub(super) use plan::{Plan, specialisations};
