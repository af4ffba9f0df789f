//! Rows of a table chosen by an input of the step: the scale and the shift of each sample's style.

use std::sync::Arc;

use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{
    Backward, Build, Lowering, OpError, Operator, ValueId, expect_shape, grid_of, take,
};
use crate::param_block;
use crate::tensor::Shape;

param_block!(Params {
    samples: u32,
    channels: u32,
    rows: u32,
    table_offset: u32,
    table_batch: u32,
    index_offset: u32,
    index_batch: u32,
    y_offset: u32,
    y_batch: u32,
    missing: f32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "norm/select_rows",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

param_block!(BackwardParams {
    samples: u32,
    channels: u32,
    rows: u32,
    index_offset: u32,
    index_batch: u32,
    dy_offset: u32,
    dy_batch: u32,
    dtable_offset: u32,
    dtable_batch: u32,
});

pub(super) static BACKWARD: Kernel = shipped_kernel! {
    name: "norm/select_rows_backward",
    params: BackwardParams::FIELDS,
    access: &[Access::Read, Access::Read, Access::Write],
};

/// `y[n] = table[index[n]]`; table (S, C, 1, 1, 1), index (N, 1, 1, 1, 1) of whole numbers from 0 on, y (N, C, 1, 1, 1).
///
/// A row that is not there gives NaN. The gradient of a row is the sum over the samples that chose it, 0 where none did;
/// the index has none.
#[derive(Debug)]
pub struct SelectRows;

const OP: &str = "norm.select_rows";

impl Operator for SelectRows {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [table, index] = take(OP, inputs)?;
        expect_shape(
            OP,
            "the table",
            Shape::new(table.n(), table.c(), 1, 1, 1),
            table,
        )?;
        expect_shape(OP, "the index", Shape::new(index.n(), 1, 1, 1, 1), index)?;
        Ok(vec![Shape::new(index.n(), table.c(), 1, 1, 1)])
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let rows = graph.shape(io.inputs[0]).n();
        let inputs = [io.inputs[1], io.grad(OP)?];
        let dtable = graph.add(Arc::new(SelectRowsBackward { rows }), &inputs)?[0];
        Ok(vec![Some(dtable), None])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (table, index, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let params = Params {
            samples: y.shape.n() as u32,
            channels: y.shape.c() as u32,
            rows: table.shape.n() as u32,
            table_offset: table.offset,
            table_batch: table.batch_stride,
            index_offset: index.offset,
            index_batch: index.batch_stride,
            y_offset: y.offset,
            y_batch: y.batch_stride,
            missing: f32::NAN,
        };
        let groups = grid_of(&KERNEL, y.shape.len());
        to.dispatch(&KERNEL, vec![], &params, &[&table, &index, &y], groups);
        Ok(())
    }
}

/// The gradient of [`SelectRows`] with respect to its table: index (N, 1, 1, 1, 1) and dy (N, C, 1, 1, 1) to
/// (rows, C, 1, 1, 1).
#[derive(Debug)]
pub struct SelectRowsBackward {
    /// Rows of the table.
    pub rows: usize,
}

const OP_BACKWARD: &str = "norm.select_rows_backward";

impl Operator for SelectRowsBackward {
    fn name(&self) -> &'static str {
        OP_BACKWARD
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [index, dy] = take(OP_BACKWARD, inputs)?;
        expect_shape(OP_BACKWARD, "dy", index.with_c(dy.c()), dy)?;
        Ok(vec![Shape::new(self.rows, dy.c(), 1, 1, 1)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (index, dy, dtable) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let params = BackwardParams {
            samples: dy.shape.n() as u32,
            channels: dy.shape.c() as u32,
            rows: self.rows as u32,
            index_offset: index.offset,
            index_batch: index.batch_stride,
            dy_offset: dy.offset,
            dy_batch: dy.batch_stride,
            dtable_offset: dtable.offset,
            dtable_batch: dtable.batch_stride,
        };
        let groups = grid_of(&BACKWARD, dtable.shape.len());
        to.dispatch(&BACKWARD, vec![], &params, &[&index, &dy, &dtable], groups);
        Ok(())
    }
}

/// Appends the rows of `table` (S, C, 1, 1, 1) that `index` (N, 1, 1, 1, 1) names, (N, C, 1, 1, 1).
///
/// # Errors
/// [`OpError::Shape`] where table or index have another form.
pub fn select_rows(
    graph: &mut dyn Build,
    table: ValueId,
    index: ValueId,
) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(SelectRows), &[table, index])?[0])
}
