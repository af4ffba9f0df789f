//! The depthwise separable convolution of MobileNets.

use super::{ChannelDropout, ConvNorm, Mode, Nonlinearity, Norm, centred};
use crate::graph::{Graph, GraphError};
use crate::ops::ValueId;

/// A depthwise convolution, which sees one channel at a time, and a pointwise one, which sees one voxel at a time, each
/// with norm and activation (Howard et al. 2017, MobileNets, section 3.1).
///
/// To N channels with a window of k taps it takes 1/N + 1/k of the multiply-adds of a full convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeparableConv {
    /// Kernel (D, H, W), odd.
    pub kernel: [usize; 3],
    /// Stride (D, H, W).
    pub stride: [usize; 3],
    /// Dropout between the pointwise convolution and its normalisation; `None` at inference.
    pub dropout: Option<ChannelDropout>,
    /// Normalisation after each of the two.
    pub norm: Norm,
    /// Activation after each normalisation.
    pub nonlinearity: Nonlinearity,
}

impl SeparableConv {
    /// Appends it: x (N, C, D, H, W) to (N, channels, D / stride, …), rounded up. Parameters, named as timm does:
    /// `conv_dw.weight`, `bn1.…`, `conv_pw.weight`, `bn2.…`.
    ///
    /// # Errors
    /// A shape error of a convolution.
    pub fn build(
        &self,
        graph: &mut Graph,
        x: ValueId,
        channels: usize,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let inputs = graph.value(x).shape.c();
        let act = Some(self.nonlinearity);
        let depthwise = ConvNorm {
            attributes: centred(self.kernel, self.stride, [1; 3]).with_groups(inputs),
            ..ConvNorm::pointwise(self.norm, act)
        };
        let y = depthwise.build(graph, x, inputs, ["conv_dw", "bn1"], mode)?;
        let pointwise = ConvNorm {
            dropout: self.dropout,
            ..ConvNorm::pointwise(self.norm, act)
        };
        pointwise.build(graph, y, channels, ["conv_pw", "bn2"], mode)
    }
}
