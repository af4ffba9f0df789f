//! A ResNet whose last two stages keep their resolution and dilate their kernels instead (Yu, Koltun and Funkhouser 2017),
//! as semantic-segmentation-pytorch builds it from basic blocks (He et al. 2016).

use super::checks;
use super::{Blueprint, Form, ModelError};
use crate::graph::{Graph, GraphError};
use crate::nn::{ChannelDropout, ConvNorm, LayerStyle, Mode, centred, nonlinearity};
use crate::ops::conv::ConvAttributes;
use crate::ops::elementwise::add;
use crate::ops::pool::{Window, max_pool};
use crate::ops::{Build, ValueId};

/// Dilation of each stage.
const DILATIONS: [usize; 4] = [1, 1, 2, 4];

/// A dilated ResNet: a stem of three convolutions, a max pooling, four stages of basic blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct DilatedResNet {
    /// Channels of the first two convolutions; the third has twice as many.
    pub stem: usize,
    /// Channels of each stage.
    pub features: [usize; 4],
    /// Blocks of each stage.
    pub blocks: [usize; 4],
    /// Kernel (D, H, W) of the stem, then of each stage.
    pub kernels: [[usize; 3]; 5],
    /// Stride (D, H, W) of the stem, of the pooling and of the second stage.
    pub strides: [[usize; 3]; 3],
    /// What follows each convolution.
    pub layers: LayerStyle,
}

/// What is around every convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making {
    pub mode: Mode,
    pub layers: LayerStyle,
    pub dropout: Option<ChannelDropout>,
}

impl Making {
    /// Appends a convolution without bias, dropout, norm and, if `active`, the activation; `names` are those of
    /// convolution and norm.
    pub fn conv(
        self,
        graph: &mut Graph,
        x: ValueId,
        names: [&str; 2],
        (channels, attributes): (usize, ConvAttributes),
        active: bool,
    ) -> Result<ValueId, GraphError> {
        let LayerStyle {
            norm, activation, ..
        } = self.layers;
        let conv = ConvNorm {
            attributes,
            dropout: self.dropout,
            norm,
            nonlinearity: active.then_some(activation),
        };
        conv.build(graph, x, channels, names, self.mode)
    }
}

impl DilatedResNet {
    /// The one with 18 layers and a deep stem, for slices or volumes.
    pub fn resnet18(form: Form, layers: LayerStyle) -> Self {
        Self {
            stem: 64,
            features: [64, 128, 256, 512],
            blocks: [2; 4],
            kernels: [form.along(3); 5],
            strides: [form.along(2); 3],
            layers,
        }
    }

    /// The one with 18 layers with features, kernels and the first strides of a blueprint.
    pub fn of_blueprint(blueprint: &Blueprint) -> Self {
        let at = |list: &[[usize; 3]], i: usize| list.get(i).or(list.last()).copied();
        let features = |i: usize| {
            let found = blueprint.features.get(i).or(blueprint.features.last());
            found.copied().unwrap_or(0)
        };
        // The stem stands on the image, the first stage below two strides.
        let kernel = |stage| at(&blueprint.kernels, stage).unwrap_or([1; 3]);
        Self {
            stem: features(0),
            features: [1, 2, 3, 4].map(features),
            blocks: [2; 4],
            kernels: [0, 2, 3, 4, 5].map(kernel),
            strides: [1, 2, 3].map(|i| blueprint.strides.get(i).copied().unwrap_or([1; 3])),
            layers: blueprint.layers,
        }
    }

    /// Checks that no number is 0.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn validate(&self) -> Result<(), ModelError> {
        let least = |list: &[usize]| list.iter().copied().min().unwrap_or(0);
        checks::positive([
            ("stem", self.stem),
            ("features", least(&self.features)),
            ("blocks", least(&self.blocks)),
            ("kernels", least(self.kernels.as_flattened())),
            ("strides", least(self.strides.as_flattened())),
        ])?;
        checks::layers(&self.layers)
    }

    /// Appends it: image (N, C, D, H, W) to the features of its third and its fourth stage, (N, features, D', H', W')
    /// each. Parameters `conv1` … `bn3`, `layer1.0.conv1` ….
    ///
    /// # Errors
    /// A shape error where the image is too small.
    pub(super) fn build(
        &self,
        graph: &mut Graph,
        image: ValueId,
        how: Making,
    ) -> Result<[ValueId; 2], GraphError> {
        let mut x = image;
        for (i, channels) in [self.stem, self.stem, 2 * self.stem]
            .into_iter()
            .enumerate()
        {
            let stride = if i == 0 { self.strides[0] } else { [1; 3] };
            let attributes = ConvAttributes::same(self.kernels[0]).with_stride(stride);
            let [conv, norm] = ["conv", "bn"].map(|layer| format!("{layer}{}", i + 1));
            x = how.conv(graph, x, [&conv, &norm], (channels, attributes), true)?;
        }
        let window = Window {
            kernel: self.strides[1].map(|s| if s > 1 { 3 } else { 1 }),
            stride: self.strides[1],
            padding: self.strides[1].map(|s| usize::from(s > 1)),
        };
        x = max_pool(graph, x, window).map_err(|e| graph.blame(e))?;
        let mut before = x;
        for stage in 0..4 {
            before = x;
            x = graph.scope(format!("layer{}", stage + 1), |g| {
                self.stage(g, before, stage, how)
            })?;
        }
        Ok([before, x])
    }

    fn stage(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        stage: usize,
        how: Making,
    ) -> Result<ValueId, GraphError> {
        let (kernel, channels) = (self.kernels[stage + 1], self.features[stage]);
        let dilation = DILATIONS[stage];
        for i in 0..self.blocks[stage] {
            let stride = match (stage, i) {
                (1, 0) => self.strides[2],
                _ => [1; 3],
            };
            // What stands where a stride was sees what it saw before: half the dilation of what follows.
            let first = if i == 0 {
                (dilation / 2).max(1)
            } else {
                dilation
            };
            let convs = [
                centred(kernel, stride, [first; 3]),
                centred(kernel, [1; 3], [dilation; 3]),
            ];
            x = graph.scope(i, |g| basic_block(g, x, channels, convs, how))?;
        }
        Ok(x)
    }
}

/// Convolution, norm, activation, convolution, norm, plus the input, activation; where stride or channels change, the input
/// goes through a 1x1x1 convolution and a norm.
fn basic_block(
    graph: &mut Graph,
    x: ValueId,
    channels: usize,
    [first, second]: [ConvAttributes; 2],
    how: Making,
) -> Result<ValueId, GraphError> {
    let y = how.conv(graph, x, ["conv1", "bn1"], (channels, first), true)?;
    let last = Making {
        dropout: None,
        ..how
    };
    let y = last.conv(graph, y, ["conv2", "bn2"], (channels, second), false)?;
    let skip = match first.stride == [1; 3] && graph.shape(x).c() == channels {
        true => x,
        false => graph.scope("downsample", |g| {
            let project = ConvAttributes::new([1; 3]).with_stride(first.stride);
            last.conv(g, x, ["0", "1"], (channels, project), false)
        })?,
    };
    let sum = add(graph, y, skip).map_err(|e| graph.blame(e))?;
    nonlinearity(graph, sum, Some(how.layers.activation))
}
