//! Layers and blocks: a few operators with their parameters, named as PyTorch users know them.

mod block;
mod layer;
mod residual;

pub use block::{ConvBlock, Padding};
pub use layer::{conv_layer, nonlinearity, norm_layer, transposed_conv_layer};
pub use residual::residual_block;

use serde::{Deserialize, Serialize};

use crate::ops::activation::Activation;

/// Whether a graph is built to train or to infer: batch norm and dropout differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Statistics of the batch; dropout drops.
    Training,
    /// Running statistics; dropout does nothing.
    Inference,
}

/// A normalisation layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Norm {
    /// None.
    None,
    /// Per sample and channel (Ulyanov 2016).
    Instance {
        /// Added to the variance.
        eps: f32,
    },
    /// Per channel over the batch, with running statistics for inference (Ioffe and Szegedy 2015).
    Batch {
        /// Added to the variance.
        eps: f32,
        /// Share of the batch in the running statistics.
        momentum: f32,
    },
}

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Nonlinearity {
    /// max(x, 0)
    Relu,
    /// x for x > 0, else slope * x.
    LeakyRelu {
        /// The negative slope.
        slope: f32,
    },
    /// Leaky ReLU with a trained slope for each channel, first 0.25 (He 2015).
    Prelu,
    /// min(max(x, 0), 6)
    Relu6,
    /// x * ReLU6(x + 3) / 6 (Howard 2019)
    HSwish,
}

impl Nonlinearity {
    /// The operator's name for it.
    pub(crate) fn operator(self) -> Activation {
        match self {
            Self::Relu => Activation::Relu,
            Self::LeakyRelu { slope } => Activation::LeakyRelu { slope },
            Self::Prelu => Activation::Prelu,
            Self::Relu6 => Activation::Relu6,
            Self::HSwish => Activation::HardSwish,
        }
    }
}
