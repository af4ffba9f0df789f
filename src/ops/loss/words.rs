//! The passes over voxels in words of eight f32, for CPU adapters: `shaders/loss/words_*.wgsl`. They know labels without
//! weights of few classes; all else keeps the kernels that take one voxel at a time.

use super::gradient::{LANES, workgroups};
use super::reduce::Partials;
use super::segmentation::{gamma, ignore_code, is_squared, pixel_code, region_code};
use super::{Activation, LossAttributes, PixelLoss};
use crate::gpu::{Access, Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel};
use crate::ops::words::{WORD, are_moved, words};
use crate::ops::{Lowering, Operand};
use crate::param_block;

/// The names of the variants.
pub const VARIANTS: [&str; 2] = ["words", "voxels"];

/// More classes than this would not stay in registers.
const MAX_CLASSES: usize = 8;

/// Voxels of an invocation of the gradient, which reads the coefficients once for all.
const VOXELS_PER_LANE: usize = 32;

param_block!(SumsParams {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    words: u32,
    parts: u32,
    ignore_label: u32,
    gamma: f32,
});

static SUMS: Kernel = shipped_kernel! {
    name: "loss/words_sums",
    params: SumsParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(GradientParams {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    coefficients_offset: u32,
    dloss_offset: u32,
    dx_offset: u32,
    dx_batch: u32,
    words: u32,
    parts: u32,
    ignore_label: u32,
    gamma: f32,
});

static GRADIENT: Kernel = shipped_kernel! {
    name: "loss/words_gradient",
    params: GradientParams::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

fn constants(attributes: &LossAttributes, classes: usize) -> Constants {
    let is_2 = matches!(attributes.pixel, Some(PixelLoss::Focal { gamma }) if gamma == 2.0);
    vec![
        ("CLASSES", classes as u32),
        ("PIXEL", pixel_code(attributes)),
        ("GAMMA_2", u32::from(is_2)),
    ]
}

fn sums_constants(attributes: &LossAttributes, classes: usize) -> Constants {
    let mut constants = constants(attributes, classes);
    constants.push(("SQUARED", u32::from(is_squared(attributes))));
    constants
}

fn gradient_constants(attributes: &LossAttributes, classes: usize) -> Constants {
    let mut constants = constants(attributes, classes);
    constants.push(("REGION", region_code(attributes)));
    constants
}

/// Whether the kernels know what is asked for, but for the number of classes.
fn know(attributes: &LossAttributes) -> bool {
    attributes.activation == Activation::Softmax
        && !attributes.class_weighted
        && !attributes.voxel_weighted
}

/// The kernels with the specialisations that `choices` and other gammas lead to.
pub(super) fn kernels(choices: &[LossAttributes]) -> Vec<(&'static Kernel, Vec<Constants>)> {
    let known = || choices.iter().copied().filter(know);
    let other_gamma = known().map(|attributes| LossAttributes {
        pixel: attributes.pixel.map(|pixel| match pixel {
            PixelLoss::Focal { .. } => PixelLoss::Focal { gamma: 1.5 },
            PixelLoss::CrossEntropy => pixel,
        }),
        ..attributes
    });
    let all: Vec<LossAttributes> = known().chain(other_gamma).collect();
    let of = |constants: fn(&LossAttributes, usize) -> Constants| {
        let some = |a| [2, 4, MAX_CLASSES].map(|classes| constants(a, classes));
        let mut list: Vec<Constants> = all.iter().flat_map(some).collect();
        list.sort_unstable();
        list.dedup();
        list
    };
    vec![
        (&SUMS, of(sums_constants)),
        (&GRADIENT, of(gradient_constants)),
    ]
}

/// Whether these kernels compute this loss on `device`; `operands` are the logits and what lies like them.
pub(super) fn take(
    attributes: &LossAttributes,
    device: &DeviceProfile,
    operands: &[&Operand],
    target: &Operand,
) -> bool {
    know(attributes)
        && operands[0].shape.c() <= MAX_CLASSES
        && are_moved(device, "loss", operands)
        && are_moved(device, "loss", &[target])
}

/// Appends the partial sums.
pub(super) fn sums(
    to: &mut Lowering<'_>,
    attributes: &LossAttributes,
    partials: Partials,
    [logits, target, scratch]: [&Operand; 3],
) {
    let params = SumsParams {
        x_offset: words(logits.offset),
        x_batch: words(logits.batch_stride),
        truth_offset: words(target.offset),
        truth_batch: words(target.batch_stride),
        words: (logits.shape.voxels() / WORD) as u32,
        parts: partials.parts() as u32,
        ignore_label: ignore_code(attributes),
        gamma: gamma(attributes),
    };
    let constants = sums_constants(attributes, logits.shape.c());
    let operands = [logits, target, scratch];
    to.dispatch(&SUMS, constants, &params, &operands, partials.workgroups());
}

/// Appends the gradient.
pub(super) fn gradient(
    to: &mut Lowering<'_>,
    attributes: &LossAttributes,
    [logits, target, coefficients, dloss, dx]: [&Operand; 5],
) {
    let shape = dx.shape;
    let groups = workgroups(shape.voxels(), VOXELS_PER_LANE);
    let params = GradientParams {
        x_offset: words(logits.offset),
        x_batch: words(logits.batch_stride),
        truth_offset: words(target.offset),
        truth_batch: words(target.batch_stride),
        coefficients_offset: coefficients.offset,
        dloss_offset: dloss.offset,
        dx_offset: words(dx.offset),
        dx_batch: words(dx.batch_stride),
        words: (shape.voxels() / WORD) as u32,
        parts: (groups * LANES) as u32,
        ignore_label: ignore_code(attributes),
        gamma: gamma(attributes),
    };
    let constants = gradient_constants(attributes, shape.c());
    let operands = [logits, target, coefficients, dloss, dx];
    let grid = [groups as u32, shape.n() as u32, 1];
    to.dispatch(&GRADIENT, constants, &params, &operands, grid);
}
