//! Forward and input gradient by whichever variant is chosen: both lead from a source and the weight to a target.

use super::{
    Direction, Plans, Problem, Variant, candidates, choose, choose_alike, coop, depthwise,
    depthwise_strips, gemm, lanes, lattices, naive, patches, winograd,
};
use crate::gpu::DeviceProfile;
use crate::ops::{Candidates, Lowering, OpError};

/// Appends target = the forward convolution or the input gradient of source, + bias: inputs source, weight and perhaps
/// bias, output the target.
///
/// # Errors
/// Those of [`choose`].
pub(super) fn lower(
    to: &mut Lowering<'_>,
    direction: Direction,
    op: &'static str,
    problem: &Problem,
) -> Result<(), OpError> {
    let problem = problem.stored_as([&to.inputs[0], &to.outputs[0]]);
    let plans = plans(direction, &problem, to.device);
    let variant = choose(direction, &problem, to.device, op, plans)?;
    dispatch(to, direction, &problem, variant)
}

/// [`lower`] for `part`, some planes or some channels of the target of `whole`, by the kernels that compute the whole.
///
/// # Errors
/// Those of [`choose_alike`].
pub(super) fn lower_part(
    to: &mut Lowering<'_>,
    direction: Direction,
    op: &'static str,
    [whole, part]: [&Problem; 2],
) -> Result<(), OpError> {
    let operands = [&to.inputs[0], &to.outputs[0]];
    let [whole, part] = [whole, part].map(|problem| problem.stored_as(operands));
    let variant = alike(direction, [&whole, &part], to.device, op)?;
    dispatch(to, direction, &part, variant)
}

/// The variant of [`lower_part`].
pub(super) fn alike(
    direction: Direction,
    [whole, part]: [&Problem; 2],
    device: &DeviceProfile,
    op: &'static str,
) -> Result<Variant<lanes::Plan, coop::Plan>, OpError> {
    let of_whole = coop::Plan::new(direction, whole, device);
    let plans = |problem: &Problem| {
        let found = plans(direction, problem, device);
        let is_like = |plan: &coop::Plan| {
            of_whole
                .is_some_and(|whole_plan| plan.is_like(direction, problem, (&whole_plan, whole)))
        };
        Plans {
            coop: found.coop.filter(is_like),
            ..found
        }
    };
    choose_alike(direction, [whole, part], device, op, plans)
}

fn dispatch(
    to: &mut Lowering<'_>,
    direction: Direction,
    problem: &Problem,
    variant: Variant<lanes::Plan, coop::Plan>,
) -> Result<(), OpError> {
    let (source, w, target) = (to.inputs[0], to.inputs[1], to.outputs[0]);
    let bias = to.inputs.get(2).copied();
    let bias = bias.as_ref();
    let operands = [&source, &w, &target];
    match variant {
        Variant::Patches => patches::lower(to, direction, problem, operands, bias),
        Variant::Lanes(plan) => lanes::lower(to, &plan, operands, bias),
        Variant::Strips(tiling) => {
            depthwise_strips::lower(to, direction, problem, tiling, operands, bias);
        }
        Variant::Lattices(plan) => lattices::lower(to, direction, &plan, operands, bias)?,
        Variant::Depthwise => depthwise::lower(to, direction, problem, operands, bias),
        Variant::Coop(plan) => coop::lower(to, &plan, direction, problem, operands, bias),
        Variant::Winograd(plan) => winograd::lower(to, &plan, operands, bias),
        Variant::Gemm => gemm::lower(to, direction, problem, operands, bias),
        Variant::Naive => {
            let naive = match direction {
                Direction::InputGrad => naive::input_grad,
                Direction::Forward | Direction::WeightGrad => naive::forward,
            };
            naive(to, problem, &source, &w, bias, &target);
        }
    }
    Ok(())
}

fn plans(
    direction: Direction,
    problem: &Problem,
    device: &DeviceProfile,
) -> Plans<lanes::Plan, coop::Plan> {
    Plans {
        lanes: lanes_plan(direction, problem, device),
        coop: coop::Plan::new(direction, problem, device),
    }
}

/// What measuring may choose from.
pub(super) fn measurable(
    direction: Direction,
    problem: &Problem,
    device: &DeviceProfile,
) -> Option<Candidates> {
    let plans = plans(direction, problem, device);
    candidates(direction, problem, device, plans)
}

/// The plan of the lanes kernels, but for classes side by side, each with channels and perhaps idle lanes of its own: where
/// lattices can make channels of them.
fn lanes_plan(
    direction: Direction,
    problem: &Problem,
    device: &DeviceProfile,
) -> Option<lanes::Plan> {
    let plan = lanes::Plan::new(direction, problem, device)?;
    let has_better =
        plan.class_count() > 1 && lattices::Plan::new(direction, problem, device).is_some();
    (!has_better).then_some(plan)
}
