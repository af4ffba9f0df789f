//! The fully connected layer and its three gradients.

use std::sync::Arc;

use super::gemm::{Extents, Matrix, product};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape, grid_of,
    take, with_bias,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(SumParams {
    dy_offset: u32,
    dy_batch: u32,
    db_offset: u32,
    rows: u32,
    columns: u32,
});

static COLUMN_SUM: Kernel = shipped_kernel! {
    name: "matmul/column_sum",
    params: SumParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&COLUMN_SUM, vec![vec![]])]
}

/// Checks that a tensor holds one vector a sample.
fn expect_vectors(op: &'static str, what: &'static str, found: Shape) -> Result<(), OpError> {
    if found.voxels() == 1 && !found.is_empty() {
        return Ok(());
    }
    Err(OpError::Shape {
        op,
        what,
        expected: "(N, C, 1, 1, 1); for images take a convolution of kernel 1".to_owned(),
        found,
    })
}

fn product_cost(rows: usize, columns: usize, terms: usize) -> Cost {
    Cost {
        flops: 2.0 * rows as f64 * columns as f64 * terms as f64,
        bytes: 4.0 * (rows * terms + terms * columns + rows * columns) as f64,
    }
}

/// y = x W^T + b; x (N, C_in, 1, 1, 1), W (C_out, C_in, 1, 1, 1), optionally b (1, C_out, 1, 1, 1), y (N, C_out, 1, 1, 1).
/// Saves x.
#[derive(Debug)]
pub struct Linear;

const OP: &str = "matmul.linear";

impl Operator for Linear {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let (x, w, b) = with_bias(OP, inputs)?;
        expect_vectors(OP, "the input", x)?;
        expect_vectors(OP, "the weight", w)?;
        expect_shape(OP, "the weight", w.with_c(x.c()), w)?;
        if let Some(b) = b {
            expect_shape(OP, "the bias", Shape::vector(w.n()), b)?;
        }
        Ok(vec![x.with_c(w.n())])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        let (x, w) = (io.inputs[0], io.inputs[1]);
        let mut grads = vec![None; io.inputs.len()];
        if io.needs[0] {
            grads[0] = Some(graph.add(Arc::new(LinearInputGrad), &[dy, w])?[0]);
        }
        if io.needs[1] {
            grads[1] = Some(graph.add(Arc::new(LinearWeightGrad), &[dy, x])?[0]);
        }
        if io.needs.get(2) == Some(&true) {
            grads[2] = Some(graph.add(Arc::new(LinearBiasGrad), &[dy])?[0]);
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, w, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let extents = Extents {
            batch: 1,
            rows: x.shape.n(),
            columns: w.shape.n(),
            terms: x.shape.c(),
        };
        let matrices = (Matrix::of(&x), Matrix::of(&w).transposed(), Matrix::of(&y));
        let bias = to.inputs.get(2);
        product(to, matrices, bias, extents)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        product_cost(inputs[0].n(), outputs[0].c(), inputs[0].c())
    }
}

/// dx = dy W of [`Linear`]; dy (N, C_out, 1, 1, 1), W (C_out, C_in, 1, 1, 1), dx (N, C_in, 1, 1, 1).
#[derive(Debug)]
pub struct LinearInputGrad;

const OP_INPUT: &str = "matmul.linear_input_grad";

impl Operator for LinearInputGrad {
    fn name(&self) -> &'static str {
        OP_INPUT
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy, w] = take(OP_INPUT, inputs)?;
        expect_vectors(OP_INPUT, "the weight", w)?;
        expect_shape(
            OP_INPUT,
            "the gradient",
            Shape::new(dy.n(), w.n(), 1, 1, 1),
            dy,
        )?;
        Ok(vec![dy.with_c(w.c())])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, w, dx) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let extents = Extents {
            batch: 1,
            rows: dy.shape.n(),
            columns: w.shape.c(),
            terms: w.shape.n(),
        };
        let matrices = (Matrix::of(&dy), Matrix::of(&w), Matrix::of(&dx));
        product(to, matrices, None, extents)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        product_cost(outputs[0].n(), outputs[0].c(), inputs[0].c())
    }
}

/// dW = dy^T x of [`Linear`]; dy (N, C_out, 1, 1, 1), x (N, C_in, 1, 1, 1), dW (C_out, C_in, 1, 1, 1).
#[derive(Debug)]
pub struct LinearWeightGrad;

const OP_WEIGHT: &str = "matmul.linear_weight_grad";

impl Operator for LinearWeightGrad {
    fn name(&self) -> &'static str {
        OP_WEIGHT
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy, x] = take(OP_WEIGHT, inputs)?;
        expect_vectors(OP_WEIGHT, "the input", x)?;
        expect_shape(OP_WEIGHT, "the gradient", x.with_c(dy.c()), dy)?;
        Ok(vec![Shape::new(dy.c(), x.c(), 1, 1, 1)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, x, dw) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let extents = Extents {
            batch: 1,
            rows: dy.shape.c(),
            columns: x.shape.c(),
            terms: x.shape.n(),
        };
        let matrices = (
            Matrix::of(&dy).transposed(),
            Matrix::of(&x),
            Matrix::of(&dw),
        );
        product(to, matrices, None, extents)
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        product_cost(outputs[0].n(), outputs[0].c(), inputs[0].n())
    }
}

/// db = sum of dy over the samples of [`Linear`]; dy (N, C_out, 1, 1, 1), db (1, C_out, 1, 1, 1).
#[derive(Debug)]
pub struct LinearBiasGrad;

const OP_BIAS: &str = "matmul.linear_bias_grad";

impl Operator for LinearBiasGrad {
    fn name(&self) -> &'static str {
        OP_BIAS
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy] = take(OP_BIAS, inputs)?;
        expect_vectors(OP_BIAS, "the gradient", dy)?;
        Ok(vec![Shape::vector(dy.c())])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, db) = (to.inputs[0], to.outputs[0]);
        column_sum(to, &dy, &db);
        Ok(())
    }
}

/// Appends db = sum of dy (N, C, 1, 1, 1) over the samples in their order; db (1, C, 1, 1, 1).
pub(super) fn column_sum(to: &mut Lowering<'_>, dy: &Operand, db: &Operand) {
    let params = SumParams {
        dy_offset: dy.offset,
        dy_batch: dy.batch_stride,
        db_offset: db.offset,
        rows: dy.shape.n() as u32,
        columns: dy.shape.c() as u32,
    };
    let groups = grid_of(&COLUMN_SUM, dy.shape.c());
    to.dispatch(&COLUMN_SUM, vec![], &params, &[dy, db], groups);
}

/// Appends y = x W^T (+ b), a fully connected layer.
///
/// # Errors
/// [`OpError::Shape`] where the shapes do not fit each other.
pub fn linear(
    graph: &mut dyn Build,
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
) -> Result<ValueId, OpError> {
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    Ok(graph.add(Arc::new(Linear), &inputs)?[0])
}
