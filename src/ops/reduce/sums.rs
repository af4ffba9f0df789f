//! Partial sums and the fixed tree that adds them.

use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, Operand, grid_of};
use crate::param_block;
use crate::tensor::Shape;

/// Partial results that one invocation merges.
pub const FAN: u32 = 128;
/// Packs of partial results of a row that are then merged as scalars.
pub const LAST: usize = 32;

param_block!(Params {
    rows: u32,
    members: u32,
    results: u32,
    offset: u32,
    inner: u32,
    outer_stride: u32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "reduce/merge_sums",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// `rows * members` packs of `width` components; what belongs to one sum is a row.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    /// The packs.
    pub data: Operand,
    rows: usize,
    members: usize,
    width: u32,
}

impl Sums {
    /// Asks for the space.
    pub fn scratch(to: &mut Lowering<'_>, rows: usize, members: usize, width: u32) -> Self {
        Self {
            data: to.scratch(Shape::vector(rows * members * width as usize)),
            rows,
            members,
            width,
        }
    }

    /// Adds up each row; the totals lie in scratch space, one after the other.
    pub fn total(self, to: &mut Lowering<'_>) -> Operand {
        let totals = to.scratch(Shape::vector(self.rows));
        self.total_into(to, &totals);
        totals
    }

    /// Adds up each row, into `totals` of as many elements, one for each channel.
    pub fn total_into(mut self, to: &mut Lowering<'_>, totals: &Operand) {
        while self.members > LAST {
            let results = self.members.div_ceil(FAN as usize);
            let merged = Self::scratch(to, self.rows, results, self.width);
            self.merge(to, results, &merged.data);
            self = merged;
        }
        let scalars = Self {
            members: self.members * self.width as usize,
            width: 1,
            ..self
        };
        scalars.merge(to, 1, totals);
    }

    fn merge(&self, to: &mut Lowering<'_>, results: usize, target: &Operand) {
        let params = Params {
            rows: self.rows as u32,
            members: self.members as u32,
            results: results as u32,
            offset: target.offset / self.width,
            inner: target.shape.per_sample() as u32 / self.width,
            outer_stride: target.batch_stride / self.width,
        };
        let constants = vec![("Pack", self.width), ("FAN", FAN)];
        let groups = grid_of(&KERNEL, self.rows * results);
        to.dispatch(&KERNEL, constants, &params, &[&self.data, target], groups);
    }
}
