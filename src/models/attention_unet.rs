//! The U-Net with attention gates (Oktay et al. 2018, "Attention U-Net: Learning Where to Look for the Pancreas").
//!
//! Five stages of 16 to 256 features in 3D, 1 channel and 2 classes: 5,680,878 parameters.

use std::sync::Arc;

use super::{
    Blueprint, Downsampling, Encoder, Form, Key, Model, PlainNet, Task, UNetConfig, plain_unet,
    plain_unet_of,
};
use crate::nn::{DecoderStyle, Nonlinearity, Norm};

/// The list's entry.
pub(super) static MODEL: Model = Model {
    name: "attention_unet",
    title: "U-Net with attention gates",
    source: "Oktay et al. 2018",
    task: Task::Segmentation,
    published: Form {
        channels: 1,
        classes: 2,
        extent: [96, 160, 160],
    },
    of_form: |form| Ok(Arc::new(attention_unet(form))),
    of_blueprint: Some(|blueprint| blueprint.network(attention_unet_of)),
    follows: &[
        Key::FEATURES,
        Key::STAGES,
        Key::BLOCKS,
        Key::LAYERS,
        &[Key::Heads, Key::HeadStyle],
    ],
};

const FEATURES: [usize; 5] = [16, 32, 64, 128, 256];

/// Two 3x3x3 convolutions a stage with batch norm and ReLU, 2x2x2 max pooling, 2x2x2 up-convolutions, a gate on every
/// skip, one head; in 2D where the extent has one slice.
pub fn attention_unet(form: Form) -> UNetConfig {
    let planar = form.extent[0] == 1;
    let net = PlainNet {
        features: FEATURES.to_vec(),
        ..PlainNet::isotropic(
            form.channels,
            form.classes,
            FEATURES.len(),
            FEATURES[4],
            planar,
        )
    };
    UNetConfig {
        encoder: Encoder::Plain,
        downsampling: Downsampling::MaxPooling,
        norm: Norm::BATCH,
        nonlinearity: Nonlinearity::Relu,
        heads: vec![0],
        decoder: gated(DecoderStyle::default()),
        ..plain_unet(net)
    }
}

/// nnU-Net's plain network for a data set with a gate on every skip.
pub fn attention_unet_of(blueprint: &Blueprint) -> UNetConfig {
    UNetConfig {
        decoder: gated(blueprint.decoder),
        ..plain_unet_of(blueprint)
    }
}

fn gated(style: DecoderStyle) -> DecoderStyle {
    DecoderStyle {
        attention_gates: true,
        ..style
    }
}
