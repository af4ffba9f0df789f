//! The networks of nnU-Net v2 (Isensee 2021; residual encoder: Isensee 2024), as its dynamic_network_architectures define them.
//!
//! Trainable parameters with all deep-supervision heads: plain 3D of 6 stages 31,195,594 (1 channel, 2 classes) and
//! 31,196,399 (3 classes); plain 2D of 8 stages 46,324,558 (2 classes); residual encoder 3D 102,350,575 (3 classes).

use super::{Downsampling, Encoder, UNetConfig};
use crate::nn::{Nonlinearity, Norm, Padding};
use crate::tensor::Element;

/// What differs between nnU-Net's networks.
#[derive(Clone, Debug, PartialEq)]
pub struct PlainNet {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits.
    pub out_channels: usize,
    /// Channels of each stage.
    pub features: Vec<usize>,
    /// Kernel (D, H, W) of each stage.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage.
    pub strides: Vec<[usize; 3]>,
}

impl PlainNet {
    /// `stages` stages of 3x3x3 kernels (1x3x3 in 2D) with stride 2 between them; channels 32 * 2^i up to `cap`.
    pub fn isotropic(
        in_channels: usize,
        out_channels: usize,
        stages: usize,
        cap: usize,
        is_2d: bool,
    ) -> Self {
        let depth = |v: usize| if is_2d { [1, v, v] } else { [v; 3] };
        Self {
            in_channels,
            out_channels,
            features: (0..stages).map(|i| (32 << i).min(cap)).collect(),
            kernels: vec![depth(3); stages],
            strides: (0..stages)
                .map(|i| if i == 0 { [1; 3] } else { depth(2) })
                .collect(),
        }
    }

    fn with(self, encoder: Encoder, encoder_convs: usize, decoder_convs: usize) -> UNetConfig {
        let finer = &self.features[..self.features.len().saturating_sub(1)];
        UNetConfig {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            encoder_features: self
                .features
                .iter()
                .map(|&f| vec![f; encoder_convs])
                .collect(),
            decoder_features: finer.iter().map(|&f| vec![f; decoder_convs]).collect(),
            up_features: finer.to_vec(),
            heads: (0..finer.len()).collect(),
            precision: Element::F32,
            kernels: self.kernels,
            strides: self.strides,
            encoder,
            downsampling: Downsampling::StridedConvolution,
            padding: Padding::Same,
            conv_bias: true,
            up_bias: true,
            dropout: 0.0,
            norm: Norm::default(),
            nonlinearity: Nonlinearity::default(),
        }
    }
}

/// nnU-Net's plain network: two convolutions a stage, strided convolutions down, transposed convolutions up, instance
/// norm, leaky ReLU 0.01, a head at every decoder stage.
pub fn plain_unet(net: PlainNet) -> UNetConfig {
    net.with(Encoder::Plain, 2, 2)
}

/// nnU-Net's residual-encoder network: `blocks` residual blocks a stage, one convolution a decoder stage.
pub fn residual_encoder_unet(net: PlainNet, blocks: Vec<usize>) -> UNetConfig {
    net.with(Encoder::Residual { blocks }, 1, 1)
}
