//! The residual block of nnU-Net's encoders.

use super::{ConvBlock, Mode, Padding, nonlinearity};
use crate::graph::{Graph, GraphError};
use crate::ops::ValueId;
use crate::ops::elementwise::add;
use crate::ops::pool::{Window, avg_pool};

/// Appends a BasicBlockD (He 2016, with the pooled skip of He 2019, "Bag of tricks"): conv-norm-act, conv-norm, plus the
/// skip, then the activation. Where the resolution changes the skip is average pooled; where the channels change it has
/// a 1x1x1 convolution without bias, and a norm. Dropout, where there is any, follows the first convolution alone.
///
/// # Errors
/// A shape error of a convolution.
pub fn residual_block(
    graph: &mut Graph,
    x: ValueId,
    channels: usize,
    block: ConvBlock,
    stride: [usize; 3],
    mode: Mode,
) -> Result<ValueId, GraphError> {
    let first = ConvBlock { stride, ..block };
    let second = ConvBlock {
        stride: [1; 3],
        dropout: None,
        nonlinearity: None,
        ..block
    };
    let y = graph.scope("conv1", |g| first.build(g, x, channels, mode))?;
    let y = graph.scope("conv2", |g| second.build(g, y, channels, mode))?;
    let skip = graph.scope("skip", |g| skip_path(g, x, channels, block, stride, mode))?;
    let sum = add(graph, y, skip).map_err(|e| graph.blame(e))?;
    nonlinearity(graph, sum, block.nonlinearity)
}

fn skip_path(
    graph: &mut Graph,
    mut x: ValueId,
    channels: usize,
    block: ConvBlock,
    stride: [usize; 3],
    mode: Mode,
) -> Result<ValueId, GraphError> {
    // PyTorch's skip is a sequence: the pooling, if any, then the projection.
    let mut position = 0;
    if stride != [1; 3] {
        x = avg_pool(graph, x, Window::tiles(stride)).map_err(|e| graph.blame(e))?;
        position = 1;
    }
    if graph.value(x).shape.c() == channels {
        return Ok(x);
    }
    let projection = ConvBlock {
        kernel: [1; 3],
        stride: [1; 3],
        padding: Padding::Same,
        bias: false,
        dropout: None,
        norm: block.norm,
        nonlinearity: None,
    };
    graph.scope(position, |g| projection.build(g, x, channels, mode))
}
