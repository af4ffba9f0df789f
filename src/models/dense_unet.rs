//! The U-Net of dense blocks: FC-DenseNet of Jégou et al. 2017 ("The One Hundred Layers Tiramisu"), in 2D and 3D.
//!
//! Parameters for 3 channels and 11 classes: FC-DenseNet103 9,322,091 (9.4 million in the paper), FC-DenseNet56
//! 1,376,795 (1.5 million). Names are those of the usual PyTorch module.

use std::sync::Arc;

use super::checks;
use super::registry::total_stride;
use super::{Architecture, Blueprint, Form, Heads, Key, Model, ModelError, Task};
use crate::graph::{Graph, GraphError};
use crate::nn::{
    ChannelDropout, DenseLayer, LayerStyle, Mode, Nonlinearity, Norm, Padding, PreActivation,
    conv_layer, dense_block, transposed_conv_layer_with,
};
use crate::ops::conv::ConvAttributes;
use crate::ops::layout::{concat, slice_channels};
use crate::ops::pool::{Window, max_pool};
use crate::ops::{Build, ValueId};

/// FC-DenseNet103.
pub(super) static MODEL: Model = Model {
    name: "dense_unet",
    title: "U-Net of dense blocks (FC-DenseNet103)",
    source: "Jégou et al. 2017",
    task: Task::Segmentation,
    published: Form {
        channels: 3,
        classes: 11,
        extent: [1, 224, 224],
    },
    of_form: |form| Ok(Arc::new(fc_densenet103(form))),
    of_blueprint: Some(|blueprint| blueprint.network(dense_unet_of)),
    follows: &[
        Key::FEATURES,
        Key::STAGES,
        Key::BLOCKS,
        Key::LAYERS,
        &[Key::Heads],
    ],
};

/// The dense block of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenseStage {
    /// Its layers.
    pub layers: usize,
    /// Channels that each layer adds.
    pub growth: usize,
}

/// A U-Net whose stages are dense blocks. Stage 0 has the finest resolution; the last stage is the bottleneck.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseUNet {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits: classes with the background, or regions.
    pub out_channels: usize,
    /// Channels of the first convolution.
    pub first_features: usize,
    /// Dense block of each encoder stage.
    pub encoder: Vec<DenseStage>,
    /// Dense block of each decoder stage, finest first; one fewer.
    pub decoder: Vec<DenseStage>,
    /// Kernel (D, H, W) of the layers of each stage.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage; the first must be 1.
    pub strides: Vec<[usize; 3]>,
    /// Norm and activation before each convolution, dropout after it.
    pub layers: LayerStyle,
    /// Decoder stages with a segmentation head, 0 = finest; without deep supervision just `[0]`.
    pub heads: Vec<usize>,
}

/// FC-DenseNet103: growth rate 16; for slices where the form has one, else for volumes.
pub fn fc_densenet103(form: Form) -> DenseUNet {
    fc_densenet(form, 16, [4, 5, 7, 10, 12, 15])
}

/// FC-DenseNet56: growth rate 12, four layers in each block.
pub fn fc_densenet56(form: Form) -> DenseUNet {
    fc_densenet(form, 12, [4; 6])
}

fn fc_densenet(form: Form, growth: usize, layers: [usize; 6]) -> DenseUNet {
    let encoder = layers.map(|layers| DenseStage { layers, growth }).to_vec();
    let stages = encoder.len();
    DenseUNet {
        in_channels: form.channels,
        out_channels: form.classes,
        first_features: 48,
        decoder: encoder[..stages - 1].to_vec(),
        encoder,
        kernels: vec![form.along(3); stages],
        strides: [vec![[1; 3]], vec![form.along(2); stages - 1]].concat(),
        layers: LayerStyle {
            dropout: 0.2,
            norm: Norm::BATCH,
            activation: Nonlinearity::Relu,
        },
        heads: vec![0],
    }
}

/// A U-Net of dense blocks with the stages of a blueprint: each block has twice as many layers as the blueprint has
/// convolutions (or residual blocks) there, and adds as many channels as its stage has features.
pub fn dense_unet_of(blueprint: &Blueprint) -> DenseUNet {
    let stages = |blocks: &[usize]| {
        let stage = |(&blocks, &features): (&usize, &usize)| {
            let layers = blocks.saturating_mul(2);
            DenseStage {
                layers,
                growth: features.div_ceil(layers.max(1)),
            }
        };
        blocks.iter().zip(&blueprint.features).map(stage).collect()
    };
    DenseUNet {
        in_channels: blueprint.form.channels,
        out_channels: blueprint.form.classes,
        first_features: blueprint.features.first().copied().unwrap_or(0),
        encoder: stages(&blueprint.encoder_blocks),
        decoder: stages(&blueprint.decoder_blocks),
        kernels: blueprint.kernels.clone(),
        strides: blueprint.strides.clone(),
        layers: blueprint.layers,
        heads: blueprint.heads.clone(),
    }
}

/// What differs between training and inference.
#[derive(Clone, Copy)]
struct Making {
    mode: Mode,
    style: PreActivation,
}

impl Architecture for DenseUNet {
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
        let style = PreActivation {
            bias: true,
            dropout,
            norm: self.layers.norm,
            nonlinearity: self.layers.activation,
        };
        let how = Making { mode, style };
        let mut skips = self.build_encoder(graph, image, how)?;
        let stages = self.encoder.len();
        let deepest = skips.pop().unwrap_or(image);
        let new = graph.scope("bottleneck.bottleneck", |g| {
            let block = self.block(g, deepest, stages - 1, self.encoder[stages - 1], how)?;
            new_features(g, block, deepest)
        })?;
        Ok(Heads {
            logits: self.build_decoder(graph, new, &skips, how)?,
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

impl DenseUNet {
    /// Checks that the lists fit together.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the list, what was expected and what was found.
    pub fn validate(&self) -> Result<(), ModelError> {
        let stages = self.encoder.len();
        let lists = [
            ("kernels", stages, self.kernels.len()),
            ("strides", stages, self.strides.len()),
            ("decoder", stages.saturating_sub(1), self.decoder.len()),
        ];
        checks::lengths(stages, &lists)?;
        let blocks = self.encoder.iter().chain(&self.decoder);
        let numbers: Vec<usize> = blocks
            .flat_map(|block| [block.layers, block.growth])
            .chain([self.in_channels, self.out_channels, self.first_features])
            .collect();
        checks::above_zero("layers, growth rates, channels and features", &numbers)?;
        let axes = self.kernels.iter().chain(&self.strides).flatten();
        checks::above_zero("`kernels` and `strides`", axes)?;
        if self.strides[0] != [1; 3] {
            return Err(ModelError::Config(format!(
                "`strides` of a dense U-Net must begin with [1, 1, 1], found {:?}",
                self.strides[0]
            )));
        }
        checks::layers(&self.layers)?;
        checks::heads(&self.heads, stages - 1)
    }

    /// x and the features of a stage's layers.
    fn block(
        &self,
        graph: &mut Graph,
        x: ValueId,
        stage: usize,
        DenseStage { layers, growth }: DenseStage,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let layer = DenseLayer {
            growth,
            bottleneck: None,
            kernel: self.kernels[stage],
            style: how.style,
        };
        dense_block(graph, x, layers, layer, |i| format!("layers.{i}"), how.mode)
    }

    /// The skip of each stage, and what enters the bottleneck.
    fn build_encoder(
        &self,
        graph: &mut Graph,
        image: ValueId,
        how: Making,
    ) -> Result<Vec<ValueId>, GraphError> {
        let mut x = graph.scope("firstconv", |g| {
            let (channels, kernel) = (self.first_features, self.kernels[0]);
            conv_layer(g, image, channels, kernel, [1; 3], Padding::Same, true)
        })?;
        let mut skips = Vec::new();
        for stage in 0..self.encoder.len() - 1 {
            x = graph.scope(format!("denseBlocksDown.{stage}"), |g| {
                self.block(g, x, stage, self.encoder[stage], how)
            })?;
            skips.push(x);
            x = graph.scope(format!("transDownBlocks.{stage}"), |g| {
                let same = (g.shape(x).c(), [1; 3]);
                let y = how.style.conv(["norm", "conv"], g, x, same, how.mode)?;
                max_pool(g, y, Window::tiles(self.strides[stage + 1])).map_err(|e| g.blame(e))
            })?;
        }
        skips.push(x);
        Ok(skips)
    }

    /// From the bottleneck's features up; logits finest first. PyTorch counts decoder stages from the coarsest.
    fn build_decoder(
        &self,
        graph: &mut Graph,
        mut new: ValueId,
        skips: &[ValueId],
        how: Making,
    ) -> Result<Vec<ValueId>, GraphError> {
        let mut logits = Vec::new();
        for (position, stage) in (0..self.decoder.len()).rev().enumerate() {
            let joined = graph.scope(format!("transUpBlocks.{position}"), |g| {
                let up = g.scope("convTrans", |g| up_layer(g, new, self.strides[stage + 1]))?;
                concat(g, &[up, skips[stage]]).map_err(|e| g.blame(e))
            })?;
            let block = graph.scope(format!("denseBlocksUp.{position}"), |g| {
                self.block(g, joined, stage, self.decoder[stage], how)
            })?;
            if self.heads.contains(&stage) {
                let name = match stage {
                    0 => "finalConv".to_owned(),
                    _ => format!("auxConvs.{position}"),
                };
                logits.push(graph.scope(name, |g| {
                    let classes = self.out_channels;
                    conv_layer(g, block, classes, [1; 3], [1; 3], Padding::Same, true)
                })?);
            }
            // Only new features go up, so that their number does not grow with the depth, as in the paper.
            new = graph.scope(format!("denseBlocksUp.{position}"), |g| {
                new_features(g, block, joined)
            })?;
        }
        logits.reverse();
        Ok(logits)
    }
}

/// What a block's layers added to its input.
fn new_features(graph: &mut Graph, block: ValueId, input: ValueId) -> Result<ValueId, GraphError> {
    let [all, before] = [block, input].map(|v| graph.shape(v).c());
    slice_channels(graph, block, before, all - before).map_err(|e| graph.blame(e))
}

/// A transposed convolution that multiplies extents by `stride`: its kernel is one voxel wider, so that windows overlap,
/// and what hangs over the end is cut off.
fn up_layer(graph: &mut Graph, x: ValueId, stride: [usize; 3]) -> Result<ValueId, GraphError> {
    let over = stride.map(|s| usize::from(s > 1));
    let kernel = std::array::from_fn(|axis| stride[axis] + over[axis]);
    let mut attributes = ConvAttributes::new(kernel).with_stride(stride);
    attributes.padding_after = over;
    let channels = graph.shape(x).c();
    transposed_conv_layer_with(graph, x, channels, attributes, [0; 3], true)
}
