//! The classifiers of Wang et al. 2015 ("Training Deeper Convolutional Networks with Deep Supervision"): 8 and 13
//! convolutions, 3 fully connected layers, and a branch after the fourth convolution that is supervised as well.
//!
//! The network of 8 is that of the prototxt which the authors published for Places (205 classes, 227 x 227), names
//! included: 64 features by 7x7 with stride 2, 128, 256, 256, 512, 512, 512, 512 by 3x3, max pooling after the 1st, 2nd,
//! 4th, 6th and 8th; the branch is an average pooling of 5x5 with stride 2, a 1x1 convolution to 64 features without ReLU
//! and fully connected layers of 1024, 1024 and the classes. Pooling rounds down here, where Caffe rounds up, so that the
//! first fully connected layers see 3x3 (Caffe 4x4) and 12x12 (13x13) positions. Of the network of 13 no table of channels
//! is published; here it has the same first convolution and poolings around the 2, 2, 3, 3, 3 convolutions of VGG-16, which
//! are 13 as well.
//!
//! Parameters for 3 channels, 205 classes and 227 x 227: of 8 convolutions 56,442,202, of 13 96,793,370.
//!
//! Their supervision decays: L = L_0 + alpha_t L_s, alpha_t = alpha_(t-1) (1 - t / N).

use std::sync::Arc;

use super::mobilenet::LINEAR_INIT;
use super::{Architecture, Form, Heads, Model, ModelError, Task, checks};
use crate::graph::{Graph, GraphError};
use crate::losses::Supervision;
use crate::nn::{ChannelDropout, Mode, Nonlinearity, conv_layer_with, linear_layer, nonlinearity};
use crate::ops::conv::ConvAttributes;
use crate::ops::layout::reshape;
use crate::ops::pool::{AvgPool, Window, max_pool};
use crate::ops::{Build, ValueId};

/// The network of 8 convolutions.
pub(super) static WANG_8: Model = Model {
    name: "wang8",
    title: "CNN of 8 convolutions, deeply supervised",
    source: "Wang et al. 2015",
    task: Task::Classification,
    published: Form {
        channels: 3,
        classes: 205,
        extent: [1, 227, 227],
    },
    of_form: |form| Ok(Arc::new(wang8(form))),
    of_blueprint: None,
    follows: &[],
};

/// The network of 13 convolutions.
pub(super) static WANG_13: Model = Model {
    name: "wang13",
    title: "CNN of 13 convolutions, deeply supervised",
    of_form: |form| Ok(Arc::new(wang13(form))),
    ..WANG_8
};

/// A branch that is supervised, and costs nothing at inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The stage that it follows, before that stage's pooling; 0 is the first.
    pub stage: usize,
    /// Channels of its convolution.
    pub features: usize,
    /// Width of its fully connected layers.
    pub width: usize,
}

/// A plain convolutional classifier of 2D images with one deeply supervised branch.
///
/// Its fully connected layers belong to one extent of the image: that for which its weights were first made.
#[derive(Clone, Debug, PartialEq)]
pub struct WangNet {
    /// Channels of the input.
    pub in_channels: usize,
    /// Classes.
    pub out_channels: usize,
    /// Channels of each convolution of each stage; a pooling follows each stage.
    pub stages: Vec<Vec<usize>>,
    /// Width of the fully connected layers.
    pub width: usize,
    /// The branch.
    pub branch: Branch,
    /// Share of the outputs of fully connected layers that are dropped in training.
    pub dropout: f32,
}

/// The network of 8 convolutions.
pub fn wang8(form: Form) -> WangNet {
    WangNet {
        in_channels: form.channels,
        out_channels: form.classes,
        stages: vec![
            vec![64],
            vec![128],
            vec![256; 2],
            vec![512; 2],
            vec![512; 2],
        ],
        width: 4096,
        branch: Branch {
            stage: 2,
            features: 64,
            width: 1024,
        },
        dropout: 0.5,
    }
}

/// The network of 13 convolutions.
pub fn wang13(form: Form) -> WangNet {
    let eight = wang8(form);
    WangNet {
        stages: vec![
            vec![64; 2],
            vec![128; 2],
            vec![256; 3],
            vec![512; 3],
            vec![512; 3],
        ],
        branch: Branch {
            stage: 1,
            ..eight.branch
        },
        ..eight
    }
}

impl Architecture for WangNet {
    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// The network's own, then the branch's.
    fn heads(&self) -> usize {
        2
    }

    /// The branch counts 0.3 at first and less from epoch to epoch.
    fn supervision(&self) -> Supervision {
        Supervision::WANG
    }

    fn steps(&self) -> Option<[usize; 3]> {
        None
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        self.validate(graph.shape(image).spatial())?;
        let dropout = ChannelDropout::of(graph, self.dropout, mode)?;
        let mut x = image;
        let mut branch = None;
        for stage in 0..self.stages.len() {
            x = self.convolutions(graph, x, stage)?;
            if stage == self.branch.stage {
                branch = Some(self.branch(graph, x, dropout)?);
            }
            // As published the first pooling overlaps.
            let kernel = if stage == 0 { [1, 3, 3] } else { [1, 2, 2] };
            let window = Window {
                stride: [1, 2, 2],
                ..Window::tiles(kernel)
            };
            x = max_pool(graph, x, window).map_err(|e| graph.blame(e))?;
        }
        let names = ["fc6", "fc7", "fc8"].map(str::to_owned);
        let own = self.fully_connected(graph, x, names, self.width, dropout)?;
        Ok(Heads {
            logits: [own].into_iter().chain(branch).collect(),
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

impl WangNet {
    fn validate(&self, extent: [usize; 3]) -> Result<(), ModelError> {
        let wrong = |what: String| Err(ModelError::Config(what));
        let smallest = |stage: &Vec<usize>| stage.iter().copied().min().unwrap_or(0);
        checks::positive([
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            (
                "stages",
                self.stages.iter().map(smallest).min().unwrap_or(0),
            ),
            ("width", self.width),
            ("branch.features", self.branch.features),
            ("branch.width", self.branch.width),
        ])?;
        if self.branch.stage >= self.stages.len() {
            return wrong(format!(
                "the branch follows stage {} of {} stages, counted from 0",
                self.branch.stage,
                self.stages.len()
            ));
        }
        if extent[0] != 1 {
            return wrong(format!(
                "this network classifies 2D images; its input has {} slices",
                extent[0]
            ));
        }
        Ok(())
    }

    /// The convolutions of a stage with their ReLU: `conv1`, or `conv3_1`, `conv3_2` where there are several.
    fn convolutions(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        stage: usize,
    ) -> Result<ValueId, GraphError> {
        let features = &self.stages[stage];
        for (i, &channels) in features.iter().enumerate() {
            let name = match features.len() {
                1 => format!("conv{}", stage + 1),
                _ => format!("conv{}_{}", stage + 1, i + 1),
            };
            let attributes = match (stage, i) {
                (0, 0) => ConvAttributes::new([1, 7, 7])
                    .with_stride([1, 2, 2])
                    .with_padding([0, 1, 1]),
                _ => ConvAttributes::same([1, 3, 3]),
            };
            x = graph.scope(name, |g| {
                let y = conv_layer_with(g, x, channels, attributes, true)?;
                nonlinearity(g, y, Some(Nonlinearity::Relu))
            })?;
        }
        Ok(x)
    }

    fn branch(
        &self,
        graph: &mut Graph,
        x: ValueId,
        dropout: Option<ChannelDropout>,
    ) -> Result<ValueId, GraphError> {
        let name = format!("DSN_conv{}", self.branch.stage + 1);
        let window = Window {
            stride: [1, 2, 2],
            ..Window::tiles([1, 5, 5])
        };
        let x = graph.scope(&name, |g| {
            let pooling = AvgPool {
                window,
                count_include_pad: false,
            };
            let y = g.node(Arc::new(pooling), &[x])?[0];
            let point = ConvAttributes::new([1; 3]);
            conv_layer_with(g, y, self.branch.features, point, true)
        })?;
        let names = ["fc6", "fc7", "fc8"].map(|layer| format!("{layer}_{name}"));
        self.fully_connected(graph, x, names, self.branch.width, dropout)
    }

    /// Two layers with ReLU and dropout, one without: x (N, C, 1, H, W) to (N, classes, 1, 1, 1).
    fn fully_connected(
        &self,
        graph: &mut Graph,
        x: ValueId,
        names: [String; 3],
        width: usize,
        dropout: Option<ChannelDropout>,
    ) -> Result<ValueId, GraphError> {
        let shape = graph.shape(x);
        let flat = shape.with_c(shape.per_sample()).with_spatial([1; 3]);
        let mut x = reshape(graph, x, flat).map_err(|e| graph.blame(e))?;
        let [first, second, last] = names;
        for name in [first, second] {
            x = graph.scope(name, |g| {
                let y = linear_layer(g, x, width, LINEAR_INIT, true)?;
                let y = nonlinearity(g, y, Some(Nonlinearity::Relu))?;
                match dropout {
                    Some(dropout) => dropout.build(g, y),
                    None => Ok(y),
                }
            })?;
        }
        graph.scope(last, |g| {
            linear_layer(g, x, self.out_channels, LINEAR_INIT, true)
        })
    }
}
