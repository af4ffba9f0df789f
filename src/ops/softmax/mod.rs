//! Softmax over the channels of each voxel.

use std::sync::Arc;

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::by_slabs;
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape, grid_of,
    pack_width, take,
};
use crate::param_block;
use crate::tensor::Shape;

param_block!(ForwardParams {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
    channels: u32,
});

static FORWARD: Kernel = shipped_kernel! {
    name: "softmax/forward",
    params: ForwardParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

param_block!(BackwardParams {
    y_offset: u32,
    y_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    packs: u32,
    channels: u32,
});

static BACKWARD: Kernel = shipped_kernel! {
    name: "softmax/backward",
    params: BackwardParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// y = softmax of x over C; x, y (N, C, D, H, W).
#[derive(Debug)]
pub struct Softmax;

/// dx = y * (dy - sum over C of y * dy); inputs y and dy, all (N, C, D, H, W).
#[derive(Debug)]
pub struct SoftmaxBackward;

const FORWARD_OP: &str = "softmax.forward";
const BACKWARD_OP: &str = "softmax.backward";

/// Voxels of a pack, packs of a channel, and the grid of one invocation for each pack of a sample.
fn tile(kernel: &Kernel, operands: &[&Operand], shape: Shape) -> (u32, u32, [u32; 3]) {
    let width = pack_width(operands);
    let packs = shape.voxels() / width as usize;
    let [x, y, _] = grid_of(kernel, packs);
    (width, packs as u32, [x, y, shape.n() as u32])
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        FORWARD_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(FORWARD_OP, inputs)?;
        Ok(vec![x])
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let inputs = [io.outputs[0], io.grad(FORWARD_OP)?];
        Ok(vec![Some(
            graph.add(Arc::new(SoftmaxBackward), &inputs)?[0],
        )])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let (width, packs, groups) = tile(&FORWARD, &[&x, &y], x.shape);
        let params = ForwardParams {
            x_offset: x.offset / width,
            x_batch: x.batch_stride / width,
            y_offset: y.offset / width,
            y_batch: y.batch_stride / width,
            packs,
            channels: x.shape.c() as u32,
        };
        to.dispatch(&FORWARD, vec![("Pack", width)], &params, &[&x, &y], groups);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_slabs(to, |part, _| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 8.0 * elements,
            bytes: 8.0 * elements,
        }
    }
}

impl Operator for SoftmaxBackward {
    fn name(&self) -> &'static str {
        BACKWARD_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [y, dy] = take(BACKWARD_OP, inputs)?;
        expect_shape(BACKWARD_OP, "dy", y, dy)?;
        Ok(vec![y])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (y, dy, dx) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let (width, packs, groups) = tile(&BACKWARD, &[&y, &dy, &dx], y.shape);
        let params = BackwardParams {
            y_offset: y.offset / width,
            y_batch: y.batch_stride / width,
            dy_offset: dy.offset / width,
            dy_batch: dy.batch_stride / width,
            dx_offset: dx.offset / width,
            dx_batch: dx.batch_stride / width,
            packs,
            channels: y.shape.c() as u32,
        };
        to.dispatch(
            &BACKWARD,
            vec![("Pack", width)],
            &params,
            &[&y, &dy, &dx],
            groups,
        );
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_slabs(to, |part, _| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 4.0 * elements,
            bytes: 12.0 * elements,
        }
    }
}

/// Appends the softmax of x (N, C, D, H, W) over C.
///
/// # Errors
/// None that the graph does not see before.
pub fn softmax(graph: &mut dyn Build, x: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(Softmax), &[x])?[0])
}

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let widths: Vec<Constants> = [1, 4].map(|w| vec![("Pack", w)]).to_vec();
    vec![(&FORWARD, widths.clone()), (&BACKWARD, widths)]
}
