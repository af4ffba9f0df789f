//! Layer normalisation of tokens (Ba et al. 2016): over the channels of each voxel.
//!
//! Like the norms over voxels it comes in two operators, so that the normalised tensor need not be kept for the backward part.

use std::sync::Arc;

use super::layer_backward::{LayerInputGrad, LayerParameterGrad};
use super::stats::check_eps;
use crate::gpu::{
    Access, AdapterClass, Constants, DeviceProfile, Kernel, ParamBlock, shipped_kernel,
};
use crate::ops::parts::{Samples, by_channels, by_slabs};
use crate::ops::reduce::{MAP_STEPS, Tiling};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape, grid,
    pack_width, take,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(StatsParams {
    x_offset: u32,
    x_batch: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    packs: u32,
    channels: u32,
    eps: f32,
});

pub(super) static STATS: Kernel = shipped_kernel! {
    name: "norm/layer_stats",
    params: StatsParams::FIELDS,
    access: &[Access::Read, Access::Write, Access::Write],
};

param_block!(ApplyParams {
    x_offset: u32,
    x_batch: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    gamma_offset: u32,
    beta_offset: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
});

pub(super) static APPLY: Kernel = shipped_kernel! {
    name: "norm/layer_apply",
    params: ApplyParams::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

/// Invocations of a workgroup and slices of the channels among them: on a GPU few tokens must occupy many invocations; a
/// CPU has enough with one a pack, and pays for barriers.
const ON_GPU: (u32, u32) = (256, 32);
const ON_CPU: (u32, u32) = (64, 1);

fn constants(width: u32, (lanes, slices): (u32, u32)) -> Constants {
    vec![("Pack", width), ("LANES", lanes), ("SLICES", slices)]
}

/// The specialisations of the kernels that take whole columns of channels.
pub(super) fn column_specialisations() -> Vec<Constants> {
    let of = |width| [ON_GPU, ON_CPU].map(|size| constants(width, size));
    [of(1), of(4)].concat()
}

/// The packs of voxels of a sample, each with all its channels, and how workgroups share them.
pub(super) struct Columns {
    pub width: u32,
    pub packs: u32,
    pub constants: Constants,
    pub groups: [u32; 3],
}

impl Columns {
    /// Of `operands`, all of the voxels of the first.
    pub(super) fn of(device: &DeviceProfile, operands: &[&Operand]) -> Self {
        let shape = operands.first().map_or(Shape::scalar(), |o| o.shape);
        let size = match device.class {
            AdapterClass::Gpu => ON_GPU,
            AdapterClass::CpuLike => ON_CPU,
        };
        let width = pack_width(operands);
        let packs = shape.voxels() / width as usize;
        let [x, y, _] = grid(packs.div_ceil((size.0 / size.1) as usize));
        Self {
            width,
            packs: packs as u32,
            constants: constants(width, size),
            groups: [x, y, shape.n() as u32],
        }
    }
}

/// x (N, C, D, H, W) to mean and rstd = 1 / sqrt(variance + eps) over C, both (N, 1, D, H, W); the variance is the biased
/// one. Has no backward rule: the gradient of [`LayerApply`] holds the paths through both.
#[derive(Clone, Debug)]
pub struct LayerStats {
    /// Added to the variance; positive.
    pub eps: f32,
}

const STATS_OP: &str = "norm.layer_stats";

impl Operator for LayerStats {
    fn name(&self) -> &'static str {
        STATS_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(STATS_OP, inputs)?;
        check_eps(STATS_OP, self.eps)?;
        Ok(vec![x.with_c(1); 2])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, mean, rstd) = (to.inputs[0], to.outputs[0], to.outputs[1]);
        let columns = Columns::of(to.device, &[&x, &mean, &rstd]);
        let params = StatsParams {
            x_offset: x.offset / columns.width,
            x_batch: x.batch_stride / columns.width,
            mean_offset: mean.offset / columns.width,
            mean_batch: mean.batch_stride / columns.width,
            rstd_offset: rstd.offset / columns.width,
            rstd_batch: rstd.batch_stride / columns.width,
            packs: columns.packs,
            channels: x.shape.c() as u32,
            eps: self.eps,
        };
        let operands = [&x, &mean, &rstd];
        to.dispatch(
            &STATS,
            columns.constants,
            &params,
            &operands,
            columns.groups,
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
            bytes: 4.0 * elements,
        }
    }
}

/// y = gamma * (x - mean) * rstd + beta.
///
/// Inputs: x (N, C, D, H, W); mean and rstd (N, 1, D, H, W) as [`LayerStats`] makes them from this x; gamma and beta
/// (1, C, 1, 1, 1). Its gradient with respect to x includes the paths through mean and rstd.
#[derive(Clone, Debug)]
pub struct LayerApply;

const APPLY_OP: &str = "norm.layer_apply";

/// Checks x, mean and rstd.
pub(super) fn check_stats(
    op: &'static str,
    x: Shape,
    [mean, rstd]: [Shape; 2],
) -> Result<(), OpError> {
    expect_shape(op, "the mean", x.with_c(1), mean)?;
    expect_shape(op, "rstd", x.with_c(1), rstd)
}

impl Operator for LayerApply {
    fn name(&self) -> &'static str {
        APPLY_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x, mean, rstd, gamma, beta] = take(APPLY_OP, inputs)?;
        check_stats(APPLY_OP, x, [mean, rstd])?;
        let vector = Shape::vector(x.c());
        expect_shape(APPLY_OP, "gamma", vector, gamma)?;
        expect_shape(APPLY_OP, "beta", vector, beta)?;
        Ok(vec![x])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(APPLY_OP)?;
        let [x, mean, rstd, gamma] = [0, 1, 2, 3].map(|i| io.inputs[i]);
        let mut grads = vec![None; 5];
        if io.needs[3] || io.needs[4] {
            let found = graph.add(Arc::new(LayerParameterGrad), &[x, mean, rstd, dy])?;
            grads[3] = Some(found[0]);
            grads[4] = Some(found[1]);
        }
        // Last, so that it may be written over dy.
        if io.needs[0] {
            let inputs = [x, mean, rstd, gamma, dy];
            grads[0] = Some(graph.add(Arc::new(LayerInputGrad), &inputs)?[0]);
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let [x, mean, rstd, gamma, beta] = [0, 1, 2, 3, 4].map(|i| to.inputs[i]);
        let y = to.outputs[0];
        let in_place = x.is_at(&y);
        let operands = [&x, &y, &mean, &rstd];
        let tiling = Tiling::channels(&operands, MAP_STEPS);
        let params = ApplyParams {
            x_offset: tiling.packs_of(x.offset),
            x_batch: tiling.packs_of(x.batch_stride),
            mean_offset: tiling.packs_of(mean.offset),
            mean_batch: tiling.packs_of(mean.batch_stride),
            rstd_offset: tiling.packs_of(rstd.offset),
            rstd_batch: tiling.packs_of(rstd.batch_stride),
            gamma_offset: gamma.offset,
            beta_offset: beta.offset,
            y_offset: tiling.packs_of(y.offset),
            y_batch: tiling.packs_of(y.batch_stride),
            packs: tiling.packs as u32,
        };
        let mut constants = tiling.constants();
        constants.push(("IN_PLACE", u32::from(in_place)));
        // In place, x is read through the binding of y, and the mean stands at its own.
        let source = if in_place { &mean } else { &x };
        let operands = [source, &mean, &rstd, &gamma, &beta, &y];
        to.dispatch(&APPLY, constants, &params, &operands, tiling.groups());
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 4.0 * elements,
            bytes: 8.0 * elements,
        }
    }

    fn in_place(&self) -> Vec<usize> {
        vec![0]
    }

    fn is_cheap(&self) -> bool {
        true
    }
}

/// Appends the layer norm of x (N, C, D, H, W) over the channels of each voxel, scaled by gamma and shifted by beta (each
/// (1, C, 1, 1, 1)). PyTorch's `LayerNorm(C)` of tokens.
///
/// # Errors
/// [`OpError`] where shapes do not fit or eps is not positive.
pub fn layer_norm(
    graph: &mut dyn Build,
    x: ValueId,
    gamma: ValueId,
    beta: ValueId,
    eps: f32,
) -> Result<ValueId, OpError> {
    let stats = graph.add(Arc::new(LayerStats { eps }), &[x])?;
    let inputs = [x, stats[0], stats[1], gamma, beta];
    Ok(graph.add(Arc::new(LayerApply), &inputs)?[0])
}
