//! MobileNetV2 (Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks"), with torchvision's
//! definition and names.
//!
//! | width | parameters | multiply-adds at 224 x 224 |
//! |---|---|---|
//! | 1.4 | 6,108,776 | 582,195,824 |
//! | 1 | 3,504,872 | 300,774,272 |
//! | 0.75 | 2,636,424 | 209,069,792 |
//! | 0.5 | 1,968,680 | 97,131,840 |
//! | 0.35 | 1,677,128 | 59,285,808 |

use std::sync::Arc;

use super::mobilenet::{classify, scaled};
use super::{Architecture, Form, Heads, Model, ModelError, checks};
use crate::graph::{Graph, GraphError};
use crate::nn::{
    ChannelDropout, ConvNorm, InvertedResidual, Mode, Nonlinearity, Norm, ProjectionNames, centred,
};
use crate::ops::ValueId;
use crate::ops::pool::global_avg_pool;

/// Inverted residuals with the same number of channels: a row of the paper's table 2.
#[derive(Clone, Debug, PartialEq)]
pub struct InvertedStage {
    /// Channels inside a block for each channel that enters it (t).
    pub expansion: usize,
    /// Channels that leave each block (c).
    pub channels: usize,
    /// How many blocks (n).
    pub blocks: usize,
    /// Stride (D, H, W) of the first block (s).
    pub stride: [usize; 3],
}

/// A classifier of inverted residuals, with batch norm and ReLU6.
#[derive(Clone, Debug, PartialEq)]
pub struct MobileNetV2 {
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
    pub stages: Vec<InvertedStage>,
    /// Channels of the last convolution.
    pub last: usize,
    /// Share of the features that are dropped before the classifier in training.
    pub dropout: f32,
}

impl MobileNetV2 {
    /// The published network with `width` times its channels (the last convolution never gets fewer); for volumes where
    /// the form's extent is more than 1 along D.
    pub fn published(form: Form, width: f64) -> Self {
        let [one, two] = [1, 2].map(|n| form.along(n));
        let stages = [
            (1, 16, 1, one),
            (6, 24, 2, two),
            (6, 32, 3, two),
            (6, 64, 4, two),
            (6, 96, 3, one),
            (6, 160, 3, two),
            (6, 320, 1, one),
        ];
        Self {
            in_channels: form.channels,
            classes: form.classes,
            kernel: form.along(3),
            stem: scaled(32, width),
            stem_stride: two,
            stages: stages
                .map(|(expansion, channels, blocks, stride)| InvertedStage {
                    expansion,
                    channels: scaled(channels, width),
                    blocks,
                    stride,
                })
                .to_vec(),
            last: scaled(1280, width.max(1.0)),
            dropout: 0.2,
        }
    }

    fn validate(&self) -> Result<(), ModelError> {
        let stages = self.stages.iter();
        let stages = stages.flat_map(|stage| [&stage.channels, &stage.expansion]);
        let numbers = [&self.in_channels, &self.classes, &self.stem, &self.last];
        checks::above_zero(
            "`in_channels`, `classes`, `stem`, `last`, `stages.channels` and `stages.expansion`",
            numbers.into_iter().chain(stages),
        )
    }

    fn build_features(
        &self,
        graph: &mut Graph,
        image: ValueId,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let act = Some(Nonlinearity::Relu6);
        let stem = ConvNorm {
            attributes: centred(self.kernel, self.stem_stride, [1; 3]),
            ..ConvNorm::pointwise(Norm::BATCH, act)
        };
        let mut x = stem.build_as(0, graph, image, self.stem, mode)?;
        let mut position = 1;
        for stage in &self.stages {
            for i in 0..stage.blocks {
                let block = InvertedResidual {
                    expanded: stage.expansion * graph.value(x).shape.c(),
                    kernel: self.kernel,
                    stride: if i == 0 { stage.stride } else { [1; 3] },
                    dilation: [1; 3],
                    squeeze: None,
                    norm: Norm::BATCH,
                    nonlinearity: Nonlinearity::Relu6,
                    projection: ProjectionNames::Flat,
                };
                x = graph.scope(format!("{position}.conv"), |g| {
                    block.build(g, x, stage.channels, mode)
                })?;
                position += 1;
            }
        }
        ConvNorm::pointwise(Norm::BATCH, act).build_as(position, graph, x, self.last, mode)
    }
}

impl Architecture for MobileNetV2 {
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
        self.validate()?;
        let dropout = ChannelDropout::of(graph, self.dropout, mode)?;
        let x = graph.scope("features", |g| self.build_features(g, image, mode))?;
        let means = global_avg_pool(graph, x).map_err(|e| graph.blame(e))?;
        let logits = classify(graph, means, self.classes, "classifier.1", dropout)?;
        Ok(Heads {
            logits: vec![logits],
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

const SOURCE: &str = "Sandler et al. 2018";

pub(super) static FULL: Model = Model::classifier("mobilenet_v2", "MobileNetV2", SOURCE, |form| {
    Ok(Arc::new(MobileNetV2::published(form, 1.0)))
});

pub(super) static WIDTH_140: Model = Model::classifier(
    "mobilenet_v2_140",
    "MobileNetV2, width 1.4",
    SOURCE,
    |form| Ok(Arc::new(MobileNetV2::published(form, 1.4))),
);

pub(super) static WIDTH_075: Model = Model::classifier(
    "mobilenet_v2_075",
    "MobileNetV2, width 0.75",
    SOURCE,
    |form| Ok(Arc::new(MobileNetV2::published(form, 0.75))),
);

pub(super) static WIDTH_050: Model = Model::classifier(
    "mobilenet_v2_050",
    "MobileNetV2, width 0.5",
    SOURCE,
    |form| Ok(Arc::new(MobileNetV2::published(form, 0.5))),
);

pub(super) static WIDTH_035: Model = Model::classifier(
    "mobilenet_v2_035",
    "MobileNetV2, width 0.35",
    SOURCE,
    |form| Ok(Arc::new(MobileNetV2::published(form, 0.35))),
);
