//! How kernels over voxels cut tensors into packs and blocks.

use crate::ops::{Operand, grid, pack_width};
use crate::tensor::Shape;

/// Invocations of a workgroup over voxels.
const LANES: usize = 256;
/// Packs that an invocation of a map writes, one after the other: enough that the loads of its channel's numbers do
/// not count. Instance norm with leaky ReLU, 32 channels at 64^3, forward and backward on lavapipe, CPU time: 114 ms with
/// (MAP, SUM) = (8, 16) and (4, 16), 118 ms with (8, 8), 242 ms with (16, 32).
pub const MAP_STEPS: u32 = 8;
/// Packs that an invocation of a reduction reads.
pub const SUM_STEPS: u32 = 16;

/// Rows (channels, or whole samples) cut into packs of 1 or 4 voxels, and these into blocks.
#[derive(Clone, Copy, Debug)]
pub struct Tiling {
    /// Voxels of a pack.
    pub width: u32,
    /// Packs of a row.
    pub packs: usize,
    rows: usize,
}

impl Tiling {
    /// One row for each channel of each sample of `operands`, all of one shape.
    pub fn channels(operands: &[&Operand]) -> Self {
        let shape = shape_of(operands);
        Self::new(operands, shape.voxels(), shape.n() * shape.c())
    }

    /// One row for each sample of `operands`, all of one shape.
    pub fn samples(operands: &[&Operand]) -> Self {
        let shape = shape_of(operands);
        Self::new(operands, shape.per_sample(), shape.n())
    }

    fn new(operands: &[&Operand], row: usize, rows: usize) -> Self {
        let width = pack_width(operands);
        Self {
            width,
            packs: row / width as usize,
            rows,
        }
    }

    /// An offset or a stride in packs.
    pub fn packs_of(&self, elements: u32) -> u32 {
        elements / self.width
    }

    /// The grid for invocations that take `steps` packs: (x, y) count blocks of a row, z rows.
    pub fn groups(&self, steps: u32) -> [u32; 3] {
        let [x, y, _] = grid(self.packs.div_ceil(LANES * steps as usize));
        [x, y, self.rows as u32]
    }

    /// Partial results of a row, one from each invocation that has packs to reduce.
    pub fn slots(&self) -> usize {
        let blocks = self.packs.div_ceil(LANES * SUM_STEPS as usize);
        (blocks * LANES).min(self.packs)
    }
}

fn shape_of(operands: &[&Operand]) -> Shape {
    operands.first().map_or(Shape::scalar(), |o| o.shape)
}
