//! Layers: one operator with its parameters.

use super::{Mode, Nonlinearity, Norm, Padding};
use crate::graph::{Axes, Graph, GraphError, Init};

use crate::ops::ValueId;
use crate::ops::activation::{activate, prelu};
use crate::ops::conv::{ConvAttributes, conv, conv_transpose};
use crate::ops::elementwise::constant;
use crate::ops::matmul::linear;
use crate::ops::norm::{
    NormParameters, RunningStats, batch_norm_eval, batch_norm_train, group_norm, instance_norm,
};
use crate::tensor::Shape;

/// The slope that nnU-Net's initialisation assumes, whatever activation follows.
const INIT_SLOPE: f32 = 0.01;

/// The slope that a PReLU starts with (He 2015).
const PRELU_START: f32 = 0.25;

/// Appends a convolution x (N, C, D, H, W) to (N, channels, D', H', W') with parameters `weight` and `bias`.
///
/// # Errors
/// A shape error where the kernel does not fit.
pub fn conv_layer(
    graph: &mut Graph,
    x: ValueId,
    channels: usize,
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: Padding,
    bias: bool,
) -> Result<ValueId, GraphError> {
    let attributes = match padding {
        Padding::Same => ConvAttributes::same(kernel),
        Padding::Valid => ConvAttributes::new(kernel),
    }
    .with_stride(stride);
    conv_layer_with(graph, x, channels, attributes, bias)
}

/// Appends a convolution with any window, dilation and groups: x (N, C, D, H, W) to (N, channels, D', H', W') with
/// parameters `weight` (channels, C / groups, KD, KH, KW) and `bias`.
///
/// # Errors
/// A shape error where the window does not fit, or the groups do not divide the channels.
pub fn conv_layer_with(
    graph: &mut Graph,
    x: ValueId,
    channels: usize,
    attributes: ConvAttributes,
    bias: bool,
) -> Result<ValueId, GraphError> {
    let shape = attributes
        .weight_shape("conv.forward", graph.value(x).shape.c(), channels)
        .map_err(|e| graph.blame(e))?;
    let he = Init::KaimingNormal { a: INIT_SLOPE };
    let weight = graph.parameter_with("weight", shape, he, Axes::Window)?;
    let bias = bias_parameter(graph, channels, bias)?;
    conv(graph, x, weight, bias, attributes).map_err(|e| graph.blame(e))
}

/// Appends a fully connected layer: x (N, C, 1, 1, 1) to (N, channels, 1, 1, 1) with parameters `weight`
/// (channels, C, 1, 1, 1), which starts as `init` says, and `bias`, which starts as 0.
///
/// # Errors
/// A shape error where x has more than one voxel a sample.
pub fn linear_layer(
    graph: &mut Graph,
    x: ValueId,
    channels: usize,
    init: Init,
    bias: bool,
) -> Result<ValueId, GraphError> {
    linear_kept_as(Axes::Matrix, graph, x, channels, init, bias)
}

/// [`linear_layer`] for what other libraries write as a 1x1x1 convolution of one voxel, which is how state dicts keep its
/// weight; it starts by He's rule for ReLU.
///
/// # Errors
/// As [`linear_layer`].
pub fn one_voxel_conv_layer(
    graph: &mut Graph,
    x: ValueId,
    channels: usize,
    bias: bool,
) -> Result<ValueId, GraphError> {
    let init = Init::KaimingNormal { a: 0.0 };
    linear_kept_as(Axes::Window, graph, x, channels, init, bias)
}

fn linear_kept_as(
    axes: Axes,
    graph: &mut Graph,
    x: ValueId,
    channels: usize,
    init: Init,
    bias: bool,
) -> Result<ValueId, GraphError> {
    let shape = Shape::new(channels, graph.value(x).shape.c(), 1, 1, 1);
    let weight = graph.parameter_with("weight", shape, init, axes)?;
    let bias = bias_parameter(graph, channels, bias)?;
    linear(graph, x, weight, bias).map_err(|e| graph.blame(e))
}

/// Appends the transposed convolution with kernel = stride that doubles resolution: x (N, C, D, H, W) to
/// (N, channels, D * stride, …), parameters `weight` (C, channels, stride) and `bias`.
///
/// # Errors
/// A shape error.
pub fn transposed_conv_layer(
    graph: &mut Graph,
    x: ValueId,
    channels: usize,
    stride: [usize; 3],
    bias: bool,
) -> Result<ValueId, GraphError> {
    let attributes = ConvAttributes::new(stride).with_stride(stride);
    transposed_conv_layer_with(graph, x, channels, attributes, [0; 3], bias)
}

/// Appends a transposed convolution with any window, whose result is larger by `over` voxels (PyTorch's output padding): x (N, C, D, H, W) to (N, channels, D', H', W') with parameters
/// `weight` (C, channels / groups, KD, KH, KW) and `bias`.
///
/// # Errors
/// A shape error where the window does not fit, or the groups do not divide the channels.
pub fn transposed_conv_layer_with(
    graph: &mut Graph,
    x: ValueId,
    channels: usize,
    attributes: ConvAttributes,
    over: [usize; 3],
    bias: bool,
) -> Result<ValueId, GraphError> {
    // Its weight is that of the convolution from its output to its input.
    let shape = attributes
        .weight_shape("conv_transpose", channels, graph.value(x).shape.c())
        .map_err(|e| graph.blame(e))?;
    let he = Init::KaimingNormal { a: INIT_SLOPE };
    let weight = graph.parameter_with("weight", shape, he, Axes::Window)?;
    let bias = bias_parameter(graph, channels, bias)?;
    conv_transpose(graph, x, weight, bias, attributes, over).map_err(|e| graph.blame(e))
}

fn bias_parameter(
    graph: &mut Graph,
    channels: usize,
    wanted: bool,
) -> Result<Option<ValueId>, GraphError> {
    if !wanted {
        return Ok(None);
    }
    let shape = Shape::vector(channels);
    Ok(Some(graph.parameter("bias", shape, Init::Constant(0.0))?))
}

/// Scopes of the parameters of a normalisation and of the activation after it: users' files differ in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerNames<'a> {
    /// Of the normalisation's parameters and statistics.
    pub norm: &'a str,
    /// Of a PReLU's slopes.
    pub slope: &'a str,
}

/// What nnU-Net calls the scope of a PReLU's slopes.
pub(super) const SLOPE: &str = "nonlin";

/// Appends a normalisation with the activation after it in one pass, either of which may be none: parameters `norm.weight`, `norm.bias`, and
/// `nonlin.weight` for PReLU; states `norm.running_mean`, `norm.running_var` for batch norm.
///
/// # Errors
/// A shape error, also where the groups of a group norm do not divide the channels.
pub fn norm_layer(
    graph: &mut Graph,
    x: ValueId,
    norm: Norm,
    activation: Option<Nonlinearity>,
    mode: Mode,
) -> Result<ValueId, GraphError> {
    norm_layer_as("norm", graph, x, norm, activation, mode)
}

/// [`norm_layer`] with another name than `norm`.
///
/// # Errors
/// A shape error.
pub fn norm_layer_as(
    name: &str,
    graph: &mut Graph,
    x: ValueId,
    norm: Norm,
    activation: Option<Nonlinearity>,
    mode: Mode,
) -> Result<ValueId, GraphError> {
    let names = LayerNames {
        norm: name,
        slope: SLOPE,
    };
    norm_layer_named(names, graph, x, norm, activation, mode)
}

/// [`norm_layer`] with other names; where there is no norm, the activation alone.
///
/// # Errors
/// A shape error.
pub fn norm_layer_named(
    names: LayerNames<'_>,
    graph: &mut Graph,
    x: ValueId,
    norm: Norm,
    activation: Option<Nonlinearity>,
    mode: Mode,
) -> Result<ValueId, GraphError> {
    if norm == Norm::None {
        return nonlinearity_named(names.slope, graph, x, activation);
    }
    let vector = Shape::vector(graph.value(x).shape.c());
    let slope = slope_parameter(names.slope, graph, activation, vector)?;
    let activation = activation.map(Nonlinearity::operator);
    graph.scope(names.norm, |g| {
        let [gamma, beta] = match norm {
            Norm::Instance { affine: false, .. } => {
                [1.0, 0.0].map(|value| constant(g, vector, value).map_err(|e| g.blame(e)))
            }
            _ => [("weight", 1.0), ("bias", 0.0)]
                .map(|(name, start)| g.parameter(name, vector, Init::Constant(start))),
        };
        let parameters = NormParameters {
            gamma: gamma?,
            beta: beta?,
            slope,
        };
        let result = match norm {
            Norm::None => return Ok(x),
            Norm::Instance { eps, .. } => instance_norm(g, x, parameters, eps, activation),
            Norm::Group { groups, eps } => group_norm(g, x, parameters, groups, eps, activation),
            Norm::Batch { eps, momentum } => {
                let running = RunningStats {
                    mean: g.state("running_mean", vector, Init::Constant(0.0))?,
                    variance: g.state("running_var", vector, Init::Constant(1.0))?,
                };
                match mode {
                    Mode::Training => {
                        batch_norm_train(g, x, parameters, running, [eps, momentum], activation)
                    }
                    Mode::Inference => batch_norm_eval(g, x, parameters, running, eps, activation),
                }
            }
        };
        result.map_err(|e| g.blame(e))
    })
}

/// Appends an activation on its own, where one is wanted.
///
/// # Errors
/// [`GraphError::DuplicateName`] of a PReLU slope.
pub fn nonlinearity(
    graph: &mut Graph,
    x: ValueId,
    kind: Option<Nonlinearity>,
) -> Result<ValueId, GraphError> {
    nonlinearity_named(SLOPE, graph, x, kind)
}

/// [`nonlinearity`] with a PReLU's slopes in another scope than `nonlin`.
///
/// # Errors
/// As [`nonlinearity`].
pub fn nonlinearity_named(
    slope: &str,
    graph: &mut Graph,
    x: ValueId,
    kind: Option<Nonlinearity>,
) -> Result<ValueId, GraphError> {
    let Some(wanted) = kind else {
        return Ok(x);
    };
    let vector = Shape::vector(graph.value(x).shape.c());
    match slope_parameter(slope, graph, kind, vector)? {
        Some(slope) => prelu(graph, x, slope),
        None => activate(graph, x, wanted.operator()),
    }
    .map_err(|e| graph.blame(e))
}

pub(super) fn slope_parameter(
    scope: &str,
    graph: &mut Graph,
    kind: Option<Nonlinearity>,
    vector: Shape,
) -> Result<Option<ValueId>, GraphError> {
    let shape = match kind {
        Some(Nonlinearity::Prelu) => vector,
        Some(Nonlinearity::SharedPrelu) => Shape::scalar(),
        _ => return Ok(None),
    };
    graph.scope(scope, |g| {
        let slope = g.parameter("weight", shape, Init::Constant(PRELU_START))?;
        if shape == vector {
            return Ok(Some(slope));
        }
        // As a product with ones, whose gradient is the sum over the channels.
        let ones = constant(g, Shape::new(vector.c(), 1, 1, 1, 1), 1.0);
        let slopes = ones.and_then(|ones| linear(g, slope, ones, None));
        slopes.map(Some).map_err(|e| g.blame(e))
    })
}
