//! Convolution, normalisation, activation: the brick of every U-Net.

use serde::{Deserialize, Serialize};

use super::{Mode, Nonlinearity, Norm, conv_layer, norm_layer};
use crate::graph::{Graph, GraphError};
use crate::ops::ValueId;
use crate::ops::dropout::{Dropout, DropoutUnit, dropout};
use crate::tensor::Shape;

/// Zero padding of convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// (kernel - 1) / 2 voxels on each side: the size stays.
    Same,
    /// None: each convolution takes kernel - 1 voxels off.
    Valid,
}

/// Dropout of whole channels (Tompson et al. 2015).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelDropout {
    /// Share of the channels that are dropped, at least 0 and below 1.
    pub p: f32,
    /// The seed of the step, a scalar: [`crate::ops::dropout::seed_bits`].
    pub seed: ValueId,
}

impl ChannelDropout {
    /// The dropout of a training graph with the input `dropout seed` that it takes; `None` at inference, or where
    /// nothing is dropped. A share that cannot be one is refused by [`ChannelDropout::build`].
    ///
    /// # Errors
    /// [`GraphError::DuplicateName`] where the graph has that input.
    pub fn of(graph: &mut Graph, p: f32, mode: Mode) -> Result<Option<Self>, GraphError> {
        match mode {
            Mode::Training if p != 0.0 => {
                let seed = graph.input("dropout seed", Shape::scalar())?;
                Ok(Some(Self { p, seed }))
            }
            _ => Ok(None),
        }
    }

    /// Appends it to x (N, C, D, H, W).
    ///
    /// # Errors
    /// A shape error where the seed is no scalar, or p lies outside 0 .. 1.
    pub fn build(self, graph: &mut Graph, x: ValueId) -> Result<ValueId, GraphError> {
        let drop = Dropout {
            p: self.p,
            unit: DropoutUnit::Channel,
            // Each layer its own mask: no two have the same number of nodes before them.
            salt: graph.nodes().len() as u32,
        };
        dropout(graph, x, self.seed, drop).map_err(|e| graph.blame(e))
    }
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
    /// Dropout between convolution and normalisation; `None` at inference.
    pub dropout: Option<ChannelDropout>,
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
        let mut y = graph.scope("conv", |g| {
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
        if let Some(dropout) = self.dropout {
            y = dropout.build(graph, y)?;
        }
        norm_layer(graph, y, self.norm, self.nonlinearity, mode)
    }
}
