//! Layers on tokens: the voxels of a feature map (N, E, D, H, W), or in a row (N, E, 1, 1, L), whose channels are their features.

use crate::graph::{Axes, Graph, GraphError, Init};
use crate::ops::activation::{Activation, activate};
use crate::ops::conv::{ConvAttributes, conv};
use crate::ops::layout::reshape;
use crate::ops::matmul::linear_last;
use crate::ops::norm::layer_norm;
use crate::ops::{Build, ValueId};
use crate::tensor::Shape;

/// Appends a fully connected layer for each token: x (N, E, D, H, W) to (N, features, D, H, W) with parameters `weight`
/// (features, E, 1, 1, 1), which starts as `init` says, and `bias`, which starts as 0.
///
/// # Errors
/// A shape error.
pub fn token_layer(
    graph: &mut Graph,
    x: ValueId,
    features: usize,
    init: Init,
    bias: bool,
) -> Result<ValueId, GraphError> {
    let shape = Shape::new(features, graph.shape(x).c(), 1, 1, 1);
    let weight = graph.parameter_with("weight", shape, init, Axes::Matrix)?;
    let bias = match bias {
        true => Some(graph.parameter("bias", Shape::vector(features), Init::Constant(0.0))?),
        false => None,
    };
    let pointwise = ConvAttributes::new([1; 3]);
    conv(graph, x, weight, bias, pointwise).map_err(|e| graph.blame(e))
}

/// Appends a fully connected layer over the tokens of each feature: x (N, E, 1, 1, L) to (N, E, 1, 1, tokens) with parameters
/// `weight` (tokens, L, 1, 1, 1), which starts as `init` says, and `bias`, which starts as 0.
///
/// # Errors
/// A shape error.
pub fn mixing_layer(
    graph: &mut Graph,
    x: ValueId,
    tokens: usize,
    init: Init,
) -> Result<ValueId, GraphError> {
    let shape = Shape::new(tokens, graph.shape(x).0[4], 1, 1, 1);
    let weight = graph.parameter_with("weight", shape, init, Axes::Matrix)?;
    let bias = graph.parameter("bias", Shape::vector(tokens), Init::Constant(0.0))?;
    linear_last(graph, x, weight, Some(bias)).map_err(|e| graph.blame(e))
}

/// Appends the layer norm of each token, x (N, E, D, H, W), with parameters `weight` and `bias`.
///
/// # Errors
/// A shape error, also where eps is not positive.
pub fn layer_norm_layer(graph: &mut Graph, x: ValueId, eps: f32) -> Result<ValueId, GraphError> {
    let vector = Shape::vector(graph.shape(x).c());
    let gamma = graph.parameter("weight", vector, Init::Constant(1.0))?;
    let beta = graph.parameter("bias", vector, Init::Constant(0.0))?;
    layer_norm(graph, x, gamma, beta, eps).map_err(|e| graph.blame(e))
}

/// What appends a layer to some tokens.
pub type Layer<'a> = dyn Fn(&mut Graph, ValueId) -> Result<ValueId, GraphError> + 'a;

/// Appends GELU between two layers, in the scopes `names`.
///
/// # Errors
/// Those of the layers.
pub fn perceptron(
    graph: &mut Graph,
    x: ValueId,
    names: [&str; 2],
    layers: [&Layer<'_>; 2],
) -> Result<ValueId, GraphError> {
    let hidden = graph.scope(names[0], |g| {
        let y = layers[0](g, x)?;
        activate(g, y, Activation::Gelu).map_err(|e| g.blame(e))
    })?;
    graph.scope(names[1], |g| layers[1](g, hidden))
}

/// Appends the embedding of patches that tile the image: x (N, C, D, H, W) to tokens (N, features, 1, 1, L), in the order of memory,
/// with parameters `weight` (features, C, patch) and `bias`.
///
/// # Errors
/// A shape error where the patch is larger than the image.
pub fn patch_embedding(
    graph: &mut Graph,
    x: ValueId,
    features: usize,
    patch: [usize; 3],
) -> Result<ValueId, GraphError> {
    let attributes = ConvAttributes::new(patch).with_stride(patch);
    let shape = graph.shape(x);
    let weight = attributes
        .weight_shape("conv.forward", shape.c(), features)
        .map_err(|e| graph.blame(e))?;
    let init = Init::KaimingNormal { a: 1.0 };
    let weight = graph.parameter_with("weight", weight, init, Axes::Window)?;
    let bias = graph.parameter("bias", Shape::vector(features), Init::Constant(0.0))?;
    let map = conv(graph, x, weight, Some(bias), attributes).map_err(|e| graph.blame(e))?;
    as_row(graph, map)
}

/// Appends x (N, E, D, H, W) as tokens in a row, (N, E, 1, 1, D H W). A view.
///
/// # Errors
/// None that the graph does not see before.
pub fn as_row(graph: &mut Graph, x: ValueId) -> Result<ValueId, GraphError> {
    let shape = graph.shape(x);
    let row = shape.with_spatial([1, 1, shape.voxels()]);
    reshape(graph, x, row).map_err(|e| graph.blame(e))
}
