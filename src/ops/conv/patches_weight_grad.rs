//! The weight gradient of windows that tile the image, on adapters that are a CPU with subgroups of 8 and u64:
//! `shaders/conv/patches_weight_grad.wgsl`.

use super::Problem;
use super::patches::{LANES, Side, in_words, whole};
use super::weight_grad_lanes::{Sums, add_parts};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::words::words;
use crate::ops::{Lowering, Operand};
use crate::param_block;
use crate::tensor::Shape;

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
    words: u32,
    row_words: u32,
    rows: u32,
    channels_in: u32,
    channels_out: u32,
    all_words: u32,
    words_per_part: u32,
    kernel_d: u32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "conv/patches_weight_grad",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// Vectors of 8 channels of dy, and numbers of x beside each of its voxels, that one invocation takes.
const VECTORS: usize = 4;
const BESIDE: usize = 32;

/// Words that one part adds up at least, and bounds on the partial sums: their number and their bytes.
const WORDS_PER_PART: usize = 256;
const MAX_PARTS: usize = 64;
const MAX_PARTIAL_BYTES: usize = 32 << 20;

/// The kernel with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&KERNEL, vec![constants(1), constants(2)])]
}

fn constants(taps: usize) -> Constants {
    vec![("SOURCE", taps as u32)]
}

/// Whether the blocks of channels of the kernel do not lie idle; with fewer channels weight_grad_lanes has smaller ones.
pub(super) fn is_filled(problem: &Problem) -> bool {
    let sums = sums(problem);
    let fills = |count: usize, block: usize| 4 * count >= 3 * count.next_multiple_of(block);
    fills(problem.y.c(), LANES * sums.vectors) && fills(problem.x.c(), sums.channels)
}

fn sums(problem: &Problem) -> Sums {
    let kernel = problem.attributes.kernel;
    Sums {
        kernel,
        vectors: VECTORS,
        channels: BESIDE / (kernel[1] * kernel[2]),
    }
}

/// Appends dw = d(conv)/dw applied to dy for a share of the input channels of `all`, in the parts of all.
pub(super) fn lower(
    to: &mut Lowering<'_>,
    [all, share]: [&Problem; 2],
    [x, dy, dw]: [&Operand; 3],
) {
    let (all, problem) = (&whole(all), &whole(share));
    let kernel = problem.attributes.kernel;
    let (x, dy) = (in_words(to, x, problem.x), in_words(to, dy, problem.y));
    let (fine, coarse) = (Side::new(problem.x, kernel), Side::new(problem.y, [1; 3]));
    let (row_words, rows) = coarse.rows(kernel, problem.y);
    let sums = sums(problem);
    let of_part = |problem: &Problem| sums.len(problem.y.c(), problem.x.c());
    let all_words = problem.y.n() * coarse.channel;
    let wanted = all_words
        .div_ceil(WORDS_PER_PART)
        .min(MAX_PARTS)
        .min(MAX_PARTIAL_BYTES / (4 * of_part(all)))
        .max(1);
    let words_per_part = all_words.div_ceil(wanted);
    let parts = all_words.div_ceil(words_per_part);
    let partial = to.scratch(Shape::vector(parts * of_part(problem)));
    let params = Params {
        x_offset: words(x.offset),
        x_batch: words(x.batch_stride),
        x_channel: fine.channel as u32,
        x_slab: fine.slab as u32,
        x_plane: fine.plane as u32,
        x_row: fine.row as u32,
        y_offset: words(dy.offset),
        y_batch: words(dy.batch_stride),
        y_channel: coarse.channel as u32,
        words: coarse.channel as u32,
        row_words: row_words as u32,
        rows: rows as u32,
        channels_in: problem.x.c() as u32,
        channels_out: problem.y.c() as u32,
        all_words: all_words as u32,
        words_per_part: words_per_part as u32,
        kernel_d: kernel[0] as u32,
    };
    let groups = [
        problem.y.c().div_ceil(LANES * VECTORS),
        problem.x.c().div_ceil(sums.channels),
        kernel[0] * parts,
    ]
    .map(|e| e as u32);
    let constants = constants(kernel[2]);
    to.dispatch(&KERNEL, constants, &params, &[&x, &dy, &partial], groups);
    add_parts(to, sums, problem, parts, [&partial, dw]);
}
