//! Products of matrices on CPU adapters as pointwise convolutions, whose kernels are the fast ones there.
//!
//! With the columns of y as voxels a product is a convolution, a being its weight, or where a lies transposed the gradient of
//! one's input; with the terms as voxels and b transposed it is the gradient of a weight.

use super::gemm::{Extents, Matrix};
use crate::ops::conv::{ConvAttributes, ConvForward, ConvInputGrad, ConvWeightGrad};
use crate::ops::elementwise::AddBroadcast;
use crate::ops::{Lowering, OpError, Operand, Operator};
use crate::tensor::Shape;

/// Rows, columns and terms, and products, below which copies and packing take longer than the kernel for one number at a time.
const FEW: usize = 8;
const FEW_PRODUCTS: usize = 1 << 18;

/// Rows that a bias can be added to: the samples of a dispatch.
const MOST_ROWS: usize = 65_535;

const POINT: ConvAttributes = ConvAttributes::new([1; 3]);

/// Whether a product of these extents is worth it.
pub(super) fn pays(extents: Extents) -> bool {
    let axes = [extents.rows, extents.columns, extents.terms];
    axes.iter().all(|&n| n >= FEW) && axes.iter().product::<usize>() >= FEW_PRODUCTS
}

/// The convolution that is run.
#[derive(Clone, Copy)]
enum Form {
    Forward,
    InputGrad,
    WeightGrad,
}

/// A batch of products as convolutions.
pub(super) struct Pointwise<'a> {
    form: Form,
    matrices: [Matrix<'a>; 3],
    extents: Extents,
}

impl<'a> Pointwise<'a> {
    /// The one for y = a b, where the matrices lie as a convolution's operands do.
    pub(super) fn of(
        (a, b, y): (Matrix<'a>, Matrix<'a>, Matrix<'a>),
        extents: Extents,
    ) -> Option<Self> {
        let (columns, terms) = (extents.columns as u32, extents.terms as u32);
        let are_rows = |m: Matrix<'_>, len: u32| m.column == 1 && m.row == len;
        let form = if are_rows(b, columns) && are_rows(y, columns) {
            match (a.row, a.column) {
                (_, 1) => Form::Forward,
                (1, _) => Form::InputGrad,
                _ => return None,
            }
        } else if are_rows(a, terms) && are_rows(b.transposed(), terms) && are_rows(y, columns) {
            Form::WeightGrad
        } else {
            return None;
        };
        (extents.rows <= MOST_ROWS).then_some(Self {
            form,
            matrices: [a, b, y],
            extents,
        })
    }

    /// Appends the products, plus `bias` (one value a column) to each row.
    ///
    /// # Errors
    /// Those of the convolution.
    pub(super) fn lower(
        &self,
        to: &mut Lowering<'_>,
        bias: Option<&Operand>,
    ) -> Result<(), OpError> {
        let kept = to.scratch.len();
        let Extents {
            rows,
            columns,
            terms,
            ..
        } = self.extents;
        for i in 0..self.extents.batch {
            let [a, b, y] = self.matrices.map(|m| Operand {
                offset: m.operand.offset + i as u32 * m.batch,
                ..*m.operand
            });
            let image = |o: &Operand, channels: usize, voxels: usize| Operand {
                shape: Shape::new(1, channels, 1, 1, voxels),
                batch_stride: 0,
                ..*o
            };
            let weight = |o: &Operand, [out, into]: [usize; 2], stride: u32| Operand {
                shape: Shape::new(out, into, 1, 1, 1),
                batch_stride: stride,
                ..*o
            };
            let product = image(&y, rows, columns);
            let (op, inputs, output): (Box<dyn Operator>, _, _) = match self.form {
                Form::Forward => (
                    Box::new(ConvForward { attributes: POINT }),
                    [
                        image(&b, terms, columns),
                        weight(&a, [rows, terms], self.matrices[0].row),
                    ],
                    product,
                ),
                Form::InputGrad => (
                    Box::new(ConvInputGrad {
                        attributes: POINT,
                        input_size: [1, 1, columns],
                    }),
                    [
                        image(&b, terms, columns),
                        weight(&a, [terms, rows], self.matrices[0].column),
                    ],
                    product,
                ),
                Form::WeightGrad => (
                    Box::new(ConvWeightGrad { attributes: POINT }),
                    [image(&b, columns, terms), image(&a, rows, terms)],
                    weight(&y, [rows, columns], columns as u32),
                ),
            };
            to.append(kept, op.as_ref(), &inputs, output)?;
            if let Some(bias) = bias {
                let sums = weight(&y, [rows, columns], columns as u32);
                to.append(kept, &AddBroadcast, &[sums, *bias], sums)?;
            }
        }
        Ok(())
    }
}
