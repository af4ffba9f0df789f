//! Squeeze and excitation.

use super::one_voxel_conv_layer;
use crate::graph::{Graph, GraphError};
use crate::ops::ValueId;
use crate::ops::activation::{Activation, activate};
use crate::ops::elementwise::scale_channels;
use crate::ops::pool::global_avg_pool;

/// Each channel times a factor that the means of all channels decide: gate(W2 relu(W1 mean(x) + b1) + b2)
/// (Hu et al. 2018, eq. 2-4; Howard et al. 2019 with a hard sigmoid).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SqueezeExcitation {
    /// Channels between the two fully connected layers.
    pub squeezed: usize,
    /// What makes factors of numbers: [`Activation::Sigmoid`] or [`Activation::HardSigmoid`].
    pub gate: Activation,
}

impl SqueezeExcitation {
    /// Appends it: x and the result (N, C, D, H, W). Parameters, named as torchvision does: `fc1.weight`
    /// (squeezed, C, 1, 1, 1), `fc1.bias`, `fc2.weight` (C, squeezed, 1, 1, 1), `fc2.bias`.
    ///
    /// # Errors
    /// A shape error.
    pub fn build(&self, graph: &mut Graph, x: ValueId) -> Result<ValueId, GraphError> {
        let channels = graph.value(x).shape.c();
        let means = global_avg_pool(graph, x).map_err(|e| graph.blame(e))?;
        let y = graph.scope("fc1", |g| {
            let y = one_voxel_conv_layer(g, means, self.squeezed, true)?;
            activate(g, y, Activation::Relu).map_err(|e| g.blame(e))
        })?;
        let factors = graph.scope("fc2", |g| {
            let y = one_voxel_conv_layer(g, y, channels, true)?;
            activate(g, y, self.gate).map_err(|e| g.blame(e))
        })?;
        scale_channels(graph, x, factors).map_err(|e| graph.blame(e))
    }
}
