//! Mean and reciprocal standard deviation.

use super::NormKind;
use super::tiling::{MERGE_PARAMS, Partials, SUM_STEPS, Tiling};
use crate::gpu::{Access, Kernel, ParamBlock};
use crate::ops::{Cost, Lowering, OpError, Operator, take};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    packs: u32,
    channels: u32,
    per_stat: u32,
    shift_offset: u32,
    shift_batch: u32,
    shift_stat: u32,
    slots: u32,
    partial_n: u32,
    partial_c: u32,
    plane: u32,
});

pub(super) static KERNEL: Kernel = Kernel {
    name: "norm/stats",
    source: include_str!("../../../shaders/norm/stats.wgsl"),
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

pub(super) static MERGE: Kernel = Kernel {
    name: "norm/merge_moments",
    source: include_str!("../../../shaders/norm/merge_moments.wgsl"),
    params: MERGE_PARAMS,
    access: &[Access::Read, Access::Write],
};

param_block!(FinishParams {
    rows: u32,
    members: u32,
    channels: u32,
    shift_offset: u32,
    shift_batch: u32,
    shift_stat: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    eps: f32,
});

pub(super) static FINISH: Kernel = Kernel {
    name: "norm/finish_moments",
    source: include_str!("../../../shaders/norm/finish_moments.wgsl"),
    params: FinishParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write, Access::Write],
};

/// x (N, C, D, H, W) to mean and rstd = 1 / sqrt(variance + eps), both of [`NormKind::stats_shape`]; the variance is the
/// biased one. Has no backward rule: the gradient of [`super::NormApply`] holds the paths through both.
#[derive(Clone, Debug)]
pub struct NormStats {
    /// What shares statistics.
    pub kind: NormKind,
    /// Added to the variance; positive.
    pub eps: f32,
}

const OP: &str = "norm.stats";

/// Refuses an eps that would let a constant channel divide by zero.
pub(super) fn check_eps(op: &'static str, eps: f32) -> Result<(), OpError> {
    if eps.is_finite() && eps > 0.0 {
        return Ok(());
    }
    Err(OpError::Attribute {
        op,
        reason: format!("eps must be a positive number, found {eps}; 1e-5 is usual"),
    })
}

impl Operator for NormStats {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        check_eps(OP, self.eps)?;
        let stats = self.kind.stats_shape(OP, x)?;
        Ok(vec![stats, stats])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, mean, rstd) = (to.inputs[0], to.outputs[0], to.outputs[1]);
        let (tiling, channels) = (Tiling::new(&[&x]), x.shape.c());
        let (rows, slots) = (mean.shape.len(), tiling.slots());
        let members = slots * self.kind.members(x.shape);
        let partials = Partials::scratch(to, 3, rows, members, tiling.width);
        let (partial_n, partial_c, shift_batch) = match self.kind {
            NormKind::Batch => (slots, members, 0),
            NormKind::Instance | NormKind::Group { .. } => {
                (channels * slots, slots, x.batch_stride)
            }
        };
        let per_stat = self.kind.channels_per_stat(x.shape);
        let shift_stat = (per_stat * x.shape.voxels()) as u32;
        let params = Params {
            x_offset: tiling.packs_of(x.offset),
            x_batch: tiling.packs_of(x.batch_stride),
            packs: tiling.packs as u32,
            channels: channels as u32,
            per_stat: per_stat as u32,
            shift_offset: x.offset,
            shift_batch,
            shift_stat,
            slots: slots as u32,
            partial_n: partial_n as u32,
            partial_c: partial_c as u32,
            plane: (rows * members) as u32,
        };
        let constants = vec![("Pack", tiling.width), ("STEPS", SUM_STEPS)];
        let groups = tiling.groups(SUM_STEPS);
        to.dispatch(
            &KERNEL,
            constants,
            &params,
            &[&x, &x, &partials.data],
            groups,
        );
        let last = partials.merge(to, &MERGE, 3).as_scalars();
        let params = FinishParams {
            rows: rows as u32,
            members: last.members as u32,
            channels: mean.shape.c() as u32,
            shift_offset: x.offset,
            shift_batch,
            shift_stat,
            mean_offset: mean.offset,
            mean_batch: mean.batch_stride,
            rstd_offset: rstd.offset,
            rstd_batch: rstd.batch_stride,
            eps: self.eps,
        };
        let groups = [rows.div_ceil(64) as u32, 1, 1];
        to.dispatch(
            &FINISH,
            vec![],
            &params,
            &[&last.data, &x, &mean, &rstd],
            groups,
        );
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 5.0 * elements,
            bytes: 4.0 * elements,
        }
    }
}
