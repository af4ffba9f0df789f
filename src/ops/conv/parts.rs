//! Convolutions whose operands are larger than the device can bind: sample by sample, group by group, then, where the source
//! can be bound, some channels of the target at a time, else slabs of planes with what their windows see of the source.

use std::ops::Range;

use super::{ConvAttributes, ConvForward, ConvInputGrad, ConvWeightGrad, Direction};
use crate::ops::elementwise::add_to;
use crate::ops::parts::{Slab, channels_at_once, halves, slab_axis, slab_sizes};
use crate::ops::{Lowering, OpError, Operand, Operator, lower_within_limits};
use crate::tensor::Shape;

/// The forward convolution or its input gradient, for a target of `target`.
fn correlation(
    direction: Direction,
    attributes: ConvAttributes,
    target: Shape,
) -> Box<dyn Operator> {
    match direction {
        Direction::InputGrad => Box::new(ConvInputGrad {
            attributes,
            input_size: target.spatial(),
        }),
        Direction::Forward | Direction::WeightGrad => Box::new(ConvForward { attributes }),
    }
}

/// Appends the forward convolution or its input gradient: inputs source, weight and perhaps bias, output the target.
pub(super) fn correlate(
    to: &mut Lowering<'_>,
    direction: Direction,
    attributes: ConvAttributes,
) -> Result<(), OpError> {
    let (source, target) = (to.inputs[0], to.outputs[0]);
    if source.shape.n() > 1 {
        let whole = correlation(direction, attributes, target.shape);
        let kept = to.scratch.len();
        for n in 0..source.shape.n() {
            let inputs = with_source(to.inputs, source.samples(n..n + 1));
            to.part(kept, &inputs, &[target.samples(n..n + 1)], |part| {
                lower_within_limits(whole.as_ref(), part)
            })?;
        }
        return Ok(());
    }
    if attributes.groups > 1 {
        return by_groups(to, direction, attributes);
    }
    if source.reach() <= to.device.binding_limit() {
        let state = to.state();
        by_target_channels(to, direction, attributes)?;
        if to.fits() {
            return Ok(());
        }
        to.restore(state);
    }
    by_target_slabs(to, direction, attributes)
}

fn with_source(inputs: &[Operand], source: Operand) -> Vec<Operand> {
    let mut inputs = inputs.to_vec();
    inputs[0] = source;
    inputs
}

/// Some groups of channels at a time; one alone is a convolution without groups.
fn by_groups(
    to: &mut Lowering<'_>,
    direction: Direction,
    attributes: ConvAttributes,
) -> Result<(), OpError> {
    let (source, target) = (to.inputs[0], to.outputs[0]);
    let groups = attributes.groups;
    let [sources, targets, rows] =
        [source.shape.c(), target.shape.c(), to.inputs[1].shape.n()].map(|c| c / groups);
    let at_once = [(source, sources), (target, targets)]
        .map(|(o, a_group)| channels_at_once(to, o.shape) / a_group);
    let sizes = halves(at_once[0].min(at_once[1]).clamp(1, groups), 1);
    let scaled = |range: &Range<usize>, by: usize| range.start * by..range.end * by;
    to.first_that_fits(&sizes, |to, size| {
        let kept = to.scratch.len();
        for first in (0..groups).step_by(size) {
            let range = first..groups.min(first + size);
            let mut inputs = vec![
                source.channels(scaled(&range, sources)),
                to.inputs[1].samples(scaled(&range, rows)),
            ];
            let bias = to.inputs.get(2);
            inputs.extend(bias.map(|b| b.channels(scaled(&range, targets))));
            let output = target.channels(scaled(&range, targets));
            let op = correlation(direction, attributes.with_groups(range.len()), output.shape);
            to.part(kept, &inputs, &[output], |part| match range.len() {
                1 => lower_within_limits(op.as_ref(), part),
                _ => op.lower(part),
            })?;
        }
        Ok(())
    })
}

/// Some channels of the target at a time, from the whole source.
fn by_target_channels(
    to: &mut Lowering<'_>,
    direction: Direction,
    attributes: ConvAttributes,
) -> Result<(), OpError> {
    let (source, w, target) = (to.inputs[0], to.inputs[1], to.outputs[0]);
    let op = correlation(direction, attributes, target.shape);
    let channels = target.shape.c();
    let sizes = even_halves(channels_at_once(to, target.shape));
    to.first_that_fits(&sizes, |to, size| {
        let kept = to.scratch.len();
        for first in (0..channels).step_by(size) {
            let range = first..channels.min(first + size);
            let w = match direction {
                Direction::InputGrad => w.channels(range.clone()),
                Direction::Forward | Direction::WeightGrad => w.samples(range.clone()),
            };
            let mut inputs = vec![source, w];
            inputs.extend(to.inputs.get(2).map(|b| b.channels(range.clone())));
            to.part(kept, &inputs, &[target.channels(range)], |part| {
                op.lower(part)
            })?;
        }
        Ok(())
    })
}

/// Numbers of channels to try, in sixteens where there are so many: what the kernels take at a time.
fn even_halves(most: usize) -> Vec<usize> {
    const AT_ONCE: usize = 16;
    let mut sizes = match most {
        AT_ONCE.. => halves(most, AT_ONCE),
        _ => Vec::new(),
    };
    sizes.extend(halves(most.min(AT_ONCE / 2), 1));
    sizes
}

/// Slabs of the target from copies of what they see of the source.
fn by_target_slabs(
    to: &mut Lowering<'_>,
    direction: Direction,
    attributes: ConvAttributes,
) -> Result<(), OpError> {
    let (source, target) = (to.inputs[0], to.outputs[0]);
    let axis = slab_axis(target.shape);
    let planes = target.shape.spatial()[axis];
    let larger = match source.shape.len() > target.shape.len() {
        true => source.shape.with_spatial(target.shape.spatial()),
        false => target.shape,
    };
    to.first_that_fits(&slab_sizes(to, larger, axis), |to, size| {
        let kept = to.scratch.len();
        let inputs = to.inputs;
        for first in (0..planes).step_by(size) {
            let range = first..planes.min(first + size);
            let seen = match direction {
                Direction::InputGrad => reached(&attributes, axis, &range, source.shape),
                Direction::Forward | Direction::WeightGrad => {
                    windows(&attributes, axis, &range, source.shape)
                }
            };
            to.part(kept, &[], &[], |part| {
                let from = Slab {
                    whole: &source,
                    axis,
                    range: seen.range,
                };
                let into = Slab {
                    whole: &target,
                    axis,
                    range,
                };
                let (from, space) = (from.taken(part), into.space(part));
                let op = correlation(direction, seen.attributes, space.shape);
                let kept = part.scratch.len();
                part.part(kept, &with_source(inputs, from), &[space], |part| {
                    op.lower(part)
                })?;
                into.put(part, &space);
                Ok(())
            })?;
        }
        Ok(())
    })
}

/// Planes of the source, and the convolution that leads from them (for the input gradient, back to them) to a slab of
/// the target.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub range: Range<usize>,
    pub attributes: ConvAttributes,
}

/// What the windows of the planes `y` of the output see of x.
pub(super) fn windows(a: &ConvAttributes, axis: usize, y: &Range<usize>, x: Shape) -> Seen {
    let planes = x.spatial()[axis];
    // Counted from the first plane of the padding.
    let (start, end) = (
        y.start * a.stride[axis],
        (y.end - 1) * a.stride[axis] + a.span(axis),
    );
    let padding = a.padding[axis];
    let first = start.saturating_sub(padding).min(planes - 1);
    let last = end.saturating_sub(padding).clamp(first + 1, planes);
    let mut attributes = *a;
    attributes.padding[axis] = (first + padding).saturating_sub(start);
    attributes.padding_after[axis] = end.saturating_sub(last + padding);
    Seen {
        range: first..last,
        attributes,
    }
}

/// What reaches the planes `x` of the input's gradient of dy: of plane o of dy, tap k reaches o * stride + k * dilation -
/// padding.
pub(super) fn reached(a: &ConvAttributes, axis: usize, x: &Range<usize>, dy: Shape) -> Seen {
    let planes = dy.spatial()[axis];
    let (stride, span, padding) = (a.stride[axis], a.span(axis), a.padding[axis]);
    // Never behind the slab, so that its padding is not negative.
    let nearest = ((x.start + padding + 1).saturating_sub(span)).div_ceil(stride);
    let first = nearest.min((x.start + padding) / stride).min(planes - 1);
    let last = ((x.end - 1 + padding) / stride + 1).clamp(first + 1, planes);
    let mut attributes = *a;
    attributes.padding[axis] = x.start + padding - first * stride;
    let covered = (last - first - 1) * stride + span;
    attributes.padding_after[axis] = covered.saturating_sub(x.len() + attributes.padding[axis]);
    Seen {
        range: first..last,
        attributes,
    }
}

/// Appends the weight gradient: inputs x and dy, output dw. Samples, groups and channels do not meet but in sums over the
/// samples.
pub(super) fn weight_grad(
    to: &mut Lowering<'_>,
    attributes: ConvAttributes,
) -> Result<(), OpError> {
    let (x, dy, dw) = (to.inputs[0], to.inputs[1], to.outputs[0]);
    let op = ConvWeightGrad { attributes };
    if x.shape.n() > 1 {
        let kept = to.scratch.len();
        for n in 0..x.shape.n() {
            let inputs = [x.samples(n..n + 1), dy.samples(n..n + 1)];
            to.part(kept, &[], &[], |part| {
                let sum = match n {
                    0 => dw,
                    _ => part.scratch(dw.shape),
                };
                let kept = part.scratch.len();
                part.part(kept, &inputs, &[sum], |part| lower_within_limits(&op, part))?;
                match n {
                    0 => Ok(()),
                    _ => add_to(part, &dw, &sum),
                }
            })?;
        }
        return Ok(());
    }
    if attributes.groups > 1 {
        let groups = attributes.groups;
        let [from, into] = [x.shape.c() / groups, dy.shape.c() / groups];
        let at_once = [
            channels_at_once(to, x.shape) / from,
            channels_at_once(to, dy.shape) / into,
        ];
        let sizes = halves(at_once[0].min(at_once[1]).clamp(1, groups), 1);
        return to.first_that_fits(&sizes, |to, size| {
            let kept = to.scratch.len();
            for first in (0..groups).step_by(size) {
                let last = groups.min(first + size);
                let inputs = [
                    x.channels(first * from..last * from),
                    dy.channels(first * into..last * into),
                ];
                let output = dw.samples(first * into..last * into);
                let op = ConvWeightGrad {
                    attributes: attributes.with_groups(last - first),
                };
                to.part(kept, &inputs, &[output], |part| match last - first {
                    1 => lower_within_limits(&op, part),
                    _ => op.lower(part),
                })?;
            }
            Ok(())
        });
    }
    let [from, into] = [x, dy].map(|o| (o.shape.c(), channels_at_once(to, o.shape)));
    let sizes = even_halves(from.1.max(into.1));
    to.first_that_fits(&sizes, |to, size| {
        let kept = to.scratch.len();
        for row in (0..into.0).step_by(size.min(into.1)) {
            let rows = row..into.0.min(row + size.min(into.1));
            for column in (0..from.0).step_by(size.min(from.1)) {
                let columns = column..from.0.min(column + size.min(from.1));
                let inputs = [x.channels(columns.clone()), dy.channels(rows.clone())];
                let output = dw.samples(rows.clone()).channels(columns);
                to.part(kept, &inputs, &[output], |part| op.lower(part))?;
            }
        }
        Ok(())
    })
}
