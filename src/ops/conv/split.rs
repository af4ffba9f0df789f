//! A weight gradient's sum over the voxels, split into parts that fill a GPU and are added up in a fixed order.

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid};
use crate::param_block;

param_block!(Params {
    w_offset: u32,
    w_batch: u32,
    columns: u32,
    total: u32,
    parts: u32,
});

static PARTS: Kernel = shipped_kernel! {
    name: "conv/gemm_parts",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// Workgroups that fill a large GPU.
const MANY_GROUPS: usize = 512;

/// Bounds on the partial sums: their number and their bytes.
const MAX_PARTS: usize = 256;
const MAX_PARTIAL_BYTES: usize = 32 << 20;

/// The kernel with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&PARTS, vec![vec![]])]
}

/// The parts of a sum that is made of steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    pub steps: usize,
    pub per_part: usize,
    pub parts: usize,
}

impl Split {
    /// Parts of at least `least` steps, as many as it takes where a part is `groups` workgroups and has `len` sums.
    pub(super) fn new(steps: usize, least: usize, groups: usize, len: usize) -> Self {
        let wanted = MANY_GROUPS
            .div_ceil(groups)
            .min(steps.div_ceil(least))
            .min(MAX_PARTS)
            .min(MAX_PARTIAL_BYTES / (4 * len))
            .max(1);
        let per_part = steps.div_ceil(wanted);
        Self {
            steps,
            per_part,
            parts: steps.div_ceil(per_part),
        }
    }

    /// Where the first stage writes dw of each part, and the numbers from one output channel to the next: one part is dw.
    pub(super) fn space(&self, to: &mut Lowering<'_>, dw: &Operand) -> (Operand, u32) {
        match self.parts {
            1 => (*dw, dw.batch_stride),
            _ => {
                let shape = dw.shape.with_c(dw.shape.c() * self.parts);
                (to.scratch(shape), dw.shape.per_sample() as u32)
            }
        }
    }

    /// Appends dw = the sum of what the first stage wrote to [`Split::space`].
    pub(super) fn add_up(&self, to: &mut Lowering<'_>, partial: &Operand, dw: &Operand) {
        if self.parts == 1 {
            return;
        }
        let params = Params {
            w_offset: dw.offset,
            w_batch: dw.batch_stride,
            columns: dw.shape.per_sample() as u32,
            total: dw.shape.len() as u32,
            parts: self.parts as u32,
        };
        let groups = grid(dw.shape.len().div_ceil(64));
        to.dispatch(&PARTS, vec![], &params, &[partial, dw], groups);
    }
}
