//! The gradient of a convolution with respect to its weight.

use std::sync::Arc;

use super::{
    ConvAttributes, Convolution, Direction, Plans, Problem, Variant, candidates, choose,
    coop_weight_grad, depthwise, depthwise_strips, gemm_weight_grad, lattices, naive, parts,
    patches_weight_grad, weight_grad_lanes,
};
use crate::gpu::DeviceProfile;
use crate::ops::{
    Build, Candidates, Cost, Lowering, OpError, Operator, ValueId, expect_shape, take,
};
use crate::tensor::{Element, Shape};

/// dw (C_out, C_in / groups, KD, KH, KW) from x (N, C_in, D, H, W) and dy (N, C_out, D', H', W').
#[derive(Debug)]
pub struct ConvWeightGrad {
    /// The window of the convolution that leads from x to y.
    pub attributes: ConvAttributes,
}

impl ConvWeightGrad {
    fn problem(&self, inputs: &[Shape]) -> Problem {
        Problem {
            attributes: self.attributes,
            x: inputs[0],
            y: inputs[1],
            stored: Some(Element::F32),
        }
    }
}

const OP: &str = "conv.weight_grad";

fn plans(
    problem: &Problem,
    device: &DeviceProfile,
) -> Plans<weight_grad_lanes::Plan, coop_weight_grad::Plan> {
    Plans {
        lanes: weight_grad_lanes::Plan::new(problem, device),
        coop: coop_weight_grad::Plan::new(problem, device),
    }
}

impl Operator for ConvWeightGrad {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x, dy] = take(OP, inputs)?;
        let size = self.attributes.output_size(OP, x.spatial())?;
        let expected = x.with_c(dy.c()).with_spatial(size);
        expect_shape(OP, "the gradient of the output", expected, dy)?;
        Ok(vec![self.attributes.weight_shape(OP, x.c(), dy.c())?])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        lower_share(to, &self.problem(&[to.inputs[0].shape, to.inputs[1].shape]))
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        parts::weight_grad(to, self.attributes)
    }

    fn convolution(&self) -> Option<Convolution> {
        Convolution::without_groups(Direction::WeightGrad, self.attributes)
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        self.problem(inputs).cost()
    }

    fn candidates(
        &self,
        inputs: &[Shape],
        elements: &[Element],
        _outputs: &[Shape],
        device: &DeviceProfile,
    ) -> Option<Candidates> {
        let problem = self
            .problem(inputs)
            .stored_alike([elements[0], elements[1]]);
        let plans = plans(&problem, device);
        candidates(Direction::WeightGrad, &problem, device, plans)
    }
}

/// Appends the weight gradient of some input channels of `whole`, those of the operands x and dw, by the kernels and in the
/// parts in which the whole is added up. Without stride or dilation; else of all.
///
/// # Errors
/// Those of [`choose`].
pub(super) fn lower_share(to: &mut Lowering<'_>, whole: &Problem) -> Result<(), OpError> {
    let (x, dy, dw) = (to.inputs[0], to.inputs[1], to.outputs[0]);
    let whole = whole.stored_as([&x, &dy]);
    let share = Problem {
        x: x.shape,
        ..whole
    };
    let plans = plans(&whole, to.device);
    match choose(Direction::WeightGrad, &whole, to.device, OP, plans)? {
        Variant::Patches => patches_weight_grad::lower(to, [&whole, &share], [&x, &dy, &dw]),
        Variant::Lanes(plan) => weight_grad_lanes::lower(to, &whole, &plan, [&x, &dy, &dw]),
        Variant::Strips(tiling) => {
            depthwise_strips::weight_grad(to, &share, tiling, [&x, &dy, &dw]);
        }
        Variant::Lattices(plan) => lattices::weight_grad(to, &plan, [&x, &dy, &dw])?,
        Variant::Depthwise => depthwise::weight_grad(to, &share, &x, &dy, &dw),
        Variant::Gemm => gemm_weight_grad::lower(to, &whole, &x, &dy, &dw),
        Variant::Coop(plan) => coop_weight_grad::lower(to, &whole, &plan, [&x, &dy, &dw]),
        // Winograd's kernels have no plan for this direction, so that they are never chosen.
        Variant::Winograd(_) | Variant::Naive => naive::weight_grad(to, &share, &x, &dy, &dw),
    }
    Ok(())
}

/// Appends dw = d(conv)/dw applied to dy; see [`ConvWeightGrad`] for the shapes.
///
/// # Errors
/// [`OpError`] where shapes and attributes do not fit together.
pub fn conv_weight_grad(
    graph: &mut dyn Build,
    x: ValueId,
    dy: ValueId,
    attributes: ConvAttributes,
) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(ConvWeightGrad { attributes }), &[x, dy])?[0])
}
