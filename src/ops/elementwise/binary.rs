//! Operations on two tensors of one shape.

use crate::gpu::{Access, Constants, Kernel, ParamBlock};
use crate::ops::Lowering;
use crate::ops::reduce::{self, MAP_STEPS, Tiling, with};
use crate::param_block;

param_block!(Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
});

pub(super) static KERNEL: Kernel = Kernel {
    name: "elementwise/binary",
    source: include_str!("../../../shaders/elementwise/binary.wgsl"),
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// The constant `OPERATION` of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Add = 0,
    Multiply = 1,
}

pub(super) fn specialisations() -> Vec<Constants> {
    let of = |o: Operation| with(reduce::specialisations(MAP_STEPS), "OPERATION", o as u32);
    [Operation::Add, Operation::Multiply].map(of).concat()
}

/// Output 0 = input 0 (operation) input 1.
pub(super) fn lower(operation: Operation, to: &mut Lowering<'_>) {
    let (a, b, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
    let tiling = Tiling::samples(&[&a, &b, &y], MAP_STEPS);
    let params = Params {
        a_offset: tiling.packs_of(a.offset),
        a_batch: tiling.packs_of(a.batch_stride),
        b_offset: tiling.packs_of(b.offset),
        b_batch: tiling.packs_of(b.batch_stride),
        y_offset: tiling.packs_of(y.offset),
        y_batch: tiling.packs_of(y.batch_stride),
        packs: tiling.packs as u32,
    };
    let groups = tiling.groups();
    let mut constants = tiling.constants();
    constants.push(("OPERATION", operation as u32));
    to.dispatch(&KERNEL, constants, &params, &[&a, &b, &y], groups);
}
