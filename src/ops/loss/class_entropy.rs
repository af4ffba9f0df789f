//! Cross-entropy of images that have one class each, of any number of classes.

use std::sync::Arc;

use super::reduce;
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operator, ValueId, expect_shape, grid_of, take,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    saved_offset: u32,
    saved_batch: u32,
    samples: u32,
    classes: u32,
    smoothing: f32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "loss/class_entropy",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write, Access::Write],
};

param_block!(GradientParams {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    saved_offset: u32,
    saved_batch: u32,
    dloss_offset: u32,
    dx_offset: u32,
    dx_batch: u32,
    samples: u32,
    classes: u32,
    smoothing: f32,
});

static GRADIENT_KERNEL: Kernel = shipped_kernel! {
    name: "loss/class_entropy_gradient",
    params: GradientParams::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

const OP: &str = "loss.class_entropy";
const GRADIENT_OP: &str = "loss.class_entropy_gradient";

/// What forward saves of a sample.
const SAVED: usize = 3;

/// -mean over N of sum over K of q log p, p = softmax of the logits, q = (1 - smoothing) one-hot + smoothing / K
/// (PyTorch's cross-entropy with label smoothing; Szegedy et al. 2016, section 7).
///
/// Inputs: logits (N, K, 1, 1, 1) and the class of each sample (N, 1, 1, 1, 1), 0 to K - 1. A sample whose number is no
/// class adds nothing to the mean, which is over N all the same. Outputs: the loss, a scalar, and what its gradient reads.
/// Only the loss has a gradient, only with respect to the logits.
#[derive(Clone, Copy, Debug)]
pub struct ClassEntropy {
    /// Share of the truth that is spread evenly over all classes, from 0 to below 1.
    pub smoothing: f32,
}

fn check_logits(op: &'static str, logits: Shape) -> Result<(), OpError> {
    expect_shape(op, "the logits", logits.with_spatial([1; 3]), logits)?;
    if logits.c() >= 2 {
        return Ok(());
    }
    Err(OpError::Attribute {
        op,
        reason: format!("{} classes; it takes 2 and more", logits.c()),
    })
}

impl Operator for ClassEntropy {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [logits, target] = take(OP, inputs)?;
        check_logits(OP, logits)?;
        expect_shape(OP, "the classes", logits.with_c(1), target)?;
        if !(0.0..1.0).contains(&self.smoothing) {
            return Err(OpError::Attribute {
                op: OP,
                reason: format!("label smoothing {}; it takes 0 to below 1", self.smoothing),
            });
        }
        Ok(vec![Shape::scalar(), logits.with_c(SAVED)])
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dloss = io.grad(OP)?;
        if io.needs[1] {
            return Err(OpError::NotDifferentiable {
                op: "loss.class_entropy with respect to its classes",
            });
        }
        let op = ClassEntropyGradient {
            smoothing: self.smoothing,
        };
        let inputs = [io.inputs[0], io.inputs[1], io.outputs[1], dloss];
        Ok(vec![Some(graph.add(Arc::new(op), &inputs)?[0]), None])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, truth) = (to.inputs[0], to.inputs[1]);
        let (loss, saved) = (to.outputs[0], to.outputs[1]);
        let samples = x.shape.n();
        let losses = to.scratch(Shape::vector(samples));
        let params = Params {
            x_offset: x.offset,
            x_batch: x.batch_stride,
            truth_offset: truth.offset,
            truth_batch: truth.batch_stride,
            saved_offset: saved.offset,
            saved_batch: saved.batch_stride,
            samples: samples as u32,
            classes: x.shape.c() as u32,
            smoothing: self.smoothing,
        };
        let operands = [&x, &truth, &losses, &saved];
        to.dispatch(&KERNEL, vec![], &params, &operands, [samples as u32, 1, 1]);
        reduce::row(to, samples, &losses, &loss);
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let elements = |shapes: &[Shape]| shapes.iter().map(|s| s.len() as f64).sum::<f64>();
        Cost {
            flops: 8.0 * inputs[0].len() as f64,
            bytes: 4.0 * (elements(inputs) + elements(outputs)),
        }
    }
}

/// dlogits (N, K, 1, 1, 1) = dloss (p - q) / N from logits, classes, what [`ClassEntropy`] saved, and dloss (a scalar).
#[derive(Clone, Copy, Debug)]
pub struct ClassEntropyGradient {
    /// That of the loss.
    pub smoothing: f32,
}

impl Operator for ClassEntropyGradient {
    fn name(&self) -> &'static str {
        GRADIENT_OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [logits, target, saved, dloss] = take(GRADIENT_OP, inputs)?;
        check_logits(GRADIENT_OP, logits)?;
        expect_shape(GRADIENT_OP, "the classes", logits.with_c(1), target)?;
        expect_shape(
            GRADIENT_OP,
            "what forward saved",
            logits.with_c(SAVED),
            saved,
        )?;
        expect_shape(GRADIENT_OP, "the upstream gradient", Shape::scalar(), dloss)?;
        Ok(vec![logits])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let [x, truth, saved, dloss] = [0, 1, 2, 3].map(|i| to.inputs[i]);
        let dx = to.outputs[0];
        let params = GradientParams {
            x_offset: x.offset,
            x_batch: x.batch_stride,
            truth_offset: truth.offset,
            truth_batch: truth.batch_stride,
            saved_offset: saved.offset,
            saved_batch: saved.batch_stride,
            dloss_offset: dloss.offset,
            dx_offset: dx.offset,
            dx_batch: dx.batch_stride,
            samples: x.shape.n() as u32,
            classes: x.shape.c() as u32,
            smoothing: self.smoothing,
        };
        let operands = [&x, &truth, &saved, &dloss, &dx];
        let grid = grid_of(&GRADIENT_KERNEL, x.shape.len());
        to.dispatch(&GRADIENT_KERNEL, vec![], &params, &operands, grid);
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        let elements = |shapes: &[Shape]| shapes.iter().map(|s| s.len() as f64).sum::<f64>();
        Cost {
            flops: 6.0 * inputs[0].len() as f64,
            bytes: 4.0 * (elements(inputs) + elements(outputs)),
        }
    }
}

/// Appends the cross-entropy of logits (N, K, 1, 1, 1) against classes (N, 1, 1, 1, 1): a scalar.
///
/// # Errors
/// [`OpError`] where shapes do not fit, or there are fewer than 2 classes or a smoothing outside of 0 to 1.
pub fn class_entropy(
    graph: &mut dyn Build,
    logits: ValueId,
    classes: ValueId,
    smoothing: f32,
) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(ClassEntropy { smoothing }), &[logits, classes])?[0])
}

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&KERNEL, vec![vec![]]), (&GRADIENT_KERNEL, vec![vec![]])]
}
