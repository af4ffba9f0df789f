//! How the kernels of this family cut channels into blocks, and how they merge partial results.

use crate::gpu::{Field, Kernel, ParamBlock};
use crate::ops::{Lowering, Operand, grid, pack_width};
use crate::param_block;
use crate::tensor::Shape;

/// Invocations of a workgroup over voxels.
const LANES: usize = 256;
/// Packs that an invocation writes, one after the other: enough that the loads of its channel's numbers do not count.
pub(super) const MAP_STEPS: u32 = 8;
/// Packs that an invocation of a reduction reads.
pub(super) const SUM_STEPS: u32 = 16;
/// Partial results that one invocation merges.
pub(super) const FAN: u32 = 128;
/// Packs of partial results of a row that the last kernel takes as scalars, one after the other.
const LAST: usize = 32;

param_block!(MergeParams {
    rows: u32,
    members: u32,
    results: u32,
});

/// The parameter block of a kernel that [`Partials::merge_once`] runs.
pub(super) const MERGE_PARAMS: &[Field] = MergeParams::FIELDS;

/// Channels cut into packs of 1 or 4 voxels, and these into blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    /// Voxels of a pack.
    pub width: u32,
    /// Packs of a channel.
    pub packs: usize,
    /// Pairs (sample, channel).
    rows: usize,
}

impl Tiling {
    /// For kernels that walk through `operands`, all of one shape.
    pub fn new(operands: &[&Operand]) -> Self {
        let width = pack_width(operands);
        let shape = operands.first().map_or(Shape::scalar(), |o| o.shape);
        Self {
            width,
            packs: shape.voxels() / width as usize,
            rows: shape.n() * shape.c(),
        }
    }

    /// An offset or a stride in packs.
    pub fn packs_of(&self, elements: u32) -> u32 {
        elements / self.width
    }

    /// The grid for invocations that take `steps` packs.
    pub fn groups(&self, steps: u32) -> [u32; 3] {
        let [x, y, _] = grid(self.packs.div_ceil(LANES * steps as usize));
        [x, y, self.rows as u32]
    }

    /// Partial results of a channel, one from each invocation that has packs to reduce.
    pub fn slots(&self) -> usize {
        let blocks = self.packs.div_ceil(LANES * SUM_STEPS as usize);
        (blocks * LANES).min(self.packs)
    }
}

/// Partial results: `planes * rows * members` packs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partials {
    pub data: Operand,
    pub planes: usize,
    pub rows: usize,
    pub members: usize,
    pub width: u32,
}

impl Partials {
    /// Asks for the space of partial results.
    pub fn scratch(
        to: &mut Lowering<'_>,
        planes: usize,
        rows: usize,
        members: usize,
        width: u32,
    ) -> Self {
        let len = planes * rows * members * width as usize;
        Self {
            data: to.scratch(Shape::vector(len)),
            planes,
            rows,
            members,
            width,
        }
    }

    /// Merges until a row has few enough members for one invocation to take them as scalars. `kernel` handles
    /// `planes_at_once` planes in one invocation.
    pub fn merge(
        self,
        to: &mut Lowering<'_>,
        kernel: &'static Kernel,
        planes_at_once: usize,
    ) -> Self {
        let mut partials = self;
        while partials.members > LAST {
            partials = partials.merge_once(to, kernel, planes_at_once);
        }
        partials
    }

    /// The same numbers, each component of a pack a member.
    pub fn as_scalars(self) -> Self {
        Self {
            members: self.members * self.width as usize,
            width: 1,
            ..self
        }
    }

    /// One merge of [`FAN`] members at a time.
    pub fn merge_once(
        self,
        to: &mut Lowering<'_>,
        kernel: &'static Kernel,
        planes_at_once: usize,
    ) -> Self {
        let results = self.members.div_ceil(FAN as usize);
        let merged = Self::scratch(to, self.planes, self.rows, results, self.width);
        let rows = self.rows * self.planes / planes_at_once;
        let params = MergeParams {
            rows: rows as u32,
            members: self.members as u32,
            results: results as u32,
        };
        let constants = vec![("Pack", self.width), ("FAN", FAN)];
        let groups = grid((rows * results).div_ceil(64));
        to.dispatch(
            kernel,
            constants,
            &params,
            &[&self.data, &merged.data],
            groups,
        );
        merged
    }
}
