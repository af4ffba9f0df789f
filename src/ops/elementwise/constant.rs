//! The same number everywhere: scale and shift of norms that learn none.

use std::sync::Arc;

use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Build, Lowering, OpError, Operator, ValueId, grid_of, take};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
    value: f32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "elementwise/constant",
    params: Params::FIELDS,
    access: &[Access::Write],
};

/// y = value, of any shape, in f32; no inputs, hence no gradients.
#[derive(Debug)]
pub struct Constant {
    /// Of y.
    pub shape: Shape,
    /// Every element of y.
    pub value: f32,
}

const OP: &str = "elementwise.constant";

impl Operator for Constant {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [] = take(OP, inputs)?;
        Ok(vec![self.shape])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let y = to.outputs[0];
        let per_sample = y.shape.per_sample();
        let params = Params {
            y_offset: y.offset,
            y_batch: y.batch_stride,
            per_sample: per_sample as u32,
            value: self.value,
        };
        let [gx, gy, _] = grid_of(&KERNEL, per_sample);
        let groups = [gx, gy, y.shape.n() as u32];
        to.dispatch(&KERNEL, vec![], &params, &[&y], groups);
        Ok(())
    }
}

/// Appends a tensor of `shape` whose elements are all `value`.
///
/// # Errors
/// None that the graph does not see before.
pub fn constant(graph: &mut dyn Build, shape: Shape, value: f32) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(Constant { shape, value }), &[])?[0])
}
