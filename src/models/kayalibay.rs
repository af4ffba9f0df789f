//! The U-Net whose heads are summed from coarse to fine (Kayalibay et al. 2017, "CNN-based Segmentation of Medical Imaging
//! Data").
//!
//! The paper combines the segmentation maps of several resolutions into one output and has stride-2 convolutions in
//! place of pooling. The stages here are nnU-Net's.

use std::sync::Arc;

use super::{Blueprint, Form, Key, Model, PlainNet, Task, UNetConfig, plain_unet, plain_unet_of};
use crate::nn::{DecoderStyle, HeadStyle};

/// The list's entry for slices.
pub(super) static PLANE: Model = Model {
    name: "kayalibay2d",
    title: "U-Net, heads summed coarse to fine, 2D",
    published: Form {
        extent: [1, 128, 128],
        ..MODEL.published
    },
    ..MODEL
};

/// The list's entry for volumes.
pub(super) static MODEL: Model = Model {
    name: "kayalibay3d",
    title: "U-Net, heads summed coarse to fine",
    source: "after Kayalibay et al. 2017",
    task: Task::Segmentation,
    published: Form {
        channels: 4,
        classes: 4,
        extent: [128; 3],
    },
    of_form: |form| Ok(Arc::new(summed_unet(form))),
    of_blueprint: Some(|blueprint| blueprint.network(summed_unet_of)),
    follows: &[
        Key::FEATURES,
        Key::STAGES,
        Key::BLOCKS,
        Key::LAYERS,
        &[Key::Heads, Key::AttentionGates],
    ],
};

/// Features of the finest stage, doubled three times.
const FEATURES: [usize; 4] = [16, 32, 64, 128];

/// Three strided convolutions down, as many transposed ones up, and a 1x1x1 head at each decoder stage; in 2D where the
/// extent has one slice.
pub fn summed_unet(form: Form) -> UNetConfig {
    let planar = form.extent[0] == 1;
    let net = PlainNet {
        features: FEATURES.to_vec(),
        ..PlainNet::isotropic(
            form.channels,
            form.classes,
            FEATURES.len(),
            FEATURES[3],
            planar,
        )
    };
    UNetConfig {
        decoder: summed(DecoderStyle::default()),
        ..plain_unet(net)
    }
}

/// nnU-Net's plain network for a data set with the heads that it has summed into one.
pub fn summed_unet_of(blueprint: &Blueprint) -> UNetConfig {
    UNetConfig {
        decoder: summed(blueprint.decoder),
        ..plain_unet_of(blueprint)
    }
}

fn summed(style: DecoderStyle) -> DecoderStyle {
    DecoderStyle {
        head_style: HeadStyle::Summed,
        ..style
    }
}
