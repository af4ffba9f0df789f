//! The gradients of a layer norm of tokens.

use super::layer::{Columns, check_stats};
use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels, by_slabs};
use crate::ops::reduce::{SUM_STEPS, Sums, Tiling};
use crate::ops::{Cost, Lowering, OpError, Operator, expect_shape, take};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(InputParams {
    x_offset: u32,
    x_batch: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    gamma_offset: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    packs: u32,
    channels: u32,
});

pub(super) static INPUT: Kernel = shipped_kernel! {
    name: "norm/layer_dx",
    params: InputParams::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

param_block!(ParameterParams {
    x_offset: u32,
    x_batch: u32,
    mean_offset: u32,
    mean_batch: u32,
    rstd_offset: u32,
    rstd_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    packs: u32,
    slots: u32,
});

pub(super) static PARAMETERS: Kernel = shipped_kernel! {
    name: "norm/layer_parameters",
    params: ParameterParams::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
};

/// dx of [`super::LayerApply`] with the paths through mean and rstd; inputs x (N, C, D, H, W), mean and rstd
/// (N, 1, D, H, W), gamma (1, C, 1, 1, 1) and dy (N, C, D, H, W).
#[derive(Debug)]
pub struct LayerInputGrad;

const INPUT_OP: &str = "norm.layer_input_grad";

impl Operator for LayerInputGrad {
    fn name(&self) -> &'static str {
        INPUT_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x, mean, rstd, gamma, dy] = take(INPUT_OP, inputs)?;
        check_stats(INPUT_OP, x, [mean, rstd])?;
        expect_shape(INPUT_OP, "gamma", Shape::vector(x.c()), gamma)?;
        expect_shape(INPUT_OP, "dy", x, dy)?;
        Ok(vec![x])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let [x, mean, rstd, gamma, dy] = [0, 1, 2, 3, 4].map(|i| to.inputs[i]);
        let dx = to.outputs[0];
        let in_place = dx.is_at(&dy);
        let columns = Columns::of(to.device, &[&x, &mean, &rstd, &dy, &dx]);
        let width = columns.width;
        let params = InputParams {
            x_offset: x.offset / width,
            x_batch: x.batch_stride / width,
            mean_offset: mean.offset / width,
            mean_batch: mean.batch_stride / width,
            rstd_offset: rstd.offset / width,
            rstd_batch: rstd.batch_stride / width,
            gamma_offset: gamma.offset,
            dy_offset: dy.offset / width,
            dy_batch: dy.batch_stride / width,
            dx_offset: dx.offset / width,
            dx_batch: dx.batch_stride / width,
            packs: columns.packs,
            channels: x.shape.c() as u32,
        };
        let mut constants = columns.constants;
        constants.push(("IN_PLACE", u32::from(in_place)));
        // In place, dy is read through the binding of dx, and x stands at its own.
        let upstream = if in_place { &x } else { &dy };
        let operands = [&x, &mean, &rstd, &gamma, upstream, &dx];
        to.dispatch(&INPUT, constants, &params, &operands, columns.groups);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_slabs(to, |part, _| self.lower(part))
    }

    fn in_place(&self) -> Vec<usize> {
        vec![4]
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 12.0 * elements,
            bytes: 12.0 * elements,
        }
    }
}

/// The gradients of gamma and beta of [`super::LayerApply`], each (1, C, 1, 1, 1); inputs x (N, C, D, H, W), mean and rstd
/// (N, 1, D, H, W), and dy (N, C, D, H, W).
#[derive(Debug)]
pub struct LayerParameterGrad;

const PARAMETER_OP: &str = "norm.layer_parameter_grad";

impl Operator for LayerParameterGrad {
    fn name(&self) -> &'static str {
        PARAMETER_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x, mean, rstd, dy] = take(PARAMETER_OP, inputs)?;
        check_stats(PARAMETER_OP, x, [mean, rstd])?;
        expect_shape(PARAMETER_OP, "dy", x, dy)?;
        Ok(vec![Shape::vector(x.c()); 2])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let [x, mean, rstd, dy] = [0, 1, 2, 3].map(|i| to.inputs[i]);
        let (dgamma, dbeta) = (to.outputs[0], to.outputs[1]);
        let tiling = Tiling::channels(&[&x, &mean, &rstd, &dy], SUM_STEPS);
        let (slots, channels) = (tiling.slots(), x.shape.c());
        let members = x.shape.n() * slots;
        let [of_gamma, of_beta] =
            [(), ()].map(|()| Sums::scratch(to, channels, members, tiling.width));
        let params = ParameterParams {
            x_offset: tiling.packs_of(x.offset),
            x_batch: tiling.packs_of(x.batch_stride),
            mean_offset: tiling.packs_of(mean.offset),
            mean_batch: tiling.packs_of(mean.batch_stride),
            rstd_offset: tiling.packs_of(rstd.offset),
            rstd_batch: tiling.packs_of(rstd.batch_stride),
            dy_offset: tiling.packs_of(dy.offset),
            dy_batch: tiling.packs_of(dy.batch_stride),
            packs: tiling.packs as u32,
            slots: slots as u32,
        };
        let operands = [&x, &mean, &rstd, &dy, &of_gamma.data, &of_beta.data];
        to.dispatch(
            &PARAMETERS,
            tiling.constants(),
            &params,
            &operands,
            tiling.groups(),
        );
        of_gamma.total_into(to, &dgamma);
        of_beta.total_into(to, &dbeta);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Together, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 5.0 * elements,
            bytes: 8.0 * elements,
        }
    }
}
