//! Operations on two tensors of one shape.

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
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

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "elementwise/binary",
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
    let of = |o: Operation| {
        let list = with(reduce::specialisations(MAP_STEPS), "OPERATION", o as u32);
        [0, 1].map(|in_place| with(list.clone(), "IN_PLACE", in_place))
    };
    [Operation::Add, Operation::Multiply]
        .map(of)
        .concat()
        .concat()
}

/// Output 0 = input 0 (operation) input 1; it may lie where one of them lies.
pub(super) fn lower(operation: Operation, to: &mut Lowering<'_>) {
    let (mut a, b, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
    let in_place = y.is_at(&a) || y.is_at(&b);
    // Both operations commute: what is not y is the second operand, and stands in for the first, which is not read.
    let b = if y.is_at(&b) { a } else { b };
    if in_place {
        a = b;
    }
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
    constants.push(("IN_PLACE", u32::from(in_place)));
    to.dispatch(&KERNEL, constants, &params, &[&a, &b, &y], groups);
}
