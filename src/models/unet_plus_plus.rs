//! U-Net++ (Zhou et al. 2018, "UNet++: A Nested U-Net Architecture for Medical Image Segmentation"; 2020, "UNet++:
//! Redesigning Skip Connections to Exploit Multiscale Features in Image Segmentation"), as MONAI's `BasicUNetPlusPlus`
//! defines it, for any number of stages.
//!
//! Node (i, j) has the resolution of encoder stage i: (i, 0) is that stage, and (i, j) two convolutions of all nodes
//! (i, 0) to (i, j - 1) and of the transposed convolution of (i + 1, j - 1). With L = stages - 1, each of (0, 1) to (0, L) is
//! the last node of a U-Net of its own, with 1 to L poolings, and has a head at the full resolution: 1x1x1.
//!
//! Five stages of 32, 32, 64, 128, 256 features and 32 at the last node, 1 channel and 2 classes, in 3D, all four heads:
//! 6,979,976 parameters, as many as MONAI 1.6's network of that form has.

use std::sync::Arc;

use super::{
    Architecture, Blueprint, Form, Heads, Key, Model, ModelError, Task, checks, total_stride,
};
use crate::graph::{Graph, GraphError};
use crate::losses::Supervision;
use crate::nn::{
    ChannelDropout, LayerNames, LayerStyle, Mode, Nonlinearity, Norm, Padding, conv_layer,
    norm_layer_named, transposed_conv_layer,
};
use crate::ops::ValueId;
use crate::ops::layout::concat;
use crate::ops::pool::{Window, max_pool};

/// The list's entry.
pub(super) static MODEL: Model = Model {
    name: "unetpp",
    title: "U-Net++",
    source: "Zhou et al. 2018, in the form of MONAI",
    task: Task::Segmentation,
    published: Form {
        channels: 1,
        classes: 2,
        extent: [96; 3],
    },
    of_form: |form| Ok(Arc::new(UNetPlusPlus::monai(form))),
    of_blueprint: Some(|blueprint| blueprint.network(UNetPlusPlus::planned)),
    follows: &[Key::FEATURES, Key::STAGES, Key::LAYERS, &[Key::Heads]],
};

/// A U-Net++. Stage 0 has the finest resolution.
///
/// All heads have the resolution of the input. The first is that of node (0, L), the whole network, which inference reads;
/// head k is that of (0, L - k), the U-Net with k poolings fewer. All losses count the same.
#[derive(Clone, Debug, PartialEq)]
pub struct UNetPlusPlus {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the logits: classes with the background, or regions.
    pub out_channels: usize,
    /// Features of the nodes of each stage.
    pub features: Vec<usize>,
    /// Features of the last node, (0, L).
    pub last_features: usize,
    /// Kernel (D, H, W) of the convolutions of each stage.
    pub kernels: Vec<[usize; 3]>,
    /// Stride (D, H, W) into each stage, of the pooling and of the transposed convolution back; the first is 1.
    pub strides: Vec<[usize; 3]>,
    /// What follows each convolution.
    pub layers: LayerStyle,
    /// Heads, ascending from 0, that of the whole network; L - 1 is the last there can be.
    pub heads: Vec<usize>,
}

impl UNetPlusPlus {
    /// MONAI's: five stages, instance norm, leaky ReLU of slope 0.1, all heads.
    pub fn monai(form: Form) -> Self {
        let features = vec![32, 32, 64, 128, 256];
        let stages = features.len();
        Self {
            in_channels: form.channels,
            out_channels: form.classes,
            features,
            last_features: 32,
            kernels: vec![form.along(3); stages],
            strides: (0..stages)
                .map(|stage| if stage == 0 { [1; 3] } else { form.along(2) })
                .collect(),
            layers: LayerStyle {
                dropout: 0.0,
                norm: Norm::default(),
                activation: Nonlinearity::LeakyRelu { slope: 0.1 },
            },
            heads: (0..stages - 1).collect(),
        }
    }

    /// The network for a data set: its features, kernels, strides, layers and heads; each node has two convolutions.
    pub fn planned(blueprint: &Blueprint) -> Self {
        Self {
            in_channels: blueprint.form.channels,
            out_channels: blueprint.form.classes,
            features: blueprint.features.clone(),
            last_features: blueprint.features.first().copied().unwrap_or(0),
            kernels: blueprint.kernels.clone(),
            strides: blueprint.strides.clone(),
            layers: blueprint.layers,
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
            &[self.in_channels, self.out_channels, self.last_features],
            &self.heads,
        )?;
        checks::layers(&self.layers)
    }

    /// Channels of node (i, j).
    fn node_features(&self, i: usize, j: usize) -> usize {
        match (i, j + 1 == self.stages()) {
            (0, true) => self.last_features,
            _ => self.features[i],
        }
    }

    /// Two convolutions with what follows them.
    fn build_node(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        (stage, channels): (usize, usize),
        how: Making,
    ) -> Result<ValueId, GraphError> {
        for name in ["conv_0", "conv_1"] {
            x = graph.scope(name, |g| {
                let kernel = self.kernels[stage];
                let mut y = g.scope("conv", |g| {
                    conv_layer(g, x, channels, kernel, [1; 3], Padding::Same, true)
                })?;
                if let Some(dropout) = how.dropout {
                    y = dropout.build(g, y)?;
                }
                let activation = Some(self.layers.activation);
                norm_layer_named(NAMES, g, y, self.layers.norm, activation, how.mode)
            })?;
        }
        Ok(x)
    }

    fn build_encoder(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        how: Making,
    ) -> Result<Vec<ValueId>, GraphError> {
        let mut nodes = Vec::new();
        for (stage, &features) in self.features.iter().enumerate() {
            x = graph.scope(format!("conv_{stage}_0"), |g| {
                if stage == 0 {
                    return self.build_node(g, x, (0, features), how);
                }
                let window = Window::tiles(self.strides[stage]);
                let pooled = max_pool(g, x, window).map_err(|e| g.blame(e))?;
                g.scope("convs", |g| {
                    self.build_node(g, pooled, (stage, features), how)
                })
            })?;
            nodes.push(x);
        }
        Ok(nodes)
    }

    /// Node (i, j) from those to its left, (i, 0) to (i, j - 1), and the one below, (i + 1, j - 1).
    fn build_nested(
        &self,
        graph: &mut Graph,
        (left, below): (&[ValueId], ValueId),
        (i, j): (usize, usize),
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let channels = graph.value(below).shape.c();
        // MONAI halves the channels on the way up, but not into the finest stage.
        let up_channels = if i == 0 {
            channels
        } else {
            (channels / 2).max(1)
        };
        let up = graph.scope("upsample.deconv", |g| {
            transposed_conv_layer(g, below, up_channels, self.strides[i + 1], true)
        })?;
        let joined = graph.scope("join", |g| {
            let all: Vec<ValueId> = left.iter().copied().chain([up]).collect();
            concat(g, &all).map_err(|e| g.blame(e))
        })?;
        let node = (i, self.node_features(i, j));
        graph.scope("convs", |g| self.build_node(g, joined, node, how))
    }
}

/// MONAI's.
const NAMES: LayerNames<'_> = LayerNames {
    norm: "adn.N",
    slope: "adn.A",
};

/// What differs between training and inference.
#[derive(Clone, Copy)]
struct Making {
    mode: Mode,
    dropout: Option<ChannelDropout>,
}

impl Architecture for UNetPlusPlus {
    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn out_channels(&self) -> usize {
        self.out_channels
    }

    fn heads(&self) -> usize {
        self.heads.len()
    }

    /// A 1 for each head, as in Zhou 2020.
    fn supervision(&self) -> Supervision {
        Supervision::Fixed {
            weights: vec![1.0; self.heads()],
        }
    }

    fn steps(&self) -> Option<[usize; 3]> {
        Some(total_stride(&self.strides))
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        self.validate()?;
        let dropout = ChannelDropout::of(graph, self.layers.dropout, mode)?;
        let how = Making { mode, dropout };
        // rows[i] holds the nodes of stage i from the left.
        let encoder = self.build_encoder(graph, image, how)?;
        let mut rows: Vec<Vec<ValueId>> = encoder.into_iter().map(|node| vec![node]).collect();
        let depth = self.stages() - 1;
        for j in 1..=depth {
            for i in 0..=depth - j {
                let (left, below) = (rows[i].clone(), rows[i + 1][j - 1]);
                let node = graph.scope(format!("upcat_{i}_{j}"), |g| {
                    self.build_nested(g, (&left, below), (i, j), how)
                })?;
                rows[i].push(node);
            }
        }
        let head = |&head: &usize| {
            let j = depth - head;
            graph.scope(format!("final_conv_0_{j}"), |g| {
                conv_layer(
                    g,
                    rows[0][j],
                    self.out_channels,
                    [1; 3],
                    [1; 3],
                    Padding::Same,
                    true,
                )
            })
        };
        Ok(Heads {
            logits: self.heads.iter().map(head).collect::<Result<_, _>>()?,
            dropout_seed: dropout.map(|d| d.seed),
        })
    }
}
