//! Mean and reciprocal standard deviation.

use super::NormKind;
use super::words::Pass;
use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::by_channels;
use crate::ops::reduce::{FAN, LAST};
use crate::ops::{Cost, Lowering, OpError, Operand, Operator, grid, take};
use crate::param_block;
use crate::tensor::Shape;

param_block!(pub(super) Params {
    x_offset: u32,
    x_batch: u32,
    packs: u32,
    per_stat: u32,
    shift_offset: u32,
    shift_batch: u32,
    shift_stat: u32,
    slots: u32,
    partial_n: u32,
    partial_c: u32,
    plane: u32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "norm/stats",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(MergeParams {
    rows: u32,
    members: u32,
    results: u32,
});

pub(super) static MERGE: Kernel = shipped_kernel! {
    name: "norm/merge_moments",
    params: MergeParams::FIELDS,
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

pub(super) static FINISH: Kernel = shipped_kernel! {
    name: "norm/finish_moments",
    params: FinishParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write, Access::Write],
};

/// Partial moments: three planes (count, mean, sum of squared deviations) of `rows * members` packs.
struct Moments {
    data: Operand,
    rows: usize,
    members: usize,
    width: u32,
}

impl Moments {
    fn scratch(to: &mut Lowering<'_>, rows: usize, members: usize, width: u32) -> Self {
        Self {
            data: to.scratch(Shape::vector(3 * rows * members * width as usize)),
            rows,
            members,
            width,
        }
    }

    /// Merges until a row has few enough members for one invocation to take them as scalars.
    fn merge(mut self, to: &mut Lowering<'_>) -> Self {
        while self.members > LAST {
            let results = self.members.div_ceil(FAN as usize);
            let merged = Self::scratch(to, self.rows, results, self.width);
            let params = MergeParams {
                rows: self.rows as u32,
                members: self.members as u32,
                results: results as u32,
            };
            let constants = vec![("Pack", self.width), ("FAN", FAN)];
            let groups = grid((self.rows * results).div_ceil(64));
            to.dispatch(
                &MERGE,
                constants,
                &params,
                &[&self.data, &merged.data],
                groups,
            );
            self = merged;
        }
        self
    }
}

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

/// What stands beside the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// 1 / sqrt(variance + eps)
    Rstd,
    /// sqrt(variance + eps)
    Deviation,
}

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

impl NormStats {
    /// Appends the dispatches that write the mean and what `second` says.
    pub(super) fn lower_as(&self, to: &mut Lowering<'_>, second: Second) {
        let (x, mean, rstd) = (to.inputs[0], to.outputs[0], to.outputs[1]);
        let channels = x.shape.c();
        let Pass {
            kernel,
            tiling,
            constants,
        } = Pass::stats(to.device, &x);
        let slots = tiling.slots();
        let rows = mean.shape.len();
        let members = slots * self.kind.members(x.shape);
        let partials = Moments::scratch(to, rows, members, tiling.partial_width());
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
            per_stat: per_stat as u32,
            shift_offset: x.offset,
            shift_batch,
            shift_stat,
            slots: slots as u32,
            partial_n: partial_n as u32,
            partial_c: partial_c as u32,
            plane: (rows * members) as u32,
        };
        let operands = [&x, &x, &partials.data];
        to.dispatch(kernel, constants, &params, &operands, tiling.groups());
        let last = partials.merge(to);
        let params = FinishParams {
            rows: rows as u32,
            members: last.members as u32 * last.width,
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
            vec![("DEVIATION", u32::from(second == Second::Deviation))],
            &params,
            &[&last.data, &x, &mean, &rstd],
            groups,
        );
    }
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
        self.lower_as(to, Second::Rstd);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (kind, x) = (self.kind, to.inputs[0].shape);
        by_channels(to, kind.channels_per_stat(x), kind.samples(), |part| {
            let kind = kind.for_channels(x, part.inputs[0].shape.c());
            Self { kind, ..*self }.lower(part)
        })
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 5.0 * elements,
            bytes: 4.0 * elements,
        }
    }
}
