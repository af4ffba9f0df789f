//! The U-Net: one configuration for the 2D, 3D, anisotropic, plain, residual, padded and unpadded members of the family.

use serde::{Deserialize, Serialize};

use super::{Architecture, Heads, ModelError, checks, summed_heads, total_stride};
use crate::graph::{Graph, GraphError};
use crate::nn::{
    AttentionGate, ChannelDropout, ConvBlock, DecoderStyle, HeadStyle, LayerStyle, Mode,
    Nonlinearity, Norm, Padding, conv_layer, residual_block, transposed_conv_layer,
};
use crate::ops::border::center_crop;
use crate::ops::layout::concat;
use crate::ops::pool::{Window, max_pool};
use crate::ops::resample;
use crate::ops::{Build, ValueId};
use crate::tensor::Shape;

/// How the encoder's stages are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Encoder {
    /// Convolution, norm, activation, as often as `features` says.
    Plain,
    /// A stem, then that many residual blocks a stage (BasicBlockD; nnU-Net's ResEnc).
    Residual {
        /// Blocks of each stage.
        blocks: Vec<usize>,
    },
}

/// How resolution is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Downsampling {
    /// The first convolution of a stage has the stride.
    StridedConvolution,
    /// A max pooling before the stage.
    MaxPooling,
}

/// A U-Net. Stage 0 has the finest resolution; the last stage is the bottleneck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits: classes with the background, or regions.
    pub out_channels: usize,
    /// Output channels of each convolution of each encoder stage (one number a stage for residual encoders).
    pub encoder_features: Vec<Vec<usize>>,
    /// Output channels of each convolution of each decoder stage, finest first; one stage fewer than the encoder.
    pub decoder_features: Vec<Vec<usize>>,
    /// Output channels of the transposed convolution into each decoder stage, finest first.
    pub up_features: Vec<usize>,
    /// Kernel (D, H, W) of the convolutions of each stage.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage; the first is usually 1.
    pub strides: Vec<[usize; 3]>,
    /// How stages are made.
    pub encoder: Encoder,
    /// How resolution is lost.
    pub downsampling: Downsampling,
    /// Zero padding that keeps sizes, or none.
    pub padding: Padding,
    /// Whether convolutions have a bias.
    pub conv_bias: bool,
    /// Whether the transposed convolutions have a bias.
    pub up_bias: bool,
    /// Share of the channels that are dropped after each convolution in training (of a residual block after the first).
    #[serde(default)]
    pub dropout: f32,
    /// Normalisation after each convolution.
    pub norm: Norm,
    /// Activation after each normalisation.
    pub nonlinearity: Nonlinearity,
    /// Decoder stages with a segmentation head, 0 = finest; without deep supervision just `[0]`.
    pub heads: Vec<usize>,
    /// What becomes of skips and heads.
    #[serde(default)]
    pub decoder: DecoderStyle,
}

/// How logits come to the grid of the next finer head (Kayalibay 2017).
const SUMMED: resample::Mode = resample::Mode::Linear {
    align_corners: false,
};

/// What differs between training and inference.
#[derive(Clone, Copy)]
struct Making {
    mode: Mode,
    dropout: Option<ChannelDropout>,
}

impl Architecture for UNetConfig {
    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn out_channels(&self) -> usize {
        self.out_channels
    }

    fn heads(&self) -> usize {
        match self.decoder.head_style {
            HeadStyle::Separate => self.heads.len(),
            HeadStyle::Summed => 1,
        }
    }

    fn steps(&self) -> Option<[usize; 3]> {
        (self.padding == Padding::Same).then(|| self.total_stride())
    }

    fn build(&self, graph: &mut Graph, x: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        self.validate()?;
        let dropout = ChannelDropout::of(graph, self.dropout, mode)?;
        let how = Making { mode, dropout };
        let skips = graph.scope("encoder", |g| self.build_encoder(g, x, how))?;
        let logits = graph.scope("decoder", |g| self.build_decoder(g, &skips, how))?;
        Ok(Heads {
            logits,
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

impl UNetConfig {
    /// Number of encoder stages.
    pub fn stages(&self) -> usize {
        self.encoder_features.len()
    }

    /// Channels that leave an encoder stage.
    fn stage_channels(&self, stage: usize) -> usize {
        self.encoder_features[stage].last().copied().unwrap_or(0)
    }

    /// The product of the strides: each patch extent (D, H, W) must be a multiple of it for padded networks.
    pub fn total_stride(&self) -> [usize; 3] {
        total_stride(&self.strides)
    }

    /// Checks that the lists fit together.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the list, what was expected and what was found.
    pub fn validate(&self) -> Result<(), ModelError> {
        let stages = self.stages();
        let decoder = stages.saturating_sub(1);
        let mut lists = vec![
            ("kernels", stages, self.kernels.len()),
            ("strides", stages, self.strides.len()),
            ("decoder_features", decoder, self.decoder_features.len()),
            ("up_features", decoder, self.up_features.len()),
        ];
        if let Encoder::Residual { blocks } = &self.encoder {
            lists.push(("encoder.blocks", stages, blocks.len()));
        }
        checks::lengths(stages, &lists)?;
        if let Encoder::Residual { blocks } = &self.encoder {
            checks::within(checks::MOST_BLOCKS, "`encoder.blocks`", blocks)?;
        }
        let lists = self.encoder_features.iter().chain(&self.decoder_features);
        let counts: Vec<usize> = lists.clone().map(Vec::len).collect();
        checks::within(
            checks::MOST_BLOCKS,
            "convolutions of a stage in `encoder_features` and `decoder_features`",
            &counts,
        )?;
        checks::above_zero("`encoder_features` and `decoder_features`", lists.flatten())?;
        let zero = |list: &[[usize; 3]]| list.iter().flatten().any(|&v| v == 0);
        if zero(&self.kernels) || zero(&self.strides) || self.up_features.contains(&0) {
            return Err(ModelError::Config(
                "`kernels`, `strides` and `up_features` must be above 0".into(),
            ));
        }
        if self.in_channels == 0 || self.out_channels == 0 {
            return Err(ModelError::Config(
                "`in_channels` and `out_channels` must be above 0".into(),
            ));
        }
        checks::layers(&LayerStyle {
            dropout: self.dropout,
            norm: self.norm,
            activation: self.nonlinearity,
        })?;
        if self.decoder.head_style == HeadStyle::Summed && self.padding == Padding::Valid {
            let reason = "heads of unpadded convolutions see different parts of the image: they cannot be summed";
            return Err(ModelError::Config(reason.into()));
        }
        checks::heads(&self.heads, decoder)
    }

    fn block(&self, kernel: [usize; 3], stride: [usize; 3], how: Making) -> ConvBlock {
        ConvBlock {
            kernel,
            stride,
            padding: self.padding,
            bias: self.conv_bias,
            dropout: how.dropout,
            norm: self.norm,
            nonlinearity: Some(self.nonlinearity),
        }
    }

    fn build_encoder(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        how: Making,
    ) -> Result<Vec<ValueId>, GraphError> {
        if let Encoder::Residual { .. } = self.encoder {
            let stem = self.block(self.kernels[0], [1; 3], how);
            let channels = self.stage_channels(0);
            x = graph.scope("stem.convs.0", |g| stem.build(g, x, channels, how.mode))?;
        }
        (0..self.stages())
            .map(|stage| {
                x = graph.scope(format!("stages.{stage}"), |g| {
                    self.build_encoder_stage(g, x, stage, how)
                })?;
                Ok(x)
            })
            .collect()
    }

    fn build_encoder_stage(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        stage: usize,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let mut stride = self.strides[stage];
        // PyTorch's module is a sequence: the pooling, if any, then the convolutions.
        let mut position = 0;
        if self.downsampling == Downsampling::MaxPooling && stride != [1; 3] {
            x = max_pool(graph, x, Window::tiles(stride)).map_err(|e| graph.blame(e))?;
            stride = [1; 3];
            position = 1;
        }
        if let Encoder::Residual { blocks } = &self.encoder {
            let block = self.block(self.kernels[stage], [1; 3], how);
            for i in 0..blocks[stage] {
                let stride = if i == 0 { stride } else { [1; 3] };
                x = graph.scope(format!("blocks.{i}"), |g| {
                    residual_block(g, x, self.stage_channels(stage), block, stride, how.mode)
                })?;
            }
            return Ok(x);
        }
        graph.scope(position, |g| {
            self.build_convs(g, x, &self.encoder_features[stage], (stage, stride), how)
        })
    }

    /// Convolution blocks in a row; the first has the stride.
    fn build_convs(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        features: &[usize],
        (stage, stride): (usize, [usize; 3]),
        how: Making,
    ) -> Result<ValueId, GraphError> {
        for (i, &channels) in features.iter().enumerate() {
            let stride = if i == 0 { stride } else { [1; 3] };
            let block = self.block(self.kernels[stage], stride, how);
            x = graph.scope(format!("convs.{i}"), |g| {
                block.build(g, x, channels, how.mode)
            })?;
        }
        Ok(x)
    }

    /// From the bottleneck up. PyTorch counts decoder stages from the coarsest.
    fn build_decoder(
        &self,
        graph: &mut Graph,
        skips: &[ValueId],
        how: Making,
    ) -> Result<Vec<ValueId>, GraphError> {
        let stages = self.stages();
        let mut x = skips[stages - 1];
        let mut logits = Vec::new();
        for stage in (0..stages - 1).rev() {
            let position = stages - 2 - stage;
            let stride = self.strides[stage + 1];
            let up = graph.scope(format!("transpconvs.{position}"), |g| {
                transposed_conv_layer(g, x, self.up_features[stage], stride, self.up_bias)
            })?;
            let extent = graph.value(up).shape.spatial();
            let mut skip = center_crop(graph, skips[stage], extent).map_err(|e| graph.blame(e))?;
            if self.decoder.attention_gates {
                let gate = self.gate(stage);
                skip = graph.scope(format!("attention.{position}"), |g| {
                    gate.build(g, [skip, x], how.mode)
                })?;
            }
            let joined = graph.scope(format!("join.{position}"), |g| {
                concat(g, &[up, skip]).map_err(|e| g.blame(e))
            })?;
            x = graph.scope(format!("stages.{position}"), |g| {
                let features = &self.decoder_features[stage];
                self.build_convs(g, joined, features, (stage, [1; 3]), how)
            })?;
            if self.heads.contains(&stage) {
                logits.push(graph.scope(format!("seg_layers.{position}"), |g| {
                    conv_layer(g, x, self.out_channels, [1; 3], [1; 3], Padding::Same, true)
                })?);
            }
        }
        if self.decoder.head_style == HeadStyle::Summed {
            return Ok(vec![summed_heads(graph, &logits, SUMMED)?]);
        }
        logits.reverse();
        Ok(logits)
    }

    /// The gate of a skip: half of its channels meet in it, and the coarser stage's features say where they matter.
    fn gate(&self, stage: usize) -> AttentionGate {
        AttentionGate {
            features: self.stage_channels(stage).div_ceil(2),
            stride: self.strides[stage + 1],
            norm: Norm::None,
        }
    }

    /// The extent (D, H, W) of the finest logits for an input of `patch`, where it fits: unpadded networks lose a border.
    ///
    /// # Errors
    /// As [`UNetConfig::build`].
    pub fn output_extent(&self, patch: [usize; 3]) -> Result<[usize; 3], ModelError> {
        let mut graph = Graph::new();
        let shape = Shape::new(1, self.in_channels, 1, 1, 1).with_spatial(patch);
        let x = graph.input("image", shape)?;
        let heads = self.build(&mut graph, x, Mode::Inference)?;
        Ok(graph.shape(heads.logits[0]).spatial())
    }
}
