//! The transformer block.

use super::tokens::{layer_norm_layer, perceptron, token_layer};
use crate::graph::{Graph, GraphError, Init};
use crate::ops::ValueId;
use crate::ops::attention::self_attention;
use crate::ops::elementwise::add;

/// What users' files call the layers of a transformer block; its norms are `norm1` and `norm2` everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformerNames {
    /// Queries, keys and values in one layer.
    pub qkv: &'static str,
    /// The layer after the attention.
    pub projection: &'static str,
    /// The two layers of the perceptron.
    pub perceptron: [&'static str; 2],
}

impl TransformerNames {
    /// Those of timm's `vision_transformer`.
    pub const TIMM: Self = Self {
        qkv: "attn.qkv",
        projection: "attn.proj",
        perceptron: ["mlp.fc1", "mlp.fc2"],
    };

    /// Those of MONAI's `TransformerBlock`.
    pub const MONAI: Self = Self {
        qkv: "attn.qkv",
        projection: "attn.out_proj",
        perceptron: ["mlp.linear1", "mlp.linear2"],
    };
}

/// x + attention(norm(x)), then x + perceptron(norm(x)): norms before, as in Dosovitskiy et al. 2021, eq. 2 and 3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformerBlock {
    /// Heads of the attention; the features are a multiple of it.
    pub heads: usize,
    /// Features between the two layers of the perceptron.
    pub hidden: usize,
    /// Whether the layer of queries, keys and values has a bias.
    pub qkv_bias: bool,
    /// Added to the variances of the layer norms.
    pub eps: f32,
    /// How weights start.
    pub init: Init,
    /// Names of the parameters.
    pub names: TransformerNames,
}

impl TransformerBlock {
    /// Appends the block to tokens x (N, E, D, H, W), of which the result has the shape.
    ///
    /// # Errors
    /// A shape error where the heads do not divide E.
    pub fn build(&self, graph: &mut Graph, x: ValueId) -> Result<ValueId, GraphError> {
        let features = graph.value(x).shape.c();
        let layer =
            |features, bias| move |g: &mut Graph, x| token_layer(g, x, features, self.init, bias);
        let y = graph.scope("norm1", |g| layer_norm_layer(g, x, self.eps))?;
        let y = graph.scope(self.names.qkv, |g| {
            let qkv = layer(3 * features, self.qkv_bias)(g, y)?;
            self_attention(g, qkv, self.heads).map_err(|e| g.blame(e))
        })?;
        let y = graph.scope(self.names.projection, |g| layer(features, true)(g, y))?;
        let x = add(graph, x, y).map_err(|e| graph.blame(e))?;
        let y = graph.scope("norm2", |g| layer_norm_layer(g, x, self.eps))?;
        let layers = [&layer(self.hidden, true) as _, &layer(features, true) as _];
        let y = perceptron(graph, y, self.names.perceptron, layers)?;
        add(graph, x, y).map_err(|e| graph.blame(e))
    }
}
