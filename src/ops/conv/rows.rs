//! Rows of whole packs, four or eight voxels that are loaded at once: of an operand itself, or of a padded copy.

use super::lanes::{copies, sample};
use crate::ops::{Lowering, Operand};
use crate::tensor::Shape;

/// Where rows of packs lie, in packs.
pub(super) struct Rows {
    pub first: u32,
    pub batch: u32,
    pub channel: u32,
    pub plane: u32,
    pub row: u32,
}

impl Rows {
    /// Of packs of `pack` voxels.
    pub fn of(operand: &Operand, pack: usize) -> Self {
        let [_, h, w] = operand.shape.spatial();
        Self {
            first: operand.offset / pack as u32,
            batch: operand.batch_stride / pack as u32,
            channel: (operand.shape.voxels() / pack) as u32,
            plane: (h * w / pack) as u32,
            row: (w / pack) as u32,
        }
    }
}

/// `source` itself where it may be read as rows of packs up to `extent` (H, W), else a copy with `padding` zeros before it
/// and zeros after it up to `extent`.
pub(super) fn padded(
    to: &mut Lowering<'_>,
    source: &Operand,
    pack: usize,
    padding: [usize; 2],
    extent: [usize; 2],
) -> Operand {
    if is_readable(source, pack, padding, extent) {
        return *source;
    }
    let copy = to.scratch_as(source.element, with_plane(source.shape, extent));
    pad(to, source, padding, &copy);
    copy
}

/// Whether `source` may be read as rows of packs of so many voxels up to `extent` (H, W) without a copy.
pub(super) fn is_readable(
    source: &Operand,
    pack: usize,
    padding: [usize; 2],
    extent: [usize; 2],
) -> bool {
    let [_, h, w] = source.shape.spatial();
    let whole = padding == [0, 0] && w.is_multiple_of(pack) && extent[0] <= h && extent[1] <= w;
    whole && source.starts_in(pack)
}

/// The same with planes of (H, W).
pub(super) fn with_plane(shape: Shape, [h, w]: [usize; 2]) -> Shape {
    shape.with_spatial([shape.spatial()[0], h, w])
}

/// Appends the copy of `source` with `padding` zeros (H, W) before it, and zeros after it up to the extents of `copy`.
pub(super) fn pad(to: &mut Lowering<'_>, source: &Operand, padding: [usize; 2], copy: &Operand) {
    for n in 0..source.shape.n() as u32 {
        let copy = sample(copy, n);
        copies::pad(to, &sample(source, n), (0, padding), &copy);
    }
}

/// Appends the copy of one sample into rows that are longer, filled up with zeros; those are whole vec4.
pub(in crate::ops) fn fill_rows(to: &mut Lowering<'_>, x: &Operand, rows: &Operand) {
    copies::pad(to, x, (0, [0; 2]), rows);
}

/// Appends the copy of one sample out of rows that are longer.
pub(in crate::ops) fn cut_rows(to: &mut Lowering<'_>, rows: &Operand, y: &Operand) {
    let planes = 0..y.shape.spatial()[0];
    copies::interleave(to, [1; 3], rows, y, planes);
}
