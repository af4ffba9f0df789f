//! The additive attention gate (Oktay et al. 2018, "Attention U-Net: Learning Where to Look for the Pancreas").

use super::{Mode, Norm, Padding, conv_layer, norm_layer_as};
use crate::graph::{Graph, GraphError};
use crate::ops::activation::{Activation, activate};
use crate::ops::elementwise::{add, scale_voxels};
use crate::ops::resample::{self, resample};
use crate::ops::{Build, ValueId};

/// a = sigmoid(psi(relu(W_x x + W_g g))), one number a voxel, by which x is multiplied: features of the coarser level tell
/// where those of a skip matter.
///
/// W_x, W_g and psi are 1x1x1 convolutions with bias; W_x has the stride that leads to the grid of g, and a is resampled
/// trilinearly (align_corners = false) to that of x. MONAI's `AttentionBlock` is the one with stride 1 and batch norms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionGate {
    /// Channels that W_x and W_g lead to.
    pub features: usize,
    /// Stride (D, H, W) from the grid of x to that of g.
    pub stride: [usize; 3],
    /// After each of the three convolutions; none in the paper.
    pub norm: Norm,
}

impl AttentionGate {
    /// Appends a * x; x and the result (N, C, D, H, W), g (N, C', D / stride, …). Parameters `W_x.0.conv`, `W_g.0.conv`,
    /// `psi.0.conv`, and of the norms `W_x.1`, `W_g.1`, `psi.1`.
    ///
    /// # Errors
    /// A shape error where the grids do not fit.
    pub fn build(
        &self,
        graph: &mut Graph,
        [x, g]: [ValueId; 2],
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let from_x = graph.scope("W_x", |b| {
            self.project(b, x, self.features, self.stride, mode)
        })?;
        let from_g = graph.scope("W_g", |b| self.project(b, g, self.features, [1; 3], mode))?;
        let sum = add(graph, from_x, from_g).map_err(|e| graph.blame(e))?;
        let sum = activate(graph, sum, Activation::Relu).map_err(|e| graph.blame(e))?;
        let psi = graph.scope("psi", |b| self.project(b, sum, 1, [1; 3], mode))?;
        let fine = graph.shape(x).spatial();
        let linear = resample::Mode::Linear {
            align_corners: false,
        };
        let gated = activate(graph, psi, Activation::Sigmoid)
            .and_then(|a| resample(graph, a, fine, linear))
            .and_then(|a| scale_voxels(graph, x, a));
        gated.map_err(|e| graph.blame(e))
    }

    fn project(
        &self,
        graph: &mut Graph,
        x: ValueId,
        channels: usize,
        stride: [usize; 3],
        mode: Mode,
    ) -> Result<ValueId, GraphError> {
        let y = graph.scope("0.conv", |g| {
            conv_layer(g, x, channels, [1; 3], stride, Padding::Same, true)
        })?;
        match self.norm {
            Norm::None => Ok(y),
            norm => norm_layer_as("1", graph, y, norm, None, mode),
        }
    }
}
