//! Pre-activated convolutions and the dense block (Huang et al. 2017, "Densely Connected Convolutional Networks").

use super::{ChannelDropout, Mode, Nonlinearity, Norm, Padding, conv_layer, norm_layer_as};
use crate::graph::{Graph, GraphError};
use crate::ops::ValueId;
use crate::ops::layout::concat;

/// A convolution with norm and activation before it instead of after it (He et al. 2016, "Identity Mappings in Deep
/// Residual Networks").
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PreActivation {
    /// Whether the convolution has a bias.
    pub bias: bool,
    /// Dropout after the convolution; `None` at inference.
    pub dropout: Option<ChannelDropout>,
    /// Normalisation.
    pub norm: Norm,
    /// Activation after the normalisation.
    pub nonlinearity: Nonlinearity,
}

impl PreActivation {
    /// Appends norm and activation of x (N, C, D, H, W), its parameters named below `name`.
    ///
    /// # Errors
    /// A shape error of the norm.
    pub fn activate(
        &self,
        name: &str,
        graph: &mut Graph,
        x: ValueId,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        norm_layer_as(name, graph, x, self.norm, Some(self.nonlinearity), mode)
    }

    /// Appends norm, activation and a convolution of stride 1 that keeps the size: x (N, C, D, H, W) to
    /// (N, channels, D, H, W). `names` are those of norm and convolution.
    ///
    /// # Errors
    /// A shape error.
    pub fn conv(
        &self,
        names: [&str; 2],
        graph: &mut Graph,
        x: ValueId,
        (channels, kernel): (usize, [usize; 3]),
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let y = self.activate(names[0], graph, x, mode)?;
        let y = graph.scope(names[1], |g| {
            conv_layer(g, y, channels, kernel, [1; 3], Padding::Same, self.bias)
        })?;
        match self.dropout {
            Some(dropout) => dropout.build(graph, y),
            None => Ok(y),
        }
    }
}

/// A layer of a dense block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DenseLayer {
    /// Channels that it adds: the growth rate k.
    pub growth: usize,
    /// Channels of a 1x1x1 convolution before the other one (the paper's DenseNet-B: 4 k); `None` for none.
    pub bottleneck: Option<usize>,
    /// Kernel (D, H, W) of the last convolution.
    pub kernel: [usize; 3],
    /// What stands around the convolutions; dropout follows the last one.
    pub style: PreActivation,
}

impl DenseLayer {
    /// Appends the layer: x (N, C, D, H, W) to its new features (N, growth, D, H, W). Parameters `norm1`, `conv1`,
    /// `norm2`, `conv2` with a bottleneck, `norm` and `conv` without.
    ///
    /// # Errors
    /// A shape error.
    pub fn build(&self, graph: &mut Graph, x: ValueId, mode: Mode) -> Result<ValueId, GraphError> {
        let last = (self.growth, self.kernel);
        let Some(narrow) = self.bottleneck else {
            return self.style.conv(["norm", "conv"], graph, x, last, mode);
        };
        let first = PreActivation {
            dropout: None,
            ..self.style
        };
        let y = first.conv(["norm1", "conv1"], graph, x, (narrow, [1; 3]), mode)?;
        self.style.conv(["norm2", "conv2"], graph, y, last, mode)
    }
}

/// Appends `layers` layers, each of which reads x and the features of all layers before it: x (N, C, D, H, W) to
/// (N, C + layers * growth, D, H, W), x first. Layer i = 0 … is named `name(i)`.
///
/// Each layer's features are joined to what there was. Such a chain of joins costs no copy: the graph lets all of them
/// lie in the storage of the last one, where each convolution writes its features beside those that it read.
///
/// # Errors
/// A shape error.
pub fn dense_block(
    graph: &mut Graph,
    mut x: ValueId,
    layers: usize,
    layer: DenseLayer,
    name: impl Fn(usize) -> String,
    mode: Mode,
) -> Result<ValueId, GraphError> {
    for i in 0..layers {
        x = graph.scope(name(i), |g| {
            let new = layer.build(g, x, mode)?;
            concat(g, &[x, new]).map_err(|e| g.blame(e))
        })?;
    }
    Ok(x)
}
