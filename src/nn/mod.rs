//! Layers and blocks: a few operators with their parameters, named as PyTorch users know them.

mod attention;
mod attention_gate;
mod block;
mod conv_norm;
mod dense;
mod inverted_residual;
mod layer;
mod mixer;
mod residual;
mod residual_stage;
mod separable;
mod squeeze;
mod style;
mod tokens;

pub use attention::{TransformerBlock, TransformerNames};
pub use attention_gate::AttentionGate;
pub use block::{ChannelDropout, ConvBlock, Padding};
pub use conv_norm::{ConvNorm, centred};
pub use dense::{DenseLayer, PreActivation, dense_block};
pub use inverted_residual::{InvertedResidual, ProjectionNames};
pub use layer::{
    LayerNames, conv_layer, conv_layer_with, linear_layer, nonlinearity, nonlinearity_named,
    norm_layer, norm_layer_as, norm_layer_named, one_voxel_conv_layer, transposed_conv_layer,
    transposed_conv_layer_with,
};
pub use mixer::MixerBlock;
pub use residual::residual_block;
pub use residual_stage::ResidualStage;
pub use separable::SeparableConv;
pub use squeeze::SqueezeExcitation;
pub use style::{adaptive_norm_layer, conditional_norm_layer};
pub use tokens::{
    Layer, as_row, layer_norm_layer, mixing_layer, patch_embedding, perceptron, token_layer,
};

pub use crate::style::{DecoderStyle, HeadStyle, LayerStyle, Nonlinearity, Norm, TokenStyle};

use crate::ops::activation::Activation;

/// Whether a graph is built to train or to infer: batch norm and dropout differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Statistics of the batch; dropout drops.
    Training,
    /// Running statistics; dropout does nothing.
    Inference,
}

impl Nonlinearity {
    /// The operator's name for it.
    pub(crate) fn operator(self) -> Activation {
        match self {
            Self::Relu => Activation::Relu,
            Self::LeakyRelu { slope } => Activation::LeakyRelu { slope },
            Self::Prelu | Self::SharedPrelu => Activation::Prelu,
            Self::Relu6 => Activation::Relu6,
            Self::HSwish => Activation::HardSwish,
            Self::Gelu => Activation::Gelu,
            Self::Elu => Activation::Elu,
        }
    }
}
