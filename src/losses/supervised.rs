//! The loss of a network with one or more heads.

use super::LossConfig;
use crate::graph::{Graph, GraphError};
use crate::ops::loss::{Activation, PixelLoss, class_entropy, segmentation_loss, weighted_sum};
use crate::ops::resample::{Mode, resample};
use crate::ops::{OpError, ValueId};

/// What the logits are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// Class indices (N, 1, D, H, W) with [`Activation::Softmax`], or 0 and 1 for each region (N, R, D, H, W) with
    /// [`Activation::Sigmoid`].
    pub target: ValueId,
    /// Which of the two.
    pub activation: Activation,
    /// The label of voxels that count nowhere; labels only.
    pub ignore_label: Option<u32>,
    /// Class weights, a vector of C values: a graph input that holds [`LossConfig::class_weights`]; labels only.
    pub class_weights: Option<ValueId>,
    /// Voxel weights (N, 1, D, H, W); 0 takes a voxel out.
    pub voxel_weights: Option<ValueId>,
}

impl Truth {
    /// Labels (N, 1, D, H, W), all of which count alike.
    pub fn labels(target: ValueId) -> Self {
        Self {
            target,
            activation: Activation::Softmax,
            ignore_label: None,
            class_weights: None,
            voxel_weights: None,
        }
    }
}

/// Losses in a graph.
#[derive(Clone, Debug)]
pub struct Losses {
    /// The weighted sum of all heads' losses, a scalar: what to differentiate.
    pub total: ValueId,
    /// The loss of each head, scalars, finest first.
    pub heads: Vec<ValueId>,
}

/// Appends the loss of each head and their sum weighted by `weights` (a vector of as many values, normally a graph input
/// that [`super::Supervision`] fills).
///
/// `heads` are logits (N, C, D_i, H_i, W_i), finest first; target and voxel weights are brought to each head's size by
/// nearest neighbour (the voxel at the centre, as nnU-Net does). Logits of one voxel, those of classifiers, may have any
/// number of classes where the loss is plain cross-entropy.
///
/// # Errors
/// [`GraphError::Node`] where shapes or choices do not fit, or there is no head.
pub fn supervised_loss(
    graph: &mut Graph,
    heads: &[ValueId],
    truth: &Truth,
    weights: ValueId,
    config: &LossConfig,
) -> Result<Losses, GraphError> {
    let mut losses = Vec::with_capacity(heads.len());
    for (i, &head) in heads.iter().enumerate() {
        let one = graph.scope(format!("loss.{i}"), |graph| {
            head_loss(graph, head, truth, config).map_err(|e| graph.blame(e))
        })?;
        losses.push(one);
    }
    if losses.is_empty() {
        return Err(graph.blame(OpError::InputCount {
            op: "supervised loss",
            expected: 1,
            found: 0,
        }));
    }
    let total = graph.scope("loss", |graph| {
        weighted_sum(graph, &losses, weights).map_err(|e| graph.blame(e))
    })?;
    Ok(Losses {
        total,
        heads: losses,
    })
}

fn head_loss(
    graph: &mut Graph,
    head: ValueId,
    truth: &Truth,
    config: &LossConfig,
) -> Result<ValueId, OpError> {
    let size = graph.value(head).shape.spatial();
    let target = resample(graph, truth.target, size, Mode::NearestExact)?;
    if size == [1; 3] && is_plain_cross_entropy(truth, config) {
        return class_entropy(graph, head, target, config.label_smoothing);
    }
    if config.label_smoothing != 0.0 {
        return Err(OpError::Attribute {
            op: "supervised loss",
            reason: "label smoothing is for the plain cross-entropy of whole images".into(),
        });
    }
    let mut inputs = vec![head, target];
    inputs.extend(truth.class_weights);
    if let Some(weights) = truth.voxel_weights {
        inputs.push(resample(graph, weights, size, Mode::NearestExact)?);
    }
    let weighted = [truth.class_weights.is_some(), truth.voxel_weights.is_some()];
    let attributes = config.attributes(truth.activation, truth.ignore_label, weighted);
    Ok(segmentation_loss(graph, attributes, &inputs)?.loss)
}

/// Whether the loss is the mean of -log p_t, all classes and voxels alike.
fn is_plain_cross_entropy(truth: &Truth, config: &LossConfig) -> bool {
    let is_even = truth.ignore_label.is_none()
        && truth.class_weights.is_none()
        && truth.voxel_weights.is_none();
    let is_alone = config.pixel == Some(PixelLoss::CrossEntropy)
        && config.region.is_none()
        && config.pixel_weight == 1.0;
    truth.activation == Activation::Softmax && is_even && is_alone
}
