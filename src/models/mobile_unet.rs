//! A light U-Net for weak devices: the blocks of MobileNetV2 (Sandler et al. 2018) in the encoder, depthwise separable
//! convolutions (Howard et al. 2017) in the decoder, in images and volumes. The arrangement is ours.

use std::sync::Arc;

use super::{
    Architecture, Blueprint, Form, Heads, Key, Model, ModelError, Task, checks, total_stride,
};
use crate::graph::{Graph, GraphError};
use crate::nn::{
    ChannelDropout, ConvNorm, InvertedResidual, LayerStyle, Mode, Nonlinearity, Padding,
    ProjectionNames, SeparableConv, centred, conv_layer,
};
use crate::ops::ValueId;
use crate::ops::layout::concat;
use crate::ops::resample::{Mode as Interpolation, resample};

/// With the channels doubled and the voxels an eighth from stage to stage, the tensors inside the blocks of stage 1 are
/// then as large as those of stage 0, and none is larger.
const EXPANSION: usize = 4;

/// A light U-Net. Stage 0 has the finest resolution; the last stage is the bottleneck.
///
/// Stage 0 is a convolution and a depthwise separable one, at full resolution without expansion. Each further stage is
/// a depthwise separable convolution with the stride, then inverted residuals. A decoder stage reduces the channels
/// while they are coarse, enlarges linearly, which has no weights, joins the skip, and mixes both by one depthwise separable
/// convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct MobileUNet {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits: classes with the background, or regions.
    pub out_channels: usize,
    /// Channels of each stage.
    pub features: Vec<usize>,
    /// Kernel (D, H, W), odd, of the depthwise convolutions of each stage, and of the first convolution.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage; the first is usually 1.
    pub strides: Vec<[usize; 3]>,
    /// Inverted residuals of each encoder stage.
    pub blocks: Vec<usize>,
    /// Channels inside an inverted residual for each channel that enters it.
    pub expansion: usize,
    /// Decoder stages with a segmentation head, 0 = finest; without deep supervision just `[0]`.
    pub heads: Vec<usize>,
    /// What follows each convolution. Dropout is in the depthwise separable ones, once each; the projection of an inverted
    /// residual has no activation.
    pub layers: LayerStyle,
}

/// What differs between training and inference.
#[derive(Clone, Copy)]
struct Making {
    mode: Mode,
    dropout: Option<ChannelDropout>,
}

impl MobileUNet {
    /// Six stages of 32 to 320 features with stride 2 between them, along D too where the form has an extent there.
    pub fn of_form(form: Form) -> Self {
        let stages = 6;
        Self {
            in_channels: form.channels,
            out_channels: form.classes,
            features: (0..stages).map(|i| (32 << i).min(320)).collect(),
            kernels: vec![form.along(3); stages],
            strides: (0..stages)
                .map(|i| form.along(if i == 0 { 1 } else { 2 }))
                .collect(),
            blocks: (0..stages).map(|i| usize::from(i > 0)).collect(),
            expansion: EXPANSION,
            heads: (0..stages - 1).collect(),
            layers: LayerStyle {
                activation: Nonlinearity::Relu6,
                ..LayerStyle::default()
            },
        }
    }

    /// The stages of `plan`: for each convolution of an encoder stage after the first one an inverted residual.
    pub fn of_blueprint(plan: &Blueprint) -> Self {
        let later = plan.encoder_blocks.iter().enumerate();
        Self {
            in_channels: plan.form.channels,
            out_channels: plan.form.classes,
            features: plan.features.clone(),
            kernels: plan.kernels.clone(),
            strides: plan.strides.clone(),
            blocks: later
                .map(|(stage, &n)| if stage == 0 { 0 } else { n.saturating_sub(1) })
                .collect(),
            expansion: EXPANSION,
            heads: plan.heads.clone(),
            layers: plan.layers,
        }
    }

    /// Checks that the lists fit together.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the list, what was expected and what was found.
    pub fn validate(&self) -> Result<(), ModelError> {
        let stages = self.features.len();
        checks::lengths(
            stages,
            &[
                ("kernels", stages, self.kernels.len()),
                ("strides", stages, self.strides.len()),
                ("blocks", stages, self.blocks.len()),
            ],
        )?;
        checks::heads(&self.heads, stages - 1)?;
        let strides = self.strides.iter().flatten();
        let numbers = [&self.in_channels, &self.out_channels, &self.expansion];
        checks::above_zero(
            "`in_channels`, `out_channels`, `expansion`, `features` and `strides`",
            numbers.into_iter().chain(&self.features).chain(strides),
        )?;
        if let Some(even) = self.kernels.iter().flatten().find(|&k| k % 2 == 0) {
            return Err(ModelError::Config(format!(
                "`kernels` must be odd, found {even}"
            )));
        }
        checks::layers(&self.layers)
    }

    fn separable(&self, stage: usize, stride: [usize; 3], how: Making) -> SeparableConv {
        SeparableConv {
            kernel: self.kernels[stage],
            stride,
            dropout: how.dropout,
            norm: self.layers.norm,
            nonlinearity: self.layers.activation,
        }
    }

    fn build_encoder(
        &self,
        graph: &mut Graph,
        image: ValueId,
        how: Making,
    ) -> Result<Vec<ValueId>, GraphError> {
        let act = Some(self.layers.activation);
        let stem = ConvNorm {
            attributes: centred(self.kernels[0], self.strides[0], [1; 3]),
            dropout: how.dropout,
            ..ConvNorm::pointwise(self.layers.norm, act)
        };
        let mut x = stem.build_as("stem", graph, image, self.features[0], how.mode)?;
        (0..self.features.len())
            .map(|stage| {
                x = graph.scope(format!("stages.{stage}"), |g| {
                    self.build_stage(g, x, stage, how)
                })?;
                Ok(x)
            })
            .collect()
    }

    fn build_stage(
        &self,
        graph: &mut Graph,
        x: ValueId,
        stage: usize,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let channels = self.features[stage];
        // The convolution before stage 0 has its stride.
        let stride = if stage == 0 {
            [1; 3]
        } else {
            self.strides[stage]
        };
        let first = self.separable(stage, stride, how);
        let mut x = graph.scope("separable", |g| first.build(g, x, channels, how.mode))?;
        let block = InvertedResidual {
            expanded: self.expansion * channels,
            kernel: self.kernels[stage],
            stride: [1; 3],
            dilation: [1; 3],
            squeeze: None,
            norm: self.layers.norm,
            nonlinearity: self.layers.activation,
            projection: ProjectionNames::Nested,
        };
        for i in 0..self.blocks[stage] {
            x = graph.scope(format!("blocks.{i}"), |g| {
                block.build(g, x, channels, how.mode)
            })?;
        }
        Ok(x)
    }

    /// From the bottleneck up; stages are counted as in the encoder.
    fn build_decoder(
        &self,
        graph: &mut Graph,
        skips: &[ValueId],
        how: Making,
    ) -> Result<Vec<ValueId>, GraphError> {
        let mut x = skips[skips.len() - 1];
        let mut logits = Vec::new();
        for (stage, &skip) in skips.iter().enumerate().rev().skip(1) {
            x = graph.scope(format!("stages.{stage}"), |g| {
                self.build_decoder_stage(g, [x, skip], stage, how)
            })?;
            if self.heads.contains(&stage) {
                logits.push(graph.scope(format!("heads.{stage}"), |g| {
                    conv_layer(g, x, self.out_channels, [1; 3], [1; 3], Padding::Same, true)
                })?);
            }
        }
        logits.reverse();
        Ok(logits)
    }

    fn build_decoder_stage(
        &self,
        graph: &mut Graph,
        [coarse, skip]: [ValueId; 2],
        stage: usize,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let channels = self.features[stage];
        let reduce = ConvNorm::pointwise(self.layers.norm, Some(self.layers.activation));
        let x = reduce.build_as("reduce", graph, coarse, channels, how.mode)?;
        let linear = Interpolation::Linear {
            align_corners: false,
        };
        let extent = graph.value(skip).shape.spatial();
        let x = resample(graph, x, extent, linear).map_err(|e| graph.blame(e))?;
        let joined = concat(graph, &[x, skip]).map_err(|e| graph.blame(e))?;
        let mix = self.separable(stage, [1; 3], how);
        graph.scope("separable", |g| mix.build(g, joined, channels, how.mode))
    }
}

impl Architecture for MobileUNet {
    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn out_channels(&self) -> usize {
        self.out_channels
    }

    fn heads(&self) -> usize {
        self.heads.len()
    }

    fn steps(&self) -> Option<[usize; 3]> {
        Some(total_stride(&self.strides))
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        self.validate()?;
        let dropout = ChannelDropout::of(graph, self.layers.dropout, mode)?;
        let how = Making { mode, dropout };
        let skips = graph.scope("encoder", |g| self.build_encoder(g, image, how))?;
        let logits = graph.scope("decoder", |g| self.build_decoder(g, &skips, how))?;
        Ok(Heads {
            logits,
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

pub(super) static MODEL: Model = Model {
    name: "mobile_unet",
    title: "light U-Net of inverted residuals",
    source: "ours, of the blocks of Sandler et al. 2018",
    task: Task::Segmentation,
    published: Form {
        channels: 1,
        classes: 2,
        extent: [128; 3],
    },
    of_form: |form| Ok(Arc::new(MobileUNet::of_form(form))),
    of_blueprint: Some(|plan| plan.network(MobileUNet::of_blueprint)),
    follows: &[
        Key::FEATURES,
        Key::STAGES,
        Key::LAYERS,
        &[Key::EncoderBlocks, Key::Heads],
    ],
};
