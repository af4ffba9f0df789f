//! UNETR (Hatamizadeh et al. 2022, "UNETR: Transformers for 3D Medical Image Segmentation"): a transformer as encoder, whose
//! layers are brought to each resolution of a convolutional decoder. Definition and names are those of MONAI's `UNETR`, in volumes and, with patches in the plane, in slices.
//!
//! As published for 96 x 96 x 96 voxels of 1 channel and 14 classes: 92,784,046 parameters. MONAI counts 18,432 more, layer norms of a cross
//! attention that it has not. MONAI stores the position embeddings as (1, L, E); here they are (1, E, 1, 1, L).

use std::sync::Arc;

use super::checks;
use super::patches::{check_extent, tokens_of};
use super::{Architecture, Blueprint, Form, Heads, Key, Model, ModelError, Task, total_stride};
use crate::graph::{Axes, Graph, GraphError, Init};
use crate::nn::{
    ChannelDropout, ConvNorm, LayerStyle, Mode, Norm, Padding, TransformerBlock, TransformerNames,
    centred, conv_layer, layer_norm_layer, nonlinearity, patch_embedding, transposed_conv_layer,
};
use crate::ops::elementwise::{add, add_broadcast};
use crate::ops::layout::{concat, reshape};
use crate::ops::{Build, ValueId};
use crate::tensor::Shape;

/// A transformer encoder with a convolutional decoder. Stage 0 has the resolution of the image, the last stage that of the tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Unetr {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits.
    pub out_channels: usize,
    /// Extent (D, H, W) of the images in voxels.
    pub extent: [usize; 3],
    /// Features of a token.
    pub embedding: usize,
    /// Blocks of the transformer.
    pub depth: usize,
    /// Heads of each attention.
    pub attention_heads: usize,
    /// Features between the two layers of each perceptron.
    pub hidden: usize,
    /// Channels of each stage but the last, finest first.
    pub features: Vec<usize>,
    /// Kernel (D, H, W) of the convolutions of each stage but the last.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage; the first is 1. A patch, which becomes a token, is as large as their product.
    pub strides: Vec<[usize; 3]>,
    /// Decoder stages with a segmentation head, 0 = finest.
    pub heads: Vec<usize>,
    /// What follows each convolution.
    pub layers: LayerStyle,
}

/// PyTorch's.
const EPS: f32 = 1e-5;

/// MONAI's.
const INIT: Init = Init::Normal { std: 0.02 };

/// Features of a head of the attention, where there are enough.
const HEAD: usize = 64;

/// The most heads that are looked for.
const MOST_HEADS: usize = 1024;

/// The fewest and most blocks of the transformer that follows a plan; two for each stage in between.
const DEPTHS: [usize; 2] = [4, 12];

/// What differs between training and inference.
#[derive(Clone, Copy)]
struct Making {
    mode: Mode,
    dropout: Option<ChannelDropout>,
}

impl Unetr {
    /// The published network: 12 blocks of 768 features and 12 heads, patches of 16 voxels a side, 16 channels at the
    /// finest stage; for slices where the form's extent is 1 along D.
    pub fn published(form: Form) -> Self {
        Self {
            in_channels: form.channels,
            out_channels: form.classes,
            extent: form.extent,
            embedding: 768,
            depth: 12,
            attention_heads: 12,
            hidden: 3072,
            features: vec![16, 32, 64, 128],
            kernels: vec![form.along(3); 4],
            strides: [&[[1; 3]][..], &[form.along(2); 4]].concat(),
            heads: vec![0],
            layers: LayerStyle {
                norm: Norm::BARE_INSTANCE,
                ..LayerStyle::default()
            },
        }
    }

    /// The network whose stages are those of `plan`, with as many features of a token as the plan's last stage has, and a
    /// transformer as the plan says, else with two blocks for each finer stage and heads of 64 features.
    pub fn of_blueprint(plan: &Blueprint) -> Self {
        let stages = plan.features.len();
        let finer = stages.saturating_sub(1);
        let kernels = &plan.kernels[..finer.min(plan.kernels.len())];
        let embedding = plan.features.last().copied().unwrap_or(0);
        let tokens = plan.tokens;
        Self {
            in_channels: plan.form.channels,
            out_channels: plan.form.classes,
            extent: plan.form.extent,
            embedding,
            depth: tokens
                .blocks
                .unwrap_or((2 * finer).clamp(DEPTHS[0], DEPTHS[1])),
            attention_heads: tokens
                .attention_heads
                .unwrap_or_else(|| usual_heads(embedding)),
            hidden: tokens.hidden.unwrap_or(embedding.saturating_mul(4)),
            features: plan.features[..finer].to_vec(),
            kernels: kernels.to_vec(),
            strides: plan.strides.clone(),
            heads: plan.heads.clone(),
            layers: plan.layers,
        }
    }

    /// Extent (D, H, W) of a patch.
    pub fn patch(&self) -> [usize; 3] {
        total_stride(&self.strides)
    }

    /// Number of stages, that of the tokens among them.
    fn stages(&self) -> usize {
        self.features.len() + 1
    }

    /// Checks that the lists fit together; gives the number of tokens along each axis.
    fn validate(&self) -> Result<[usize; 3], ModelError> {
        let features = self.features.iter().map(|&f| ("features", f));
        let numbers = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("embedding", self.embedding),
            ("depth", self.depth),
            ("attention_heads", self.attention_heads),
            ("hidden", self.hidden),
        ];
        checks::positive(numbers.into_iter().chain(features))?;
        let stages = self.stages();
        let lists = [
            ("kernels", stages - 1, self.kernels.len()),
            ("strides", stages, self.strides.len()),
        ];
        checks::lengths(stages, &lists)?;
        checks::above_zero("`kernels`", self.kernels.iter().flatten())?;
        if self.strides[0] != [1; 3] {
            return Err(ModelError::Config(format!(
                "the first of `strides` must be 1 along each axis, found {:?}",
                self.strides[0]
            )));
        }
        checks::heads(&self.heads, stages - 1)?;
        checks::layers(&self.layers)?;
        tokens_of(self.extent, self.patch())
    }

    /// The block of the transformer whose tokens a stage between the first and the last gets.
    fn block_for(&self, stage: usize) -> usize {
        stage * self.depth / (self.stages() - 1)
    }

    /// The tokens after each block, and at last those of the last block, normalised; each a map (N, embedding, D, H, W).
    fn build_transformer(
        &self,
        graph: &mut Graph,
        image: ValueId,
        grid: [usize; 3],
    ) -> Result<Vec<ValueId>, GraphError> {
        let block = TransformerBlock {
            heads: self.attention_heads,
            hidden: self.hidden,
            qkv_bias: false,
            eps: EPS,
            init: INIT,
            names: TransformerNames::MONAI,
        };
        let mut x = graph.scope("patch_embedding", |g| {
            let tokens = g.scope("patch_embeddings", |g| {
                patch_embedding(g, image, self.embedding, self.patch())
            })?;
            let [_, e, d, h, w] = g.shape(tokens).0;
            let shape = Shape::new(1, e, d, h, w);
            let positions = g.parameter_with("position_embeddings", shape, INIT, Axes::Tokens)?;
            add_broadcast(g, tokens, positions).map_err(|e| g.blame(e))
        })?;
        let mut rows = Vec::with_capacity(self.depth + 1);
        for i in 0..self.depth {
            x = graph.scope(format!("blocks.{i}"), |g| block.build(g, x))?;
            rows.push(x);
        }
        rows.push(graph.scope("norm", |g| layer_norm_layer(g, x, EPS))?);
        let as_map = |&row: &ValueId| {
            let shape = graph.shape(row).with_spatial(grid);
            reshape(graph, row, shape).map_err(|e| graph.blame(e))
        };
        rows.iter().map(as_map).collect()
    }

    /// Two convolutions with a skip, which has a 1x1x1 convolution where the channels change (MONAI's `UnetResBlock`).
    fn build_block(
        &self,
        graph: &mut Graph,
        x: ValueId,
        stage: usize,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let (channels, mode) = (self.features[stage], how.mode);
        let first = ConvNorm {
            attributes: centred(self.kernels[stage], [1; 3], [1; 3]),
            dropout: how.dropout,
            norm: self.layers.norm,
            nonlinearity: Some(self.layers.activation),
        };
        let second = ConvNorm {
            dropout: None,
            nonlinearity: None,
            ..first
        };
        let y = first.build(graph, x, channels, ["conv1.conv", "norm1"], mode)?;
        let y = second.build(graph, y, channels, ["conv2.conv", "norm2"], mode)?;
        let skip = match graph.shape(x).c() == channels {
            true => x,
            false => {
                let projection = ConvNorm::pointwise(self.layers.norm, None);
                projection.build(graph, x, channels, ["conv3.conv", "norm3"], mode)?
            }
        };
        let sum = add(graph, y, skip).map_err(|e| graph.blame(e))?;
        nonlinearity(graph, sum, first.nonlinearity)
    }

    fn build_up(
        &self,
        graph: &mut Graph,
        x: ValueId,
        stage: usize,
        name: &str,
        stride: [usize; 3],
    ) -> Result<ValueId, GraphError> {
        graph.scope(name, |g| {
            transposed_conv_layer(g, x, self.features[stage], stride, false)
        })
    }

    /// Tokens brought to the resolution of `stage`.
    fn build_skip(
        &self,
        graph: &mut Graph,
        tokens: ValueId,
        stage: usize,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let mut strides = self.strides[stage + 1..].iter().rev();
        let first = strides.next().copied().unwrap_or([1; 3]);
        let mut x = self.build_up(graph, tokens, stage, "transp_conv_init.conv", first)?;
        for (i, &stride) in strides.enumerate() {
            x = graph.scope(format!("blocks.{i}"), |g| {
                let x = self.build_up(g, x, stage, "0.conv", stride)?;
                g.scope("1", |g| self.build_block(g, x, stage, how))
            })?;
        }
        Ok(x)
    }

    fn build_decoder(
        &self,
        graph: &mut Graph,
        image: ValueId,
        maps: &[ValueId],
        how: Making,
    ) -> Result<Vec<ValueId>, GraphError> {
        let mut x = maps[self.depth];
        let mut logits = Vec::new();
        for stage in (0..self.stages() - 1).rev() {
            let skip = graph.scope(format!("encoder{}", stage + 1), |g| match stage {
                0 => g.scope("layer", |g| self.build_block(g, image, stage, how)),
                _ => self.build_skip(g, maps[self.block_for(stage)], stage, how),
            })?;
            x = graph.scope(format!("decoder{}", stage + 2), |g| {
                let stride = self.strides[stage + 1];
                let up = self.build_up(g, x, stage, "transp_conv.conv", stride)?;
                let joined = concat(g, &[up, skip]).map_err(|e| g.blame(e))?;
                g.scope("conv_block", |g| self.build_block(g, joined, stage, how))
            })?;
            if self.heads.contains(&stage) {
                let name = match stage {
                    0 => "out.conv.conv".to_owned(),
                    _ => format!("out{}.conv.conv", stage + 1),
                };
                logits.push(graph.scope(name, |g| {
                    conv_layer(g, x, self.out_channels, [1; 3], [1; 3], Padding::Same, true)
                })?);
            }
        }
        logits.reverse();
        Ok(logits)
    }
}

/// Heads of about [`HEAD`] features, as many as divide the `embedding`.
fn usual_heads(embedding: usize) -> usize {
    let most = (embedding / HEAD).clamp(1, MOST_HEADS);
    let divides = |heads: &usize| embedding.is_multiple_of(*heads);
    (1..=most).rev().find(divides).unwrap_or(1)
}

impl Architecture for Unetr {
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
        None
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        let grid = self.validate()?;
        check_extent(graph, image, self.extent)?;
        let dropout = ChannelDropout::of(graph, self.layers.dropout, mode)?;
        let maps = graph.scope("vit", |g| self.build_transformer(g, image, grid))?;
        let logits = self.build_decoder(graph, image, &maps, Making { mode, dropout })?;
        Ok(Heads {
            logits,
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

pub(super) static MODEL: Model = Model {
    name: "unetr",
    title: "UNETR, a transformer with a convolutional decoder",
    source: "Hatamizadeh et al. 2022",
    task: Task::Segmentation,
    published: Form {
        channels: 1,
        classes: 14,
        extent: [96; 3],
    },
    of_form: |form| Ok(Arc::new(Unetr::published(form))),
    of_blueprint: Some(|plan| plan.network(Unetr::of_blueprint)),
    follows: &[
        Key::FEATURES,
        Key::STAGES,
        Key::LAYERS,
        &[Key::Heads, Key::Tokens],
    ],
};
