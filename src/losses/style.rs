//! The style loss: how far the Gram matrices of feature maps lie apart.

use crate::ops::loss::{mean_squared, weighted_sum};
use crate::ops::matmul::gram;
use crate::ops::{Build, OpError, ValueId};

/// Appends the style loss of Gatys et al. 2016 (equations 3 to 5), a scalar: the sum over the layers of weight times the mean
/// squared difference of the Gram matrices of the two feature maps of a layer, of which the second gives the style.
///
/// A layer's maps are (N, C, D, H, W) and may differ in D, H and W, since each Gram matrix is divided by C * D * H * W;
/// `weights` (1, layers, 1, 1, 1) is an input of the step. Both maps have a gradient, where one is asked for. A layer of the
/// paper, with sums of products that are not divided and a factor of 1 / (4 C^2 M^2) for M voxels, is C^2 / 4 times the mean here.
///
/// # Errors
/// [`OpError::Shape`] where two maps of a layer differ in samples or channels, or there is not one weight for each layer.
pub fn style_loss(
    graph: &mut dyn Build,
    layers: &[(ValueId, ValueId)],
    weights: ValueId,
) -> Result<ValueId, OpError> {
    let mut losses = Vec::with_capacity(layers.len());
    for &(features, style) in layers {
        let grams = [gram(graph, features)?, gram(graph, style)?];
        losses.push(mean_squared(graph, grams[0], grams[1])?);
    }
    weighted_sum(graph, &losses, weights)
}
