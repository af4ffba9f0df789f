//! Channels of zeros around a tensor: the gradient of a slice.

use std::sync::Arc;

use super::slice_channels;
use crate::gpu::{Access, Kernel, ParamBlock, shipped_kernel};
use crate::ops::parts::channels_at_once;
use crate::ops::{Backward, Build, Lowering, OpError, Operand, Operator, ValueId, grid_of, take};
use crate::param_block;
use crate::tensor::{Element, Shape};

param_block!(Params {
    x_offset: u32,
    x_batch: u32,
    y_offset: u32,
    y_batch: u32,
    per_sample: u32,
    first: u32,
    last: u32,
});

pub(super) static KERNEL: Kernel = shipped_kernel! {
    name: "layout/pad_channels",
    params: Params::FIELDS,
    access: &[Access::Read, Access::Write],
};

/// y (N, channels, D, H, W) = 0 but for the channels from `start` on, which are x (N, C, D, H, W).
#[derive(Debug)]
pub struct PadChannels {
    /// Where x begins.
    pub start: usize,
    /// Channels of y.
    pub channels: usize,
}

const OP: &str = "layout.pad_channels";

impl Operator for PadChannels {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        if self.start.saturating_add(x.c()) > self.channels {
            return Err(OpError::Shape {
                op: OP,
                what: "the input",
                expected: format!(
                    "of at most {} channels",
                    self.channels.saturating_sub(self.start)
                ),
                found: x,
            });
        }
        Ok(vec![x.with_c(self.channels)])
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
        let channels = graph.shape(io.inputs[0]).c();
        Ok(vec![Some(slice_channels(graph, dy, self.start, channels)?)])
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        dispatch(to, &x, self.start, &y);
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (to.inputs[0], to.outputs[0]);
        let end = self.start + x.shape.c();
        let together = channels_at_once(to, y.shape);
        for n in 0..y.shape.n() {
            let (x, y) = (x.samples(n..n + 1), y.samples(n..n + 1));
            for first in (0..self.channels).step_by(together) {
                let last = self.channels.min(first + together);
                // Where x does not reach, none of it: any of its channels can be bound.
                let covered = self.start.max(first)..end.min(last).max(self.start.max(first));
                let from = match covered.is_empty() {
                    true => x.channels(0..0),
                    false => x.channels(covered.start - self.start..covered.end - self.start),
                };
                dispatch(to, &from, covered.start - first, &y.channels(first..last));
            }
        }
        Ok(())
    }
}

/// Appends y = zeros but for the channels from `start` on, which are x.
fn dispatch(to: &mut Lowering<'_>, x: &Operand, start: usize, y: &Operand) {
    let first = start * x.shape.voxels();
    let params = Params {
        x_offset: x.offset,
        x_batch: x.batch_stride,
        y_offset: y.offset,
        y_batch: y.batch_stride,
        per_sample: y.shape.per_sample() as u32,
        first: first as u32,
        last: (first + x.shape.per_sample()) as u32,
    };
    let [gx, gy, _] = grid_of(&KERNEL, y.shape.per_sample());
    let groups = [gx, gy, y.shape.n() as u32];
    to.dispatch(&KERNEL, vec![], &params, &[x, y], groups);
}

/// Appends zeros around the channels of `x`.
///
/// # Errors
/// [`OpError::Shape`] where x does not fit.
pub fn pad_channels(
    graph: &mut dyn Build,
    x: ValueId,
    start: usize,
    channels: usize,
) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(PadChannels { start, channels }), &[x])?[0])
}
