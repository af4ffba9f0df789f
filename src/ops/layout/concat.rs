//! Concatenation along the channels.

use std::sync::Arc;

use super::copy::copy;
use super::slice_channels;
use crate::ops::parts::copy_apart;
use crate::ops::{Backward, Build, Layout, Lowering, OpError, Operator, ValueId};
use crate::tensor::{Element, Shape};

/// y = inputs side by side along C: (N, C_1, D, H, W), (N, C_2, D, H, W), … to (N, C_1 + C_2 + …, D, H, W).
///
/// The graph lets the inputs be produced in place inside y wherever it can, so a skip connection costs nothing; the
/// gradients are slices of dy, read in place.
#[derive(Debug)]
pub struct Concat;

const OP: &str = "layout.concat";

impl Operator for Concat {
    fn name(&self) -> &'static str {
        OP
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Vec<Shape>, OpError> {
        let first = inputs.first().ok_or(OpError::InputCount {
            op: OP,
            expected: 1,
            found: 0,
        })?;
        for shape in inputs {
            if shape.with_c(first.c()) != *first {
                return Err(OpError::Shape {
                    op: OP,
                    what: "every input",
                    expected: format!("{first} but for the channels"),
                    found: *shape,
                });
            }
        }
        Ok(vec![first.with_c(inputs.iter().map(Shape::c).sum())])
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
        let mut start = 0;
        let mut grads = Vec::with_capacity(io.inputs.len());
        for (&input, &needed) in io.inputs.iter().zip(io.needs) {
            let channels = graph.shape(input).c();
            grads.push(match needed {
                true => Some(slice_channels(graph, dy, start, channels)?),
                false => None,
            });
            start += channels;
        }
        Ok(grads)
    }

    fn lower(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let y = to.outputs[0];
        let mut start = 0;
        for x in to.inputs {
            let in_place = (x.buffer, x.start(), x.batch_stride)
                == (y.buffer, y.start() + start, y.batch_stride);
            if !in_place {
                copy(to, x, &y, start);
            }
            start += x.shape.per_sample();
        }
        Ok(())
    }

    fn lower_parts(&self, to: &mut Lowering<'_>) -> Result<(), OpError> {
        let y = to.outputs[0];
        let mut first = 0;
        for x in to.inputs {
            let channels = first..first + x.shape.c();
            let place = y.channels(channels.clone());
            if !x.is_at(&place) {
                copy_apart(to, x, &place);
            }
            first = channels.end;
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        Layout::ConcatChannels
    }
}

/// Appends the concatenation of `inputs` along the channels.
///
/// # Errors
/// [`OpError::Shape`] where N, D, H or W differ.
pub fn concat(graph: &mut dyn Build, inputs: &[ValueId]) -> Result<ValueId, OpError> {
    Ok(graph.add(Arc::new(Concat), inputs)?[0])
}
