//! Addition of two tensors of one shape.

use std::sync::Arc;

use crate::gpu::{Access, Kernel, ParamBlock};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operator, ValueId, expect_shape, grid, take,
};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
});

pub(super) static KERNEL: Kernel = Kernel {
    name: "elementwise/add",
    source: include_str!("../../../shaders/elementwise/add.wgsl"),
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// y = a + b; a, b, y (N, C, D, H, W). Both gradients are dy.
#[derive(Debug)]
pub struct Add;

const OP: &str = "elementwise.add";

impl Operator for Add {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [a, b] = take(OP, inputs)?;
        expect_shape(OP, "the second input", a, b)?;
        Ok(vec![a])
    }

    fn backward(
        &self,
        _graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        Ok(vec![Some(dy), Some(dy)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (a, b, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let params = Params {
            a_offset: a.offset,
            a_batch: a.batch_stride,
            b_offset: b.offset,
            b_batch: b.batch_stride,
            y_offset: y.offset,
            y_batch: y.batch_stride,
            per_sample: y.shape.per_sample() as u32,
        };
        let [gx, gy, _] = grid(y.shape.per_sample().div_ceil(256));
        let groups = [gx, gy, y.shape.n() as u32];
        to.dispatch(&KERNEL, vec![], &params, &[&a, &b, &y], groups);
        Ok(())
    }

    fn cost(&self, _inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let elements = outputs[0].len() as f64;
        Cost {
            flops: elements,
            bytes: 12.0 * elements,
        }
    }
}

/// Appends y = a + b.
///
/// # Errors
/// [`OpError::Shape`] where the shapes differ.
pub fn add(graph: &mut dyn Build, a: ValueId, b: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(Add), &[a, b])?[0])
}
