//! Operators that treat each channel, or each few neighbouring channels, for itself.

use std::ops::Range;

use super::{COPY_BYTES, copy_apart, halves, views::ALIGNMENT};
use crate::ops::{Lowering, OpError, Operand};
use crate::tensor::Shape;

/// Whether the samples of a channel meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Samples {
    /// Each is computed for itself.
    Apart,
    /// They are added up, or share statistics.
    Together,
}

/// Appends the node part by part, `unit` channels or a multiple of them at a time; `lower` sees operands of those channels.
/// Input 0 has all channels; operands with as many, or with one value for each `unit` channels, are cut, others are whole.
pub(in crate::ops) fn by_channels(
    to: &mut Lowering<'_>,
    unit: usize,
    samples: Samples,
    lower: impl Fn(&mut Lowering<'_>) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let all = to.inputs[0].shape;
    let operands = to.inputs.iter().chain(to.outputs);
    let voxels = operands
        .filter(|o| o.shape.c() == all.c())
        .map(|o| o.shape.voxels());
    let batch = match samples {
        Samples::Apart => 1,
        Samples::Together => all.n(),
    };
    let most = match batch {
        1 => to.most_elements(),
        // Channels of several samples may have to be copied together.
        _ => to.most_elements().min(COPY_BYTES / 4),
    };
    let most = most.saturating_sub(ALIGNMENT);
    let channels = most / (batch * voxels.max().unwrap_or(1)).max(1);
    let sizes = halves(channels.min(all.c()), unit);
    to.first_that_fits(&sizes, |to, size| {
        let kept = to.scratch.len();
        for n in (0..all.n()).step_by(batch) {
            for first in (0..all.c()).step_by(size) {
                let part = Part {
                    all,
                    unit,
                    samples: n..n + batch,
                    channels: first..all.c().min(first + size),
                };
                part.lower(to, kept, &lower)?;
            }
        }
        Ok(())
    })
}

/// Channels of one sample of `shape` that can be bound together, at least one.
pub(in crate::ops) fn channels_at_once(to: &Lowering<'_>, shape: Shape) -> usize {
    let most = to.most_elements().saturating_sub(ALIGNMENT);
    (most / shape.voxels().max(1)).clamp(1, shape.c().max(1))
}

/// Some channels of some samples.
struct Part {
    all: Shape,
    unit: usize,
    samples: Range<usize>,
    channels: Range<usize>,
}

impl Part {
    /// What the part sees of an operand of the node.
    fn of(&self, operand: &Operand) -> Operand {
        let mut part = operand.rebased();
        if operand.shape.n() == self.all.n() {
            part = part.samples(self.samples.clone());
        }
        let Range { start, end } = self.channels;
        if operand.shape.c() == self.all.c() {
            part = part.channels(start..end);
        } else if operand.shape.c() * self.unit == self.all.c() {
            part = part.channels(start / self.unit..end / self.unit);
        }
        part
    }

    fn lower(
        &self,
        to: &mut Lowering<'_>,
        kept: usize,
        lower: impl FnOnce(&mut Lowering<'_>) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let inputs: Vec<Operand> = to.inputs.iter().map(|o| self.of(o)).collect();
        let outputs: Vec<Operand> = to.outputs.iter().map(|o| self.of(o)).collect();
        to.part(kept, &[], &[], |part| {
            let most = part.most_elements();
            // Channels of several samples may lie too far apart.
            let near = |part: &mut Lowering<'_>, operand: &Operand| match operand.end() <= most {
                true => *operand,
                false => part.scratch_as(operand.element, operand.shape),
            };
            let sources: Vec<Operand> = inputs.iter().map(|o| near(part, o)).collect();
            let targets: Vec<Operand> = outputs.iter().map(|o| near(part, o)).collect();
            for (far, source) in inputs.iter().zip(&sources) {
                if !source.is_at(far) {
                    copy_apart(part, far, source);
                }
            }
            let kept = part.scratch.len();
            part.part(kept, &sources, &targets, lower)?;
            for (far, target) in outputs.iter().zip(&targets) {
                if !target.is_at(far) {
                    copy_apart(part, target, far);
                }
            }
            Ok(())
        })
    }
}
