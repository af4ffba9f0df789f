//! Normalisation layers as nodes of a graph.

use std::sync::Arc;

use super::{MeanDeviation, NormApply, NormKind, NormStats, Rstd, RunningUpdate, select_rows};
use crate::ops::activation::Activation;
use crate::ops::{Build, OpError, ValueId, expect_shape};
use crate::tensor::Shape;

/// The trained values of a normalisation and of the activation fused into it, each (1, C, 1, 1, 1) but for the tables of
/// [`conditional_instance_norm`].
#[derive(Clone, Copy, Debug)]
pub struct NormParameters {
    /// Scale.
    pub gamma: ValueId,
    /// Shift.
    pub beta: ValueId,
    /// Slopes, with [`Activation::Prelu`] and only then.
    pub slope: Option<ValueId>,
}

/// The running statistics of a batch normalisation, states (1, C, 1, 1, 1).
#[derive(Clone, Copy, Debug)]
pub struct RunningStats {
    /// Mean; starts at 0.
    pub mean: ValueId,
    /// Variance; starts at 1.
    pub variance: ValueId,
}

const CONDITIONAL: &str = "norm.conditional_instance";
const ADAPTIVE: &str = "norm.adaptive_instance";

fn apply(
    graph: &mut dyn Build,
    op: NormApply,
    [x, mean, rstd]: [ValueId; 3],
    parameters: NormParameters,
) -> Result<ValueId, OpError> {
    let mut inputs = vec![x, mean, rstd, parameters.gamma, parameters.beta];
    inputs.extend(parameters.slope);
    Ok(graph.add(Arc::new(op), &inputs)?[0])
}

fn normalise(
    graph: &mut dyn Build,
    x: ValueId,
    parameters: NormParameters,
    stats: NormStats,
    activation: Option<Activation>,
) -> Result<(ValueId, [ValueId; 2]), OpError> {
    let op = NormApply {
        kind: stats.kind,
        activation,
        constant_stats: false,
    };
    let found = graph.add(Arc::new(stats), &[x])?;
    let (mean, rstd) = (found[0], found[1]);
    let y = apply(graph, op, [x, mean, rstd], parameters)?;
    Ok((y, [mean, rstd]))
}

/// Appends act(instance norm of x); x, y (N, C, D, H, W).
///
/// # Errors
/// [`OpError`] where shapes do not fit, slopes and activation do not go together, or eps is not positive.
pub fn instance_norm(
    graph: &mut dyn Build,
    x: ValueId,
    parameters: NormParameters,
    eps: f32,
    activation: Option<Activation>,
) -> Result<ValueId, OpError> {
    let kind = NormKind::Instance;
    Ok(normalise(graph, x, parameters, NormStats { kind, eps }, activation)?.0)
}

/// Appends act(group norm of x); x, y (N, C, D, H, W). One group is layer normalisation of whole samples.
///
/// # Errors
/// As [`instance_norm`], and where the groups do not divide C.
pub fn group_norm(
    graph: &mut dyn Build,
    x: ValueId,
    parameters: NormParameters,
    groups: usize,
    eps: f32,
    activation: Option<Activation>,
) -> Result<ValueId, OpError> {
    let kind = NormKind::Group { groups };
    Ok(normalise(graph, x, parameters, NormStats { kind, eps }, activation)?.0)
}

/// Appends act(instance norm of x) with the scale and the shift of each sample's style (Dumoulin et al. 2017): `gamma` and
/// `beta` are tables (S, C, 1, 1, 1), and `style` (N, 1, 1, 1, 1), an input of the step, holds a row of them for each sample,
/// a whole number from 0 on. x, y (N, C, D, H, W). Rows that no sample of a batch chose have gradient 0; a row that is not
/// there gives NaN.
///
/// # Errors
/// As [`instance_norm`], and where there is not one style for each sample.
pub fn conditional_instance_norm(
    graph: &mut dyn Build,
    x: ValueId,
    tables: NormParameters,
    style: ValueId,
    eps: f32,
    activation: Option<Activation>,
) -> Result<ValueId, OpError> {
    let styles = Shape::new(graph.shape(x).n(), 1, 1, 1, 1);
    expect_shape(CONDITIONAL, "the style", styles, graph.shape(style))?;
    let parameters = NormParameters {
        gamma: select_rows(graph, tables.gamma, style)?,
        beta: select_rows(graph, tables.beta, style)?,
        ..tables
    };
    instance_norm(graph, x, parameters, eps, activation)
}

/// Appends adaptive instance normalisation (Huang and Belongie 2017, equation 8): content (N, C, D, H, W) with the mean and
/// the deviation that the channels of `style` (N, C, any D, H, W) have, y = deviation(style) * (content - mean) / deviation
/// + mean(style). A style of one sample serves all. Both have a gradient.
///
/// # Errors
/// [`OpError::Shape`] where the style has other channels or samples; [`OpError::Attribute`] where eps is not positive.
pub fn adaptive_instance_norm(
    graph: &mut dyn Build,
    content: ValueId,
    style: ValueId,
    eps: f32,
) -> Result<ValueId, OpError> {
    let (x, s) = (graph.shape(content), graph.shape(style));
    let samples = if s.n() == 1 { 1 } else { x.n() };
    let [d, h, w] = s.spatial();
    let expected = Shape::new(samples, x.c(), d, h, w);
    expect_shape(ADAPTIVE, "the style", expected, s)?;
    let found = graph.add(Arc::new(MeanDeviation { eps }), &[style])?;
    let parameters = NormParameters {
        gamma: found[1],
        beta: found[0],
        slope: None,
    };
    instance_norm(graph, content, parameters, eps, None)
}

/// Appends act(batch norm of x) by the statistics of the batch, and the update of the running statistics by the share
/// `momentum`; x, y (N, C, D, H, W).
///
/// # Errors
/// As [`instance_norm`], and where momentum does not lie in 0 ..= 1.
pub fn batch_norm_train(
    graph: &mut dyn Build,
    x: ValueId,
    parameters: NormParameters,
    running: RunningStats,
    [eps, momentum]: [f32; 2],
    activation: Option<Activation>,
) -> Result<ValueId, OpError> {
    let kind = NormKind::Batch;
    let stats = NormStats { kind, eps };
    let (y, [mean, rstd]) = normalise(graph, x, parameters, stats, activation)?;
    let shape = graph.shape(x);
    let update = RunningUpdate {
        momentum,
        eps,
        voxels: shape.n() * shape.voxels(),
    };
    let states = [running.mean, running.variance, mean, rstd];
    graph.add(Arc::new(update), &states)?;
    Ok(y)
}

/// Appends act(batch norm of x) by the running statistics, which are constants to its gradient; x, y (N, C, D, H, W).
///
/// # Errors
/// As [`instance_norm`].
pub fn batch_norm_eval(
    graph: &mut dyn Build,
    x: ValueId,
    parameters: NormParameters,
    running: RunningStats,
    eps: f32,
    activation: Option<Activation>,
) -> Result<ValueId, OpError> {
    let rstd = graph.add(Arc::new(Rstd { eps }), &[running.variance])?[0];
    let op = NormApply {
        kind: NormKind::Batch,
        activation,
        constant_stats: true,
    };
    apply(graph, op, [x, running.mean, rstd], parameters)
}
