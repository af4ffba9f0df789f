//! The gradient of a bias: the sum of each channel.

use std::sync::Arc;

use crate::gpu::{Access, Kernel, ParamBlock};
use crate::ops::{Build, Cost, Lowering, OpError, Operand, Operator, ValueId, grid, take};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    batch: u32,
    channels: u32,
    voxels: u32,
    blocks: u32,
});

pub(super) static KERNEL: Kernel = Kernel {
    name: "conv/bias_grad",
    source: include_str!("../../../shaders/conv/bias_grad.wgsl"),
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// Values that one workgroup adds up before a second stage is worth its dispatch.
const BLOCK: usize = 16_384;

/// db (C) = sum over N, D, H, W of dy (N, C, D, H, W).
#[derive(Debug)]
pub struct BiasGrad;

const OP: &str = "conv.bias_grad";

impl Operator for BiasGrad {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy] = take(OP, inputs)?;
        Ok(vec![Shape::vector(dy.c())])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, db) = (to.inputs[0], to.outputs[0]);
        let blocks = (dy.shape.n() * dy.shape.voxels()).div_ceil(BLOCK).min(64);
        if blocks <= 1 {
            sum(to, &dy, &db, 1);
            return Ok(());
        }
        let partial = to.scratch(Shape::new(1, dy.shape.c(), 1, 1, blocks));
        sum(to, &dy, &partial, blocks);
        sum(to, &partial, &db, 1);
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: elements,
            bytes: 4.0 * elements,
        }
    }
}

/// Appends y[channel, block] = the sum of one of `blocks` parts of a channel of x.
fn sum(to: &mut Lowering<'_>, x: &Operand, y: &Operand, blocks: usize) {
    let params = Params {
        x_offset: x.offset,
        x_batch: x.batch_stride,
        y_offset: y.offset,
        batch: x.shape.n() as u32,
        channels: x.shape.c() as u32,
        voxels: x.shape.voxels() as u32,
        blocks: blocks as u32,
    };
    let [gx, gy, _] = grid(x.shape.c());
    to.dispatch(&KERNEL, vec![], &params, &[x, y], [gx, gy, blocks as u32]);
}

/// Appends the gradient of the bias that was added to each channel; dy (N, C, D, H, W), the result (C).
///
/// # Errors
/// None for a value of the graph.
pub fn bias_grad(graph: &mut dyn Build, dy: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(BiasGrad), &[dy])?[0])
}
