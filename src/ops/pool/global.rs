//! The mean of a whole channel, and its gradient.

use std::sync::Arc;

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape, grid_of,
    take,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(SumParams {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_channel: u32,
    sums: u32,
    per_sample: u32,
    scale: f32,
});

static SUM: Kernel = shipped_kernel! {
    name: "pool/channel_sum",
    params: SumParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

static SUM_VEC4: Kernel = shipped_kernel! {
    name: "pool/channel_sum_vec4",
    params: SumParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

param_block!(SpreadParams {
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    per_channel: u32,
    per_sample: u32,
    scale: f32,
});

static SPREAD: Kernel = shipped_kernel! {
    name: "pool/channel_spread",
    params: SpreadParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![
        (&SUM, vec![vec![("FAN", FAN as u32)]]),
        (&SUM_VEC4, vec![vec![("FAN", FAN as u32)]]),
        (&SPREAD, vec![vec![]]),
    ]
}

/// Terms that one invocation adds up.
const FAN: usize = 64;

/// y = mean of each channel; x (N, C, D, H, W), y (N, C, 1, 1, 1).
///
/// A tree of sums of 64 whose order depends on the number of voxels only. Saves nothing.
#[derive(Debug)]
pub struct GlobalAvgPool;

const OP: &str = "pool.global_avg";

/// Appends y = scale * sums of up to 64 elements of a channel of x, every `y.shape.voxels()`-th.
fn sum_stage(to: &mut Lowering<'_>, x: &Operand, y: &Operand, scale: f32) {
    let (per_channel, sums) = (x.shape.voxels(), y.shape.voxels());
    let vector = x.is_vec4() && y.is_vec4();
    let (kernel, lanes) = if vector { (&SUM_VEC4, 4) } else { (&SUM, 1) };
    let elements = y.shape.per_sample() / lanes;
    let params = SumParams {
        x_offset: x.offset / lanes as u32,
        x_batch: x.batch_stride / lanes as u32,
        y_offset: y.offset / lanes as u32,
        y_batch: y.batch_stride / lanes as u32,
        per_channel: (per_channel / lanes) as u32,
        sums: (sums / lanes) as u32,
        per_sample: elements as u32,
        scale,
    };
    let [gx, gy, _] = grid_of(kernel, elements);
    let groups = [gx, gy, x.shape.n() as u32];
    let constants = vec![("FAN", FAN as u32)];
    to.dispatch(kernel, constants, &params, &[x, y], groups);
}

impl Operator for GlobalAvgPool {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        if x.is_empty() {
            return Err(OpError::Shape {
                op: OP,
                what: "the input",
                expected: "not empty".to_owned(),
                found: x,
            });
        }
        Ok(vec![x.with_spatial([1; 3])])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        let [d, h, w] = graph.shape(io.inputs[0]).spatial();
        let op = Arc::new(GlobalAvgPoolBackward { size: [d, h, w] });
        Ok(vec![Some(graph.add(op, &[dy])?[0])])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let scale = (1.0 / x.shape.voxels() as f64) as f32;
        let mut level = x;
        while level.shape.voxels() > FAN {
            let mut sums = level.shape.voxels().div_ceil(FAN);
            if level.is_vec4() {
                sums = sums.next_multiple_of(4);
            }
            let next = to.scratch(x.shape.with_spatial([1, 1, sums]));
            sum_stage(to, &level, &next, 1.0);
            level = next;
        }
        sum_stage(to, &level, &y, scale);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost {
            flops: inputs[0].len() as f64,
            bytes: 4.0 * (inputs[0].len() + outputs[0].len()) as f64,
        }
    }
}

/// dx of [`GlobalAvgPool`]: dx = dy / (D H W) everywhere; dy (N, C, 1, 1, 1), dx (N, C, D, H, W).
#[derive(Debug)]
pub struct GlobalAvgPoolBackward {
    /// (D, H, W) of x.
    pub size: [usize; 3],
}

const OP_BACKWARD: &str = "pool.global_avg_backward";

impl Operator for GlobalAvgPoolBackward {
    fn name(&self) -> &'static str {
        OP_BACKWARD
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy] = take(OP_BACKWARD, inputs)?;
        expect_shape(OP_BACKWARD, "the gradient", dy.with_spatial([1; 3]), dy)?;
        Ok(vec![dy.with_spatial(self.size)])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, dx) = (to.inputs[0], to.outputs[0]);
        let params = SpreadParams {
            dy_offset: dy.offset,
            dy_batch: dy.batch_stride,
            dx_offset: dx.offset,
            dx_batch: dx.batch_stride,
            per_channel: dx.shape.voxels() as u32,
            per_sample: dx.shape.per_sample() as u32,
            scale: (1.0 / dx.shape.voxels() as f64) as f32,
        };
        let [gx, gy, _] = grid_of(&SPREAD, dx.shape.per_sample());
        let groups = [gx, gy, dx.shape.n() as u32];
        to.dispatch(&SPREAD, vec![], &params, &[&dy, &dx], groups);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }
}

/// Appends the mean of each channel of `x`.
///
/// # Errors
/// [`OpError::Shape`] where x is empty.
pub fn global_avg_pool(graph: &mut dyn Build, x: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(GlobalAvgPool), &[x])?[0])
}
