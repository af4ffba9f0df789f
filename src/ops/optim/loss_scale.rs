//! The scale of the loss, which keeps small gradients above what f16 rounds to 0.

use std::sync::Arc;

use super::gradient_norm::{NO_LIMIT, Norm, check_limit};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Build, Cost, Lowering, OpError, Operator, ValueId, expect_shape, take};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    scaled_offset: u32,
    norm_offset: u32,
    factor_offset: u32,
    scale_offset: u32,
    steps_offset: u32,
    max_norm: f32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "optim/loss_scale",
    params: Params::FIELDS,
    access: &[
        Access::Read,
        Access::Write,
        Access::Write,
        Access::Write,
        Access::Write,
    ],
};

/// The scale of the first step, that of PyTorch's GradScaler.
pub const FIRST_LOSS_SCALE: f32 = 65_536.0;

/// Undoes the scale of the loss and adapts it, as PyTorch's GradScaler does: halved where a gradient is not finite, which also
/// leaves out the step, and doubled after 2000 finite steps in a row (Micikevicius et al. 2018, "Mixed Precision
/// Training", section 3.2).
///
/// Inputs, all scalars: the norm of all scaled gradients, the scale of the loss and the finite steps so far, which are
/// updated in place. Outputs: the norm of the gradients, and the factor that undoes the scale and cuts them to
/// `max_norm` as torch's `clip_grad_norm_` does; 0 where the norm is not finite.
#[derive(Debug, Clone, Copy)]
pub struct LossScale {
    /// The limit; `None` leaves finite gradients as they are.
    pub max_norm: Option<f32>,
}

const OP: &str = "optim.loss_scale";

impl Operator for LossScale {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let values: [Shape; 3] = take(OP, inputs)?;
        for shape in values {
            expect_shape(OP, "every input", Shape::scalar(), shape)?;
        }
        check_limit(OP, self.max_norm)?;
        Ok(vec![Shape::scalar(); 2])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let [scaled, scale, steps] = [to.inputs[0], to.inputs[1], to.inputs[2]];
        let [norm, factor] = [to.outputs[0], to.outputs[1]];
        let params = Params {
            scaled_offset: scaled.offset,
            norm_offset: norm.offset,
            factor_offset: factor.offset,
            scale_offset: scale.offset,
            steps_offset: steps.offset,
            max_norm: self.max_norm.unwrap_or(NO_LIMIT).min(NO_LIMIT),
        };
        let operands = [&scaled, &norm, &factor, &scale, &steps];
        to.dispatch(&KERNEL, vec![], &params, &operands, [1, 1, 1]);
        Ok(())
    }

    fn cost(&self, _inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        Cost {
            flops: 8.0,
            bytes: 28.0,
        }
    }

    fn updates(&self) -> &[usize] {
        &[1, 2]
    }
}

/// The states of dynamic loss scaling, scalars.
#[derive(Clone, Copy, Debug)]
pub struct LossScaling {
    /// What the loss is multiplied by; starts at [`FIRST_LOSS_SCALE`].
    pub scale: ValueId,
    /// Steps with finite gradients since it was last changed.
    pub steps: ValueId,
}

/// Appends the norm of the gradients and their factor from the norm of the scaled ones, and adapts the scale.
///
/// # Errors
/// [`OpError`] where an input is no scalar or the limit is not above 0.
pub fn loss_scale(
    graph: &mut dyn Build,
    scaled_norm: ValueId,
    scaling: LossScaling,
    max_norm: Option<f32>,
) -> Result<Norm, OpError> {
    let inputs = [scaled_norm, scaling.scale, scaling.steps];
    let outputs = graph.add(Arc::new(LossScale { max_norm }), &inputs)?;
    Ok(Norm {
        norm: outputs[0],
        scale: outputs[1],
    })
}

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&KERNEL, vec![vec![]])]
}
