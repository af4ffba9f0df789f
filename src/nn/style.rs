//! Normalisation by a style: one of several that are learnt, or that of another feature map.

use super::Nonlinearity;
use super::layer::{SLOPE, slope_parameter};
use crate::graph::{Graph, GraphError, Init};
use crate::ops::ValueId;
use crate::ops::norm::{NormParameters, adaptive_instance_norm, conditional_instance_norm};
use crate::tensor::Shape;

/// Appends conditional instance normalisation (Dumoulin et al. 2017) with the activation after it: x (N, C, D, H, W) with a
/// scale and a shift of each channel for each of `styles` styles, of which `style` (N, 1, 1, 1, 1), an input of the step,
/// holds the number for each sample, from 0 on.
///
/// With the site where an image was made as its style, a network learns a pair for each scanner, and shares all else.
/// Parameters `norm.weight` and `norm.bias`, tables (styles, C, 1, 1, 1), and `nonlin.weight` for PReLU. A number that is no
/// style gives NaN.
///
/// # Errors
/// A shape error where there is not one style for each sample.
pub fn conditional_norm_layer(
    graph: &mut Graph,
    x: ValueId,
    style: ValueId,
    styles: usize,
    eps: f32,
    activation: Option<Nonlinearity>,
) -> Result<ValueId, GraphError> {
    let channels = graph.value(x).shape.c();
    let slope = slope_parameter(SLOPE, graph, activation, Shape::vector(channels))?;
    let activation = activation.map(Nonlinearity::operator);
    let table = Shape::new(styles, channels, 1, 1, 1);
    graph.scope("norm", |g| {
        let tables = NormParameters {
            gamma: g.parameter("weight", table, Init::Constant(1.0))?,
            beta: g.parameter("bias", table, Init::Constant(0.0))?,
            slope,
        };
        let y = conditional_instance_norm(g, x, tables, style, eps, activation);
        y.map_err(|e| g.blame(e))
    })
}

/// Appends adaptive instance normalisation (Huang and Belongie 2017): `content` (N, C, D, H, W) with the mean and the
/// deviation that each channel of `style` (N or 1, C, any D, H, W) has. It has no parameters.
///
/// # Errors
/// A shape error where the style has other channels or samples.
pub fn adaptive_norm_layer(
    graph: &mut Graph,
    content: ValueId,
    style: ValueId,
    eps: f32,
) -> Result<ValueId, GraphError> {
    adaptive_instance_norm(graph, content, style, eps).map_err(|e| graph.blame(e))
}
