//! The gradient of resampling, one axis after the other.

use super::axis::{Axis, Mode, output};
use crate::gpu::{Access, Constants, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::{Samples, by_channels};
use crate::ops::{Lowering, OpError, Operand, Operator, grid_of, take};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    dy_offset: u32,
    dy_batch: u32,
    dx_offset: u32,
    dx_batch: u32,
    per_sample: u32,
    inner: u32,
    in_len: u32,
    out_len: u32,
    mul: u32,
    add: i32,
    den: u32,
});

static GATHER: Kernel = shipped_kernel! {
    name: "resample/gather_axis",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

pub(super) fn kernels() -> Vec<(&'static Kernel, Vec<Constants>)> {
    vec![(&GATHER, vec![vec![("LINEAR", 0)], vec![("LINEAR", 1)]])]
}

/// dx of [`super::Resample`]: input dy (N, C, size), output dx (N, C, input).
///
/// The weights of a voxel are products of one factor an axis, so the gradient is gathered along W, then H, then D:
/// 4 + 4 + 4 terms where doubling touches 4 x 4 x 4 outputs, and never a loop over a whole volume.
#[derive(Debug)]
pub struct ResampleBackward {
    /// (D, H, W) of x.
    pub input: [usize; 3],
    /// That of the forward pass.
    pub mode: Mode,
}

const OP: &str = "resample.backward";

/// Appends dx = dy gathered along `axis` of (D, H, W).
fn gather(to: &mut Lowering<'_>, mode: Mode, axis: usize, dy: &Operand, dx: &Operand) {
    let map = Axis::all(mode, dx.shape, dy.shape)[axis];
    let params = Params {
        dy_offset: dy.offset,
        dy_batch: dy.batch_stride,
        dx_offset: dx.offset,
        dx_batch: dx.batch_stride,
        per_sample: dx.shape.per_sample() as u32,
        inner: dx.shape.spatial()[axis + 1..].iter().product::<usize>() as u32,
        in_len: dx.shape.spatial()[axis] as u32,
        out_len: dy.shape.spatial()[axis] as u32,
        mul: map.mul,
        add: map.add,
        den: map.den,
    };
    let linear = matches!(mode, Mode::Linear { .. });
    let constants = vec![("LINEAR", u32::from(linear))];
    let [gx, gy, _] = grid_of(&GATHER, dx.shape.per_sample());
    let groups = [gx, gy, dx.shape.n() as u32];
    to.dispatch(&GATHER, constants, &params, &[dy, dx], groups);
}

impl Operator for ResampleBackward {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [dy] = take(OP, inputs)?;
        Ok(vec![output(OP, dy, self.input)?])
    }

    fn element(&self, _index: usize, inputs: &[Element]) -> Element {
        inputs[0]
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (dy, dx) = (to.inputs[0], to.outputs[0]);
        let (from, into) = (dy.shape.spatial(), dx.shape.spatial());
        let mut axes: Vec<usize> = [2, 1, 0]
            .into_iter()
            .filter(|&a| from[a] != into[a])
            .collect();
        // Of equal size it is a copy, which a pass along any axis makes.
        let last = axes.pop().unwrap_or(0);
        let mut level = dy;
        for axis in axes {
            let mut spatial = level.shape.spatial();
            spatial[axis] = into[axis];
            let next = to.scratch(level.shape.with_spatial(spatial));
            gather(to, self.mode, axis, &level, &next);
            level = next;
        }
        gather(to, self.mode, last, &level, &dx);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        by_channels(to, 1, Samples::Apart, |part| self.lower(part))
    }
}
