//! Running statistics of batch normalisation.

use super::stats::check_eps;
use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, OpError, Operator, expect_shape, take};
use crate::param_block;
use crate::tensor::Shape;

param_block!(UpdateParams {
    channels: u32,
    running_mean_offset: u32,
    running_var_offset: u32,
    mean_offset: u32,
    rstd_offset: u32,
    momentum: f32,
    eps: f32,
    unbias: f32,
});

pub(super) static UPDATE: Kernel = shipped_kernel! {
    name: "norm/running_update",
    params: UpdateParams::FIELDS,
    access: &[Access::Write, Access::Write, Access::Read, Access::Read],
};

/// running = (1 - momentum) * running + momentum * batch, in place, with the unbiased variance of the batch. A channel
/// whose batch has statistics that are not finite keeps the old ones.
///
/// Inputs, each (1, C, 1, 1, 1): running mean and running variance (states, updated), mean and rstd of the batch.
/// No outputs.
#[derive(Debug)]
pub struct RunningUpdate {
    /// The share of the new value, 0.1 as a rule.
    pub momentum: f32,
    /// What was added to the variance in rstd.
    pub eps: f32,
    /// Voxels behind each mean, N * D * H * W; a single one has no unbiased variance and counts as it is.
    pub voxels: usize,
}

const UPDATE_OP: &str = "norm.running_update";

impl Operator for RunningUpdate {
    fn name(&self) -> &'static str {
        UPDATE_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [running_mean, running_var, mean, rstd] = take(UPDATE_OP, inputs)?;
        check_eps(UPDATE_OP, self.eps)?;
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(OpError::Attribute {
                op: UPDATE_OP,
                reason: format!("momentum must lie in 0 ..= 1, found {}", self.momentum),
            });
        }
        let vector = Shape::vector(mean.c());
        expect_shape(UPDATE_OP, "the mean", vector, mean)?;
        expect_shape(UPDATE_OP, "rstd", vector, rstd)?;
        expect_shape(UPDATE_OP, "the running mean", vector, running_mean)?;
        expect_shape(UPDATE_OP, "the running variance", vector, running_var)?;
        Ok(vec![])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let [running_mean, running_var, mean, rstd] = [0, 1, 2, 3].map(|i| to.inputs[i]);
        let params = UpdateParams {
            channels: mean.shape.c() as u32,
            running_mean_offset: running_mean.offset,
            running_var_offset: running_var.offset,
            mean_offset: mean.offset,
            rstd_offset: rstd.offset,
            momentum: self.momentum,
            eps: self.eps,
            unbias: self.voxels as f32 / self.voxels.saturating_sub(1).max(1) as f32,
        };
        let groups = [mean.shape.c().div_ceil(64) as u32, 1, 1];
        let operands = [&running_mean, &running_var, &mean, &rstd];
        to.dispatch(&UPDATE, vec![], &params, &operands, groups);
        Ok(())
    }

    fn updates(&self) -> &[usize] {
        &[0, 1]
    }
}

param_block!(RstdParams {
    channels: u32,
    variance_offset: u32,
    rstd_offset: u32,
    eps: f32,
});

pub(super) static RSTD: Kernel = shipped_kernel! {
    name: "norm/rstd",
    params: RstdParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// rstd = 1 / sqrt(variance + eps), both (1, C, 1, 1, 1).
#[derive(Debug)]
pub struct Rstd {
    /// Added to the variance; positive.
    pub eps: f32,
}

const RSTD_OP: &str = "norm.rstd";

impl Operator for Rstd {
    fn name(&self) -> &'static str {
        RSTD_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [variance] = take(RSTD_OP, inputs)?;
        check_eps(RSTD_OP, self.eps)?;
        expect_shape(
            RSTD_OP,
            "the variance",
            Shape::vector(variance.c()),
            variance,
        )?;
        Ok(vec![variance])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (variance, rstd) = (to.inputs[0], to.outputs[0]);
        let params = RstdParams {
            channels: variance.shape.c() as u32,
            variance_offset: variance.offset,
            rstd_offset: rstd.offset,
            eps: self.eps,
        };
        let groups = [variance.shape.c().div_ceil(64) as u32, 1, 1];
        to.dispatch(&RSTD, vec![], &params, &[&variance, &rstd], groups);
        Ok(())
    }
}
