//! Operators that need all channels of a voxel: slabs of planes are copied into scratch space, computed there and copied
//! back.

use std::ops::Range;

use super::copies::{put_planes, take_planes};
use super::{COPY_BYTES, halves};
use crate::ops::{Lowering, OpError, Operand};
use crate::tensor::Shape;

/// The axis of (D, H, W) across which a tensor is cut: its first that has an extent.
pub(in crate::ops) fn slab_axis(shape: Shape) -> usize {
    let spatial = shape.spatial();
    (0..2).find(|&axis| spatial[axis] > 1).unwrap_or(2)
}

/// Numbers of planes across `axis` to try for a slab of a tensor of `shape`.
pub(in crate::ops) fn slab_sizes(to: &Lowering<'_>, shape: Shape, axis: usize) -> Vec<usize> {
    let planes = shape.spatial()[axis];
    let most = (COPY_BYTES / 4).min(to.most_elements());
    let of_plane = (shape.len() / planes.max(1)).max(1);
    halves((most / of_plane).clamp(1, planes.max(1)), 1)
}

/// Planes of an operand.
pub(in crate::ops) struct Slab<'a> {
    pub whole: &'a Operand,
    pub axis: usize,
    pub range: Range<usize>,
}

impl Slab<'_> {
    /// Scratch space for the slab.
    pub(in crate::ops) fn space(&self, to: &mut Lowering<'_>) -> Operand {
        let mut spatial = self.whole.shape.spatial();
        spatial[self.axis] = self.range.len();
        to.scratch_as(self.whole.element, self.whole.shape.with_spatial(spatial))
    }

    /// Appends its copy into scratch space.
    pub(in crate::ops) fn taken(&self, to: &mut Lowering<'_>) -> Operand {
        let space = self.space(to);
        self.fill(to, &space);
        space
    }

    /// Appends its copy into `space`.
    pub(in crate::ops) fn fill(&self, to: &mut Lowering<'_>, space: &Operand) {
        take_planes(to, (self.whole, self.axis, self.range.clone()), space);
    }

    /// Appends the copy of `space` into its place.
    pub(in crate::ops) fn put(&self, to: &mut Lowering<'_>, space: &Operand) {
        put_planes(to, space, (self.whole, self.axis, self.range.clone()));
    }
}

/// Appends the node slab by slab; `lower` sees operands of those planes and the number of the slab. Operands with the
/// extents of input 0 are cut, others are whole.
pub(in crate::ops) fn by_slabs(
    to: &mut Lowering<'_>,
    lower: impl Fn(&mut Lowering<'_>, usize) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let all = to.inputs[0].shape;
    let axis = slab_axis(all);
    let planes = all.spatial()[axis];
    let sizes = slab_sizes(to, all, axis);
    let is_cut = |o: &Operand| o.shape.spatial() == all.spatial();
    to.first_that_fits(&sizes, |to, size| {
        let kept = to.scratch.len();
        for (number, first) in (0..planes).step_by(size).enumerate() {
            let range = first..planes.min(first + size);
            let (inputs, outputs) = (to.inputs, to.outputs);
            let slab = |whole| Slab {
                whole,
                axis,
                range: range.clone(),
            };
            to.part(kept, &[], &[], |part| {
                let sources: Vec<Operand> = inputs
                    .iter()
                    .map(|o| if is_cut(o) { slab(o).taken(part) } else { *o })
                    .collect();
                let targets: Vec<Operand> = outputs
                    .iter()
                    .map(|o| if is_cut(o) { slab(o).space(part) } else { *o })
                    .collect();
                let kept = part.scratch.len();
                part.part(kept, &sources, &targets, |part| lower(part, number))?;
                for (whole, space) in outputs.iter().zip(&targets) {
                    if is_cut(whole) {
                        slab(whole).put(part, space);
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    })
}
