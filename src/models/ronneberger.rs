//! The U-Net of Ronneberger et al. 2015 (MICCAI), 2D: unpadded as published, and padded as it is mostly used.

use std::sync::Arc;

use super::{Downsampling, Encoder, Form, Model, Task, UNetConfig};
use crate::nn::{DecoderStyle, Nonlinearity, Norm, Padding};

/// The list's entry.
pub(super) static MODEL: Model = Model {
    name: "ronneberger2d",
    title: "U-Net, unpadded",
    source: "Ronneberger et al. 2015",
    task: Task::Segmentation,
    published: Form {
        channels: 1,
        classes: 2,
        extent: [1, 572, 572],
    },
    of_form: |form| Ok(Arc::new(ronneberger_unet2d(form.channels, form.classes))),
    of_blueprint: None,
    follows: &[],
};

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
        decoder: DecoderStyle::default(),
    }
}
