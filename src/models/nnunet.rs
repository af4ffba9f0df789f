//! The networks of nnU-Net v2 (Isensee 2021; residual encoder: Isensee 2024), as its dynamic_network_architectures define them.
//!
//! Trainable parameters with all deep-supervision heads: plain 3D of 6 stages 31,195,594 (1 channel, 2 classes) and
//! 31,196,399 (3 classes); plain 2D of 8 stages 46,324,558 (2 classes); residual encoder 3D 102,350,575 (3 classes), 2D of
//! 8 stages 140,017,038 (2 classes).

use std::sync::Arc;

use super::checks::MOST_BLOCKS;
use super::{Blueprint, Downsampling, Encoder, Form, Key, Model, Task, UNetConfig};
use crate::nn::{DecoderStyle, Nonlinearity, Norm, Padding};

/// The name of the network that nnU-Net has for volumes or for slices (`planar`), with residual blocks in the encoder or
/// without.
pub const fn nnunet_name(residual: bool, planar: bool) -> &'static str {
    match (residual, planar) {
        (false, false) => PLAIN_3D.name,
        (false, true) => PLAIN_2D.name,
        (true, false) => RESIDUAL_3D.name,
        (true, true) => RESIDUAL_2D.name,
    }
}

/// Whether it is the name of a network with a residual encoder, whose stages are planned otherwise.
pub fn is_residual_encoder(name: &str) -> bool {
    [RESIDUAL_3D.name, RESIDUAL_2D.name].contains(&name)
}

/// nnU-Net's 3D network as it is planned for large volumes: 6 stages, 32 to 320 features.
pub(super) static PLAIN_3D: Model = Model {
    name: "nnunet3d",
    title: "plain U-Net, 3D",
    source: "Isensee et al. 2021 (nnU-Net)",
    task: Task::Segmentation,
    published: Form {
        channels: 1,
        classes: 2,
        extent: [128; 3],
    },
    of_form: |form| Ok(Arc::new(plain_unet(PlainNet::of(form, 6, 320)))),
    of_blueprint: Some(|blueprint| blueprint.network(plain_unet_of)),
    follows: &[
        Key::FEATURES,
        Key::STAGES,
        Key::BLOCKS,
        Key::LAYERS,
        &[Key::Heads, Key::HeadStyle, Key::AttentionGates],
    ],
};

/// nnU-Net's 2D network: 8 stages, 32 to 512 features.
pub(super) static PLAIN_2D: Model = Model {
    name: "nnunet2d",
    title: "plain U-Net, 2D",
    published: Form {
        channels: 1,
        classes: 2,
        extent: [1, 512, 512],
    },
    of_form: |form| Ok(Arc::new(plain_unet(PlainNet::of(form, 8, 512)))),
    ..PLAIN_3D
};

/// nnU-Net's residual-encoder network, presets M and L.
pub(super) static RESIDUAL_3D: Model = Model {
    name: "resenc3d",
    title: "residual-encoder U-Net, 3D",
    source: "Isensee et al. 2024 (nnU-Net ResEnc)",
    published: Form {
        classes: 3,
        ..PLAIN_3D.published
    },
    of_form: |form| {
        let blocks = vec![1, 3, 4, 6, 6, 6];
        Ok(Arc::new(residual_encoder_unet(
            PlainNet::of(form, 6, 320),
            blocks,
        )))
    },
    of_blueprint: Some(|blueprint| blueprint.network(residual_unet_of)),
    ..PLAIN_3D
};

/// nnU-Net's residual-encoder network in 2D: 8 stages, 32 to 512 features.
pub(super) static RESIDUAL_2D: Model = Model {
    name: "resenc2d",
    title: "residual-encoder U-Net, 2D",
    published: PLAIN_2D.published,
    of_form: |form| {
        let blocks = vec![1, 3, 4, 6, 6, 6, 6, 6];
        Ok(Arc::new(residual_encoder_unet(
            PlainNet::of(form, 8, 512),
            blocks,
        )))
    },
    ..RESIDUAL_3D
};

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

    /// [`PlainNet::isotropic`] for a form, in 2D where its extent has one slice.
    fn of(form: Form, stages: usize, cap: usize) -> Self {
        let is_2d = form.extent[0] == 1;
        Self::isotropic(form.channels, form.classes, stages, cap, is_2d)
    }

    /// What a blueprint says of it.
    fn planned(blueprint: &Blueprint) -> Self {
        Self {
            in_channels: blueprint.form.channels,
            out_channels: blueprint.form.classes,
            features: blueprint.features.clone(),
            kernels: blueprint.kernels.clone(),
            strides: blueprint.strides.clone(),
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
            decoder: DecoderStyle::default(),
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

/// nnU-Net's plain network with the stages of a blueprint.
pub fn plain_unet_of(blueprint: &Blueprint) -> UNetConfig {
    let mut network = plain_unet(PlainNet::planned(blueprint));
    repeat(&mut network.encoder_features, &blueprint.encoder_blocks);
    finished(network, blueprint)
}

/// nnU-Net's residual-encoder network with the stages of a blueprint.
pub fn residual_unet_of(blueprint: &Blueprint) -> UNetConfig {
    let blocks = blueprint.encoder_blocks.clone();
    let network = residual_encoder_unet(PlainNet::planned(blueprint), blocks);
    finished(network, blueprint)
}

fn finished(mut network: UNetConfig, blueprint: &Blueprint) -> UNetConfig {
    repeat(&mut network.decoder_features, &blueprint.decoder_blocks);
    let layers = blueprint.layers;
    UNetConfig {
        heads: blueprint.heads.clone(),
        decoder: blueprint.decoder,
        dropout: layers.dropout,
        norm: layers.norm,
        nonlinearity: layers.activation,
        ..network
    }
}

/// Gives each stage as many convolutions as `counts` says, or one more than a network may have.
fn repeat(features: &mut [Vec<usize>], counts: &[usize]) {
    for (stage, &count) in features.iter_mut().zip(counts) {
        stage.resize(
            count.min(MOST_BLOCKS + 1),
            stage.last().copied().unwrap_or(0),
        );
    }
}
