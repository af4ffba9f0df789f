//! Partial sums and their adding up, in a fixed order.

use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand};
use crate::param_block;
use crate::tensor::Shape;

/// Invocations of a workgroup that writes partial sums.
const LANES: usize = 256;

/// Voxels that one invocation sums up, at least: fewer make the adding up dearer than the sums.
const VOXELS_PER_LANE: usize = 32;

param_block!(Params {
    rows: u32,
    parts: u32,
    y_offset: u32,
    y_batch: u32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "loss/reduce_rows",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// `rows` sums for each of `samples`, each split into parts: partials[(n * rows + row) * parts + part].
#[derive(Clone, Copy, Debug)]
pub(super) struct Partials {
    samples: usize,
    rows: usize,
    groups: usize,
}

impl Partials {
    /// The split of sums over `voxels` voxels of each sample.
    pub fn over(samples: usize, rows: usize, voxels: usize) -> Self {
        Self {
            samples,
            rows,
            groups: voxels.div_ceil(LANES * VOXELS_PER_LANE).clamp(1, LANES),
        }
    }

    /// Parts of one sum; invocations of one sample.
    pub fn parts(&self) -> usize {
        self.groups * LANES
    }

    /// The scratch space.
    pub fn shape(&self) -> Shape {
        Shape::new(self.samples, self.rows, 1, 1, self.parts())
    }

    /// The grid that writes the parts: x counts workgroups of 256 parts, y is the sample.
    pub fn workgroups(&self) -> [u32; 3] {
        [self.groups as u32, self.samples as u32, 1]
    }
}

/// Adds the parts up into `y`, (N, rows elements) at its offset and batch stride.
pub(super) fn rows(to: &mut Lowering<'_>, partials: Partials, from: &Operand, y: &Operand) {
    let params = Params {
        rows: partials.rows as u32,
        parts: partials.parts() as u32,
        y_offset: y.offset,
        y_batch: y.batch_stride,
    };
    let groups = [partials.rows as u32, partials.samples as u32, 1];
    to.dispatch(&KERNEL, vec![], &params, &[from, y], groups);
}

/// Adds `parts` numbers up into the scalar `y`.
pub(super) fn row(to: &mut Lowering<'_>, parts: usize, from: &Operand, y: &Operand) {
    let params = Params {
        rows: 1,
        parts: parts as u32,
        y_offset: y.offset,
        y_batch: y.batch_stride,
    };
    to.dispatch(&KERNEL, vec![], &params, &[from, y], [1, 1, 1]);
}
