//! The gradient of a bias: the sum of each channel.

use std::sync::Arc;

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::reduce::{SUM_STEPS, Sums, Tiling, specialisations};
use crate::ops::{Build, Cost, Lowering, OpError, Operator, ValueId, take};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    packs: u32,
    batch: u32,
    slots: u32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "conv/bias_grad",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// The kernel with the specialisations in use.
pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&KERNEL, specialisations(SUM_STEPS))]
}

/// db (C) = sum over N, D, H, W of dy (N, C, D, H, W).
#[derive(Debug)]
pub struct BiasGrad;

const OP: &str = "conv.bias_grad";

impl Operator for BiasGrad {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy] = take(OP, inputs)?;
        Ok(vec![Shape::vector(dy.c())])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, db) = (to.inputs[0], to.outputs[0]);
        let tiling = Tiling::channels(&[&dy], SUM_STEPS);
        let (batch, channels, slots) = (dy.shape.n(), dy.shape.c(), tiling.slots());
        let partials = Sums::scratch(to, channels, batch * slots, tiling.width);
        let params = Params {
            x_offset: tiling.packs_of(dy.offset),
            x_batch: tiling.packs_of(dy.batch_stride),
            packs: tiling.packs as u32,
            batch: batch as u32,
            slots: slots as u32,
        };
        to.dispatch(
            &KERNEL,
            tiling.constants(),
            &params,
            &[&dy, &partials.data],
            tiling.groups(),
        );
        partials.total_into(to, &db);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Together, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: elements,
            bytes: 4.0 * elements,
        }
    }
}

/// Appends the gradient of the bias that was added to each channel; dy (N, C, D, H, W), the result (C).
///
/// # Errors
/// None for a value of the graph.
pub fn bias_grad(graph: &mut dyn Build, dy: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(BiasGrad), &[dy])?[0])
}
