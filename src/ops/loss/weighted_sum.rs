//! The weighted sum of several losses; the weights are data, so that they can change from step to step.

use std::sync::Arc;

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::layout::concat;
use crate::ops::{Backward, Build, Lowering, OpError, Operator, ValueId, expect_shape, take};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    a_offset: u32,
    w_offset: u32,
    y_offset: u32,
    terms: u32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "loss/weighted_sum",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(GradientParams {
    w_offset: u32,
    dy_offset: u32,
    da_offset: u32,
    terms: u32,
});

static GRADIENT_KERNEL: Kernel = shipped_kernel! {
    name: "loss/weighted_sum_gradient",
    params: GradientParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

const OP: &str = "loss.weighted_sum";

/// y = sum_i w_i a_i; a and w vectors of K values, y a scalar. The weights have no gradient.
#[derive(Debug)]
pub struct WeightedSum;

impl Operator for WeightedSum {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [a, w] = take(OP, inputs)?;
        expect_shape(OP, "the vector of values", Shape::vector(a.c()), a)?;
        expect_shape(OP, "the vector of weights", a, w)?;
        Ok(vec![Shape::scalar()])
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        if io.needs[1] {
            return Err(OpError::NotDifferentiable {
                op: "loss.weighted_sum with respect to its weights",
            });
        }
        let da = graph.add(Arc::new(WeightedSumGradient), &[io.inputs[1], dy])?[0];
        Ok(vec![Some(da), None])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (a, w, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let params = Params {
            a_offset: a.offset,
            w_offset: w.offset,
            y_offset: y.offset,
            terms: a.shape.c() as u32,
        };
        to.dispatch(&KERNEL, vec![], &params, &[&a, &w, &y], [1, 1, 1]);
        Ok(())
    }
}

/// da_i = w_i dy: the gradient of [`WeightedSum`].
#[derive(Debug)]
pub struct WeightedSumGradient;

impl Operator for WeightedSumGradient {
    fn name(&self) -> &'static str {
        "loss.weighted_sum_gradient"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [w, dy] = take(self.name(), inputs)?;
        expect_shape(self.name(), "the upstream gradient", Shape::scalar(), dy)?;
        Ok(vec![w])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (w, dy, da) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let params = GradientParams {
            w_offset: w.offset,
            dy_offset: dy.offset,
            da_offset: da.offset,
            terms: w.shape.c() as u32,
        };
        to.dispatch(
            &GRADIENT_KERNEL,
            vec![],
            &params,
            &[&w, &dy, &da],
            [1, 1, 1],
        );
        Ok(())
    }
}

/// Appends sum_i weights_i * values_i of scalars `values` and a vector `weights` of as many.
///
/// # Errors
/// [`OpError::Shape`] where the number of weights differs.
pub fn weighted_sum(
    graph: &mut dyn Build,
    values: &[ValueId],
    weights: ValueId,
) -> Result<ValueId, OpError> {
    let vector = concat(graph, values)?;
    Ok(graph.add(Arc::new(WeightedSum), &[vector, weights])?[0])
}

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&KERNEL, vec![vec![]]), (&GRADIENT_KERNEL, vec![vec![]])]
}
