//! MobileNetV3 (Howard et al. 2019, "Searching for MobileNetV3"), with torchvision's definition and names.
//!
//! Large has 5,483,032 parameters and takes 216,589,760 multiply-adds at 224 x 224, Small 2,542,856 and 56,510,400, squeeze
//! and excitation included.

use std::sync::Arc;

use super::mobilenet::{LINEAR_INIT, classify, scaled};
use super::{Architecture, Blueprint, Form, Heads, Model, ModelError, checks};
use crate::graph::{Graph, GraphError};
use crate::nn::{
    ChannelDropout, ConvNorm, InvertedResidual, Mode, Nonlinearity, Norm, ProjectionNames,
    SqueezeExcitation, centred, linear_layer, nonlinearity,
};
use crate::ops::ValueId;
use crate::ops::activation::Activation;
use crate::ops::pool::global_avg_pool;

/// The batch norm of torchvision's MobileNetV3.
const NORM: Norm = Norm::Batch {
    eps: 0.001,
    momentum: 0.01,
};

/// The activation of the first and the last convolution.
const OUTER: Option<Nonlinearity> = Some(Nonlinearity::HSwish);

/// An inverted residual: a row of the paper's tables 1 and 2.
#[derive(Clone, Debug, PartialEq)]
pub struct V3Block {
    /// Kernel (D, H, W) of the depthwise convolution.
    pub kernel: [usize; 3],
    /// Channels inside the block.
    pub expanded: usize,
    /// Channels that leave it.
    pub channels: usize,
    /// Whether it has squeeze and excitation, to a quarter of `expanded`.
    pub squeeze: bool,
    /// ReLU or h-swish.
    pub nonlinearity: Nonlinearity,
    /// Stride (D, H, W).
    pub stride: [usize; 3],
    /// Dilation (D, H, W).
    pub dilation: [usize; 3],
}

/// MobileNetV3 without its classifier: a convolution, inverted residuals, a 1x1x1 convolution to six times their channels.
#[derive(Clone, Debug, PartialEq)]
pub struct V3Features {
    /// Channels of the input.
    pub in_channels: usize,
    /// Kernel (D, H, W) of the first convolution.
    pub stem_kernel: [usize; 3],
    /// Its stride (D, H, W).
    pub stem_stride: [usize; 3],
    /// Its channels.
    pub stem: usize,
    /// What follows.
    pub blocks: Vec<V3Block>,
    /// Normalisation after each convolution.
    pub norm: Norm,
}

/// A classifier on [`V3Features`].
#[derive(Clone, Debug, PartialEq)]
pub struct MobileNetV3 {
    /// What comes before the classifier.
    pub features: V3Features,
    /// Channels of the first fully connected layer.
    pub hidden: usize,
    /// Channels of the logits.
    pub classes: usize,
    /// Share of the features that are dropped before the last layer in training.
    pub dropout: f32,
}

/// The five halvings of resolution in an image or volume: the stride of each, and the axes along which windows extend after
/// it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Halvings {
    strides: [[usize; 3]; 5],
    extends: [[bool; 3]; 5],
}

impl Halvings {
    /// Along all axes; along H and W where the extent along D is 1.
    pub fn of_form(form: Form) -> Self {
        let extends = [form.extent[0] > 1, true, true];
        Self {
            strides: [extends.map(|yes| if yes { 2 } else { 1 }); 5],
            extends: [extends; 5],
        }
    }

    /// Where the stages of `plan` have them; none where it has fewer stages.
    pub fn of_blueprint(plan: &Blueprint) -> Self {
        let at = |i: usize| plan.kernels.get(i + 1).or(plan.kernels.last());
        let extends = |kernel: [usize; 3]| kernel.map(|k| k > 1);
        Self {
            strides: std::array::from_fn(|i| plan.strides.get(i + 1).copied().unwrap_or([1; 3])),
            extends: std::array::from_fn(|i| at(i).map_or([true; 3], |&k| extends(k))),
        }
    }

    fn kernel(&self, halving: usize, size: usize) -> [usize; 3] {
        self.extends[halving].map(|yes| if yes { size } else { 1 })
    }
}

/// Kernel, channels inside and out, squeeze and excitation, activation, and whether resolution is halved.
type Row = (usize, usize, usize, bool, Nonlinearity, bool);

const RE: Nonlinearity = Nonlinearity::Relu;
const HS: Nonlinearity = Nonlinearity::HSwish;

const LARGE: [Row; 15] = [
    (3, 16, 16, false, RE, false),
    (3, 64, 24, false, RE, true),
    (3, 72, 24, false, RE, false),
    (5, 72, 40, true, RE, true),
    (5, 120, 40, true, RE, false),
    (5, 120, 40, true, RE, false),
    (3, 240, 80, false, HS, true),
    (3, 200, 80, false, HS, false),
    (3, 184, 80, false, HS, false),
    (3, 184, 80, false, HS, false),
    (3, 480, 112, true, HS, false),
    (3, 672, 112, true, HS, false),
    (5, 672, 160, true, HS, true),
    (5, 960, 160, true, HS, false),
    (5, 960, 160, true, HS, false),
];

const SMALL: [Row; 11] = [
    (3, 16, 16, true, RE, true),
    (3, 72, 24, false, RE, true),
    (3, 88, 24, false, RE, false),
    (5, 96, 40, true, HS, true),
    (5, 240, 40, true, HS, false),
    (5, 240, 40, true, HS, false),
    (5, 120, 48, true, HS, false),
    (5, 144, 48, true, HS, false),
    (5, 288, 96, true, HS, true),
    (5, 576, 96, true, HS, false),
    (5, 576, 96, true, HS, false),
];

impl V3Features {
    /// Those of MobileNetV3-Large for LR-ASPP, with `width` times the channels: the last halving becomes a dilation of
    /// what follows.
    pub(super) fn dilated_large(in_channels: usize, halvings: &Halvings, width: f64) -> Self {
        Self::of_rows(&LARGE, (in_channels, width), halvings, true)
    }

    fn of_rows(
        rows: &[Row],
        (in_channels, width): (usize, f64),
        halvings: &Halvings,
        dilated: bool,
    ) -> Self {
        let last = halvings.strides.len() - 1;
        let mut halving = 0;
        let blocks = rows
            .iter()
            .map(|&(k, expanded, channels, squeeze, act, halves)| {
                halving += usize::from(halves);
                let (stride, dilation) = match dilated && halving == last {
                    true => ([1; 3], halvings.strides[last]),
                    false if halves => (halvings.strides[halving], [1; 3]),
                    false => ([1; 3], [1; 3]),
                };
                V3Block {
                    kernel: halvings.kernel(halving, k),
                    expanded: scaled(expanded, width),
                    channels: scaled(channels, width),
                    squeeze,
                    nonlinearity: act,
                    stride,
                    dilation,
                }
            });
        Self {
            in_channels,
            stem_kernel: halvings.kernel(0, 3),
            stem_stride: halvings.strides[0],
            stem: scaled(16, width),
            blocks: blocks.collect(),
            norm: NORM,
        }
    }

    /// Channels of the last convolution.
    pub fn channels(&self) -> usize {
        let last = self.blocks.last();
        last.map_or(self.stem, |block| block.channels)
            .saturating_mul(6)
    }

    /// Checks the numbers of channels.
    ///
    /// # Errors
    /// [`ModelError::Config`] that names one that is 0.
    pub fn validate(&self) -> Result<(), ModelError> {
        let blocks = self.blocks.iter();
        let blocks = blocks.flat_map(|block| [&block.channels, &block.expanded]);
        checks::above_zero(
            "`in_channels`, `stem`, `blocks.channels` and `blocks.expanded`",
            [&self.in_channels, &self.stem].into_iter().chain(blocks),
        )
    }

    /// Appends them, members of a sequence numbered from 0: what leaves the first convolution, each block, and the last
    /// convolution.
    ///
    /// # Errors
    /// A shape error of a convolution.
    pub fn build(
        &self,
        graph: &mut Graph,
        image: ValueId,
        mode: Mode,
    ) -> Result<Vec<ValueId>, GraphError> {
        let stem = ConvNorm {
            attributes: centred(self.stem_kernel, self.stem_stride, [1; 3]),
            ..ConvNorm::pointwise(self.norm, OUTER)
        };
        let mut x = stem.build_as(0, graph, image, self.stem, mode)?;
        let mut made = vec![x];
        for block in &self.blocks {
            x = graph.scope(format!("{}.block", made.len()), |g| {
                block
                    .inverted_residual(self.norm)
                    .build(g, x, block.channels, mode)
            })?;
            made.push(x);
        }
        let last = ConvNorm::pointwise(self.norm, OUTER);
        made.push(last.build_as(made.len(), graph, x, self.channels(), mode)?);
        Ok(made)
    }
}

impl V3Block {
    fn inverted_residual(&self, norm: Norm) -> InvertedResidual {
        InvertedResidual {
            expanded: self.expanded,
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            squeeze: self.squeeze.then(|| SqueezeExcitation {
                squeezed: scaled(self.expanded / 4, 1.0),
                gate: Activation::HardSigmoid,
            }),
            norm,
            nonlinearity: self.nonlinearity,
            projection: ProjectionNames::Nested,
        }
    }
}

impl MobileNetV3 {
    /// MobileNetV3-Large; for volumes where the form's extent is more than 1 along D.
    pub fn large(form: Form) -> Self {
        let features = V3Features::of_rows(
            &LARGE,
            (form.channels, 1.0),
            &Halvings::of_form(form),
            false,
        );
        Self::on(features, 1280, form.classes)
    }

    /// MobileNetV3-Small; for volumes where the form's extent is more than 1 along D.
    pub fn small(form: Form) -> Self {
        let features = V3Features::of_rows(
            &SMALL,
            (form.channels, 1.0),
            &Halvings::of_form(form),
            false,
        );
        Self::on(features, 1024, form.classes)
    }

    fn on(features: V3Features, hidden: usize, classes: usize) -> Self {
        Self {
            features,
            hidden,
            classes,
            dropout: 0.2,
        }
    }
}

impl Architecture for MobileNetV3 {
    fn in_channels(&self) -> usize {
        self.features.in_channels
    }

    fn out_channels(&self) -> usize {
        self.classes
    }

    fn steps(&self) -> Option<[usize; 3]> {
        Some([1; 3])
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        self.features.validate()?;
        checks::above_zero("`hidden` and `classes`", [&self.hidden, &self.classes])?;
        let dropout = ChannelDropout::of(graph, self.dropout, mode)?;
        let made = graph.scope("features", |g| self.features.build(g, image, mode))?;
        let x = made.last().copied().unwrap_or(image);
        let means = global_avg_pool(graph, x).map_err(|e| graph.blame(e))?;
        let hidden = graph.scope("classifier.0", |g| {
            let y = linear_layer(g, means, self.hidden, LINEAR_INIT, true)?;
            nonlinearity(g, y, OUTER)
        })?;
        let logits = classify(graph, hidden, self.classes, "classifier.3", dropout)?;
        Ok(Heads {
            logits: vec![logits],
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

const SOURCE: &str = "Howard et al. 2019";

pub(super) static LARGE_MODEL: Model =
    Model::classifier("mobilenet_v3_large", "MobileNetV3-Large", SOURCE, |form| {
        Ok(Arc::new(MobileNetV3::large(form)))
    });

pub(super) static SMALL_MODEL: Model =
    Model::classifier("mobilenet_v3_small", "MobileNetV3-Small", SOURCE, |form| {
        Ok(Arc::new(MobileNetV3::small(form)))
    });
