//! The copy behind a concatenation that could not be made in place.

use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid_of};
use crate::param_block;

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "layout/copy",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// Appends y[start ..] = x, where `start` counts elements of a sample of y.
pub(in crate::ops) fn copy(to: &mut Lowering<'_>, x: &Operand, y: &Operand, start: usize) {
    let per_sample = x.shape.per_sample();
    let params = Params {
        x_offset: x.offset,
        x_batch: x.batch_stride,
        y_offset: y.offset + start as u32,
        y_batch: y.batch_stride,
        per_sample: per_sample as u32,
    };
    let [gx, gy, _] = grid_of(&KERNEL, per_sample);
    let groups = [gx, gy, x.shape.n() as u32];
    to.dispatch(&KERNEL, vec![], &params, &[x, y], groups);
}
