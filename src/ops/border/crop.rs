//! A box cut out of an image.

use std::sync::Arc;

use super::{Fill, pad};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{
    Backward, Build, Cost, Lowering, OpError, Operand, Operator, ValueId, grid_of, take,
};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
    in_d: u32,
    in_h: u32,
    in_w: u32,
    out_d: u32,
    out_h: u32,
    out_w: u32,
    start_d: u32,
    start_h: u32,
    start_w: u32,
});

static KERNEL: Kernel = shipped_kernel! {
    name: "border/crop",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&KERNEL, vec![vec![]])]
}

/// y (N, C, size) = x (N, C, D, H, W) from `start` on. The gradient is dy with zeros around it.
#[derive(Debug)]
pub struct Crop {
    /// First voxel (D, H, W).
    pub start: [usize; 3],
    /// Extent (D, H, W) of y.
    pub size: [usize; 3],
}

const OP: &str = "border.crop";

/// Appends y = x from `start` on.
pub(super) fn dispatch(to: &mut Lowering<'_>, x: &Operand, y: &Operand, start: [usize; 3]) {
    let [in_d, in_h, in_w] = x.shape.spatial().map(|v| v as u32);
    let [out_d, out_h, out_w] = y.shape.spatial().map(|v| v as u32);
    let [start_d, start_h, start_w] = start.map(|v| v as u32);
    let params = Params {
        x_offset: x.offset,
        x_batch: x.batch_stride,
        y_offset: y.offset,
        y_batch: y.batch_stride,
        per_sample: y.shape.per_sample() as u32,
        in_d,
        in_h,
        in_w,
        out_d,
        out_h,
        out_w,
        start_d,
        start_h,
        start_w,
    };
    let [gx, gy, _] = grid_of(&KERNEL, y.shape.per_sample());
    let groups = [gx, gy, y.shape.n() as u32];
    to.dispatch(&KERNEL, vec![], &params, &[x, y], groups);
}

impl Operator for Crop {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        let fits = (0..3).all(|a| {
            let end = self.start[a].saturating_add(self.size[a]);
            self.size[a] > 0 && end <= x.spatial()[a]
        });
        if !fits {
            let (start, size) = (self.start, self.size);
            return Err(OpError::Shape {
                op: OP,
                what: "the input",
                expected: format!("large enough for {size:?} voxels (D, H, W) from {start:?} on"),
                found: x,
            });
        }
        Ok(vec![x.with_spatial(self.size)])
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
        let outer = graph.shape(io.inputs[0]).spatial();
        let after = [0, 1, 2].map(|a| outer[a] - self.start[a] - self.size[a]);
        let dx = pad(graph, dy, self.start, after, Fill::Constant(0.0))?;
        Ok(vec![Some(dx)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        dispatch(to, &x, &y, self.start);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, _inputs: &[Shape], outputs: &[Shape]) -> Cost {
        Cost {
            flops: 0.0,
            bytes: 8.0 * outputs[0].len() as f64,
        }
    }
}

/// Appends the box of `x` of `size` voxels (D, H, W) from `start` on; `x` itself where that is all of it.
///
/// # Errors
/// [`OpError::Shape`] where the box does not lie inside x.
pub fn crop(
    graph: &mut dyn Build,
    x: ValueId,
    start: [usize; 3],
    size: [usize; 3],
) -> Result<ValueId, OpError> {
    if start == [0; 3] && size == graph.shape(x).spatial() {
        return Ok(x);
    }
    Ok(graph.add(Arc::new(Crop { start, size }), &[x])?[0])
}

/// Appends the middle `size` voxels (D, H, W) of `x`: floor of half the surplus goes in front, as for the skip
/// connections of an unpadded U-Net (Ronneberger et al. 2015).
///
/// # Errors
/// [`OpError::Shape`] where x is smaller than `size`.
pub fn center_crop(
    graph: &mut dyn Build,
    x: ValueId,
    size: [usize; 3],
) -> Result<ValueId, OpError> {
    let outer = graph.shape(x).spatial();
    let start = [0, 1, 2].map(|a| outer[a].saturating_sub(size[a]) / 2);
    crop(graph, x, start, size)
}
