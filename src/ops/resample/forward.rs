//! Resampling.

use std::sync::Arc;

use super::ResampleBackward;
use super::axis::{Axis, Mode, output};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{Backward, Build, Cost, Lowering, OpError, Operator, ValueId, grid_of, take};
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
    mul_d: u32,
    mul_h: u32,
    mul_w: u32,
    add_d: i32,
    add_h: i32,
    add_w: i32,
    den_d: u32,
    den_h: u32,
    den_w: u32,
});

static LINEAR: Kernel = shipped_kernel! {
    name: "resample/linear",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

static NEAREST: Kernel = shipped_kernel! {
    name: "resample/nearest",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&LINEAR, vec![vec![]]), (&NEAREST, vec![vec![]])]
}

/// y (N, C, size) = x (N, C, D, H, W) at another size. Saves nothing.
#[derive(Debug)]
pub struct Resample {
    /// (D, H, W) of y.
    pub size: [usize; 3],
    /// How.
    pub mode: Mode,
}

const OP: &str = "resample.forward";

impl Operator for Resample {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        Ok(vec![output(OP, x, self.size)?])
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
        let op = Arc::new(ResampleBackward {
            input: graph.shape(io.inputs[0]).spatial(),
            mode: self.mode,
        });
        Ok(vec![Some(graph.add(op, &[dy])?[0])])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let [in_d, in_h, in_w] = x.shape.spatial().map(|v| v as u32);
        let [out_d, out_h, out_w] = y.shape.spatial().map(|v| v as u32);
        let [d, h, w] = Axis::all(self.mode, x.shape, y.shape);
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
            mul_d: d.mul,
            mul_h: h.mul,
            mul_w: w.mul,
            add_d: d.add,
            add_h: h.add,
            add_w: w.add,
            den_d: d.den,
            den_h: h.den,
            den_w: w.den,
        };
        let kernel = match self.mode {
            Mode::Linear { .. } => &LINEAR,
            Mode::Nearest | Mode::NearestExact => &NEAREST,
        };
        let [gx, gy, _] = grid_of(kernel, y.shape.per_sample());
        let groups = [gx, gy, y.shape.n() as u32];
        to.dispatch(kernel, vec![], &params, &[&x, &y], groups);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }

    fn cost(&self, inputs: &[Shape], outputs: &[Shape]) -> Cost {
        // Seven interpolations of a + w (b - a) a voxel.
        let flops = match self.mode {
            Mode::Linear { .. } => 21.0 * outputs[0].len() as f64,
            Mode::Nearest | Mode::NearestExact => 0.0,
        };
        Cost {
            flops,
            bytes: 4.0 * (inputs[0].len() + outputs[0].len()) as f64,
        }
    }
}

/// Appends `x` at another size (D, H, W); `x` itself where it has that size.
///
/// Label maps (N, 1, D, H, W) of class indices take [`Mode::Nearest`] or [`Mode::NearestExact`].
///
/// # Errors
/// [`OpError::Attribute`] for a size that cannot be, [`OpError::Shape`] for an input that cannot.
pub fn resample(
    graph: &mut dyn Build,
    x: ValueId,
    size: [usize; 3],
    mode: Mode,
) -> Result<ValueId, OpError> {
    if graph.shape(x).spatial() == size {
        return Ok(x);
    }
    Ok(graph.add(Arc::new(Resample { size, mode }), &[x])?[0])
}
