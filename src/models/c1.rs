//! The C1 decoder with deep supervision (Zhou et al. 2018, "Semantic Understanding of Scenes through the ADE20K Dataset") on
//! a dilated ResNet-18, as semantic-segmentation-pytorch has it.
//!
//! Parameters for 3 channels and 150 classes: 12,248,940. In training both heads are supervised, the auxiliary one with
//! weight 0.4; at inference the logits of the main head are brought to the size of
//! the image.

use std::sync::Arc;

use super::dilated::Making;
use super::{
    Architecture, Blueprint, DilatedResNet, Form, Heads, Key, Model, ModelError, Task, checks,
};
use crate::graph::{Graph, GraphError};
use crate::losses::Supervision;
use crate::nn::{ChannelDropout, LayerStyle, Mode, Nonlinearity, Norm, Padding, conv_layer};
use crate::ops::conv::ConvAttributes;
use crate::ops::resample::{Mode as Resampling, resample};
use crate::ops::{Build, ValueId};

/// The list's entry.
pub(super) static MODEL: Model = Model {
    name: "c1_deepsup",
    title: "dilated ResNet-18 with a deeply supervised C1 decoder",
    source: "Zhou et al. 2018",
    task: Task::Segmentation,
    published: Form {
        channels: 3,
        classes: 150,
        extent: [1, 512, 512],
    },
    of_form: |form| Ok(Arc::new(c1_deepsup(form))),
    of_blueprint: Some(|blueprint| blueprint.network(c1_deepsup_of)),
    follows: &[Key::FEATURES, Key::STAGES, Key::LAYERS, &[Key::Heads]],
};

/// What the second head counts in semantic-segmentation-pytorch.
const AUXILIARY: f32 = 0.4;

/// How logits come to the size of the image.
const BILINEAR: Resampling = Resampling::Linear {
    align_corners: false,
};

/// A backbone with a C1 decoder: a 3x3 convolution to a quarter of the width, norm, activation and a 1x1 classifier on its
/// last stage, and the same on the stage before.
#[derive(Clone, Debug, PartialEq)]
pub struct C1Net {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits: classes with the background, or regions.
    pub out_channels: usize,
    /// The backbone.
    pub encoder: DilatedResNet,
    /// Whether there is a second head, on the stage before the last.
    pub deep_supervision: bool,
    /// Whether logits are brought to the size of the image in training as well, so that each voxel's label counts;
    /// published is a loss at the resolution of the features.
    pub full_size_in_training: bool,
}

/// The decoder on a dilated ResNet-18; for slices where the form has one, else for volumes.
pub fn c1_deepsup(form: Form) -> C1Net {
    let layers = LayerStyle {
        dropout: 0.0,
        norm: Norm::BATCH,
        activation: Nonlinearity::Relu,
    };
    C1Net {
        in_channels: form.channels,
        out_channels: form.classes,
        encoder: DilatedResNet::resnet18(form, layers),
        deep_supervision: true,
        full_size_in_training: false,
    }
}

/// The decoder on a dilated ResNet with features, kernels and the first three strides of a blueprint; the second head is
/// there where the blueprint has deep supervision. Both are compared with all voxels of the labels: structures of a few
/// voxels would be lost at an eighth of the resolution.
pub fn c1_deepsup_of(blueprint: &Blueprint) -> C1Net {
    C1Net {
        in_channels: blueprint.form.channels,
        out_channels: blueprint.form.classes,
        encoder: DilatedResNet::of_blueprint(blueprint),
        deep_supervision: blueprint.heads.len() > 1,
        full_size_in_training: true,
    }
}

impl Architecture for C1Net {
    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn out_channels(&self) -> usize {
        self.out_channels
    }

    fn heads(&self) -> usize {
        1 + usize::from(self.deep_supervision)
    }

    /// The auxiliary head counts 0.4.
    fn supervision(&self) -> Supervision {
        Supervision::Fixed {
            weights: [1.0, AUXILIARY][..self.heads()].to_vec(),
        }
    }

    /// Strides round up and the logits are brought to the size of the image, so that any extent will do.
    fn steps(&self) -> Option<[usize; 3]> {
        Some([1; 3])
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        self.encoder.validate()?;
        checks::positive([
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
        ])?;
        let layers = self.encoder.layers;
        let dropout = ChannelDropout::of(graph, layers.dropout, mode)?;
        let how = Making {
            mode,
            layers,
            dropout,
        };
        let [before, last] = graph.scope("encoder", |g| self.encoder.build(g, image, how))?;
        let mut logits = graph.scope("decoder", |g| self.decoder(g, before, last, how))?;
        if mode == Mode::Inference || self.full_size_in_training {
            let size = graph.shape(image).spatial();
            for head in &mut logits {
                *head = graph.scope("decoder", |g| {
                    resample(g, *head, size, BILINEAR).map_err(|e| g.blame(e))
                })?;
            }
        }
        Ok(Heads {
            logits,
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

impl C1Net {
    /// Logits of the main head, then of the auxiliary one.
    fn decoder(
        &self,
        graph: &mut Graph,
        before: ValueId,
        last: ValueId,
        how: Making,
    ) -> Result<Vec<ValueId>, GraphError> {
        let narrow = (graph.shape(last).c() / 4).max(1);
        let mut heads = vec![(last, "cbr", "conv_last")];
        if self.deep_supervision {
            heads.push((before, "cbr_deepsup", "conv_last_deepsup"));
        }
        let kernel = self.encoder.kernels[4];
        let head = |(x, block, classifier): (ValueId, &str, &str)| {
            let x = graph.scope(block, |g| {
                let wide = (narrow, ConvAttributes::same(kernel));
                how.conv(g, x, ["0", "1"], wide, true)
            })?;
            graph.scope(classifier, |g| {
                let classes = self.out_channels;
                conv_layer(g, x, classes, [1; 3], [1; 3], Padding::Same, true)
            })
        };
        heads.into_iter().map(head).collect()
    }
}
