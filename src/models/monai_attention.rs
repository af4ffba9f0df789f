//! MONAI's `AttentionUnet`: the network of Oktay et al. 2018 ("Attention U-Net: Learning Where to Look for the Pancreas") with
//! strided convolutions down, a gate behind each upsampling, and MONAI's layers.
//!
//! Each level holds the next in itself, and so do the names of its parameters: two convolutions into the coarser
//! stage, what the levels below make of it, a transposed convolution back, the gate, and a convolution of the gated skip and
//! what came up. That one alone has MONAI's usual layers, instance norm without scale and shift and PReLU with one slope;
//! the others have batch norm and ReLU.
//!
//! Five stages of 16 to 256 features in 3D, 1 channel and 2 classes: 5,909,130 parameters, as many as MONAI 1.6's
//! `AttentionUnet(3, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2))` has.

use std::sync::Arc;

use super::{
    Architecture, Blueprint, Form, Heads, Key, Model, ModelError, Task, checks, total_stride,
};
use crate::graph::{Graph, GraphError};
use crate::nn::{
    AttentionGate, ChannelDropout, LayerNames, LayerStyle, Mode, Nonlinearity, Norm, Padding,
    conv_layer, norm_layer_named, transposed_conv_layer_with,
};
use crate::ops::ValueId;
use crate::ops::conv::ConvAttributes;
use crate::ops::layout::concat;

/// The list's entry.
pub(super) static MODEL: Model = Model {
    name: "monai_attention_unet",
    title: "U-Net with attention gates, MONAI's",
    source: "Oktay et al. 2018, in the form of MONAI",
    task: Task::Segmentation,
    published: Form {
        channels: 1,
        classes: 2,
        extent: [96; 3],
    },
    of_form: |form| Ok(Arc::new(MonaiAttentionUNet::usual(form))),
    of_blueprint: Some(|blueprint| blueprint.network(MonaiAttentionUNet::planned)),
    follows: &[Key::FEATURES, Key::STAGES, &[Key::Heads, Key::Dropout]],
};

/// The channels of MONAI's examples.
const FEATURES: [usize; 5] = [16, 32, 64, 128, 256];

/// MONAI's.
const NAMES: LayerNames<'_> = LayerNames {
    norm: "adn.N",
    slope: "adn.A",
};

/// MONAI's `AttentionUnet`. Stage 0 has the finest resolution.
#[derive(Clone, Debug, PartialEq)]
pub struct MonaiAttentionUNet {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits: classes with the background, or regions.
    pub out_channels: usize,
    /// Features of each stage.
    pub features: Vec<usize>,
    /// Kernel (D, H, W) of the convolutions of each stage, odd.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage; the first is 1.
    pub strides: Vec<[usize; 3]>,
    /// Share of the channels dropped in training after each convolution down and up; none in the gates.
    pub dropout: f32,
    /// Decoder stages with a head (a 1x1x1 convolution), 0 = finest; `[0]` in MONAI.
    pub heads: Vec<usize>,
}

impl MonaiAttentionUNet {
    /// Five stages, halved from stage to stage; in 2D where the extent has one slice.
    pub fn usual(form: Form) -> Self {
        let stages = FEATURES.len();
        let mut strides = vec![form.along(2); stages];
        strides[0] = [1; 3];
        Self {
            in_channels: form.channels,
            out_channels: form.classes,
            features: FEATURES.to_vec(),
            kernels: vec![form.along(3); stages],
            strides,
            dropout: 0.0,
            heads: vec![0],
        }
    }

    /// The network for a data set: its features, kernels, strides and heads. Norms and activations are MONAI's.
    pub fn planned(blueprint: &Blueprint) -> Self {
        Self {
            in_channels: blueprint.form.channels,
            out_channels: blueprint.form.classes,
            features: blueprint.features.clone(),
            kernels: blueprint.kernels.clone(),
            strides: blueprint.strides.clone(),
            dropout: blueprint.layers.dropout,
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
        checks::layers(&LayerStyle {
            dropout: self.dropout,
            ..LayerStyle::default()
        })
    }

    /// Two convolutions of `stage`, the first with the stride.
    fn build_convs(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        (stage, stride): (usize, [usize; 3]),
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let (channels, kernel) = (self.features[stage], self.kernels[stage]);
        for (i, stride) in [stride, [1; 3]].into_iter().enumerate() {
            x = graph.scope(format!("conv.{i}"), |g| {
                let y = g.scope("conv", |g| {
                    conv_layer(g, x, channels, kernel, stride, Padding::Same, true)
                })?;
                how.finished(g, y, Norm::BATCH, Nonlinearity::Relu)
            })?;
        }
        Ok(x)
    }

    /// The level between `stage` and the next coarser one: x, of `stage`, gated and joined with what comes up. Appends
    /// the result of each level to `levels`, the coarsest first.
    fn build_level(
        &self,
        graph: &mut Graph,
        x: ValueId,
        stage: usize,
        levels: &mut Vec<ValueId>,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let (channels, kernel) = (self.features[stage], self.kernels[stage]);
        let coarser = (stage + 1, self.strides[stage + 1]);
        let is_last = stage + 2 == self.stages();
        let below = graph.scope("submodule", |g| {
            if is_last {
                return self.build_convs(g, x, coarser, how);
            }
            let y = g.scope(0, |g| self.build_convs(g, x, coarser, how))?;
            g.scope(1, |g| self.build_level(g, y, stage + 1, levels, how))
        })?;
        let up = graph.scope("upconv.up", |g| {
            let y = g.scope("conv", |g| {
                // What the convolution into the coarser stage has, in reverse.
                let attributes =
                    ConvAttributes::same(self.kernels[stage + 1]).with_stride(coarser.1);
                let over = coarser.1.map(|s| s - 1);
                transposed_conv_layer_with(g, below, channels, attributes, over, true)
            })?;
            how.finished(g, y, Norm::BATCH, Nonlinearity::Relu)
        })?;
        let gate = AttentionGate {
            features: (channels / 2).max(1),
            stride: [1; 3],
            norm: Norm::BATCH,
        };
        let gated = graph.scope("attention", |g| gate.build(g, [x, up], how.mode))?;
        let merged = graph.scope("merge", |g| {
            let joined = concat(g, &[gated, up]).map_err(|e| g.blame(e))?;
            let y = g.scope("conv", |g| {
                conv_layer(g, joined, channels, kernel, [1; 3], Padding::Same, true)
            })?;
            how.finished(g, y, Norm::BARE_INSTANCE, Nonlinearity::SharedPrelu)
        })?;
        levels.push(merged);
        Ok(merged)
    }
}

/// What differs between training and inference.
#[derive(Clone, Copy)]
struct Making {
    mode: Mode,
    dropout: Option<ChannelDropout>,
}

impl Making {
    /// Dropout, norm and activation after a convolution.
    fn finished(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        norm: Norm,
        activation: Nonlinearity,
    ) -> Result<ValueId, GraphError> {
        if let Some(dropout) = self.dropout {
            x = dropout.build(graph, x)?;
        }
        norm_layer_named(NAMES, graph, x, norm, Some(activation), self.mode)
    }
}

impl Architecture for MonaiAttentionUNet {
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
        let dropout = ChannelDropout::of(graph, self.dropout, mode)?;
        let how = Making { mode, dropout };
        let x = graph.scope("model.0", |g| self.build_convs(g, image, (0, [1; 3]), how))?;
        let mut levels = Vec::new();
        graph.scope("model.1", |g| self.build_level(g, x, 0, &mut levels, how))?;
        levels.reverse();
        let head = |&stage: &usize| {
            let name = match stage {
                0 => "model.2.conv".to_owned(),
                _ => format!("heads.{stage}"),
            };
            graph.scope(name, |g| {
                let (x, classes) = (levels[stage], self.out_channels);
                conv_layer(g, x, classes, [1; 3], [1; 3], Padding::Same, true)
            })
        };
        Ok(Heads {
            logits: self.heads.iter().map(head).collect::<Result<_, _>>()?,
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}
