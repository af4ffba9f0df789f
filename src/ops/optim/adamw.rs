//! Adam with decoupled weight decay.

use super::check_update;
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::by_elements;
use crate::ops::{Cost, Lowering, OpError, Operator, grid_of};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    w_offset: u32,
    m_offset: u32,
    v_offset: u32,
    g_offset: u32,
    g_batch: u32,
    per_sample: u32,
    hyper_offset: u32,
    scale_offset: u32,
    elements: u32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    epsilon: f32,
    weight_decay: f32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "optim/adamw",
    params: Params::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
        Access::Write,
    ],
};

const OP: &str = "optim.adamw";

/// One step of AdamW (Loshchilov and Hutter 2019, algorithm 2; torch.optim.AdamW), in place.
///
/// Inputs: parameter, first moment, second moment and gradient of one shape, hyper (vector: lr, 1 - beta1^t,
/// 1 - beta2^t for step t from 1), clip scale (a scalar; 0 leaves all untouched). No outputs.
#[derive(Debug, Clone, Copy)]
pub struct AdamWUpdate {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decay of the parameter, times lr.
    pub weight_decay: f32,
}

impl Operator for AdamWUpdate {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let _: [Shape; 6] = crate::ops::take(OP, inputs)?;
        check_update(OP, inputs)?;
        Ok(Vec::new())
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let &[w, m, v, g, hyper, scale] = to.inputs else {
            return Err(OpError::InputCount {
                op: OP,
                expected: 6,
                found: to.inputs.len(),
            });
        };
        let params = Params {
            w_offset: w.offset,
            m_offset: m.offset,
            v_offset: v.offset,
            g_offset: g.offset,
            g_batch: g.batch_stride,
            per_sample: g.shape.per_sample() as u32,
            hyper_offset: hyper.offset,
            scale_offset: scale.offset,
            elements: w.shape.len() as u32,
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            rest1: (1.0 - self.beta1) as f32,
            rest2: (1.0 - self.beta2) as f32,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
        };
        let groups = grid_of(&KERNEL, w.shape.len());
        to.dispatch(
            &KERNEL,
            vec![],
            &params,
            &[&g, &hyper, &scale, &w, &m, &v],
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
            flops: 16.0 * elements,
            bytes: 28.0 * elements,
        }
    }

    fn updates(&self) -> &[usize] {
        &[0, 1, 2]
    }
}

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&KERNEL, vec![vec![]])]
}
