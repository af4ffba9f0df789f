//! The U-Net of Ronneberger et al. 2015 (MICCAI), 2D: unpadded as published, and padded as it is mostly used.

use super::{Downsampling, Encoder, UNetConfig};
use crate::nn::{Nonlinearity, Norm, Padding};
use crate::tensor::Element;

/// As published: unpadded 3x3 convolutions with bias and ReLU, 2x2 max pooling, 2x2 up-convolutions, cropped skips;
/// 572 x 572 in, 388 x 388 out; 31,030,658 parameters for 1 channel in and 2 classes.
pub fn ronneberger_unet2d(in_channels: usize, out_channels: usize) -> UNetConfig {
    UNetConfig {
        padding: Padding::Valid,
        ..unet2d(in_channels, out_channels, 64, 5)
    }
}

/// The padded variant: `stages` stages, channels `base` * 2^i.
pub fn unet2d(in_channels: usize, out_channels: usize, base: usize, stages: usize) -> UNetConfig {
    let pairs: Vec<Vec<usize>> = (0..stages).map(|i| vec![base << i; 2]).collect();
    let finer = pairs[..stages.saturating_sub(1)].to_vec();
    UNetConfig {
        in_channels,
        out_channels,
        up_features: finer.iter().map(|f| f[0]).collect(),
        decoder_features: finer,
        encoder_features: pairs,
        kernels: vec![[1, 3, 3]; stages],
        strides: (0..stages)
            .map(|i| if i == 0 { [1; 3] } else { [1, 2, 2] })
            .collect(),
        encoder: Encoder::Plain,
        downsampling: Downsampling::MaxPooling,
        padding: Padding::Same,
        conv_bias: true,
        up_bias: true,
        dropout: 0.0,
        norm: Norm::None,
        nonlinearity: Nonlinearity::Relu,
        heads: vec![0],
        precision: Element::F32,
    }
}
