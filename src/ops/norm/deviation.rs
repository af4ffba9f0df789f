//! Mean and standard deviation of the channels as values with a gradient: the style of a feature map.

use std::sync::Arc;

use super::NormKind;
use super::stats::{NormStats, Second, check_eps};
use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::reduce::{MAP_STEPS, Tiling};
use crate::ops::{Backward, Build, Cost, Lowering, OpError, Operator, ValueId, expect_shape, take};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    packs: u32,
    mean_offset: u32,
    mean_batch: u32,
    deviation_offset: u32,
    deviation_batch: u32,
    dmean_offset: u32,
    dmean_batch: u32,
    dmean_share: f32,
    ddeviation_offset: u32,
    ddeviation_batch: u32,
    ddeviation_share: f32,
});

pub(super) static GRADIENT: Kernel = shipped_kernel! {
    name: "norm/deviation_gradient",
    params: Params::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

/// x (N, C, D, H, W) to the mean of each channel of each sample and to deviation = sqrt(variance + eps), both
/// (N, C, 1, 1, 1); the variance is the biased one (Huang and Belongie 2017, equations 6 and 7).
#[derive(Debug)]
pub struct MeanDeviation {
    /// Added to the variance; positive.
    pub eps: f32,
}

const OP: &str = "norm.mean_deviation";

impl Operator for MeanDeviation {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        check_eps(OP, self.eps)?;
        let stats = NormKind::Instance.stats_shape(OP, x)?;
        Ok(vec![stats, stats])
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let [mean, deviation] = [0, 1].map(|i| io.grads.get(i).copied().flatten());
        let gradient = MeanDeviationBackward {
            of_mean: mean.is_some(),
            of_deviation: deviation.is_some(),
        };
        let mut inputs = [io.inputs, io.outputs].concat();
        inputs.extend(mean.into_iter().chain(deviation));
        Ok(vec![Some(graph.add(Arc::new(gradient), &inputs)?[0])])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (kind, eps) = (NormKind::Instance, self.eps);
        NormStats { kind, eps }.lower_as(to, Second::Deviation);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 5.0 * elements,
            bytes: 4.0 * elements,
        }
    }
}

/// The gradient of [`MeanDeviation`]: x (N, C, D, H, W), its mean and deviation, and the gradients of those that have
/// one, each (N, C, 1, 1, 1), to dx (N, C, D, H, W).
#[derive(Debug)]
pub struct MeanDeviationBackward {
    /// Whether the mean has a gradient.
    pub of_mean: bool,
    /// Whether the deviation has one.
    pub of_deviation: bool,
}

const OP_BACKWARD: &str = "norm.mean_deviation_backward";

impl MeanDeviationBackward {
    fn inputs(&self) -> usize {
        3 + usize::from(self.of_mean) + usize::from(self.of_deviation)
    }
}

impl Operator for MeanDeviationBackward {
    fn name(&self) -> &'static str {
        OP_BACKWARD
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let (x, stats) = inputs
            .split_first()
            .filter(|(_, stats)| stats.len() + 1 == self.inputs())
            .ok_or(OpError::InputCount {
                op: OP_BACKWARD,
                expected: self.inputs(),
                found: inputs.len(),
            })?;
        let expected = NormKind::Instance.stats_shape(OP_BACKWARD, *x)?;
        for &found in stats {
            expect_shape(OP_BACKWARD, "a statistic or its gradient", expected, found)?;
        }
        Ok(vec![*x])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let [x, mean, deviation] = [0, 1, 2].map(|i| to.inputs[i]);
        let dx = to.outputs[0];
        // The mean stands where there is no gradient, and its share is 0.
        let share = |is_there: bool| f32::from(u8::from(is_there)) / x.shape.voxels() as f32;
        let dmean = if self.of_mean { to.inputs[3] } else { mean };
        let ddeviation = match self.of_deviation {
            true => to.inputs[self.inputs() - 1],
            false => mean,
        };
        let tiling = Tiling::channels(&[&x, &dx], MAP_STEPS);
        let params = Params {
            x_offset: tiling.packs_of(x.offset),
            x_batch: tiling.packs_of(x.batch_stride),
            dx_offset: tiling.packs_of(dx.offset),
            dx_batch: tiling.packs_of(dx.batch_stride),
            packs: tiling.packs as u32,
            mean_offset: mean.offset,
            mean_batch: mean.batch_stride,
            deviation_offset: deviation.offset,
            deviation_batch: deviation.batch_stride,
            dmean_offset: dmean.offset,
            dmean_batch: dmean.batch_stride,
            dmean_share: share(self.of_mean),
            ddeviation_offset: ddeviation.offset,
            ddeviation_batch: ddeviation.batch_stride,
            ddeviation_share: share(self.of_deviation),
        };
        let operands = [&x, &mean, &deviation, &dmean, &ddeviation, &dx];
        let groups = tiling.groups();
        to.dispatch(&GRADIENT, tiling.constants(), &params, &operands, groups);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 3.0 * elements,
            bytes: 8.0 * elements,
        }
    }
}
