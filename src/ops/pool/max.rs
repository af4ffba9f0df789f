//! The largest value of a window, and its gradient.

use std::sync::Arc;

use super::{PairsParams, Window, WindowParams, use_pairs};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{
    Backward, Build, Lowering, OpError, Operand, Operator, ValueId, expect_shape, grid_of, take,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

static FORWARD: Kernel = shipped_kernel! {
    name: "pool/max_forward",
    params: WindowParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

static FORWARD_PAIRS: Kernel = shipped_kernel! {
    name: "pool/max_pairs_forward",
    params: PairsParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

param_block!(BackwardParams {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    per_sample: u32,
    in_d: u32,
    in_h: u32,
    in_w: u32,
    out_d: u32,
    out_h: u32,
    out_w: u32,
    kernel_d: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_d: u32,
    stride_h: u32,
    stride_w: u32,
    padding_d: u32,
    padding_h: u32,
    padding_w: u32,
});

static BACKWARD: Kernel = shipped_kernel! {
    name: "pool/max_backward",
    params: BackwardParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

param_block!(BackwardPairsParams {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    per_sample: u32,
    rows: u32,
    columns: u32,
});

static BACKWARD_PAIRS: Kernel = shipped_kernel! {
    name: "pool/max_pairs_backward",
    params: BackwardPairsParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let depths = || vec![vec![("DEPTH", 1)], vec![("DEPTH", 2)]];
    vec![
        (&FORWARD, vec![vec![]]),
        (&FORWARD_PAIRS, depths()),
        (&BACKWARD, vec![vec![]]),
        (&BACKWARD_PAIRS, depths()),
    ]
}

/// y = max over each window of x; x (N, C, D, H, W), y by [`Window::output`]. Padding never wins; a NaN does.
///
/// Saves x and y. The gradient goes to the first of equal values in the order (D, H, W), as PyTorch has it.
#[derive(Debug)]
pub struct MaxPool {
    /// Where to look.
    pub window: Window,
}

const OP: &str = "pool.max";

impl Operator for MaxPool {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        Ok(vec![self.window.output(OP, x)?])
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
        let op = Arc::new(MaxPoolBackward {
            window: self.window,
        });
        let dx = graph.add(op, &[io.inputs[0], io.outputs[0], dy])?;
        Ok(vec![Some(dx[0])])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let n = y.shape.n() as u32;
        if use_pairs(to.device, &self.window, &[&x, &y]) {
            let params = PairsParams::new(&x, &y);
            let constants = vec![("DEPTH", self.window.kernel[0] as u32)];
            let [gx, gy, _] = grid_of(&FORWARD_PAIRS, params.per_sample as usize);
            to.dispatch(&FORWARD_PAIRS, constants, &params, &[&x, &y], [gx, gy, n]);
            return Ok(());
        }
        let elements = y.shape.per_sample();
        let params = WindowParams::new(&self.window, &x, &y, elements);
        let [gx, gy, _] = grid_of(&FORWARD, elements);
        to.dispatch(&FORWARD, vec![], &params, &[&x, &y], [gx, gy, n]);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }
}

/// dx of [`MaxPool`]: inputs x (N, C, D, H, W), y and dy of the pooled shape; output dx of the shape of x.
#[derive(Debug)]
pub struct MaxPoolBackward {
    /// That of the forward pass.
    pub window: Window,
}

const OP_BACKWARD: &str = "pool.max_backward";

impl MaxPoolBackward {
    fn params(&self, x: &Operand, y: &Operand, dy: &Operand, dx: &Operand) -> BackwardParams {
        let elements = dx.shape.per_sample();
        let w = WindowParams::new(&self.window, x, y, elements);
        BackwardParams {
            x_offset: x.offset,
            x_batch: x.batch_stride,
            y_offset: y.offset,
            y_batch: y.batch_stride,
            dy_offset: dy.offset,
            dy_batch: dy.batch_stride,
            dx_offset: dx.offset,
            dx_batch: dx.batch_stride,
            per_sample: w.per_sample,
            in_d: w.in_d,
            in_h: w.in_h,
            in_w: w.in_w,
            out_d: w.out_d,
            out_h: w.out_h,
            out_w: w.out_w,
            kernel_d: w.kernel_d,
            kernel_h: w.kernel_h,
            kernel_w: w.kernel_w,
            stride_d: w.stride_d,
            stride_h: w.stride_h,
            stride_w: w.stride_w,
            padding_d: w.padding_d,
            padding_h: w.padding_h,
            padding_w: w.padding_w,
        }
    }
}

impl Operator for MaxPoolBackward {
    fn name(&self) -> &'static str {
        OP_BACKWARD
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x, y, dy] = take(OP_BACKWARD, inputs)?;
        let pooled = self.window.output(OP_BACKWARD, x)?;
        expect_shape(OP_BACKWARD, "the pooled tensor", pooled, y)?;
        expect_shape(OP_BACKWARD, "its gradient", pooled, dy)?;
        Ok(vec![x])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y, dy, dx) = (to.inputs[0], to.inputs[1], to.inputs[2], to.outputs[0]);
        let n = dx.shape.n() as u32;
        let operands = [&x, &y, &dy, &dx];
        if use_pairs(to.device, &self.window, &operands) {
            let (forward, gradient) = (PairsParams::new(&x, &y), PairsParams::new(&dx, &dy));
            let params = BackwardPairsParams {
                x_offset: forward.in_offset,
                x_batch: forward.in_batch,
                y_offset: forward.out_offset,
                y_batch: forward.out_batch,
                dy_offset: gradient.out_offset,
                dy_batch: gradient.out_batch,
                dx_offset: gradient.in_offset,
                dx_batch: gradient.in_batch,
                per_sample: forward.per_sample,
                rows: forward.rows,
                columns: forward.columns,
            };
            let constants = vec![("DEPTH", self.window.kernel[0] as u32)];
            let [gx, gy, _] = grid_of(&BACKWARD_PAIRS, params.per_sample as usize);
            to.dispatch(&BACKWARD_PAIRS, constants, &params, &operands, [gx, gy, n]);
            return Ok(());
        }
        let params = self.params(&x, &y, &dy, &dx);
        let [gx, gy, _] = grid_of(&BACKWARD, params.per_sample as usize);
        to.dispatch(&BACKWARD, vec![], &params, &operands, [gx, gy, n]);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }
}

/// Appends the maximum of `x` over `window`.
///
/// # Errors
/// [`OpError::Attribute`] or [`OpError::Shape`] where the window makes no sense or does not fit.
pub fn max_pool(graph: &mut dyn Build, x: ValueId, window: Window) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(MaxPool { window }), &[x])?[0])
}
