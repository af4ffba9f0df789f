//! y = a b (+ bias) for matrices that lie anywhere: transposing is a choice of strides.

use super::pointwise::Pointwise;
use crate::gpu::{Access, AdapterClass, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{Lowering, OpError, Operand};
use crate::param_block;

param_block!(Params {
    a_offset: u32,
    a_batch: u32,
    a_row: u32,
    a_column: u32,
    b_offset: u32,
    b_batch: u32,
    b_row: u32,
    b_column: u32,
    bias_offset: u32,
    y_offset: u32,
    y_batch: u32,
    y_row: u32,
    y_column: u32,
    rows: u32,
    columns: u32,
    terms: u32,
});

const ACCESS: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Write];

static TILED: Kernel = shipped_kernel! {
    name: "matmul/tiled",
    params: Params::FIELDS,
    access: ACCESS,
};

static NAIVE: Kernel = shipped_kernel! {
    name: "matmul/naive",
    params: Params::FIELDS,
    access: ACCESS,
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    let of = |bias| [1, LARGE].map(|edge| constants(bias, edge));
    let list = || [of(false), of(true)].concat();
    vec![(&TILED, list()), (&NAIVE, list())]
}

/// The names of the variants: the first is for CPU adapters, where workgroup memory costs as much as storage, the second for
/// GPUs, the last for what is small or lies otherwise.
pub const VARIANTS: [&str; 3] = [POINTWISE, WITH_TILES, ONE_BY_ONE];
const POINTWISE: &str = "pointwise";
const WITH_TILES: &str = "tiled";
const ONE_BY_ONE: &str = "naive";

/// Invocations of a workgroup along rows and columns.
const TILE: usize = 16;

/// Outputs of an invocation along rows and columns where the product is large.
const LARGE: usize = 4;

/// Workgroups that keep a GPU busy: below that, small tiles.
const MANY_GROUPS: usize = 128;

/// Columns of a product, at most: the workgroups along an axis of the grid.
pub(super) const MOST_COLUMNS: usize = 65_535 * TILE;

fn constants(has_bias: bool, edge: usize) -> Constants {
    vec![
        ("TILE", TILE as u32),
        ("BIAS", u32::from(has_bias)),
        ("EDGE", edge as u32),
    ]
}

/// A batch of matrices inside an operand: element (i, row, column) at `i * batch + row * row_stride + column *
/// column_stride` after its offset.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub operand: &'a Operand,
    pub batch: u32,
    pub row: u32,
    pub column: u32,
}

impl<'a> Matrix<'a> {
    /// One matrix (N rows, C columns) of a tensor (N, C, 1, 1, 1).
    pub(super) fn of(operand: &'a Operand) -> Self {
        Self {
            operand,
            batch: 0,
            row: operand.batch_stride,
            column: 1,
        }
    }

    /// The same elements, rows for columns.
    pub(super) fn transposed(self) -> Self {
        Self {
            row: self.column,
            column: self.row,
            ..self
        }
    }
}

/// The extents of a product: y (batch, rows, columns) sums `terms` products.
#[derive(Clone, Copy)]
pub(super) struct Extents {
    pub batch: usize,
    pub rows: usize,
    pub columns: usize,
    pub terms: usize,
}

impl Extents {
    /// Workgroups along columns, rows and the batch.
    fn groups(self, edge: usize) -> [usize; 3] {
        let along = |outputs: usize| outputs.div_ceil(TILE * edge);
        [along(self.columns), along(self.rows), self.batch]
    }

    /// Outputs of an invocation along rows and columns: several where few would be computed for nothing, and, of the tiles
    /// for GPUs, where there are enough workgroups for all its cores.
    fn edge(self, tiled: bool) -> usize {
        let is_filled = self.rows >= LARGE && self.columns >= LARGE;
        let is_many = self.groups(LARGE).iter().product::<usize>() >= MANY_GROUPS;
        match is_filled && (is_many || !tiled) {
            true => LARGE,
            false => 1,
        }
    }
}

/// Appends y = a b, plus `bias` (one value a column) to each row. The variants with kernels of their own add the terms in
/// their order; a pointwise convolution asks for scratch space.
///
/// # Errors
/// Those of a pointwise convolution.
pub(super) fn product(
    to: &mut Lowering<'_>,
    matrices: (Matrix<'_>, Matrix<'_>, Matrix<'_>),
    bias: Option<&Operand>,
    extents: Extents,
) -> Result<(), OpError> {
    let is_wanted = match to.device.forced("matmul") {
        Some(variant) => variant == POINTWISE,
        None => to.device.class == AdapterClass::CpuLike && super::pointwise::pays(extents),
    };
    let pointwise = is_wanted
        .then(|| Pointwise::of(matrices, extents))
        .flatten();
    match pointwise {
        Some(pointwise) => pointwise.lower(to, bias),
        None => {
            product_in_order(to, matrices, bias, extents);
            Ok(())
        }
    }
}

/// [`product`] by the variants with kernels of their own.
pub(super) fn product_in_order(
    to: &mut Lowering<'_>,
    (a, b, y): (Matrix<'_>, Matrix<'_>, Matrix<'_>),
    bias: Option<&Operand>,
    extents: Extents,
) {
    let tiled = match to.device.forced("matmul") {
        Some(variant) => variant == WITH_TILES,
        None => to.device.class == AdapterClass::Gpu,
    };
    // A kernel's bindings are fixed, so without a bias b is bound in its place and not read.
    let third = bias.unwrap_or(b.operand);
    let params = Params {
        a_offset: a.operand.offset,
        a_batch: a.batch,
        a_row: a.row,
        a_column: a.column,
        b_offset: b.operand.offset,
        b_batch: b.batch,
        b_row: b.row,
        b_column: b.column,
        bias_offset: third.offset,
        y_offset: y.operand.offset,
        y_batch: y.batch,
        y_row: y.row,
        y_column: y.column,
        rows: extents.rows as u32,
        columns: extents.columns as u32,
        terms: extents.terms as u32,
    };
    let kernel = if tiled { &TILED } else { &NAIVE };
    let edge = extents.edge(tiled);
    let groups = extents.groups(edge).map(|n| n as u32);
    let operands = [a.operand, b.operand, third, y.operand];
    to.dispatch(
        kernel,
        constants(bias.is_some(), edge),
        &params,
        &operands,
        groups,
    );
}
