//! Stochastic gradient descent with momentum.

use super::check_update;
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::by_elements;
use crate::ops::{Cost, Lowering, OpError, Operator, grid_of};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    w_offset: u32,
    m_offset: u32,
    g_offset: u32,
    g_batch: u32,
    per_sample: u32,
    hyper_offset: u32,
    scale_offset: u32,
    elements: u32,
    momentum: f32,
    weight_decay: f32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "optim/sgd",
    params: Params::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
};

const OP: &str = "optim.sgd";

/// One step of torch.optim.SGD without dampening, in place: g' = scale g + weight_decay w; m = momentum m + g';
/// w -= lr (g' + momentum m) with Nesterov, else lr m.
///
/// Inputs: parameter, momentum and gradient of one shape, hyper (vector; lr first), clip scale (a scalar; 0 leaves all
/// untouched). No outputs.
#[derive(Debug, Clone, Copy)]
pub struct SgdUpdate {
    /// Share of the last velocity that is kept.
    pub momentum: f32,
    /// Added to the gradient times the parameter.
    pub weight_decay: f32,
    /// Whether the step looks ahead along the momentum.
    pub nesterov: bool,
}

impl Operator for SgdUpdate {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let _: [Shape; 5] = crate::ops::take(OP, inputs)?;
        check_update(OP, inputs)?;
        Ok(Vec::new())
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let &[w, m, g, hyper, scale] = to.inputs else {
            return Err(OpError::InputCount {
                op: OP,
                expected: 5,
                found: to.inputs.len(),
            });
        };
        let params = Params {
            w_offset: w.offset,
            m_offset: m.offset,
            g_offset: g.offset,
            g_batch: g.batch_stride,
            per_sample: g.shape.per_sample() as u32,
            hyper_offset: hyper.offset,
            scale_offset: scale.offset,
            elements: w.shape.len() as u32,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
        };
        let constants = vec![("NESTEROV", u32::from(self.nesterov))];
        let groups = grid_of(&KERNEL, w.shape.len());
        to.dispatch(
            &KERNEL,
            constants,
            &params,
            &[&g, &hyper, &scale, &w, &m],
            groups,
        );
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_elements(to, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements = inputs[0].len() as f64;
        Cost {
            flops: 8.0 * elements,
            bytes: 20.0 * elements,
        }
    }

    fn updates(&self) -> &[usize] {
        &[0, 1]
    }
}

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let specialisations = (0..2).map(|nesterov| vec![("NESTEROV", nesterov)]);
    vec![(&KERNEL, specialisations.collect())]
}
