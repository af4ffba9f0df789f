//! Counts behind a hard Dice: true positives, false positives and false negatives.

use std::sync::Arc;

use super::Activation;
use super::reduce::{self, Partials};
use crate::gpu::{Access, Constants, Kernel, ParamBlock};
use crate::ops::{Build, Cost, Lowering, OpError, Operator, ValueId, expect_shape};
use crate::param_block;
use crate::tensor::Shape;

const OP: &str = "loss.hard_dice_counts";

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    voxel_weight_offset: u32,
    voxel_weight_batch: u32,
    voxels: u32,
    parts: u32,
    ignore_label: u32,
});

static KERNEL: Kernel = Kernel {
    name: "loss/hard_counts",
    source: include_str!("../../../shaders/loss/hard_counts.wgsl"),
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
};

/// True positives, false positives and false negatives of logits (N, C, D, H, W) against a target as
/// [`super::SegmentationLoss`] takes it, and voxel weights (N, 1, D, H, W) if `voxel_weighted`: (N, C, 1, 1, 3).
///
/// With softmax a voxel goes to its largest logit, the first of equals; with sigmoid to each region with a probability above
/// 0.5. Voxels of the ignored label, of no class, or of weight 0 count nowhere. No gradient.
#[derive(Clone, Copy, Debug)]
pub struct HardDiceCounts {
    /// Labels or regions.
    pub activation: Activation,
    /// The label that is left out.
    pub ignore_label: Option<u32>,
    /// Whether there is an input of voxel weights.
    pub voxel_weighted: bool,
}

fn constants(activation: Activation, classes: usize, voxel_weighted: bool) -> Constants {
    vec![
        ("CLASSES", classes as u32),
        ("SIGMOID", u32::from(activation == Activation::Sigmoid)),
        ("VOXEL_WEIGHTED", u32::from(voxel_weighted)),
    ]
}

impl Operator for HardDiceCounts {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let expected = 2 + usize::from(self.voxel_weighted);
        if inputs.len() != expected {
            return Err(OpError::InputCount {
                op: OP,
                expected,
                found: inputs.len(),
            });
        }
        let logits = inputs[0];
        let target = logits.with_c(self.activation.target_channels(logits.c()));
        expect_shape(OP, "the target", target, inputs[1])?;
        if self.voxel_weighted {
            expect_shape(OP, "the voxel weights", logits.with_c(1), inputs[2])?;
        }
        self.activation.check_channels(OP, logits.c())?;
        Ok(vec![Shape::new(logits.n(), logits.c(), 1, 1, 3)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (logits, target, counts) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        // Bound and not read where there are no weights.
        let weight = *to.inputs.get(2).unwrap_or(&target);
        let shape = logits.shape;
        let partials = Partials::over(shape.n(), 3 * shape.c(), shape.voxels());
        let scratch = to.scratch(partials.shape());
        let params = Params {
            x_offset: logits.offset,
            x_batch: logits.batch_stride,
            truth_offset: target.offset,
            truth_batch: target.batch_stride,
            voxel_weight_offset: weight.offset,
            voxel_weight_batch: weight.batch_stride,
            voxels: shape.voxels() as u32,
            parts: partials.parts() as u32,
            ignore_label: self.ignore_label.unwrap_or(u32::MAX),
        };
        to.dispatch(
            &KERNEL,
            constants(self.activation, shape.c(), self.voxel_weighted),
            &params,
            &[&logits, &target, &weight, &scratch],
            partials.workgroups(),
        );
        reduce::rows(to, partials, &scratch, &counts);
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        Cost {
            flops: 4.0 * inputs[0].len() as f64,
            bytes: 4.0 * inputs.iter().map(|s| s.len() as f64).sum::<f64>(),
        }
    }
}

/// Appends [`HardDiceCounts`]; `inputs` are logits, target and, if `op` says so, voxel weights.
///
/// # Errors
/// [`OpError`] where the shapes do not fit.
pub fn hard_dice_counts(
    graph: &mut dyn Build,
    op: HardDiceCounts,
    inputs: &[ValueId],
) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(op), inputs)?[0])
}

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let specialisations = vec![
        constants(Activation::Softmax, 4, false),
        constants(Activation::Softmax, 64, true),
        constants(Activation::Sigmoid, 3, true),
    ];
    vec![(&KERNEL, specialisations)]
}
