//! Normalisation by given statistics, scale, shift and activation in one pass.

use std::sync::Arc;

use super::NormKind;
use super::backward::NormBackward;
use super::words::Pass;
use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::activation::Activation;
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(pub(super) Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    packs: u32,
    per_stat: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    gamma_offset: u32,
    gamma_batch: u32,
    beta_offset: u32,
    beta_batch: u32,
    slope_offset: u32,
    slope: f32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "norm/apply",
    params: Params::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

/// y = act(gamma * (x - mean) * rstd + beta).
///
/// Inputs: x (N, C, D, H, W); mean and rstd as [`super::NormStats`] of the same kind makes them from this x; gamma and
/// beta (1, C, 1, 1, 1), or (N, C, 1, 1, 1) where each sample has its own; for [`Activation::Prelu`] the slopes (1, C, 1, 1, 1). Its gradient with respect to x includes
/// the paths through mean and rstd, unless `constant_stats`.
#[derive(Clone, Debug)]
pub struct NormApply {
    /// What shares statistics.
    pub kind: NormKind,
    /// Applied to the normalised value.
    pub activation: Option<Activation>,
    /// Whether mean and rstd do not depend on x (running statistics).
    pub constant_stats: bool,
}

const OP: &str = "norm.apply";

/// Elements from the value of one sample to that of the next; a single row of values serves all samples.
pub(super) fn stride_of_samples(values: &Operand) -> u32 {
    match values.shape.n() {
        1 => 0,
        _ => values.batch_stride,
    }
}

/// The operands that forward and backward share.
pub(super) struct Operands {
    pub x: Operand,
    pub mean: Operand,
    pub rstd: Operand,
    pub gamma: Operand,
    pub beta: Operand,
    /// The slopes of PReLU, else gamma, which the kernels then do not read there.
    pub slopes: Operand,
}

impl NormApply {
    /// The constant `KIND` of the kernels.
    pub(super) fn activation_kind(&self) -> u32 {
        self.activation.map_or(0, Activation::kind)
    }

    pub(super) fn takes_slope(&self) -> bool {
        self.activation.is_some_and(Activation::takes_slope)
    }

    /// Number of inputs.
    pub(super) fn inputs(&self) -> usize {
        5 + usize::from(self.takes_slope())
    }

    /// The fixed slope below 0; without activation it is that above.
    pub(super) fn slope(&self) -> f32 {
        self.activation.map_or(1.0, Activation::slope)
    }

    /// Checks x, mean, rstd, gamma, beta and the slopes; gives the shape of x.
    pub(super) fn check(&self, op: &'static str, inputs: &[Shape]) -> Result<Shape, OpError> {
        let (&[x, mean, rstd, gamma, beta], slopes) = inputs
            .split_first_chunk()
            .filter(|(_, slopes)| slopes.len() + 5 == self.inputs())
            .ok_or(OpError::InputCount {
                op,
                expected: self.inputs(),
                found: inputs.len(),
            })?;
        let stats = self.kind.stats_shape(op, x)?;
        let vector = Shape::vector(x.c());
        expect_shape(op, "the mean", stats, mean)?;
        expect_shape(op, "rstd", stats, rstd)?;
        let own = gamma.n() == x.n();
        let affine = Shape::new(if own { x.n() } else { 1 }, x.c(), 1, 1, 1);
        expect_shape(op, "gamma", affine, gamma)?;
        expect_shape(op, "beta", affine, beta)?;
        for &found in slopes {
            expect_shape(op, "the slopes", vector, found)?;
        }
        Ok(x)
    }

    /// The same for a part with some of the channels of `x`.
    pub(super) fn for_channels(&self, x: Shape, part: &Lowering<'_>) -> Self {
        Self {
            kind: self.kind.for_channels(x, part.inputs[0].shape.c()),
            ..*self
        }
    }

    pub(super) fn operands(&self, inputs: &[Operand]) -> Operands {
        Operands {
            x: inputs[0],
            mean: inputs[1],
            rstd: inputs[2],
            gamma: inputs[3],
            beta: inputs[4],
            slopes: inputs[if self.takes_slope() { 5 } else { 3 }],
        }
    }

    /// Elements from the statistics of one sample to those of the next; statistics of a batch serve all samples.
    pub(super) fn stat_stride(&self, stats: &Operand) -> u32 {
        match self.kind {
            NormKind::Batch => 0,
            NormKind::Instance | NormKind::Group { .. } => stats.batch_stride,
        }
    }
}

impl Operator for NormApply {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![self.check(OP, inputs)?])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let inputs = [io.inputs, &[io.grad(OP)?]].concat();
        let grads = graph.add(Arc::new(NormBackward(self.clone())), &inputs)?;
        let mut grads = grads.into_iter().map(Some);
        let dx = grads.next().flatten();
        Ok([dx, None, None].into_iter().chain(grads).collect())
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (o, y) = (self.operands(to.inputs), to.outputs[0]);
        let in_place = o.x.is_at(&y);
        let Pass {
            kernel,
            tiling,
            constants,
        } = self.apply_pass(to.device, &[&o.x, &y], in_place);
        let params = Params {
            x_offset: tiling.packs_of(o.x.offset),
            x_batch: tiling.packs_of(o.x.batch_stride),
            y_offset: tiling.packs_of(y.offset),
            y_batch: tiling.packs_of(y.batch_stride),
            packs: tiling.packs as u32,
            per_stat: self.kind.channels_per_stat(o.x.shape) as u32,
            mean_offset: o.mean.offset,
            mean_batch: self.stat_stride(&o.mean),
            rstd_offset: o.rstd.offset,
            rstd_batch: self.stat_stride(&o.rstd),
            gamma_offset: o.gamma.offset,
            gamma_batch: stride_of_samples(&o.gamma),
            beta_offset: o.beta.offset,
            beta_batch: stride_of_samples(&o.beta),
            slope_offset: o.slopes.offset,
            slope: self.slope(),
        };
        // In place, x is read through the binding of y, and gamma stands at its own.
        let x = if in_place { &o.gamma } else { &o.x };
        let operands = [x, &o.mean, &o.rstd, &o.gamma, &o.beta, &o.slopes, &y];
        to.dispatch(kernel, constants, &params, &operands, tiling.groups());
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (kind, x) = (self.kind, to.inputs[0].shape);
        by_channels(to, kind.channels_per_stat(x), Samples::Apart, |part| {
            self.for_channels(x, part).lower(part)
        })
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 5.0 * elements,
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
