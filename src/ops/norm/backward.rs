//! The gradient of a normalisation with its scale, shift and activation.

use super::NormKind;
use super::apply::{NormApply, Operands, stride_of_samples};
use super::words::Pass;

use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::reduce::Sums;
use crate::ops::{Cost, Lowering, OpError, Operand, Operator, expect_shape};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(pub(super) SumsParams {
    x_offset: u32,
    x_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    packs: u32,
    channels: u32,
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
    slots: u32,
    plane: u32,
});

pub(super) static SUMS: Kernel = shipped_kernel! {
    name: "norm/backward_sums",
    params: SumsParams::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

param_block!(CoefficientParams {
    rows: u32,
    channels: u32,
    per_stat: u32,
    over_batch: u32,
    members: u32,
    inverse_m: f32,
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

pub(super) static COEFFICIENTS: Kernel = shipped_kernel! {
    name: "norm/backward_coefficients",
    params: CoefficientParams::FIELDS,
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

param_block!(ParameterParams {
    samples: u32,
    channels: u32,
    dgamma_offset: u32,
    dgamma_batch: u32,
    dbeta_offset: u32,
    dbeta_batch: u32,
    dslope_offset: u32,
});

pub(super) static PARAMETERS: Kernel = shipped_kernel! {
    name: "norm/backward_parameters",
    params: ParameterParams::FIELDS,
    access: &[Access::Read, Access::Write, Access::Write, Access::Write],
};

param_block!(pub(super) DxParams {
    x_offset: u32,
    x_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    packs: u32,
    channels: u32,
});

pub(super) static DX: Kernel = shipped_kernel! {
    name: "norm/backward_dx",
    params: DxParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

/// The gradient of [`NormApply`]: its inputs and then dy (N, C, D, H, W), to dx (N, C, D, H, W), dgamma, dbeta and, with
/// PReLU, the gradient of the slopes (each of the shape of what it is the gradient of).
#[derive(Debug)]
pub struct NormBackward(pub NormApply);

const OP: &str = "norm.backward";

impl NormBackward {
    /// Sums dz, dz * xhat and with PReLU dy * z for each (n, c): scalars, planes of N * C.
    fn totals(&self, to: &mut Lowering<'_>, o: &Operands, dy: &Operand) -> Operand {
        let rows = o.x.shape.n() * o.x.shape.c();
        let planes = 2 + usize::from(self.0.takes_slope());
        let Pass {
            kernel,
            tiling,
            constants,
        } = self.0.sums_pass(to.device, &[&o.x, dy]);
        let slots = tiling.slots();
        let partials = Sums::scratch(to, planes * rows, slots, tiling.partial_width());
        let params = SumsParams {
            x_offset: tiling.packs_of(o.x.offset),
            x_batch: tiling.packs_of(o.x.batch_stride),
            dy_offset: tiling.packs_of(dy.offset),
            dy_batch: tiling.packs_of(dy.batch_stride),
            packs: tiling.packs as u32,
            channels: o.x.shape.c() as u32,
            per_stat: self.0.kind.channels_per_stat(o.x.shape) as u32,
            mean_offset: o.mean.offset,
            mean_batch: self.0.stat_stride(&o.mean),
            rstd_offset: o.rstd.offset,
            rstd_batch: self.0.stat_stride(&o.rstd),
            gamma_offset: o.gamma.offset,
            gamma_batch: stride_of_samples(&o.gamma),
            beta_offset: o.beta.offset,
            beta_batch: stride_of_samples(&o.beta),
            slope_offset: o.slopes.offset,
            slope: self.0.slope(),
            slots: slots as u32,
            plane: (rows * slots) as u32,
        };
        let operands = [
            &o.x,
            &o.mean,
            &o.rstd,
            &o.gamma,
            &o.beta,
            &o.slopes,
            dy,
            &partials.data,
        ];
        to.dispatch(kernel, constants, &params, &operands, tiling.groups());
        partials.total(to)
    }

    /// Two vec4 for each (n, c) that [`DX`] reads.
    fn coefficients(&self, to: &mut Lowering<'_>, o: &Operands, totals: &Operand) -> Operand {
        let shape = o.x.shape;
        let rows = shape.n() * shape.c();
        let members = self.0.kind.members(shape);
        let coefficients = to.scratch(Shape::vector(8 * rows));
        let params = CoefficientParams {
            rows: rows as u32,
            channels: shape.c() as u32,
            per_stat: self.0.kind.channels_per_stat(shape) as u32,
            over_batch: u32::from(self.0.kind == NormKind::Batch),
            members: members as u32,
            inverse_m: match self.0.constant_stats {
                true => 0.0,
                false => 1.0 / (members * shape.voxels()) as f32,
            },
            mean_offset: o.mean.offset,
            mean_batch: self.0.stat_stride(&o.mean),
            rstd_offset: o.rstd.offset,
            rstd_batch: self.0.stat_stride(&o.rstd),
            gamma_offset: o.gamma.offset,
            gamma_batch: stride_of_samples(&o.gamma),
            beta_offset: o.beta.offset,
            beta_batch: stride_of_samples(&o.beta),
            slope_offset: o.slopes.offset,
            slope: self.0.slope(),
        };
        let operands = [
            totals,
            &o.mean,
            &o.rstd,
            &o.gamma,
            &o.beta,
            &o.slopes,
            &coefficients,
        ];
        let groups = [rows.div_ceil(64) as u32, 1, 1];
        let constants = vec![("KIND", self.0.activation_kind())];
        to.dispatch(&COEFFICIENTS, constants, &params, &operands, groups);
        coefficients
    }

    fn parameter_gradients(&self, to: &mut Lowering<'_>, shape: Shape, totals: &Operand) {
        let (dgamma, dbeta) = (to.outputs[1], to.outputs[2]);
        let dslope = match self.0.takes_slope() {
            true => to.outputs[3],
            false => to.scratch(Shape::scalar()),
        };
        let params = ParameterParams {
            samples: shape.n() as u32,
            channels: shape.c() as u32,
            dgamma_offset: dgamma.offset,
            dgamma_batch: dgamma.batch_stride,
            dbeta_offset: dbeta.offset,
            dbeta_batch: dbeta.batch_stride,
            dslope_offset: dslope.offset,
        };
        let groups = [shape.c().div_ceil(64) as u32, 1, 1];
        let constants = vec![
            ("KIND", self.0.activation_kind()),
            ("PER_SAMPLE", u32::from(dgamma.shape.n() > 1)),
        ];
        let operands = [totals, &dgamma, &dbeta, &dslope];
        to.dispatch(&PARAMETERS, constants, &params, &operands, groups);
    }
}

impl Operator for NormBackward {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let Some((&dy, forward)) = inputs.split_last() else {
            return Err(OpError::InputCount {
                op: OP,
                expected: self.0.inputs() + 1,
                found: 0,
            });
        };
        let x = self.0.check(OP, forward)?;
        expect_shape(OP, "dy", x, dy)?;
        Ok([&[x], &forward[3..]].concat())
    }

    fn element(&self, index: usize, inputs: &[Element]) -> Element {
        match index {
            0 => inputs[0],
            _ => Element::F32,
        }
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (o, dy, dx) = (
            self.0.operands(to.inputs),
            to.inputs[self.0.inputs()],
            to.outputs[0],
        );
        let totals = self.totals(to, &o, &dy);
        self.parameter_gradients(to, o.x.shape, &totals);
        let coefficients = self.coefficients(to, &o, &totals);
        let in_place = dx.is_at(&dy);
        let Pass {
            kernel,
            tiling,
            constants,
        } = self.0.dx_pass(to.device, &[&o.x, &dy, &dx], in_place);
        let params = DxParams {
            x_offset: tiling.packs_of(o.x.offset),
            x_batch: tiling.packs_of(o.x.batch_stride),
            dy_offset: tiling.packs_of(dy.offset),
            dy_batch: tiling.packs_of(dy.batch_stride),
            dx_offset: tiling.packs_of(dx.offset),
            dx_batch: tiling.packs_of(dx.batch_stride),
            packs: tiling.packs as u32,
            channels: o.x.shape.c() as u32,
        };
        // In place, dy is read through the binding of dx, and x stands at its own.
        let upstream = if in_place { &o.x } else { &dy };
        let operands = [&o.x, upstream, &coefficients, &dx];
        to.dispatch(kernel, constants, &params, &operands, tiling.groups());
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (kind, x) = (self.0.kind, to.inputs[0].shape);
        // The gradients of scale and shift are sums over the samples.
        by_channels(to, kind.channels_per_stat(x), Samples::Together, |part| {
            Self(self.0.for_channels(x, part)).lower(part)
        })
    }

    fn in_place(&self) -> Vec<usize> {
        vec![self.0.inputs()]
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 16.0 * elements,
            bytes: 20.0 * elements,
        }
    }
}
