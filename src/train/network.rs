//! The one graph of a training step: network, supervised losses, their gradients, clipping and the optimiser.

use std::collections::BTreeMap;

use super::loader::Fed;
use crate::dataset::Labels;
use crate::gpu::DeviceProfile;
use crate::graph::{Graph, GraphError, Init, Program, compile_training, differentiate};
use crate::losses::{LossConfig, Truth, supervised_loss};
use crate::models::{ModelError, Network};
use crate::nn::Mode;
use crate::ops::ValueId;
use crate::ops::elementwise::multiply;
use crate::ops::loss::Activation;
use crate::ops::optim::{FIRST_LOSS_SCALE, LossScaling};
use crate::optim::{OptimizerConfig, append_scaled_optimizer};
use crate::tensor::{Element, Shape};

/// What is fed to a supervised network.
#[derive(Clone, Copy, Debug)]
pub struct Feeds {
    /// (N, in_channels, D, H, W).
    pub image: ValueId,
    /// (N, 1, D, H, W) class indices for the first head's extent; (N, R, D, H, W) for regions.
    pub target: ValueId,
    /// (N, 1, D, H, W), where the targets are regions with unannotated voxels: 0 leaves a voxel out.
    pub voxel_weights: Option<ValueId>,
    /// (1, out_channels, 1, 1, 1), where the loss weighs its classes.
    pub class_weights: Option<ValueId>,
    /// (1, heads, 1, 1, 1): the weight of each head.
    pub head_weights: ValueId,
    /// Scalar: dL/dL, 1 for the gradient of the loss; the scale of [`SupervisedGraph::scaling`] comes on top.
    pub loss_scale: ValueId,
    /// Scalar: the seed of the step's dropout ([`crate::ops::dropout::seed_bits`]), where there is any.
    pub dropout_seed: Option<ValueId>,
}

impl Feeds {
    /// What a step takes of a batch, all but the optimiser's numbers and the seed of the dropout; `weights` are those of
    /// the heads, `classes` those of the classes.
    pub(super) fn of_batch<'a>(
        &self,
        batch: &'a Fed,
        weights: &'a [f32],
        classes: Option<&'a [f32]>,
    ) -> Vec<(ValueId, &'a [f32])> {
        let mut feed: Vec<(ValueId, &[f32])> = vec![
            (self.image, &batch.image),
            (self.target, &batch.target),
            (self.head_weights, weights),
            (self.loss_scale, &[1.0]),
        ];
        if let (Some(id), Some(map)) = (self.voxel_weights, &batch.voxel_weights) {
            feed.push((id, map));
        }
        feed.extend(self.class_weights.zip(classes));
        feed
    }
}

/// What the target of a network looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetForm {
    /// Classes that exclude each other (softmax), or regions (sigmoid).
    pub activation: Activation,
    /// The label of voxels that nobody annotated.
    pub ignore_label: Option<u32>,
}

impl TargetForm {
    /// Classes that exclude each other, all voxels annotated.
    pub const CLASSES: Self = Self {
        activation: Activation::Softmax,
        ignore_label: None,
    };

    /// Classes or regions, as the data set has them.
    pub fn of(labels: &Labels) -> Self {
        Self {
            activation: match labels.is_regions() {
                true => Activation::Sigmoid,
                false => Activation::Softmax,
            },
            ignore_label: labels.ignore,
        }
    }

    /// Whether unannotated voxels are left out by a map of weights: regions have no label to tell them by.
    pub fn has_voxel_weights(&self) -> bool {
        self.activation == Activation::Sigmoid && self.ignore_label.is_some()
    }
}

/// A network with its losses and the gradient of every parameter.
#[derive(Debug)]
pub struct SupervisedGraph {
    /// The graph.
    pub graph: Graph,
    /// What to feed.
    pub feeds: Feeds,
    /// The logits of each head, finest first.
    pub logits: Vec<ValueId>,
    /// The total loss, a scalar.
    pub total: ValueId,
    /// The gradient of each trained parameter, times the scale of `scaling` where there is one.
    pub gradients: BTreeMap<ValueId, ValueId>,
    /// Dynamic loss scaling, where activations are stored as f16: their gradients would underflow without it.
    pub scaling: Option<LossScaling>,
    forward_nodes: usize,
}

impl SupervisedGraph {
    /// Builds `network` for a batch of `patch` (N, in_channels, D, H, W) with `loss` at every head, and differentiates it.
    ///
    /// # Errors
    /// [`ModelError`] where the patch does not fit the network.
    pub fn build(
        network: &Network,
        patch: Shape,
        form: TargetForm,
        loss: &LossConfig,
    ) -> Result<Self, ModelError> {
        let mut graph = Graph::new();
        let image = graph.input("image", patch)?;
        let heads = network.build(&mut graph, image, Mode::Training)?;
        let logits = heads.logits;
        let (classes, extent) = (network.out_channels(), graph.value(logits[0]).shape);
        let targets = form.activation.target_channels(classes);
        let feeds = Feeds {
            image,
            target: graph.input("target", extent.with_c(targets))?,
            voxel_weights: match form.has_voxel_weights() {
                true => Some(graph.input("voxel weights", extent.with_c(1))?),
                false => None,
            },
            class_weights: match loss.class_weights {
                Some(_) => Some(graph.input("class weights", Shape::vector(classes))?),
                None => None,
            },
            head_weights: graph.input("head weights", Shape::vector(network.heads()))?,
            loss_scale: graph.input("loss scale", Shape::scalar())?,
            dropout_seed: heads.dropout_seed,
        };
        let truth = Truth {
            activation: form.activation,
            ignore_label: form.ignore_label.filter(|_| !form.has_voxel_weights()),
            class_weights: feeds.class_weights,
            voxel_weights: feeds.voxel_weights,
            target: feeds.target,
        };
        let losses = supervised_loss(&mut graph, &logits, &truth, feeds.head_weights, loss)?;
        let forward_nodes = graph.nodes().len();
        let wanted = graph.trainable();
        let scaling = match network.precision {
            Element::F32 => None,
            Element::F16 => Some(append_scaling(&mut graph)?),
        };
        let seed = match scaling {
            None => feeds.loss_scale,
            Some(LossScaling { scale, .. }) => {
                multiply(&mut graph, feeds.loss_scale, scale).map_err(|e| graph.blame(e))?
            }
        };
        let gradients = differentiate(&mut graph, losses.total, seed, &wanted)?;
        Ok(Self {
            graph,
            feeds,
            logits,
            total: losses.total,
            gradients,
            scaling,
            forward_nodes,
        })
    }

    /// Compiles it within the memory budget of `device`; `outputs` can be fetched.
    ///
    /// # Errors
    /// [`ModelError`] where the device is too small.
    pub fn compile(
        self,
        outputs: &[ValueId],
        device: &DeviceProfile,
    ) -> Result<Program, ModelError> {
        Ok(compile_training(
            &self.graph,
            self.forward_nodes,
            outputs,
            device,
        )?)
    }
}

/// The states of dynamic loss scaling: in checkpoints, so that a resumed run scales as one that was never stopped.
fn append_scaling(graph: &mut Graph) -> Result<LossScaling, GraphError> {
    let mut state = |name: &str, first| graph.state(name, Shape::scalar(), Init::Constant(first));
    Ok(LossScaling {
        scale: state("loss_scale.scale", FIRST_LOSS_SCALE)?,
        steps: state("loss_scale.steps", 0.0)?,
    })
}

/// A compiled training step and the values to feed.
#[derive(Debug)]
pub struct TrainingStep {
    /// The program; its outputs are the total loss (scalar) and the gradient norm (scalar).
    pub program: Program,
    /// What to feed.
    pub feeds: Feeds,
    /// Input of the optimiser: [`OptimizerConfig::hyper`].
    pub hyper: ValueId,
    /// Number of supervised heads.
    pub heads: usize,
}

/// Builds and compiles the training step of `network` for a batch of `patch` (N, in_channels, D, H, W).
///
/// # Errors
/// [`ModelError`] where the patch does not fit the network or the device.
pub fn training_step(
    network: &Network,
    patch: Shape,
    form: TargetForm,
    loss: &LossConfig,
    optimizer: &OptimizerConfig,
    device: &DeviceProfile,
) -> Result<TrainingStep, ModelError> {
    let mut supervised = SupervisedGraph::build(network, patch, form, loss)?;
    let gradients = std::mem::take(&mut supervised.gradients);
    let optimizer = append_scaled_optimizer(
        &mut supervised.graph,
        &gradients,
        optimizer,
        supervised.scaling,
    )?;
    let (feeds, heads) = (supervised.feeds, supervised.logits.len());
    let outputs = [supervised.total, optimizer.gradient_norm];
    Ok(TrainingStep {
        program: supervised.compile(&outputs, device)?,
        feeds,
        hyper: optimizer.hyper,
        heads,
    })
}
