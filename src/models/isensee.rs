//! The 3D U-Net of Isensee et al. 2017 ("Brain Tumor Segmentation and Radiomics Survival Prediction: Contribution to the
//! BRATS 2017 Challenge"): residual context modules on the way down, localization modules on the way up, and the logits of
//! several stages summed into one output.
//!
//! Five stages of 16 to 256 features, 4 channels and 4 classes: 9,464,268 parameters. With f = 16, 32, 64, 128, 256
//! features of stage s, C channels and K classes, affine norms of 2 f and no biases but those of the logits:
//!
//! | part | parameters |
//! |---|---|
//! | convolution into encoder stage s, from c = C, 16, 32, 64, 128 channels | 27 c f |
//! | context module, and the norm behind it | 2 (27 f^2 + 2 f) + 2 f |
//! | up into decoder stage s, from 2 f features | 27 (2 f) f + 2 f |
//! | localization module of 2 f features joined, s > 0 | 27 (2 f)^2 + 2 (2 f) + (2 f) f + 2 f |
//! | last convolution, s = 0 | 27 (2 f)^2 + 2 (2 f) |
//! | logits of s = 2, 1 and, from 2 f features, 0 | K (f + 1), K (f + 1), K (2 f + 1) |
//!
//! The paper's words leave open what is normalised where. Here norm and leaky ReLU stand before each convolution of a context
//! module, behind its sum, and behind each convolution on the way up.

use std::sync::Arc;

use super::{
    Architecture, Blueprint, Form, Heads, Key, Model, ModelError, Task, checks, summed_heads,
    total_stride,
};
use crate::graph::{Graph, GraphError};
use crate::nn::{
    ChannelDropout, ConvNorm, LayerStyle, Mode, Padding, PreActivation, centred, conv_layer,
};
use crate::ops::elementwise::add;
use crate::ops::layout::concat;
use crate::ops::resample::{Mode as Resampling, resample};
use crate::ops::{Build, ValueId};

/// The list's entry for slices.
pub(super) static PLANE: Model = Model {
    name: "isensee2d",
    title: "U-Net of context and localization modules, 2D",
    source: "after Isensee et al. 2017",
    published: Form {
        extent: [1, 128, 128],
        ..MODEL.published
    },
    ..MODEL
};

/// The list's entry for volumes, as published.
pub(super) static MODEL: Model = Model {
    name: "isensee3d",
    title: "U-Net of context and localization modules",
    source: "Isensee et al. 2017",
    task: Task::Segmentation,
    published: Form {
        channels: 4,
        classes: 4,
        extent: [128; 3],
    },
    of_form: |form| Ok(Arc::new(IsenseeUNet::published(form))),
    of_blueprint: Some(|blueprint| blueprint.network(IsenseeUNet::planned)),
    follows: &[Key::FEATURES, Key::STAGES, Key::LAYERS, &[Key::Heads]],
};

/// Features of the stages as published.
const FEATURES: [usize; 5] = [16, 32, 64, 128, 256];

/// A U-Net of context and localization modules. Stage 0 has the finest resolution.
#[derive(Clone, Debug, PartialEq)]
pub struct IsenseeUNet {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits: classes with the background, or regions.
    pub out_channels: usize,
    /// Features of each stage.
    pub features: Vec<usize>,
    /// Kernel (D, H, W) of the convolutions of each stage.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage; the first is 1.
    pub strides: Vec<[usize; 3]>,
    /// Norms and activations; the dropout stands between the two convolutions of a context module.
    pub layers: LayerStyle,
    /// Decoder stages with logits, 0 = finest, which are summed from the coarsest on; `[0, 1, 2]` as published.
    pub heads: Vec<usize>,
}

impl IsenseeUNet {
    /// The paper's network: instance norm, leaky ReLU of slope 0.01, 30 % of the channels dropped; in 2D where the extent
    /// has one slice.
    pub fn published(form: Form) -> Self {
        let stages = FEATURES.len();
        let mut strides = vec![form.along(2); stages];
        strides[0] = [1; 3];
        Self {
            in_channels: form.channels,
            out_channels: form.classes,
            features: FEATURES.to_vec(),
            kernels: vec![form.along(3); stages],
            strides,
            layers: LayerStyle {
                dropout: 0.3,
                ..LayerStyle::default()
            },
            heads: vec![0, 1, 2],
        }
    }

    /// The network for a data set: its features, kernels, strides and layers, and logits where it has heads.
    pub fn planned(blueprint: &Blueprint) -> Self {
        Self {
            in_channels: blueprint.form.channels,
            out_channels: blueprint.form.classes,
            features: blueprint.features.clone(),
            kernels: blueprint.kernels.clone(),
            strides: blueprint.strides.clone(),
            layers: blueprint.layers,
            heads: blueprint.heads.clone(),
        }
    }

    fn stages(&self) -> usize {
        self.features.len()
    }

    /// Checks that the lists fit together.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the list, what was expected and what was found.
    pub fn validate(&self) -> Result<(), ModelError> {
        checks::stages(
            &self.features,
            [&self.kernels, &self.strides],
            &[self.in_channels, self.out_channels],
            &self.heads,
        )?;
        checks::layers(&self.layers)
    }

    /// Norm and activation, then a convolution, all without dropout.
    fn pre_activation(&self) -> PreActivation {
        PreActivation {
            bias: false,
            dropout: None,
            norm: self.layers.norm,
            nonlinearity: self.layers.activation,
        }
    }

    /// Convolution, norm, activation.
    fn conv_norm(&self, kernel: [usize; 3]) -> ConvNorm {
        ConvNorm {
            attributes: centred(kernel, [1; 3], [1; 3]),
            dropout: None,
            norm: self.layers.norm,
            nonlinearity: Some(self.layers.activation),
        }
    }

    /// The convolution into a stage, and its context module: what two pre-activated convolutions make of it, added to it.
    fn build_context(
        &self,
        graph: &mut Graph,
        x: ValueId,
        stage: usize,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let (channels, kernel) = (self.features[stage], self.kernels[stage]);
        let entered = graph.scope("conv", |g| {
            let stride = self.strides[stage];
            conv_layer(g, x, channels, kernel, stride, Padding::Same, false)
        })?;
        let second = self.pre_activation();
        let first = PreActivation {
            dropout: how.dropout,
            ..second
        };
        let wide = (channels, kernel);
        let y = first.conv(["norm1", "conv1"], graph, entered, wide, how.mode)?;
        let y = second.conv(["norm2", "conv2"], graph, y, wide, how.mode)?;
        let sum = add(graph, y, entered).map_err(|e| graph.blame(e))?;
        second.activate("norm", graph, sum, how.mode)
    }

    /// x of the next coarser stage, each voxel repeated to the grid of `skip` and convolved to half of the features, then
    /// joined with it and recombined. Gives what goes further up and what the logits read.
    fn build_localization(
        &self,
        graph: &mut Graph,
        [x, skip]: [ValueId; 2],
        stage: usize,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let (channels, kernel) = (self.features[stage], self.kernels[stage]);
        let grid = graph.shape(skip).spatial();
        let names = ["conv", "norm"];
        let block = self.conv_norm(kernel);
        let up = graph.scope("up", |g| {
            let x = resample(g, x, grid, Resampling::Nearest).map_err(|e| g.blame(e))?;
            block.build(g, x, channels, names, mode)
        })?;
        let joined = concat(graph, &[up, skip]).map_err(|e| graph.blame(e))?;
        let wide = graph.scope(0, |g| block.build(g, joined, 2 * channels, names, mode))?;
        match stage {
            0 => Ok(wide),
            _ => graph.scope(1, |g| {
                self.conv_norm([1; 3]).build(g, wide, channels, names, mode)
            }),
        }
    }
}

/// What differs between training and inference.
#[derive(Clone, Copy)]
struct Making {
    mode: Mode,
    dropout: Option<ChannelDropout>,
}

impl Architecture for IsenseeUNet {
    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn out_channels(&self) -> usize {
        self.out_channels
    }

    fn steps(&self) -> Option<[usize; 3]> {
        Some(total_stride(&self.strides))
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        self.validate()?;
        let dropout = ChannelDropout::of(graph, self.layers.dropout, mode)?;
        let how = Making { mode, dropout };
        let (mut x, mut skips) = (image, Vec::new());
        for stage in 0..self.stages() {
            let name = format!("context.{stage}");
            x = graph.scope(name, |g| self.build_context(g, x, stage, how))?;
            skips.push(x);
        }
        let mut logits = Vec::new();
        for stage in (0..self.stages() - 1).rev() {
            let name = format!("localization.{stage}");
            x = graph.scope(name, |g| {
                self.build_localization(g, [x, skips[stage]], stage, mode)
            })?;
            if self.heads.contains(&stage) {
                logits.push(graph.scope(format!("segmentation.{stage}"), |g| {
                    let classes = self.out_channels;
                    conv_layer(g, x, classes, [1; 3], [1; 3], Padding::Same, true)
                })?);
            }
        }
        Ok(Heads {
            logits: vec![summed_heads(graph, &logits, Resampling::Nearest)?],
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}
