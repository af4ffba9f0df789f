//! The Euclidean norm of all gradients together, and the factor that cuts it to a limit.

use std::sync::Arc;

use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::pieces;
use crate::ops::{Build, Cost, Lowering, OpError, Operand, Operator, ValueId, grid};
use crate::param_block;
use crate::tensor::Shape;

/// Elements that one workgroup of `square_sums` adds up.
const PER_GROUP: usize = 4096;

/// Stands for no limit: the square of a larger norm is no finite f32, so it is caught as such.
pub(super) const NO_LIMIT: f32 = 1e19;

param_block!(SumParams {
    x_offset: u32,
    x_batch: u32,
    per_sample: u32,
    elements: u32,
    groups: u32,
    first: u32,
});

static SUM_KERNEL: Kernel = shipped_kernel! {
    name: "optim/square_sums",
    params: SumParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

param_block!(ScaleParams {
    parts: u32,
    max_norm: f32,
    norm_offset: u32,
    scale_offset: u32,
});

static SCALE_KERNEL: Kernel = shipped_kernel! {
    name: "optim/clip_scale",
    params: ScaleParams::FIELDS,
    access: &[Access::Read, Access::Write, Access::Write],
};

const OP: &str = "optim.gradient_norm";

/// The norm of all its inputs together, and scale = min(1, max_norm / (norm + 1e-6)) as torch's `clip_grad_norm_`; the
/// scale is 0 where the norm is not finite. Inputs: any number of tensors. Outputs: two scalars.
#[derive(Debug, Clone, Copy)]
pub struct GradientNorm {
    /// The limit; `None` leaves finite gradients as they are.
    pub max_norm: Option<f32>,
}

/// Refuses a limit of the norm that is not above 0.
pub(super) fn check_limit(op: &'static str, max_norm: Option<f32>) -> Result<(), OpError> {
    match max_norm.is_some_and(|m| m.is_nan() || m <= 0.0) {
        false => Ok(()),
        true => Err(OpError::Attribute {
            op,
            reason: "the largest norm must be above 0; leave it out for no limit".to_owned(),
        }),
    }
}

impl Operator for GradientNorm {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        if inputs.is_empty() {
            return Err(OpError::InputCount {
                op: OP,
                expected: 1,
                found: 0,
            });
        }
        check_limit(OP, self.max_norm)?;
        Ok(vec![Shape::scalar(); 2])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let inputs = to.inputs.iter();
        let pieces: Vec<Operand> = inputs.flat_map(|x| pieces(to, x, PER_GROUP)).collect();
        let groups: Vec<usize> = pieces
            .iter()
            .map(|x| x.shape.len().div_ceil(PER_GROUP))
            .collect();
        let parts = groups.iter().sum();
        let partials = to.scratch(Shape::vector(parts));
        let mut first = 0;
        for (x, count) in pieces.iter().zip(groups) {
            let params = SumParams {
                x_offset: x.offset,
                x_batch: x.batch_stride,
                per_sample: x.shape.per_sample() as u32,
                elements: x.shape.len() as u32,
                groups: count as u32,
                first: first as u32,
            };
            to.dispatch(
                &SUM_KERNEL,
                dense(x.is_dense()),
                &params,
                &[x, &partials],
                grid(count),
            );
            first += count;
        }
        let [norm, scale] = [to.outputs[0], to.outputs[1]];
        let params = ScaleParams {
            parts: parts as u32,
            max_norm: self.max_norm.unwrap_or(NO_LIMIT).min(NO_LIMIT),
            norm_offset: norm.offset,
            scale_offset: scale.offset,
        };
        to.dispatch(
            &SCALE_KERNEL,
            vec![],
            &params,
            &[&partials, &norm, &scale],
            [1, 1, 1],
        );
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        let elements: f64 = inputs.iter().map(|s| s.len() as f64).sum();
        Cost {
            flops: 2.0 * elements,
            bytes: 4.0 * elements,
        }
    }
}

/// What [`gradient_norm`] gives, scalars.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// The norm before clipping; not finite where a gradient is not.
    pub norm: ValueId,
    /// The factor for all gradients; 0 where the norm is not finite.
    pub scale: ValueId,
}

/// Appends the norm of `gradients` and the factor that cuts it to `max_norm`.
///
/// # Errors
/// [`OpError`] where there is no gradient or the limit is not above 0.
pub fn gradient_norm(
    graph: &mut dyn Build,
    gradients: &[ValueId],
    max_norm: Option<f32>,
) -> Result<Norm, OpError> {
    let outputs = graph.add(Arc::new(GradientNorm { max_norm }), gradients)?;
    Ok(Norm {
        norm: outputs[0],
        scale: outputs[1],
    })
}

fn dense(is_dense: bool) -> Constants {
    vec![
        ("DENSE", u32::from(is_dense)),
        ("PER_GROUP", PER_GROUP as u32),
    ]
}

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![
        (&SUM_KERNEL, vec![dense(false), dense(true)]),
        (&SCALE_KERNEL, vec![vec![]]),
    ]
}
