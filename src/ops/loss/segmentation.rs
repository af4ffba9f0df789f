//! Losses of segmentation, pixel by pixel and by overlap, in one operator: the value.

use std::sync::Arc;

use super::gradient::SegmentationLossGradient;
use super::reduce::{self, Partials};
use super::words;
use super::{Activation, LossAttributes, MAX_CLASSES, Normalise, PixelLoss, RegionLoss};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::elementwise::add_to;
use crate::ops::parts::by_slabs;
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape,
};
use crate::param_block;
use crate::tensor::Shape;

const OP: &str = "loss.segmentation";

param_block!(SumsParams {
    x_offset: u32,
    x_batch: u32,
    truth_offset: u32,
    truth_batch: u32,
    class_weight_offset: u32,
    voxel_weight_offset: u32,
    voxel_weight_batch: u32,
    voxels: u32,
    parts: u32,
    ignore_label: u32,
    gamma: f32,
});

pub(super) static SUMS: Kernel = shipped_kernel! {
    name: "loss/sums",
    params: SumsParams::FIELDS,
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
};

param_block!(FinishParams {
    samples: u32,
    classes: u32,
    first_class: u32,
    sum_samples: u32,
    by_voxels: u32,
    voxel_factor: f32,
    pixel_weight: f32,
    region_weight: f32,
    smooth_term: f32,
    alpha: f32,
    beta: f32,
    loss_offset: u32,
    stats_offset: u32,
    stats_batch: u32,
    coefficients_offset: u32,
});

pub(super) static FINISH: Kernel = shipped_kernel! {
    name: "loss/finish",
    params: FinishParams::FIELDS,
    access: &[Access::Read, Access::Write, Access::Write, Access::Write],
};

/// A segmentation loss of logits (N, C, D, H, W) against a target (N, 1, D, H, W) of class indices, or (N, R, D, H, W) of
/// 0 and 1 with sigmoid; then class weights (C values) and voxel weights (N, 1, D, H, W) where the attributes say so.
///
/// Outputs: the loss (a scalar); `stats` (N, C, 1, 1, 3) = sum(p g), sum(p) (sum(p^2) in the squared form) and sum(g) over
/// the voxels that count; and the coefficients that its gradient reads. Only the loss has a gradient, only with respect to
/// the logits.
#[derive(Clone, Debug)]
pub struct SegmentationLoss {
    /// Its choices.
    pub attributes: LossAttributes,
}

/// The operands behind the inputs; the optional ones stand on the target where they are absent, and are not read.
pub(super) struct Inputs {
    pub logits: Operand,
    pub target: Operand,
    pub class_weight: Operand,
    pub voxel_weight: Operand,
}

impl Inputs {
    pub fn of(attributes: &LossAttributes, operands: &[Operand]) -> Self {
        let (logits, target) = (operands[0], operands[1]);
        let mut rest = operands[2..].iter().copied();
        let mut take = |there: bool| if there { rest.next() } else { None };
        let class_weight = take(attributes.class_weighted);
        let voxel_weight = take(attributes.voxel_weighted);
        Self {
            logits,
            target,
            class_weight: class_weight.unwrap_or(target),
            voxel_weight: voxel_weight.unwrap_or(target),
        }
    }
}

pub(super) fn ignore_code(attributes: &LossAttributes) -> u32 {
    attributes.ignore_label.unwrap_or(u32::MAX)
}

pub(super) fn gamma(attributes: &LossAttributes) -> f32 {
    match attributes.pixel {
        Some(PixelLoss::Focal { gamma }) => gamma,
        Some(PixelLoss::CrossEntropy) | None => 0.0,
    }
}

/// The constant `PIXEL` of the kernels.
pub(super) fn pixel_code(attributes: &LossAttributes) -> u32 {
    match attributes.pixel {
        None => 0,
        Some(PixelLoss::CrossEntropy) => 1,
        Some(PixelLoss::Focal { .. }) => 2,
    }
}

/// The constant `REGION` of the kernels of the gradient.
pub(super) fn region_code(attributes: &LossAttributes) -> u32 {
    match (attributes.region, is_squared(attributes)) {
        (None, _) => 0,
        (Some(_), false) => 1,
        (Some(_), true) => 2,
    }
}

/// The constants that `sums` and `gradient` share.
pub(super) fn common_constants(attributes: &LossAttributes, classes: usize) -> Constants {
    vec![
        ("CLASSES", classes as u32),
        (
            "SIGMOID",
            u32::from(attributes.activation == Activation::Sigmoid),
        ),
        ("PIXEL", pixel_code(attributes)),
        ("CLASS_WEIGHTED", u32::from(attributes.class_weighted)),
        ("VOXEL_WEIGHTED", u32::from(attributes.voxel_weighted)),
    ]
}

pub(super) fn is_squared(attributes: &LossAttributes) -> bool {
    attributes.region == Some(RegionLoss::SquaredDice)
}

fn sums_constants(attributes: &LossAttributes, classes: usize) -> Constants {
    let mut constants = common_constants(attributes, classes);
    constants.push(("SQUARED", u32::from(is_squared(attributes))));
    constants
}

/// Sums of one sample.
fn sums_of(logits: Shape) -> usize {
    3 * logits.c() + 3
}

impl SegmentationLoss {
    fn bad(reason: impl Into<String>) -> OpError {
        OpError::Attribute {
            op: OP,
            reason: reason.into(),
        }
    }

    fn check_attributes(&self, classes: usize) -> Result<(), OpError> {
        let a = &self.attributes;
        if a.pixel.is_none() && a.region.is_none() {
            return Err(Self::bad("neither a pixel nor a region loss is chosen"));
        }
        a.activation.check_channels(OP, classes)?;
        if classes == 1 && !a.background && a.region.is_some() {
            return Err(Self::bad(
                "no region is left without the first; let the background count",
            ));
        }
        if a.activation == Activation::Sigmoid && (a.ignore_label.is_some() || a.class_weighted) {
            return Err(Self::bad(
                "an ignore label and class weights need labels; for regions give voxel weights, 0 where a voxel is ignored",
            ));
        }
        let numbers = [a.pixel_weight, a.region_weight];
        if numbers.iter().any(|w| !w.is_finite() || *w < 0.0) {
            return Err(Self::bad("loss weights must be finite and not negative"));
        }
        self.check_shape_parameters()
    }

    fn check_shape_parameters(&self) -> Result<(), OpError> {
        let gamma = gamma(&self.attributes);
        // Below 1 the gradient of a confident voxel grows without bound.
        if !gamma.is_finite() || (gamma != 0.0 && gamma < 1.0) {
            return Err(Self::bad(format!(
                "focal gamma {gamma}; give 0, or 1 and more"
            )));
        }
        let numbers = match self.attributes.region {
            Some(RegionLoss::SoftDice { smooth }) => [smooth, 0.0, 0.0],
            Some(RegionLoss::Tversky {
                alpha,
                beta,
                smooth,
            }) => [smooth, alpha, beta],
            Some(RegionLoss::SquaredDice | RegionLoss::GeneralisedDice) | None => [0.0; 3],
        };
        if numbers.iter().any(|v| !v.is_finite() || *v < 0.0) {
            return Err(Self::bad(
                "smooth, alpha and beta must be finite and not negative",
            ));
        }
        Ok(())
    }

    fn check_inputs(&self, inputs: &[Shape]) -> Result<Shape, OpError> {
        let a = &self.attributes;
        let expected = 2 + usize::from(a.class_weighted) + usize::from(a.voxel_weighted);
        if inputs.len() != expected {
            return Err(OpError::InputCount {
                op: OP,
                expected,
                found: inputs.len(),
            });
        }
        let logits = inputs[0];
        let channels = a.activation.target_channels(logits.c());
        expect_shape(OP, "the target", logits.with_c(channels), inputs[1])?;
        let mut next = 2;
        if a.class_weighted {
            let weights = Shape::vector(logits.c());
            expect_shape(OP, "the class weights", weights, inputs[next])?;
            next += 1;
        }
        if a.voxel_weighted {
            expect_shape(OP, "the voxel weights", logits.with_c(1), inputs[next])?;
        }
        Ok(logits)
    }

    /// Space for the sums over all voxels of each sample.
    fn totals(to: &mut Lowering<'_>) -> Operand {
        let shape = to.inputs[0].shape;
        to.scratch(Shape::new(shape.n(), sums_of(shape), 1, 1, 1))
    }

    fn lower_sums(&self, to: &mut Lowering<'_>, totals: &Operand) {
        let a = &self.attributes;
        let inputs = Inputs::of(a, to.inputs);
        let shape = inputs.logits.shape;
        let partials = Partials::over(shape.n(), sums_of(shape), shape.voxels());
        let scratch = to.scratch(partials.shape());
        if words::take(a, to.device, &[&inputs.logits], &inputs.target) {
            words::sums(to, a, partials, [&inputs.logits, &inputs.target, &scratch]);
            return reduce::rows(to, partials, &scratch, totals);
        }
        let params = SumsParams {
            x_offset: inputs.logits.offset,
            x_batch: inputs.logits.batch_stride,
            truth_offset: inputs.target.offset,
            truth_batch: inputs.target.batch_stride,
            class_weight_offset: inputs.class_weight.offset,
            voxel_weight_offset: inputs.voxel_weight.offset,
            voxel_weight_batch: inputs.voxel_weight.batch_stride,
            voxels: shape.voxels() as u32,
            parts: partials.parts() as u32,
            ignore_label: ignore_code(a),
            gamma: gamma(a),
        };
        let operands = [
            &inputs.logits,
            &inputs.target,
            &inputs.class_weight,
            &inputs.voxel_weight,
            &scratch,
        ];
        let constants = sums_constants(a, shape.c());
        to.dispatch(&SUMS, constants, &params, &operands, partials.workgroups());
        reduce::rows(to, partials, &scratch, totals);
    }

    fn lower_finish(&self, to: &mut Lowering<'_>, totals: &Operand) {
        let a = &self.attributes;
        let [loss, stats, coefficients] = [to.outputs[0], to.outputs[1], to.outputs[2]];
        let shape = to.inputs[0].shape;
        let (region, [smooth_term, alpha, beta]) = match a.region {
            None => (0, [0.0; 3]),
            Some(RegionLoss::SoftDice { smooth }) => (1, [smooth, 0.0, 0.0]),
            Some(RegionLoss::SquaredDice) => (2, [0.0; 3]),
            Some(RegionLoss::Tversky {
                alpha,
                beta,
                smooth,
            }) => (3, [smooth, alpha, beta]),
            Some(RegionLoss::GeneralisedDice) => (4, [0.0; 3]),
        };
        let is_sigmoid = a.activation == Activation::Sigmoid;
        let has_weights = a.class_weighted || a.voxel_weighted;
        let by_voxels = a.normalise == Normalise::Voxels || !has_weights;
        let params = FinishParams {
            samples: shape.n() as u32,
            classes: shape.c() as u32,
            first_class: u32::from(!a.background),
            sum_samples: u32::from(a.batch_dice),
            by_voxels: u32::from(by_voxels),
            voxel_factor: if is_sigmoid && by_voxels {
                shape.c() as f32
            } else {
                1.0
            },
            pixel_weight: a.pixel.map_or(0.0, |_| a.pixel_weight),
            region_weight: a.region_weight,
            smooth_term,
            alpha,
            beta,
            loss_offset: loss.offset,
            stats_offset: stats.offset,
            stats_batch: stats.batch_stride,
            coefficients_offset: coefficients.offset,
        };
        let operands = [totals, &loss, &stats, &coefficients];
        to.dispatch(
            &FINISH,
            vec![("REGION", region)],
            &params,
            &operands,
            [1, 1, 1],
        );
    }
}

impl Operator for SegmentationLoss {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let logits = self.check_inputs(inputs)?;
        self.check_attributes(logits.c())?;
        Ok(vec![
            Shape::scalar(),
            Shape::new(logits.n(), logits.c(), 1, 1, 3),
            Shape::vector(1 + 2 * logits.n() * logits.c()),
        ])
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dloss = io.grad(OP)?;
        if io.needs[1..].contains(&true) {
            return Err(OpError::NotDifferentiable {
                op: "loss.segmentation with respect to its target or weights",
            });
        }
        let op = SegmentationLossGradient {
            attributes: self.attributes,
        };
        let mut inputs = io.inputs.to_vec();
        inputs.extend([io.outputs[2], dloss]);
        let dx = graph.add(Arc::new(op), &inputs)?[0];
        let mut grads = vec![None; io.inputs.len()];
        grads[0] = Some(dx);
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let totals = Self::totals(to);
        self.lower_sums(to, &totals);
        self.lower_finish(to, &totals);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let totals = Self::totals(to);
        by_slabs(to, |part, slab| {
            if slab == 0 {
                self.lower_sums(part, &totals);
                return Ok(());
            }
            let more = Self::totals(part);
            self.lower_sums(part, &more);
            add_to(part, &totals, &more)
        })?;
        self.lower_finish(to, &totals);
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        // exp, two comparisons and sums, three products a logit.
        Cost {
            flops: 12.0 * inputs[0].len() as f64,
            bytes: 4.0 * inputs.iter().map(|s| s.len() as f64).sum::<f64>(),
        }
    }
}

/// What [`segmentation_loss`] gives.
#[derive(Clone, Copy, Debug)]
pub struct LossValues {
    /// The loss, a scalar.
    pub loss: ValueId,
    /// (N, C, 1, 1, 3): sum(p g), sum(p), sum(g) of each sample and class.
    pub stats: ValueId,
}

/// Appends a segmentation loss; `inputs` are logits, target, then class weights and voxel weights as `attributes` say.
///
/// # Errors
/// [`OpError`] where shapes or attributes do not fit.
pub fn segmentation_loss(
    graph: &mut dyn Build,
    attributes: LossAttributes,
    inputs: &[ValueId],
) -> Result<LossValues, OpError> {
    let outputs = graph.add(Arc::new(SegmentationLoss { attributes }), inputs)?;
    Ok(LossValues {
        loss: outputs[0],
        stats: outputs[1],
    })
}

/// The specialisations checked without a GPU: every choice for 3 classes, and those of the default for others, of which
/// there may be any number up to [`MAX_CLASSES`].
pub(super) fn specialisations(of: impl Fn(&LossAttributes, usize) -> Constants) -> Vec<Constants> {
    let labels = LossAttributes::dice_ce();
    let mut all: Vec<Constants> = every_choice().iter().map(|a| of(a, 3)).collect();
    all.extend([2, 4, 5, 17, MAX_CLASSES].map(|classes| of(&labels, classes)));
    all.sort_unstable();
    all.dedup();
    all
}

/// The attributes that constants follow from, in every combination that the operator takes.
fn every_choice() -> Vec<LossAttributes> {
    let pixels = [
        None,
        Some(PixelLoss::CrossEntropy),
        Some(PixelLoss::Focal { gamma: 2.0 }),
    ];
    let regions = [
        None,
        LossAttributes::dice_ce().region,
        Some(RegionLoss::SquaredDice),
    ];
    let mut all = Vec::new();
    for activation in [Activation::Softmax, Activation::Sigmoid] {
        for (pixel, region) in pixels
            .iter()
            .flat_map(|p| regions.iter().map(move |r| (*p, *r)))
        {
            for weighted in 0..4 {
                let attributes = LossAttributes {
                    activation,
                    pixel,
                    region,
                    class_weighted: weighted & 1 > 0,
                    voxel_weighted: weighted & 2 > 0,
                    ..LossAttributes::dice_ce()
                };
                let loss = SegmentationLoss { attributes };
                all.extend(loss.check_attributes(3).is_ok().then_some(attributes));
            }
        }
    }
    all
}

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let mut list = words::kernels(&every_choice());
    list.extend([
        (&SUMS, specialisations(sums_constants)),
        (&FINISH, (0..5).map(|r| vec![("REGION", r)]).collect()),
    ]);
    list
}
