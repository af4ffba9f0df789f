//! An activation on its own; after a normalisation it is fused into that.

use std::sync::Arc;

use super::Activation;
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::reduce::{ChannelProducts, MAP_STEPS, Tiling};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(ForwardParams {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
    slope_offset: u32,
    slope: f32,
});

pub(super) static FORWARD: Kernel = shipped_kernel! {
    name: "activation/forward",
    params: ForwardParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(BackwardParams {
    x_offset: u32,
    x_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    packs: u32,
    slope_offset: u32,
    slope: f32,
});

pub(super) static BACKWARD: Kernel = shipped_kernel! {
    name: "activation/backward",
    params: BackwardParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

/// y = act(x); x, y (N, C, D, H, W). [`Activation::Prelu`] takes the slopes (1, C, 1, 1, 1) as a second input.
#[derive(Debug)]
pub struct Activate(pub Activation);

/// dx = dy * act'(x), all (N, C, D, H, W); inputs x, with [`Activation::Prelu`] the slopes (1, C, 1, 1, 1), and dy.
#[derive(Debug)]
pub struct ActivateBackward(pub Activation);

const FORWARD_OP: &str = "activation.forward";
const BACKWARD_OP: &str = "activation.backward";

/// Checks x and the slopes.
fn check(op: &'static str, activation: Activation, inputs: &[Shape]) -> Result<Shape, OpError> {
    let expected = 1 + usize::from(activation.takes_slope());
    match *inputs {
        [x] if expected == 1 => Ok(x),
        [x, slopes] if expected == 2 => {
            expect_shape(op, "the slopes", Shape::vector(x.c()), slopes)?;
            Ok(x)
        }
        _ => Err(OpError::InputCount {
            op,
            expected,
            found: inputs.len(),
        }),
    }
}

/// The slopes of PReLU, else x, which the kernels then do not read there.
fn slopes_of(activation: Activation, inputs: &[Operand]) -> Operand {
    inputs[usize::from(activation.takes_slope())]
}

fn constants(activation: Activation, tiling: &Tiling) -> Constants {
    let mut constants = tiling.constants();
    constants.push(("KIND", activation.kind()));
    constants
}

impl Operator for Activate {
    fn name(&self) -> &'static str {
        FORWARD_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![check(FORWARD_OP, self.0, inputs)?])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(FORWARD_OP)?;
        let mut grads = vec![None; io.inputs.len()];
        if io.needs[0] {
            let inputs = [io.inputs, &[dy]].concat();
            grads[0] = Some(graph.add(Arc::new(ActivateBackward(self.0)), &inputs)?[0]);
        }
        if self.0.takes_slope() && io.needs[1] {
            let op = ChannelProducts {
                negative_part: true,
                over_batch: true,
            };
            grads[1] = Some(graph.add(Arc::new(op), &[dy, io.inputs[0]])?[0]);
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let slopes = slopes_of(self.0, to.inputs);
        let tiling = Tiling::channels(&[&x, &y], MAP_STEPS);
        let params = ForwardParams {
            x_offset: tiling.packs_of(x.offset),
            x_batch: tiling.packs_of(x.batch_stride),
            y_offset: tiling.packs_of(y.offset),
            y_batch: tiling.packs_of(y.batch_stride),
            packs: tiling.packs as u32,
            slope_offset: slopes.offset,
            slope: self.0.slope(),
        };
        let groups = tiling.groups();
        let constants = constants(self.0, &tiling);
        to.dispatch(&FORWARD, constants, &params, &[&x, &slopes, &y], groups);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 2.0 * elements,
            bytes: 8.0 * elements,
        }
    }

    fn is_cheap(&self) -> bool {
        true
    }
}

impl Operator for ActivateBackward {
    fn name(&self) -> &'static str {
        BACKWARD_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let (&dy, forward) = inputs.split_last().ok_or(OpError::InputCount {
            op: BACKWARD_OP,
            expected: 2 + usize::from(self.0.takes_slope()),
            found: 0,
        })?;
        let x = check(BACKWARD_OP, self.0, forward)?;
        expect_shape(BACKWARD_OP, "dy", x, dy)?;
        Ok(vec![x])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let slopes = slopes_of(self.0, to.inputs);
        let (x, dy, dx) = (to.inputs[0], to.inputs[to.inputs.len() - 1], to.outputs[0]);
        let tiling = Tiling::channels(&[&x, &dy, &dx], MAP_STEPS);
        let params = BackwardParams {
            x_offset: tiling.packs_of(x.offset),
            x_batch: tiling.packs_of(x.batch_stride),
            dy_offset: tiling.packs_of(dy.offset),
            dy_batch: tiling.packs_of(dy.batch_stride),
            dx_offset: tiling.packs_of(dx.offset),
            dx_batch: tiling.packs_of(dx.batch_stride),
            packs: tiling.packs as u32,
            slope_offset: slopes.offset,
            slope: self.0.slope(),
        };
        let groups = tiling.groups();
        let mut constants = constants(self.0, &tiling);
        let in_place = dx.is_at(&dy);
        constants.push(("IN_PLACE", u32::from(in_place)));
        // In place, dy is read through the binding of dx, and x stands at its own.
        let upstream = if in_place { &x } else { &dy };
        let operands = [&x, &slopes, upstream, &dx];
        to.dispatch(&BACKWARD, constants, &params, &operands, groups);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn in_place(&self) -> Vec<usize> {
        vec![1 + usize::from(self.0.takes_slope())]
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 3.0 * elements,
            bytes: 12.0 * elements,
        }
    }
}

/// Appends act(x) for an activation without slopes; x, y (N, C, D, H, W).
///
/// # Errors
/// [`OpError::InputCount`] for [`Activation::Prelu`], which is [`prelu`].
pub fn activate(
    graph: &mut dyn Build,
    x: ValueId,
    activation: Activation,
) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(Activate(activation)), &[x])?[0])
}

/// Appends PReLU of x (N, C, D, H, W) by slopes (1, C, 1, 1, 1).
///
/// # Errors
/// [`OpError::Shape`] where the slopes do not fit.
pub fn prelu(graph: &mut dyn Build, x: ValueId, slopes: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(Activate(Activation::Prelu)), &[x, slopes])?[0])
}
