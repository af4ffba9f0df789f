//! The mean of the squared differences of two tensors.

use std::sync::Arc;

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::reduce::{MAP_STEPS, SUM_STEPS, Sums, Tiling, specialisations};
use crate::ops::{Backward, Build, Cost, Lowering, OpError, Operator, ValueId, expect_shape, take};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    packs: u32,
    slots: u32,
    scale: f32,
});

static SUMS: Kernel = shipped_kernel! {
    name: "loss/squared_sums",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(GradientParams {
    a_offset: u32,
    a_batch: u32,
    b_offset: u32,
    b_batch: u32,
    da_offset: u32,
    da_batch: u32,
    dy_offset: u32,
    packs: u32,
    scale: f32,
});

static GRADIENT: Kernel = shipped_kernel! {
    name: "loss/squared_gradient",
    params: GradientParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![
        (&SUMS, specialisations(SUM_STEPS)),
        (&GRADIENT, specialisations(MAP_STEPS)),
    ]
}

/// The mean of (a - b)^2 over all elements of a and b, both (N, C, D, H, W); a scalar.
#[derive(Debug)]
pub struct MeanSquared;

const OP: &str = "loss.mean_squared";

impl Operator for MeanSquared {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [a, b] = take(OP, inputs)?;
        expect_shape(OP, "the second input", a, b)?;
        Ok(vec![Shape::scalar()])
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        let (a, b) = (io.inputs[0], io.inputs[1]);
        let mut grads = vec![None; 2];
        for (grad, (needed, pair)) in grads.iter_mut().zip(io.needs.iter().zip([[a, b], [b, a]])) {
            if *needed {
                let inputs = [pair[0], pair[1], dy];
                *grad = Some(graph.add(Arc::new(MeanSquaredGradient), &inputs)?[0]);
            }
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (a, b, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let tiling = Tiling::samples(&[&a, &b], SUM_STEPS);
        let slots = tiling.slots();
        let partials = Sums::scratch(to, 1, a.shape.n() * slots, tiling.width);
        let params = Params {
            a_offset: tiling.packs_of(a.offset),
            a_batch: tiling.packs_of(a.batch_stride),
            b_offset: tiling.packs_of(b.offset),
            b_batch: tiling.packs_of(b.batch_stride),
            packs: tiling.packs as u32,
            slots: slots as u32,
            scale: 1.0 / a.shape.len() as f32,
        };
        let operands = [&a, &b, &partials.data];
        to.dispatch(
            &SUMS,
            tiling.constants(),
            &params,
            &operands,
            tiling.groups(),
        );
        partials.total_into(to, &y);
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 3.0 * elements,
            bytes: 8.0 * elements,
        }
    }
}

/// da = 2 dy (a - b) / (N C D H W): the gradient of [`MeanSquared`] with respect to its first input; a, b, da
/// (N, C, D, H, W), dy a scalar. With a and b exchanged it is that of the second.
#[derive(Debug)]
pub struct MeanSquaredGradient;

const OP_GRADIENT: &str = "loss.mean_squared_gradient";

impl Operator for MeanSquaredGradient {
    fn name(&self) -> &'static str {
        OP_GRADIENT
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [a, b, dy] = take(OP_GRADIENT, inputs)?;
        expect_shape(OP_GRADIENT, "the second input", a, b)?;
        expect_shape(OP_GRADIENT, "dy", Shape::scalar(), dy)?;
        Ok(vec![a])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let [a, b, dy] = [0, 1, 2].map(|i| to.inputs[i]);
        let da = to.outputs[0];
        let tiling = Tiling::samples(&[&a, &b, &da], MAP_STEPS);
        let params = GradientParams {
            a_offset: tiling.packs_of(a.offset),
            a_batch: tiling.packs_of(a.batch_stride),
            b_offset: tiling.packs_of(b.offset),
            b_batch: tiling.packs_of(b.batch_stride),
            da_offset: tiling.packs_of(da.offset),
            da_batch: tiling.packs_of(da.batch_stride),
            dy_offset: dy.offset,
            packs: tiling.packs as u32,
            scale: 2.0 / a.shape.len() as f32,
        };
        let operands = [&a, &b, &dy, &da];
        to.dispatch(
            &GRADIENT,
            tiling.constants(),
            &params,
            &operands,
            tiling.groups(),
        );
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 2.0 * elements,
            bytes: 12.0 * elements,
        }
    }
}

/// Appends the mean of (a - b)^2, a scalar, of two tensors of one shape.
///
/// # Errors
/// [`OpError::Shape`] where the shapes differ.
pub fn mean_squared(graph: &mut dyn Build, a: ValueId, b: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(MeanSquared), &[a, b])?[0])
}
