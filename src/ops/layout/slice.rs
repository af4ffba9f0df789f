//! Some of the channels, read in place.

use std::sync::Arc;

use super::pad_channels;
use crate::ops::{Backward, Build, Cost, Layout, Lowering, OpError, Operator, ValueId, take};
use crate::tensor::Shape;

/// y = x[:, start .. start + len]; x (N, C, D, H, W), y (N, len, D, H, W). A view: no kernel runs.
#[derive(Debug)]
pub struct SliceChannels {
    /// First channel.
    pub start: usize,
    /// Number of channels.
    pub len: usize,
}

const OP: &str = "layout.slice";

impl Operator for SliceChannels {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let [x] = take(OP, inputs)?;
        let end = self.start.saturating_add(self.len);
        if self.len == 0 || end > x.c() {
            return Err(OpError::Shape {
                op: OP,
                what: "the input",
                expected: format!("of at least {end} channels"),
                found: x,
            });
        }
        Ok(vec![x.with_c(self.len)])
    }

    fn backward(
        &self,
        graph: &mut dyn Build,
        io: &Backward<'_>,
    ) -> Result<Vec<Option<ValueId>>, OpError> {
        let dy = io.grad(OP)?;
        let channels = graph.shape(io.inputs[0]).c();
        let dx = pad_channels(graph, dy, self.start, channels)?;
        Ok(vec![Some(dx)])
    }

    fn lower(&self, _to: &mut Lowering<'_>) -> Result<(), OpError> {
        Ok(())
    }

    fn cost(&self, _inputs: &[Shape], _outputs: &[Shape]) -> Cost {
        Cost::default()
    }

    fn layout(&self) -> Layout {
        Layout::SliceChannels { start: self.start }
    }
}

/// Appends the `len` channels of `x` from `start` on, read in place.
///
/// # Errors
/// [`OpError::Shape`] where x has too few channels.
pub fn slice_channels(
    graph: &mut dyn Build,
    x: ValueId,
    start: usize,
    len: usize,
) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(SliceChannels { start, len }), &[x])?[0])
}
