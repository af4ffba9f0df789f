//! Optimiser steps in place, the norm of all gradients, and the scale of the loss.

mod adamw;
mod gradient_norm;
mod loss_scale;
mod sgd;

pub use adamw::AdamWUpdate;
pub use gradient_norm::{GradientNorm, Norm, gradient_norm};
pub use loss_scale::{FIRST_LOSS_SCALE, LossScale, LossScaling, loss_scale};
pub use sgd::SgdUpdate;

use super::{OpError, expect_shape};
use crate::gpu::{Constants, Kernel};
use crate::tensor::Shape;

/// Values of the vector that holds what changes from step to step: learning rate, 1 - beta1^t, 1 - beta2^t.
pub const HYPER_LEN: usize = 3;

/// The kernels of this family with the specialisations in use, for the checks that need no GPU.
pub fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    [
        gradient_norm::kernels(),
        loss_scale::kernels(),
        sgd::kernels(),
        adamw::kernels(),
    ]
    .concat()
}

/// Checks the inputs of an update: parameter, states of its shape, its gradient, hyper, clip scale.
fn check_update(op: &'static str, inputs: &[Shape]) -> Result<(), OpError> {
    let [parameter, rest @ .., hyper, scale] = inputs else {
        return Err(OpError::InputCount {
            op,
            expected: 5,
            found: inputs.len(),
        });
    };
    for shape in rest {
        expect_shape(op, "state and gradient", *parameter, *shape)?;
    }
    expect_shape(op, "hyper", Shape::vector(HYPER_LEN), *hyper)?;
    expect_shape(op, "the clip scale", Shape::scalar(), *scale)
}
