//! Convolution without bias, normalisation, activation, under names of the caller's.

use super::{ChannelDropout, Mode, Nonlinearity, Norm, conv_layer_with, norm_layer_as};
use crate::graph::{Graph, GraphError};
use crate::ops::ValueId;
use crate::ops::conv::ConvAttributes;

/// A convolution without bias and what follows it. [`super::ConvBlock`] is for U-Nets; this one has groups and dilation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvNorm {
    /// The window.
    pub attributes: ConvAttributes,
    /// Dropout between convolution and normalisation; `None` at inference.
    pub dropout: Option<ChannelDropout>,
    /// Normalisation after the convolution.
    pub norm: Norm,
    /// Activation after the normalisation.
    pub nonlinearity: Option<Nonlinearity>,
}

impl ConvNorm {
    /// A 1x1x1 convolution, without dropout.
    pub const fn pointwise(norm: Norm, nonlinearity: Option<Nonlinearity>) -> Self {
        Self {
            attributes: ConvAttributes::new([1; 3]),
            dropout: None,
            norm,
            nonlinearity,
        }
    }

    /// Appends it: x (N, C, D, H, W) to (N, channels, D', H', W'). `names` are those of the convolution and of the norm,
    /// below which their parameters lie.
    ///
    /// # Errors
    /// A shape error of the convolution.
    pub fn build(
        &self,
        graph: &mut Graph,
        x: ValueId,
        channels: usize,
        names: [&str; 2],
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let [conv, norm] = names;
        let mut y = graph.scope(conv, |g| {
            conv_layer_with(g, x, channels, self.attributes, false)
        })?;
        if let Some(dropout) = self.dropout {
            y = dropout.build(graph, y)?;
        }
        norm_layer_as(norm, graph, y, self.norm, self.nonlinearity, mode)
    }

    /// Appends it as torchvision's `Conv2dNormActivation` called `name`, a sequence: the convolution is its member 0, the
    /// norm its member 1.
    ///
    /// # Errors
    /// As [`ConvNorm::build`].
    pub fn build_as(
        &self,
        name: impl ToString,
        graph: &mut Graph,
        x: ValueId,
        channels: usize,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        graph.scope(name, |g| self.build(g, x, channels, ["0", "1"], mode))
    }
}

/// A window whose taps lie evenly around its centre: padding dilation * (kernel - 1) / 2, all (D, H, W).
pub fn centred(kernel: [usize; 3], stride: [usize; 3], dilation: [usize; 3]) -> ConvAttributes {
    let padding = [0, 1, 2].map(|axis| dilation[axis] * (kernel[axis].saturating_sub(1) / 2));
    ConvAttributes::new(kernel)
        .with_stride(stride)
        .with_dilation(dilation)
        .with_padding(padding)
}
