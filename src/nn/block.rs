//! Convolution, normalisation, activation: the brick of every U-Net.

use serde::{Deserialize, Serialize};

use super::{Mode, Nonlinearity, Norm, conv_layer, nonlinearity, norm_layer};
use crate::graph::{Graph, GraphError};
use crate::ops::ValueId;

/// Zero padding of convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// (kernel - 1) / 2 voxels on each side: the size stays.
    Same,
    /// None: each convolution takes kernel - 1 voxels off.
    Valid,
}

/// A convolution with what follows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvBlock {
    /// Kernel (D, H, W).
    pub kernel: [usize; 3],
    /// Stride (D, H, W).
    pub stride: [usize; 3],
    /// Zero padding.
    pub padding: Padding,
    /// Whether the convolution has a bias.
    pub bias: bool,
    /// Normalisation after the convolution.
    pub norm: Norm,
    /// Activation after the normalisation.
    pub nonlinearity: Option<Nonlinearity>,
}

impl ConvBlock {
    /// Appends the block: x (N, C, D, H, W) to (N, channels, D', H', W'). Parameters `conv.weight`, `conv.bias`,
    /// `norm.weight`, `norm.bias`, `nonlin.weight` (PReLU).
    ///
    /// # Errors
    /// A shape error of the convolution.
    pub fn build(
        &self,
        graph: &mut Graph,
        x: ValueId,
        channels: usize,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let y = graph.scope("conv", |g| {
            conv_layer(
                g,
                x,
                channels,
                self.kernel,
                self.stride,
                self.padding,
                self.bias,
            )
        })?;
        match self.norm {
            Norm::None => nonlinearity(graph, y, self.nonlinearity),
            norm => norm_layer(graph, y, norm, self.nonlinearity, mode),
        }
    }
}
