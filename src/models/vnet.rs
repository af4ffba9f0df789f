//! The V-Net (Milletari et al. 2016, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
//! Segmentation"), as published and in the form with batch norm that MONAI has.
//!
//! As published, for 1 channel and 2 classes: 65,175,314 parameters. With f = 16, 32, 64, 128, 256 features and n = 1, 2,
//! 3, 3, 3 convolutions, a bias and a slope for each output of each convolution:
//!
//! | part | parameters |
//! |---|---|
//! | convolutions of encoder stage s | n (125 f^2 + 2 f); the first has 1 input channel |
//! | down into stage s, from c = f / 2 channels | 8 c f + 2 f |
//! | up into decoder stage s, from c = 64, 128, 256, 256 channels | 8 c f + 2 f |
//! | convolutions of decoder stage s, of 2 f channels | n (125 (2 f)^2 + 2 (2 f)) |
//! | logits | 2 (32 + 1) |
//!
//! With batch norm, for 1 channel and 1 class, as many parameters as MONAI 1.6's network has: 45,597,509 with PReLU
//! (`VNet(act="prelu")`), 45,593,892 with ELU (`VNet()`).

use std::sync::Arc;

use super::{
    Architecture, Blueprint, Form, Heads, Key, Model, ModelError, Task, checks, total_stride,
};
use crate::graph::{Graph, GraphError};
use crate::nn::{
    ChannelDropout, LayerNames, LayerStyle, Mode, Nonlinearity, Norm, Padding, ResidualStage,
    conv_layer, norm_layer_named, transposed_conv_layer,
};
use crate::ops::ValueId;
use crate::ops::layout::{concat, slice_channels};

/// Features of the stages as published, and of all further ones twice as many as of the one before.
const FEATURES: [usize; 5] = [16, 32, 64, 128, 256];

/// Convolutions of the encoder stages behind the first, which has one, and of the decoder stages, finest first; further
/// stages have as many as the last.
const PUBLISHED_CONVS: ([usize; 4], [usize; 4]) = ([2, 3, 3, 3], [1, 2, 3, 3]);
const BATCH_NORM_CONVS: ([usize; 4], [usize; 4]) = ([1, 2, 3, 2], [1, 1, 2, 2]);

/// Extent of the kernels along axes that are fine enough.
const KERNEL: usize = 5;

/// The first stage with dropout before the convolutions of the encoder, and before the transposed convolution of the
/// decoder.
const FIRST_DROPPED_DOWN: usize = 3;
const FIRST_DROPPED_UP: usize = 2;

/// Names of what follows a convolution that changes the resolution.
const RESAMPLED: LayerNames<'_> = LayerNames {
    norm: "bn1",
    slope: "act_function1",
};

/// As published: no normalisation, biases, logits by a 1x1x1 convolution; trained with the Dice loss of the paper
/// ([`crate::ops::loss::RegionLoss::SquaredDice`]).
pub(super) static PUBLISHED: Model = Model {
    name: "vnet",
    title: "V-Net",
    source: "Milletari et al. 2016",
    task: Task::Segmentation,
    published: Form {
        channels: 1,
        classes: 2,
        extent: [64, 128, 128],
    },
    of_form: |form| Ok(Arc::new(VNetConfig::published(form))),
    of_blueprint: Some(|blueprint| {
        blueprint.network(|plan| VNetConfig::planned(VNetForm::Published, plan))
    }),
    follows: &[
        Key::FEATURES,
        &[
            Key::MaxStages,
            Key::Kernels,
            Key::Strides,
            Key::Heads,
            Key::Dropout,
        ],
    ],
};

/// With batch norm.
pub(super) static BATCH_NORM: Model = Model {
    name: "vnet_bn",
    title: "V-Net with batch norm",
    source: "Milletari et al. 2016, in the form of MONAI",
    of_form: |form| Ok(Arc::new(VNetConfig::batch_norm(form))),
    of_blueprint: Some(|blueprint| {
        blueprint.network(|plan| VNetConfig::planned(VNetForm::BatchNorm, plan))
    }),
    ..PUBLISHED
};

/// With batch norm and ELU, as MONAI makes it where nothing is said.
pub(super) static ELU: Model = Model {
    name: "vnet_elu",
    title: "V-Net with batch norm and ELU",
    of_form: |form| Ok(Arc::new(VNetConfig::elu(form))),
    of_blueprint: Some(|blueprint| {
        blueprint.network(|plan| VNetConfig {
            activation: Nonlinearity::Elu,
            ..VNetConfig::planned(VNetForm::BatchNorm, plan)
        })
    }),
    ..BATCH_NORM
};

/// Which definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VNetForm {
    /// The paper's: biases and no normalisation; the last convolution of a stage is activated with the sum alone.
    Published,
    /// MONAI's: batch norm after every convolution, biases in transposed ones and of the logits alone; each
    /// convolution of a stage is activated, and the sum again; the logits come from a 5x5x5 convolution to as many
    /// channels and a 1x1x1 convolution.
    BatchNorm,
}

/// A V-Net. Stage 0 has the finest resolution.
#[derive(Clone, Debug, PartialEq)]
pub struct VNetConfig {
    /// Channels of the input; its copies, as many as needed, are added to the first convolution's output.
    pub in_channels: usize,
    /// Channels of the logits: classes with the background, or regions.
    pub out_channels: usize,
    /// Features of each encoder stage; a decoder stage has twice as many, half of them the skip.
    pub features: Vec<usize>,
    /// Kernel (D, H, W) of the convolutions of each stage.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage, which is the kernel too; the first is 1.
    pub strides: Vec<[usize; 3]>,
    /// Convolutions of each encoder stage behind the first, which has one.
    pub encoder_convs: Vec<usize>,
    /// Convolutions of each decoder stage, finest first.
    pub decoder_convs: Vec<usize>,
    /// Which definition.
    pub form: VNetForm,
    /// All activations: PReLU, or MONAI's default, ELU.
    pub activation: Nonlinearity,
    /// Share of the channels dropped in training where MONAI drops them: in all skips, before the convolutions of
    /// encoder stages from the fourth on, and before the transposed convolutions into decoder stages from the third on.
    pub dropout: f32,
    /// Decoder stages with a head (a 1x1x1 convolution), 0 = finest; `[0]` as published.
    pub heads: Vec<usize>,
}

impl VNetConfig {
    /// The paper's network: five stages of 16 to 256 features.
    pub fn published(form: Form) -> Self {
        Self::of(VNetForm::Published, form, &FEATURES)
    }

    /// MONAI's with PReLU, half of the channels dropped where MONAI drops them.
    pub fn batch_norm(form: Form) -> Self {
        Self {
            dropout: 0.5,
            ..Self::of(VNetForm::BatchNorm, form, &FEATURES)
        }
    }

    /// MONAI's with its default activation.
    pub fn elu(form: Form) -> Self {
        Self {
            activation: Nonlinearity::Elu,
            ..Self::batch_norm(form)
        }
    }

    /// A network of that many stages, halved from stage to stage; in 2D where the extent has one slice.
    pub fn of(vnet: VNetForm, form: Form, features: &[usize]) -> Self {
        let stages = features.len();
        let mut strides = vec![form.along(2); stages];
        strides[..1.min(stages)].fill([1; 3]);
        let (encoder, decoder) = match vnet {
            VNetForm::Published => PUBLISHED_CONVS,
            VNetForm::BatchNorm => BATCH_NORM_CONVS,
        };
        Self {
            in_channels: form.channels,
            out_channels: form.classes,
            features: features.to_vec(),
            kernels: vec![form.along(KERNEL); stages],
            strides,
            encoder_convs: stretched(&encoder, stages.saturating_sub(1)),
            decoder_convs: stretched(&decoder, stages.saturating_sub(1)),
            form: vnet,
            activation: Nonlinearity::Prelu,
            dropout: 0.0,
            heads: vec![0],
        }
    }

    /// The network for a data set: its strides and heads, kernels of 5 where it has 3, and half of its features, so that
    /// the finest stage has 16 where nnU-Net's has 32, and decoder stages have as many as it says. Norm, activation and
    /// the number of convolutions are the definition's.
    pub fn planned(vnet: VNetForm, blueprint: &Blueprint) -> Self {
        let features: Vec<usize> = blueprint.features.iter().map(|f| f.div_ceil(2)).collect();
        let widened = |kernel: &[usize; 3]| kernel.map(|k| if k > 1 { KERNEL } else { 1 });
        Self {
            kernels: blueprint.kernels.iter().map(widened).collect(),
            strides: blueprint.strides.clone(),
            dropout: blueprint.layers.dropout,
            heads: blueprint.heads.clone(),
            ..Self::of(vnet, blueprint.form, &features)
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
        let stages = self.stages();
        let decoder = stages.saturating_sub(1);
        let lists = [
            ("kernels", stages, self.kernels.len()),
            ("strides", stages, self.strides.len()),
            ("encoder_convs", decoder, self.encoder_convs.len()),
            ("decoder_convs", decoder, self.decoder_convs.len()),
        ];
        checks::lengths(stages, &lists)?;
        let counts = [&self.features, &self.encoder_convs, &self.decoder_convs];
        let axes = self.kernels.iter().chain(&self.strides).flatten();
        let ends = [&self.in_channels, &self.out_channels];
        checks::above_zero(
            "channels, features, convolutions, kernels and strides",
            counts.into_iter().flatten().chain(axes).chain(ends),
        )?;
        checks::layers(&LayerStyle {
            dropout: self.dropout,
            norm: self.norm(),
            activation: self.activation,
        })?;
        checks::heads(&self.heads, decoder)
    }

    fn norm(&self) -> Norm {
        match self.form {
            VNetForm::Published => Norm::None,
            VNetForm::BatchNorm => Norm::BATCH,
        }
    }

    fn stage(&self, stage: usize, convs: usize) -> ResidualStage {
        ResidualStage {
            kernel: self.kernels[stage],
            convs,
            bias: self.has_bias(),
            norm: self.norm(),
            activation: self.activation,
            activates_last: self.form == VNetForm::BatchNorm,
        }
    }

    fn has_bias(&self) -> bool {
        self.form == VNetForm::Published
    }

    /// The normalisation and the activation after a convolution.
    fn activated(
        &self,
        graph: &mut Graph,
        x: ValueId,
        names: LayerNames<'_>,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        norm_layer_named(names, graph, x, self.norm(), Some(self.activation), mode)
    }

    fn build_down(
        &self,
        graph: &mut Graph,
        x: ValueId,
        stage: usize,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let (channels, stride) = (self.features[stage], self.strides[stage]);
        let y = graph.scope("down_conv", |g| {
            conv_layer(
                g,
                x,
                channels,
                stride,
                stride,
                Padding::Valid,
                self.has_bias(),
            )
        })?;
        let y = self.activated(graph, y, RESAMPLED, how.mode)?;
        let entering = how.dropped(graph, y, stage >= FIRST_DROPPED_DOWN)?;
        let convs = self.encoder_convs[stage - 1];
        self.stage(stage, convs)
            .build(graph, [entering, y], how.mode)
    }

    fn build_up(
        &self,
        graph: &mut Graph,
        [x, skip]: [ValueId; 2],
        stage: usize,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let x = how.dropped(graph, x, stage >= FIRST_DROPPED_UP)?;
        let skip = how.dropped(graph, skip, true)?;
        let (channels, stride) = (self.features[stage], self.strides[stage + 1]);
        let up = graph.scope("up_conv", |g| {
            transposed_conv_layer(g, x, channels, stride, true)
        })?;
        let up = self.activated(graph, up, RESAMPLED, how.mode)?;
        let joined = graph.scope("join", |g| concat(g, &[up, skip]).map_err(|e| g.blame(e)))?;
        let convs = self.decoder_convs[stage];
        self.stage(stage, convs)
            .build(graph, [joined, joined], how.mode)
    }

    fn build_output(
        &self,
        graph: &mut Graph,
        x: ValueId,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let classes = self.out_channels;
        let y = match self.form {
            VNetForm::Published => x,
            VNetForm::BatchNorm => {
                let y = graph.scope("conv_block.conv", |g| {
                    conv_layer(g, x, classes, self.kernels[0], [1; 3], Padding::Same, false)
                })?;
                let names = LayerNames {
                    norm: "conv_block.adn.N",
                    slope: "act_function1",
                };
                self.activated(graph, y, names, mode)?
            }
        };
        graph.scope("conv2", |g| pointwise(g, y, classes))
    }
}

impl Architecture for VNetConfig {
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
        let mut x = graph.scope("in_tr", |g| {
            let copies = repeated(g, image, self.features[0])?;
            self.stage(0, 1).build_first(g, [image, copies], mode)
        })?;
        let mut skips = vec![x];
        for stage in 1..self.stages() {
            let name = format!("down_tr{}", FEATURES[0] << stage);
            x = graph.scope(name, |g| self.build_down(g, x, stage, how))?;
            skips.push(x);
        }
        let mut logits = Vec::new();
        for stage in (0..self.stages() - 1).rev() {
            let name = format!("up_tr{}", FEATURES[1] << stage);
            x = graph.scope(name, |g| self.build_up(g, [x, skips[stage]], stage, how))?;
            if stage > 0 && self.heads.contains(&stage) {
                let classes = self.out_channels;
                logits.push(graph.scope(format!("heads.{stage}"), |g| pointwise(g, x, classes))?);
            }
        }
        logits.push(graph.scope("out_tr", |g| self.build_output(g, x, mode))?);
        logits.reverse();
        Ok(Heads {
            logits,
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

/// What differs between training and inference.
#[derive(Clone, Copy)]
struct Making {
    mode: Mode,
    dropout: Option<ChannelDropout>,
}

impl Making {
    fn dropped(&self, graph: &mut Graph, x: ValueId, here: bool) -> Result<ValueId, GraphError> {
        match self.dropout.filter(|_| here) {
            Some(dropout) => dropout.build(graph, x),
            None => Ok(x),
        }
    }
}

/// The first `list` entries, the last repeated where there are more stages.
fn stretched(list: &[usize], stages: usize) -> Vec<usize> {
    let last = list.len() - 1;
    (0..stages).map(|stage| list[stage.min(last)]).collect()
}

/// A 1x1x1 convolution with bias.
fn pointwise(graph: &mut Graph, x: ValueId, channels: usize) -> Result<ValueId, GraphError> {
    conv_layer(graph, x, channels, [1; 3], [1; 3], Padding::Same, true)
}

/// The channels of `x` over and over until there are `channels` of them.
fn repeated(graph: &mut Graph, x: ValueId, channels: usize) -> Result<ValueId, GraphError> {
    let copies = vec![x; channels.div_ceil(graph.value(x).shape.c())];
    let all = concat(graph, &copies).map_err(|e| graph.blame(e))?;
    if graph.value(all).shape.c() == channels {
        return Ok(all);
    }
    slice_channels(graph, all, 0, channels).map_err(|e| graph.blame(e))
}
