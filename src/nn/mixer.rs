//! The block of MLP-Mixer.

use super::tokens::{layer_norm_layer, mixing_layer, perceptron, token_layer};
use crate::graph::{Graph, GraphError, Init};
use crate::ops::elementwise::add;
use crate::ops::{Build, ValueId};

/// x + perceptron over the tokens of norm(x), then x + perceptron over the features of norm(x) (Tolstikhin et al. 2021, eq. 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixerBlock {
    /// Tokens between the two layers that mix tokens, D_S.
    pub hidden_tokens: usize,
    /// Features between the two layers that mix features, D_C.
    pub hidden_features: usize,
    /// Added to the variances of the layer norms.
    pub eps: f32,
    /// How weights start.
    pub init: Init,
}

impl MixerBlock {
    /// Appends the block to tokens x (N, E, 1, 1, L), of which the result has the shape. Parameters as in timm's `MixerBlock`:
    /// `norm1`, `mlp_tokens.fc1` and `.fc2`, `norm2`, `mlp_channels.fc1` and `.fc2`.
    ///
    /// # Errors
    /// A shape error.
    pub fn build(&self, graph: &mut Graph, x: ValueId) -> Result<ValueId, GraphError> {
        let shape = graph.shape(x);
        let mixing =
            |tokens| move |g: &mut Graph, x: ValueId| mixing_layer(g, x, tokens, self.init);
        let layer = |features| {
            move |g: &mut Graph, x: ValueId| token_layer(g, x, features, self.init, true)
        };
        let y = graph.scope("norm1", |g| layer_norm_layer(g, x, self.eps))?;
        let layers = [
            &mixing(self.hidden_tokens) as _,
            &mixing(shape.voxels()) as _,
        ];
        let y = perceptron(graph, y, ["mlp_tokens.fc1", "mlp_tokens.fc2"], layers)?;
        let x = add(graph, x, y).map_err(|e| graph.blame(e))?;
        let y = graph.scope("norm2", |g| layer_norm_layer(g, x, self.eps))?;
        let layers = [&layer(self.hidden_features) as _, &layer(shape.c()) as _];
        let y = perceptron(graph, y, ["mlp_channels.fc1", "mlp_channels.fc2"], layers)?;
        add(graph, x, y).map_err(|e| graph.blame(e))
    }
}
