//! The copies around the lanes kernel: packed weights, the padded source, the target put together.

use std::ops::Range;

use super::{LANES, Plan};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand};
use crate::param_block;

mod packing {
    use super::*;

    param_block!(Params {
        w_offset: u32,
        out_stride: u32,
        in_stride: u32,
        channels_out: u32,
        channels_in: u32,
        blocks: u32,
        blocks_out: u32,
        pair: u32,
        channels: u32,
        channel_steps: u32,
        planes: u32,
        taps_h: u32,
        taps_w: u32,
        kernel_d: u32,
        kernel_h: u32,
        kernel_w: u32,
        classes_h: u32,
        classes_w: u32,
        first_d: i32,
        first_h: i32,
        first_w: i32,
        step_d: i32,
        step_h: i32,
        step_w: i32,
    });

    pub static KERNEL: Kernel = shipped_kernel! {
        name: "conv/pack",
        params: Params::FIELDS,
        access: &[Access::Read, Access::Write],
    };

    /// Appends the packing of w (the weight of the convolution, in either direction) for `plan`.
    pub fn pack(to: &mut Lowering<'_>, plan: &Plan, w: &Operand, packed: &Operand) {
        let [_, _, kernel_d, kernel_h, kernel_w] = w.shape.0.map(|e| e as u32);
        let taps = kernel_d * kernel_h * kernel_w;
        // For the input gradient the taps run backwards, and the weight's first axis counts the channels of the source.
        let (out_stride, in_stride) = match plan.step[0] < 0 {
            true => (taps, w.batch_stride),
            false => (w.batch_stride, taps),
        };
        let params = Params {
            w_offset: w.offset,
            out_stride,
            in_stride,
            channels_out: plan.channels_out as u32,
            channels_in: plan.source.c() as u32,
            blocks: plan.blocks() as u32,
            blocks_out: plan.blocks_out() as u32,
            pair: plan.pair as u32,
            channels: plan.channels as u32,
            channel_steps: plan.channel_steps() as u32,
            planes: plan.taps[0] as u32,
            taps_h: plan.taps[1] as u32,
            taps_w: plan.taps[2] as u32,
            kernel_d,
            kernel_h,
            kernel_w,
            classes_h: plan.classes[1] as u32,
            classes_w: plan.classes[2] as u32,
            first_d: plan.first[0],
            first_h: plan.first[1],
            first_w: plan.first[2],
            step_d: plan.step[0],
            step_h: plan.step[1],
            step_w: plan.step[2],
        };
        let groups = [
            plan.channel_steps() as u32,
            (plan.blocks_out() * plan.class_count()) as u32,
            1,
        ];
        to.dispatch(&KERNEL, vec![], &params, &[w, packed], groups);
    }
}

mod padding {
    use super::*;

    param_block!(Params {
        x_offset: u32,
        x_c: u32,
        x_d: u32,
        x_h: u32,
        x_w: u32,
        y_offset: u32,
        y_d: u32,
        y_h: u32,
        y_row: u32,
        padding_d: u32,
        padding_h: u32,
        padding_w: u32,
    });

    pub static KERNEL: Kernel = shipped_kernel! {
        name: "conv/pad",
        params: Params::FIELDS,
        access: &[Access::Read, Access::Write],
    };

    param_block!(QuadParams {
        x_offset: u32,
        x_c: u32,
        x_d: u32,
        x_h: u32,
        x_row: u32,
        y_offset: u32,
        y_d: u32,
        y_h: u32,
        y_row: u32,
        padding_d: u32,
        padding_h: u32,
    });

    pub static QUADS: Kernel = shipped_kernel! {
        name: "conv/pad_quads",
        params: QuadParams::FIELDS,
        access: &[Access::Read, Access::Write],
    };

    /// Zeros before a row that [`QUADS`] has a specialisation for.
    const FEW: usize = 4;

    fn constants(padding: u32) -> Constants {
        vec![("PADDING_W", padding)]
    }

    pub fn quads() -> Vec<Constants> {
        (0..FEW as u32).map(constants).collect()
    }

    /// Appends the copy of one sample into the middle of zeros: `padding` (D, H, W) before it, of which the first may be
    /// negative, where the copy starts behind the border.
    pub fn pad(
        to: &mut Lowering<'_>,
        x: &Operand,
        (before, padding): (isize, [usize; 2]),
        padded: &Operand,
    ) {
        let [_, x_c, x_d, x_h, x_w] = x.shape.0.map(|e| e as u32);
        let [_, y_c, y_d, y_h, y_w] = padded.shape.0.map(|e| e as u32);
        // Modulo 2^32, as the kernels count.
        let padding_d = before as u32;
        let [padding_h, padding_w] = padding.map(|e| e as u32);
        let groups = |size: u32| [(y_h * y_w / 4).div_ceil(size), y_d, y_c];
        let able = to.device.is_cpu_with_lanes(LANES as u32);
        if able && x_w.is_multiple_of(4) && x.is_vec4() && padding[1] < FEW {
            let params = QuadParams {
                x_offset: x.offset / 4,
                x_c,
                x_d,
                x_h,
                x_row: x_w / 4,
                y_offset: padded.offset / 4,
                y_d,
                y_h,
                y_row: y_w / 4,
                padding_d,
                padding_h,
            };
            let operands = [x, padded];
            to.dispatch(
                &QUADS,
                constants(padding_w),
                &params,
                &operands,
                groups(256),
            );
            return;
        }
        let params = Params {
            x_offset: x.offset,
            x_c,
            x_d,
            x_h,
            x_w,
            y_offset: padded.offset / 4,
            y_d,
            y_h,
            y_row: y_w / 4,
            padding_d,
            padding_h,
            padding_w,
        };
        to.dispatch(&KERNEL, vec![], &params, &[x, padded], groups(64));
    }
}

mod interleaving {
    use super::*;

    param_block!(Params {
        s_offset: u32,
        s_class: u32,
        s_channel: u32,
        s_plane: u32,
        s_row: u32,
        y_offset: u32,
        y_d: u32,
        y_h: u32,
        y_w: u32,
    });

    pub static KERNEL: Kernel = shipped_kernel! {
        name: "conv/interleave",
        params: Params::FIELDS,
        access: &[Access::Read, Access::Write],
    };

    pub fn constants([d, h, w]: [usize; 3]) -> Constants {
        vec![
            ("STRIDE_D", d as u32),
            ("STRIDE_H", h as u32),
            ("STRIDE_W", w as u32),
        ]
    }

    /// Appends some planes of one sample of the target from their parity classes (D, H, W), side by side in `apart`.
    pub fn interleave(
        to: &mut Lowering<'_>,
        classes: [usize; 3],
        apart: &Operand,
        y: &Operand,
        planes: Range<usize>,
    ) {
        let [_, y_c, y_d, y_h, y_w] = y.shape.0.map(|e| e as u32);
        let [_, h, w] = apart.shape.spatial();
        let params = Params {
            s_offset: apart.offset,
            s_class: apart.shape.per_sample() as u32,
            s_channel: apart.shape.voxels() as u32,
            s_plane: (h * w) as u32,
            s_row: w as u32,
            y_offset: y.offset + planes.start as u32 * y_h * y_w,
            y_d,
            y_h,
            y_w,
        };
        let groups = [(y_h * y_w).div_ceil(256), planes.len() as u32, y_c];
        to.dispatch(&KERNEL, constants(classes), &params, &[apart, y], groups);
    }
}

pub(in crate::ops::conv) use interleaving::interleave;
pub(super) use packing::pack;
pub(in crate::ops::conv) use padding::pad;

/// Strides whose parity classes can be put together.
pub(super) const STRIDES: [[usize; 3]; 3] = [[1, 1, 1], [1, 2, 2], [2, 2, 2]];

/// The kernels of the copies with their specialisations.
pub(in crate::ops::conv) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![
        (&packing::KERNEL, vec![vec![]]),
        (&padding::KERNEL, vec![vec![]]),
        (&padding::QUADS, padding::quads()),
        (
            &interleaving::KERNEL,
            STRIDES.map(interleaving::constants).to_vec(),
        ),
    ]
}
