//! DenseNet-BC of Huang et al. 2017 as torchvision defines it: dense blocks with 1x1 bottlenecks, between them transitions
//! that halve channels and extents.
//!
//! Parameters for 3 channels and 1000 classes: DenseNet-121 7,978,856, -169 14,149,480, -201 20,013,928, -161 28,681,000.

use std::sync::Arc;

use super::{Architecture, Form, Heads, Model, ModelError, checks};
use crate::graph::{Graph, GraphError, Init};
use crate::nn::{
    ChannelDropout, DenseLayer, Mode, Nonlinearity, Norm, PreActivation, conv_layer_with,
    dense_block, linear_layer, norm_layer_as,
};
use crate::ops::conv::ConvAttributes;
use crate::ops::pool::{Window, avg_pool, global_avg_pool, max_pool};
use crate::ops::{Build, ValueId};

const SOURCE: &str = "Huang et al. 2017";

pub(super) static DENSENET_121: Model =
    Model::classifier("densenet121", "DenseNet-121", SOURCE, |form| {
        Ok(Arc::new(densenet121(form)))
    });

pub(super) static DENSENET_169: Model =
    Model::classifier("densenet169", "DenseNet-169", SOURCE, |form| {
        Ok(Arc::new(densenet169(form)))
    });

pub(super) static DENSENET_201: Model =
    Model::classifier("densenet201", "DenseNet-201", SOURCE, |form| {
        Ok(Arc::new(densenet201(form)))
    });

pub(super) static DENSENET_161: Model =
    Model::classifier("densenet161", "DenseNet-161", SOURCE, |form| {
        Ok(Arc::new(densenet161(form)))
    });

/// A DenseNet that classifies images or volumes of any extent from about 32 voxels on.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseNet {
    /// Channels of the input.
    pub in_channels: usize,
    /// Classes.
    pub out_channels: usize,
    /// Channels that each layer adds.
    pub growth_rate: usize,
    /// Layers of each dense block.
    pub blocks: Vec<usize>,
    /// Channels of the first convolution.
    pub first_features: usize,
    /// Channels of a bottleneck, in growth rates.
    pub bottleneck: usize,
    /// Share of a layer's channels that are dropped in training; 0 as published with ImageNet.
    pub dropout: f32,
    /// Whether kernels and pooling are for slices: nothing happens along D.
    pub planar: bool,
}

/// DenseNet-121; for slices where the form has one, else for volumes.
pub fn densenet121(form: Form) -> DenseNet {
    DenseNet {
        in_channels: form.channels,
        out_channels: form.classes,
        growth_rate: 32,
        blocks: vec![6, 12, 24, 16],
        first_features: 64,
        bottleneck: 4,
        dropout: 0.0,
        planar: form.extent[0] == 1,
    }
}

/// DenseNet-169.
pub fn densenet169(form: Form) -> DenseNet {
    DenseNet {
        blocks: vec![6, 12, 32, 32],
        ..densenet121(form)
    }
}

/// DenseNet-201.
pub fn densenet201(form: Form) -> DenseNet {
    DenseNet {
        blocks: vec![6, 12, 48, 32],
        ..densenet121(form)
    }
}

/// DenseNet-161, which is wider.
pub fn densenet161(form: Form) -> DenseNet {
    DenseNet {
        growth_rate: 48,
        blocks: vec![6, 12, 36, 24],
        first_features: 96,
        ..densenet121(form)
    }
}

impl Architecture for DenseNet {
    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// Pooling rounds down, so that any extent will do.
    fn steps(&self) -> Option<[usize; 3]> {
        Some([1; 3])
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        self.validate()?;
        let dropout = ChannelDropout::of(graph, self.dropout, mode)?;
        let x = graph.scope("features", |g| self.features(g, image, dropout, mode))?;
        let x = global_avg_pool(graph, x).map_err(|e| graph.blame(e))?;
        let fan_in = graph.shape(x).c();
        let logits = graph.scope("classifier", |g| {
            linear_layer(g, x, self.out_channels, Init::UniformFanIn { fan_in }, true)
        })?;
        Ok(Heads {
            logits: vec![logits],
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}

impl DenseNet {
    /// Checks that no number is 0.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the number.
    pub fn validate(&self) -> Result<(), ModelError> {
        checks::positive([
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("growth_rate", self.growth_rate),
            ("first_features", self.first_features),
            ("bottleneck", self.bottleneck),
            ("blocks", self.blocks.iter().copied().min().unwrap_or(0)),
        ])
    }

    /// The same number along each axis, but `along_depth` along D of slices.
    fn axes(&self, number: usize, along_depth: usize) -> [usize; 3] {
        let depth = if self.planar { along_depth } else { number };
        [depth, number, number]
    }

    /// The first convolution, the blocks and the last norm, as torchvision names them.
    fn features(
        &self,
        graph: &mut Graph,
        image: ValueId,
        dropout: Option<ChannelDropout>,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let layer = self.layer(dropout);
        let mut x = self.first(graph, image, mode)?;
        for (i, &layers) in self.blocks.iter().enumerate() {
            x = graph.scope(format!("denseblock{}", i + 1), |g| {
                dense_block(
                    g,
                    x,
                    layers,
                    layer,
                    |j| format!("denselayer{}", j + 1),
                    mode,
                )
            })?;
            if i + 1 < self.blocks.len() {
                x = graph.scope(format!("transition{}", i + 1), |g| {
                    self.transition(g, x, layer.style, mode)
                })?;
            }
        }
        layer.style.activate("norm5", graph, x, mode)
    }

    fn layer(&self, dropout: Option<ChannelDropout>) -> DenseLayer {
        DenseLayer {
            growth: self.growth_rate,
            bottleneck: Some(self.bottleneck * self.growth_rate),
            kernel: self.axes(3, 1),
            style: PreActivation {
                bias: false,
                dropout,
                norm: Norm::BATCH,
                nonlinearity: Nonlinearity::Relu,
            },
        }
    }

    /// 7x7 convolution of stride 2, norm, ReLU, 3x3 max pooling of stride 2.
    fn first(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<ValueId, GraphError> {
        let wide = ConvAttributes::same(self.axes(7, 1)).with_stride(self.axes(2, 1));
        let x = graph.scope("conv0", |g| {
            conv_layer_with(g, image, self.first_features, wide, false)
        })?;
        let x = norm_layer_as(
            "norm0",
            graph,
            x,
            Norm::BATCH,
            Some(Nonlinearity::Relu),
            mode,
        )?;
        let window = Window {
            kernel: self.axes(3, 1),
            stride: self.axes(2, 1),
            padding: self.axes(1, 0),
        };
        max_pool(graph, x, window).map_err(|e| graph.blame(e))
    }

    /// Norm, ReLU, a 1x1 convolution to half the channels, 2x2 average pooling.
    fn transition(
        &self,
        graph: &mut Graph,
        x: ValueId,
        style: PreActivation,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let style = PreActivation {
            dropout: None,
            ..style
        };
        let half = (graph.shape(x).c() / 2).max(1);
        let x = style.conv(["norm", "conv"], graph, x, (half, [1; 3]), mode)?;
        avg_pool(graph, x, Window::tiles(self.axes(2, 1))).map_err(|e| graph.blame(e))
    }
}
