//! MobileNetV1 (Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
//! Applications"), with the names and the padding of timm's `mobilenetv1_100`.
//!
//! | width | parameters | multiply-adds at 224 x 224 |
//! |---|---|---|
//! | 1 | 4,231,976 | 568,740,352 |
//! | 0.75 | 2,585,560 | 325,400,448 |
//! | 0.5 | 1,331,592 | 149,497,088 |
//! | 0.25 | 470,072 | 41,030,272 |
//!
//! The paper's resolution multiplier is the extent of the input: at 192, 160 and 128 the first one takes 418,121,728,
//! 290,675,200 and 186,400,768 multiply-adds.

use std::sync::Arc;

use super::mobilenet::{classify, scaled};
use super::{Architecture, Form, Heads, Model, ModelError, checks};
use crate::graph::{Graph, GraphError};
use crate::nn::{ChannelDropout, ConvNorm, Mode, Nonlinearity, Norm, SeparableConv, centred};
use crate::ops::ValueId;
use crate::ops::pool::global_avg_pool;

/// Depthwise separable convolutions with the same number of channels.
#[derive(Clone, Debug, PartialEq)]
pub struct SeparableStage {
    /// Channels of each.
    pub channels: usize,
    /// How many.
    pub blocks: usize,
    /// Stride (D, H, W) of the first.
    pub stride: [usize; 3],
}

/// A classifier of depthwise separable convolutions, each followed by batch norm and ReLU6.
#[derive(Clone, Debug, PartialEq)]
pub struct MobileNetV1 {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits.
    pub classes: usize,
    /// Kernel (D, H, W) of all convolutions but the pointwise ones.
    pub kernel: [usize; 3],
    /// Channels of the first convolution, a full one.
    pub stem: usize,
    /// Stride (D, H, W) of the first convolution.
    pub stem_stride: [usize; 3],
    /// What follows.
    pub stages: Vec<SeparableStage>,
    /// Share of the features that are dropped before the classifier in training.
    pub dropout: f32,
}

impl MobileNetV1 {
    /// The published network with `width` times its channels (the paper's alpha); for volumes where the form's extent
    /// is more than 1 along D.
    pub fn published(form: Form, width: f64) -> Self {
        let [one, two] = [1, 2].map(|n| form.along(n));
        let stages = [
            (64, 1, one),
            (128, 2, two),
            (256, 2, two),
            (512, 6, two),
            (1024, 2, two),
        ];
        Self {
            in_channels: form.channels,
            classes: form.classes,
            kernel: form.along(3),
            stem: scaled(32, width),
            stem_stride: two,
            stages: stages
                .map(|(channels, blocks, stride)| SeparableStage {
                    channels: scaled(channels, width),
                    blocks,
                    stride,
                })
                .to_vec(),
            dropout: 0.0,
        }
    }

    fn build_stage(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        stage: &SeparableStage,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        for i in 0..stage.blocks {
            let block = SeparableConv {
                kernel: self.kernel,
                stride: if i == 0 { stage.stride } else { [1; 3] },
                norm: Norm::BATCH,
                nonlinearity: Nonlinearity::Relu6,
                dropout: None,
            };
            x = graph.scope(i, |g| block.build(g, x, stage.channels, mode))?;
        }
        Ok(x)
    }
}

impl Architecture for MobileNetV1 {
    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn out_channels(&self) -> usize {
        self.classes
    }

    fn steps(&self) -> Option<[usize; 3]> {
        Some([1; 3])
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        let channels = self.stages.iter().map(|s| &s.channels);
        checks::above_zero(
            "`in_channels`, `classes`, `stem` and `stages.channels`",
            [&self.in_channels, &self.classes, &self.stem]
                .into_iter()
                .chain(channels),
        )?;
        let dropout = ChannelDropout::of(graph, self.dropout, mode)?;
        let stem = ConvNorm {
            attributes: centred(self.kernel, self.stem_stride, [1; 3]),
            ..ConvNorm::pointwise(Norm::BATCH, Some(Nonlinearity::Relu6))
        };
        let mut x = stem.build(graph, image, self.stem, ["conv_stem", "bn1"], mode)?;
        for (i, stage) in self.stages.iter().enumerate() {
            x = graph.scope(format!("blocks.{i}"), |g| {
                self.build_stage(g, x, stage, mode)
            })?;
        }
        let means = global_avg_pool(graph, x).map_err(|e| graph.blame(e))?;
        let logits = classify(graph, means, self.classes, "classifier", dropout)?;
        Ok(Heads {
            logits: vec![logits],
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

const SOURCE: &str = "Howard et al. 2017";

pub(super) static FULL: Model = Model::classifier("mobilenet_v1", "MobileNetV1", SOURCE, |form| {
    Ok(Arc::new(MobileNetV1::published(form, 1.0)))
});

pub(super) static WIDTH_075: Model = Model::classifier(
    "mobilenet_v1_075",
    "MobileNetV1, width 0.75",
    SOURCE,
    |form| Ok(Arc::new(MobileNetV1::published(form, 0.75))),
);

pub(super) static WIDTH_050: Model = Model::classifier(
    "mobilenet_v1_050",
    "MobileNetV1, width 0.5",
    SOURCE,
    |form| Ok(Arc::new(MobileNetV1::published(form, 0.5))),
);

pub(super) static WIDTH_025: Model = Model::classifier(
    "mobilenet_v1_025",
    "MobileNetV1, width 0.25",
    SOURCE,
    |form| Ok(Arc::new(MobileNetV1::published(form, 0.25))),
);
