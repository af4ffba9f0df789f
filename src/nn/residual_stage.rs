//! The stage of the V-Net (Milletari et al. 2016): convolutions in a row, and what entered them added to what leaves them.

use super::{
    LayerNames, Mode, Nonlinearity, Norm, Padding, conv_layer, nonlinearity_named, norm_layer_named,
};
use crate::graph::{Graph, GraphError};
use crate::ops::ValueId;
use crate::ops::elementwise::add;

/// Convolutions that keep extent and channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResidualStage {
    /// Kernel (D, H, W).
    pub kernel: [usize; 3],
    /// Number of convolutions.
    pub convs: usize,
    /// Whether they have a bias.
    pub bias: bool,
    /// Normalisation after each.
    pub norm: Norm,
    /// Activation after each norm and after the sum; PReLU in the paper.
    pub activation: Nonlinearity,
    /// Whether the last is activated before the sum, and not only with it.
    pub activates_last: bool,
}

impl ResidualStage {
    /// Appends act(convolutions(x) + skip); x, skip and the result (N, C, D, H, W). Parameters
    /// `ops.I.conv_block.conv.weight` and `.bias`, `ops.I.conv_block.adn.N` of the norm and, of PReLU,
    /// `ops.I.act_function.weight` of convolution I and `act_function2.weight`: MONAI's names.
    ///
    /// # Errors
    /// A shape error where x and skip differ.
    pub fn build(
        &self,
        graph: &mut Graph,
        [mut x, skip]: [ValueId; 2],
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        for i in 0..self.convs {
            let is_last = i + 1 == self.convs;
            let activation = (!is_last || self.activates_last).then_some(self.activation);
            x = graph.scope(format!("ops.{i}"), |g| {
                let channels = g.value(x).shape.c();
                self.build_conv(g, x, channels, activation, mode)
            })?;
        }
        self.build_sum(graph, [x, skip], "act_function2")
    }

    /// Appends act(convolution(x) + skip), x (N, C, D, H, W), skip and the result (N, C', D, H, W). Parameters
    /// `conv_block.conv`, `conv_block.adn.N` and `act_function`.
    ///
    /// # Errors
    /// A shape error where x and skip differ in more than their channels.
    pub fn build_first(
        &self,
        graph: &mut Graph,
        [x, skip]: [ValueId; 2],
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let channels = graph.value(skip).shape.c();
        let y = self.build_conv(graph, x, channels, None, mode)?;
        self.build_sum(graph, [y, skip], "act_function")
    }

    fn build_conv(
        &self,
        graph: &mut Graph,
        x: ValueId,
        channels: usize,
        activation: Option<Nonlinearity>,
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let y = graph.scope("conv_block.conv", |g| {
            conv_layer(
                g,
                x,
                channels,
                self.kernel,
                [1; 3],
                Padding::Same,
                self.bias,
            )
        })?;
        let names = LayerNames {
            norm: "conv_block.adn.N",
            slope: "act_function",
        };
        norm_layer_named(names, graph, y, self.norm, activation, mode)
    }

    fn build_sum(
        &self,
        graph: &mut Graph,
        [y, skip]: [ValueId; 2],
        slope: &str,
    ) -> Result<ValueId, GraphError> {
        let sum = add(graph, y, skip).map_err(|e| graph.blame(e))?;
        nonlinearity_named(slope, graph, sum, Some(self.activation))
    }
}
