//! A fully connected layer along the last axis, and its three gradients: what mixes tokens, channel by channel.

use std::ops::Range;
use std::sync::Arc;

use super::gemm::{Extents, Matrix, product};
use super::linear::column_sum;
use crate::ops::elementwise::add_to;
use crate::ops::layout::copy;
use crate::ops::parts::{channels_at_once, halves};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape, take,
    with_bias,
};
use crate::tensor::{Element, Shape};

/// `y[n, c, z, y, o]` = sum over l of `W[o, l] x[n, c, z, y, l]`, plus `b[o]`; x (N, C, D, H, L), W (O, L, 1, 1, 1), optionally b
/// (1, O, 1, 1, 1), y (N, C, D, H, O). Saves x.
#[derive(Debug)]
pub struct LinearLast;

const OP: &str = "matmul.linear_last";

/// Rows of a sample.
fn rows(x: Shape) -> usize {
    x.per_sample() / x.0[4].max(1)
}

fn with_last(x: Shape, last: usize) -> Shape {
    let [n, c, d, h, _] = x.0;
    Shape::new(n, c, d, h, last)
}

/// The rows of each sample as a matrix.
fn rows_of(x: &Operand) -> Matrix<'_> {
    Matrix {
        operand: x,
        batch: x.batch_stride,
        row: x.shape.0[4] as u32,
        column: 1,
    }
}

/// The rows of all samples as one matrix; x is dense.
fn all_rows(x: &Operand) -> Matrix<'_> {
    Matrix {
        batch: 0,
        ..rows_of(x)
    }
}

/// `x` itself where its samples lie without gaps, else a copy.
fn dense(to: &mut Lowering<'_>, x: &Operand) -> Operand {
    if x.is_dense() {
        return *x;
    }
    let space = to.scratch_as(x.element, x.shape);
    copy(to, x, &space, 0);
    space
}

fn product_cost(x: Shape, y: Shape) -> Cost {
    let (inputs, outputs) = (x.len() as f64, y.len() as f64);
    Cost {
        flops: 2.0 * outputs * x.0[4] as f64,
        bytes: 4.0 * (inputs + outputs + (x.0[4] * y.0[4]) as f64),
    }
}

fn expect_weight(op: &'static str, w: Shape, expected: [usize; 2]) -> Result<(), OpError> {
    let [outputs, inputs] = expected;
    let expected = Shape::new(outputs, inputs, 1, 1, 1);
    expect_shape(op, "the weight (O, L)", expected, w)
}

impl Operator for LinearLast {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let (x, w, b) = with_bias(OP, inputs)?;
        expect_weight(OP, w, [w.n(), x.0[4]])?;
        if let Some(b) = b {
            expect_shape(OP, "the bias", Shape::vector(w.n()), b)?;
        }
        Ok(vec![with_last(x, w.n())])
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
        if io.needs.get(2) == Some(&true) {
            grads[2] = Some(graph.add(Arc::new(LinearLastBiasGrad), &[dy])?[0]);
        }
        if io.needs[1] {
            grads[1] = Some(graph.add(Arc::new(LinearLastWeightGrad), &[dy, x])?[0]);
        }
        if io.needs[0] {
            grads[0] = Some(graph.add(Arc::new(LinearLastInputGrad), &[dy, w])?[0]);
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, w, y) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let extents = Extents {
            batch: x.shape.n(),
            rows: rows(x.shape),
            columns: w.shape.n(),
            terms: w.shape.c(),
        };
        let matrices = (rows_of(&x), Matrix::of(&w).transposed(), rows_of(&y));
        let bias = to.inputs.get(2);
        product(to, matrices, bias, extents)
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_rows(to, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        product_cost(inputs[0], outputs[0])
    }
}

/// Some channels of one sample of input 0 and output 0 at a time.
fn by_rows(
    to: &mut Lowering<'_>,
    lower: impl Fn(&mut Lowering<'_>) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let (from, target) = (to.inputs[0], to.outputs[0]);
    to.first_that_fits(&sizes(to, &[from, target]), |to, size| {
        let kept = to.scratch.len();
        for (n, range) in blocks(from.shape, size) {
            let of = |o: Operand| o.samples(n..n + 1).channels(range.clone());
            let mut inputs = to.inputs.to_vec();
            inputs[0] = of(from);
            to.part(kept, &inputs, &[of(target)], &lower)?;
        }
        Ok(())
    })
}

/// Some channels of one sample of all inputs at a time; what `lower` makes of them is added up in output 0.
fn sum_of_rows(
    to: &mut Lowering<'_>,
    lower: impl Fn(&mut Lowering<'_>) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let (all, total) = (to.inputs[0].shape, to.outputs[0]);
    to.first_that_fits(&sizes(to, to.inputs), |to, size| {
        let kept = to.scratch.len();
        for (number, (n, range)) in blocks(all, size).enumerate() {
            let of = |o: &Operand| o.samples(n..n + 1).channels(range.clone());
            let inputs: Vec<Operand> = to.inputs.iter().map(of).collect();
            to.part(kept, &[], &[], |part| {
                let sum = match number {
                    0 => total,
                    _ => part.scratch(total.shape),
                };
                let kept = part.scratch.len();
                part.part(kept, &inputs, &[sum], &lower)?;
                match number {
                    0 => Ok(()),
                    _ => add_to(part, &total, &sum),
                }
            })?;
        }
        Ok(())
    })
}

/// Numbers of channels to try: as many of one sample as can be bound of each operand, then fewer.
fn sizes(to: &Lowering<'_>, operands: &[Operand]) -> Vec<usize> {
    let at_once = operands.iter().map(|o| channels_at_once(to, o.shape));
    halves(at_once.min().unwrap_or(1), 1)
}

/// Each sample with `size` of its channels at a time.
fn blocks(shape: Shape, size: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let channels = shape.c();
    (0..shape.n()).flat_map(move |n| {
        let starts = (0..channels).step_by(size);
        starts.map(move |first| (n, first..channels.min(first + size)))
    })
}

/// dx = dy W of [`LinearLast`]; dy (N, C, D, H, O), W (O, L, 1, 1, 1), dx (N, C, D, H, L).
#[derive(Debug)]
pub struct LinearLastInputGrad;

const OP_INPUT: &str = "matmul.linear_last_input_grad";

impl Operator for LinearLastInputGrad {
    fn name(&self) -> &'static str {
        OP_INPUT
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy, w] = take(OP_INPUT, inputs)?;
        expect_weight(OP_INPUT, w, [dy.0[4], w.c()])?;
        Ok(vec![with_last(dy, w.c())])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, w, dx) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let extents = Extents {
            batch: dy.shape.n(),
            rows: rows(dy.shape),
            columns: w.shape.c(),
            terms: w.shape.n(),
        };
        let matrices = (rows_of(&dy), Matrix::of(&w), rows_of(&dx));
        product(to, matrices, None, extents)
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_rows(to, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        product_cost(inputs[0], outputs[0])
    }
}

/// dW[o, l] = sum over all rows of dy[.., o] x[.., l] of [`LinearLast`]; dy (N, C, D, H, O), x (N, C, D, H, L), dW
/// (O, L, 1, 1, 1).
#[derive(Debug)]
pub struct LinearLastWeightGrad;

const OP_WEIGHT: &str = "matmul.linear_last_weight_grad";

impl Operator for LinearLastWeightGrad {
    fn name(&self) -> &'static str {
        OP_WEIGHT
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy, x] = take(OP_WEIGHT, inputs)?;
        expect_shape(OP_WEIGHT, "the gradient", with_last(x, dy.0[4]), dy)?;
        Ok(vec![Shape::new(dy.0[4], x.0[4], 1, 1, 1)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let dw = to.outputs[0];
        let (dy, x) = (to.inputs[0], to.inputs[1]);
        let (dy, x) = (dense(to, &dy), dense(to, &x));
        let extents = Extents {
            batch: 1,
            rows: dw.shape.n(),
            columns: dw.shape.c(),
            terms: dy.shape.n() * rows(dy.shape),
        };
        let matrices = (all_rows(&dy).transposed(), all_rows(&x), Matrix::of(&dw));
        product(to, matrices, None, extents)
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        sum_of_rows(to, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        product_cost(inputs[1], inputs[0])
    }
}

/// `db[o]` = sum over all rows of `dy[.., o]` of [`LinearLast`]; dy (N, C, D, H, O), db (1, O, 1, 1, 1).
#[derive(Debug)]
pub struct LinearLastBiasGrad;

const OP_BIAS: &str = "matmul.linear_last_bias_grad";

/// Rows of a channel that are summed by one invocation of the second pass, at most.
const SIDE_BY_SIDE: usize = 64;

impl Operator for LinearLastBiasGrad {
    fn name(&self) -> &'static str {
        OP_BIAS
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy] = take(OP_BIAS, inputs)?;
        Ok(vec![Shape::vector(dy.0[4])])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, db) = (to.inputs[0], to.outputs[0]);
        let dy = dense(to, &dy);
        let (all, outputs) = (dy.shape.n() * rows(dy.shape), dy.shape.0[4]);
        // Rows are dense, so that some of them side by side are one longer row: sums in two steps, with more of them at once.
        let beside = (1..=SIDE_BY_SIDE).rev().find(|b| all.is_multiple_of(*b));
        let beside = beside.unwrap_or(1);
        let wide = Shape::new(all / beside, beside * outputs, 1, 1, 1);
        let sums = to.scratch(Shape::vector(beside * outputs));
        column_sum(to, &reshaped(&dy, wide), &sums);
        column_sum(
            to,
            &reshaped(&sums, Shape::new(beside, outputs, 1, 1, 1)),
            &db,
        );
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        sum_of_rows(to, |part| self.lower(part))
    }
}

/// The same elements of a dense operand as another shape.
fn reshaped(operand: &Operand, shape: Shape) -> Operand {
    Operand {
        shape,
        batch_stride: shape.per_sample() as u32,
        ..*operand
    }
}

/// Appends y = x W^T (+ b) along the last axis: x (N, C, D, H, L), weight (O, L, 1, 1, 1), bias (1, O, 1, 1, 1), y
/// (N, C, D, H, O).
///
/// # Errors
/// [`OpError::Shape`] where the shapes do not fit each other.
pub fn linear_last(
    graph: &mut dyn Build,
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
) -> Result<ValueId, OpError> {
    let inputs: Vec<ValueId> = [x, weight].into_iter().chain(bias).collect();
    Ok(graph.add(Arc::new(LinearLast), &inputs)?[0])
}
