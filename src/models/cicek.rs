//! The 3D U-Net of Çiçek et al. 2016 (MICCAI): 132 x 132 x 116 voxels of 3 channels in, 44 x 44 x 28 of 3 classes out.

use std::sync::Arc;

use super::{Downsampling, Encoder, Form, Model, Task, UNetConfig};
use crate::nn::{DecoderStyle, Nonlinearity, Norm, Padding};

/// The list's entry.
pub(super) static MODEL: Model = Model {
    name: "cicek3d",
    title: "3D U-Net",
    source: "Çiçek et al. 2016",
    task: Task::Segmentation,
    published: Form {
        channels: 3,
        classes: 3,
        extent: [116, 132, 132],
    },
    of_form: |form| Ok(Arc::new(cicek_unet3d(form.channels, form.classes))),
    of_blueprint: None,
    follows: &[],
};

/// 19,069,955 parameters without those of the batch norm for 3 channels in and 3 out: convolutions with bias,
/// up-convolutions without. Channels double before each pooling, so that no bottleneck forms; unpadded 3x3x3 kernels,
/// batch norm before each ReLU.
pub fn cicek_unet3d(in_channels: usize, out_channels: usize) -> UNetConfig {
    UNetConfig {
        in_channels,
        out_channels,
        encoder_features: vec![vec![32, 64], vec![64, 128], vec![128, 256], vec![256, 512]],
        decoder_features: vec![vec![64, 64], vec![128, 128], vec![256, 256]],
        up_features: vec![128, 256, 512],
        kernels: vec![[3; 3]; 4],
        strides: vec![[1; 3], [2; 3], [2; 3], [2; 3]],
        encoder: Encoder::Plain,
        downsampling: Downsampling::MaxPooling,
        padding: Padding::Valid,
        conv_bias: true,
        up_bias: false,
        dropout: 0.0,
        norm: Norm::BATCH,
        nonlinearity: Nonlinearity::Relu,
        heads: vec![0],
        decoder: DecoderStyle::default(),
    }
}
