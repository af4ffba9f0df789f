//! The Gram matrix of a feature map, a statistic of its style (Gatys et al. 2016).

use std::ops::Range;
use std::sync::Arc;

use super::gemm::{Extents, MOST_COLUMNS, Matrix, product_in_order};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, expect_shape, grid_of,
    take,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(FinishParams {
    samples: u32,
    area: u32,
    parts: u32,
    gram_offset: u32,
    gram_batch: u32,
    scale: f32,
});

static FINISH: Kernel = shipped_kernel! {
    name: "matmul/gram_finish",
    params: FinishParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

param_block!(SymmetriseParams {
    samples: u32,
    channels: u32,
    dgram_offset: u32,
    dgram_batch: u32,
    scale: f32,
});

static SYMMETRISE: Kernel = shipped_kernel! {
    name: "matmul/gram_symmetrise",
    params: SymmetriseParams::FIELDS,
    access: &[Access::Read, Access::Write],
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&FINISH, vec![vec![]]), (&SYMMETRISE, vec![vec![]])]
}

/// Voxels of a part of the sum, at least: few channels over many voxels would else keep few invocations busy.
const PART_VOXELS: usize = 4096;

/// Parts of the sum, at most.
const MOST_PARTS: usize = 64;

/// `G[n] = F F^T / (C D H W)`, F the channels of sample n as rows of voxels: x (N, C, D, H, W) to G (N, 1, 1, C, C). Saves x.
///
/// Both triangles of the symmetric product are computed. Each dispatch binds one sample of x.
#[derive(Clone, Debug)]
pub struct Gram;

const OP: &str = "matmul.gram";

fn gram_shape(x: Shape) -> Shape {
    Shape::new(x.n(), 1, 1, x.c(), x.c())
}

fn scale(x: Shape) -> f32 {
    1.0 / x.per_sample() as f32
}

fn gram_cost(x: Shape, passes: f64) -> Cost {
    Cost {
        flops: 2.0 * x.len() as f64 * x.c() as f64,
        bytes: 4.0 * (passes * x.len() as f64 + gram_shape(x).len() as f64),
    }
}

/// Sample n from voxel `start` of its first channel on.
fn rows_from(x: &Operand, n: usize, start: usize) -> Operand {
    let sample = x.samples(n..n + 1);
    sample.elements(start..sample.shape.len())
}

impl Gram {
    /// Appends the products of the parts of one sample into `partials`, one matrix a part.
    fn append_parts(to: &mut Lowering<'_>, x: &Operand, n: usize, size: usize, partials: &Operand) {
        let (c, voxels) = (x.shape.c(), x.shape.voxels());
        let area = c * c;
        let whole = voxels / size;
        let first = n * voxels.div_ceil(size);
        // The last part may be shorter.
        for (start, count, terms) in [(0, whole, size), (whole * size, 1, voxels % size)] {
            if count * terms == 0 {
                continue;
            }
            let rows = rows_from(x, n, start);
            let target = (first + start / size) * area;
            let target = partials.elements(target..target + count * area);
            let matrix = Matrix {
                operand: &rows,
                batch: size as u32,
                row: voxels as u32,
                column: 1,
            };
            let result = Matrix {
                operand: &target,
                batch: area as u32,
                row: c as u32,
                column: 1,
            };
            let extents = Extents {
                batch: count,
                rows: c,
                columns: c,
                terms,
            };
            product_in_order(to, (matrix, matrix.transposed(), result), None, extents);
        }
    }
}

impl Operator for Gram {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        Ok(vec![gram_shape(x)])
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let inputs = [io.inputs[0], io.grad(OP)?];
        Ok(vec![Some(graph.add(Arc::new(GramBackward), &inputs)?[0])])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let (n, c, voxels) = (x.shape.n(), x.shape.c(), x.shape.voxels());
        let size = PART_VOXELS.max(voxels.div_ceil(MOST_PARTS));
        let parts = voxels.div_ceil(size);
        let partials = to.scratch(Shape::vector(n * parts * c * c));
        for sample in 0..n {
            Self::append_parts(to, &x, sample, size, &partials);
        }
        let params = FinishParams {
            samples: n as u32,
            area: (c * c) as u32,
            parts: parts as u32,
            gram_offset: y.offset,
            gram_batch: y.batch_stride,
            scale: scale(x.shape),
        };
        let groups = grid_of(&FINISH, n * c * c);
        to.dispatch(&FINISH, vec![], &params, &[&partials, &y], groups);
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        gram_cost(inputs[0], 1.0)
    }
}

/// dF = (dG + dG^T) F / (C D H W) of [`Gram`]: x (N, C, D, H, W) and dG (N, 1, 1, C, C) to dx (N, C, D, H, W).
#[derive(Clone, Debug)]
pub struct GramBackward;

const OP_BACKWARD: &str = "matmul.gram_backward";

impl GramBackward {
    /// Appends the product for some voxels of a sample of dx.
    fn append_columns(
        to: &mut Lowering<'_>,
        [both, x, dx]: [&Operand; 3],
        n: usize,
        voxels: Range<usize>,
    ) {
        let c = x.shape.c();
        let factor = both.samples(n..n + 1);
        let [from, target] = [x, dx].map(|operand| rows_from(operand, n, voxels.start));
        let matrix = |operand, row| Matrix {
            operand,
            batch: 0,
            row: row as u32,
            column: 1,
        };
        let row = x.shape.voxels();
        let matrices = (matrix(&factor, c), matrix(&from, row), matrix(&target, row));
        let extents = Extents {
            batch: 1,
            rows: c,
            columns: voxels.len(),
            terms: c,
        };
        product_in_order(to, matrices, None, extents);
    }
}

impl Operator for GramBackward {
    fn name(&self) -> &'static str {
        OP_BACKWARD
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x, dgram] = take(OP_BACKWARD, inputs)?;
        expect_shape(OP_BACKWARD, "the gradient", gram_shape(x), dgram)?;
        Ok(vec![x])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, dgram, dx) = (to.inputs[0], to.inputs[1], to.outputs[0]);
        let (n, c, voxels) = (x.shape.n(), x.shape.c(), x.shape.voxels());
        let both = to.scratch(gram_shape(x.shape));
        let params = SymmetriseParams {
            samples: n as u32,
            channels: c as u32,
            dgram_offset: dgram.offset,
            dgram_batch: dgram.batch_stride,
            scale: scale(x.shape),
        };
        let groups = grid_of(&SYMMETRISE, n * c * c);
        to.dispatch(&SYMMETRISE, vec![], &params, &[&dgram, &both], groups);
        for sample in 0..n {
            for start in (0..voxels).step_by(MOST_COLUMNS) {
                let columns = MOST_COLUMNS.min(voxels - start);
                Self::append_columns(to, [&both, &x, &dx], sample, start..start + columns);
            }
        }
        Ok(())
    }

    fn cost(&self, inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        gram_cost(inputs[0], 2.0)
    }
}

/// Appends the Gram matrix of each sample of x (N, C, D, H, W), divided by C * D * H * W: (N, 1, 1, C, C).
///
/// # Errors
/// None of its own: every shape has one.
pub fn gram(graph: &mut dyn Build, x: ValueId) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(Gram), &[x])?[0])
}
