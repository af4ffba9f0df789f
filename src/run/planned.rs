//! What a plan means to the rooms above the data: its network, its mirrored axes, its classes.

use std::collections::{BTreeMap, BTreeSet};

use crate::dataset::{Labels, Plan};
use crate::graph::{Axes, Graph, Role, Value, values_behind};
use crate::metrics::Class;
use crate::models::{
    Blueprint, Form, Heads, ModelError, Network, check_decoder, nnunet_name, planned_model,
};
use crate::nn::Mode;
use crate::tensor::Shape;

/// The network that a plan describes.
///
/// # Errors
/// [`ModelError`] where it names no model, or the model cannot follow it.
pub fn network_of(plan: &Plan) -> Result<Network, ModelError> {
    let name = family_of(plan);
    let make = planned_model(name)?;
    check_decoder(name, plan.decoder)?;
    Ok(Network::new(make(&blueprint_of(plan))?))
}

/// The name of the family of a plan's network: nnU-Net's where the plan does not say it.
pub fn family_of(plan: &Plan) -> &str {
    let usual = nnunet_name(plan.topology.blocks.is_some(), plan.preprocessing.planar);
    plan.model.as_deref().unwrap_or(usual)
}

/// What a plan says to any family of networks.
pub fn blueprint_of(plan: &Plan) -> Blueprint {
    let topology = &plan.topology;
    Blueprint {
        form: Form {
            channels: plan.channels(),
            classes: plan.classes(),
            extent: plan.patch,
        },
        features: topology.features.clone(),
        kernels: topology.kernels.clone(),
        strides: topology.strides.clone(),
        encoder_blocks: topology.encoder_blocks(),
        decoder_blocks: topology.decoder_blocks(),
        heads: topology.heads(),
        layers: plan.layers,
        decoder: plan.decoder,
        tokens: plan.tokens,
    }
}

/// A tensor that a network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkTensor {
    /// Its shape here.
    pub shape: Shape,
    /// Its axes in state dicts.
    pub axes: Axes,
}

/// All that makes up a network in `graph`, by name: its parameters, and the running statistics of batch norms.
pub fn network_tensors(graph: &Graph) -> BTreeMap<String, NetworkTensor> {
    let values = graph.values().map(|(_, value)| value);
    let of_network = values.filter(|value| match value.role {
        Role::Parameter(_) => true,
        Role::State(_) => {
            value.name.ends_with(".running_mean") || value.name.ends_with(".running_var")
        }
        _ => false,
    });
    let tensor = |value: &Value| NetworkTensor {
        shape: value.shape,
        axes: value.axes,
    };
    of_network
        .map(|value| (value.name.clone(), tensor(value)))
        .collect()
}

/// [`network_tensors`] of the network that `plan` describes.
///
/// # Errors
/// [`ModelError`] where the plan makes no network.
pub fn plan_tensors(plan: &Plan) -> Result<BTreeMap<String, NetworkTensor>, ModelError> {
    Ok(network_tensors(&inference_graph(plan)?.0))
}

/// The tensors of each head that only training reads, by name: what the main head needs is not among them.
///
/// # Errors
/// [`ModelError`] where the plan makes no network.
pub fn training_heads(plan: &Plan) -> Result<Vec<BTreeSet<String>>, ModelError> {
    let (graph, heads) = inference_graph(plan)?;
    let tensors = network_tensors(&graph);
    let behind = |logits| {
        let values = values_behind(&graph, logits).into_iter();
        let names = values.map(|value| graph.value(value).name.clone());
        names
            .filter(|name| tensors.contains_key(name))
            .collect::<BTreeSet<_>>()
    };
    let mut all = heads.logits.iter().map(|&logits| behind(logits));
    let main = all.next().unwrap_or_default();
    Ok(all
        .map(|head| head.difference(&main).cloned().collect())
        .collect())
}

/// Whether the network that `plan` describes normalises its activations anywhere.
///
/// # Errors
/// [`ModelError`] where the plan makes no network.
pub fn has_norms(plan: &Plan) -> Result<bool, ModelError> {
    let (graph, _) = inference_graph(plan)?;
    Ok(graph
        .nodes()
        .iter()
        .any(|node| node.op.name().starts_with("norm.")))
}

fn inference_graph(plan: &Plan) -> Result<(Graph, Heads), ModelError> {
    let network = network_of(plan)?;
    let mut graph = Graph::new();
    let shape = Shape::new(1, network.in_channels(), 1, 1, 1).with_spatial(plan.patch);
    let image = graph.input("image", shape)?;
    let heads = network.build(&mut graph, image, Mode::Inference)?;
    Ok((graph, heads))
}

/// Spatial axes along which patches may be mirrored: those with more than one voxel.
pub fn mirror_axes(plan: &Plan) -> Vec<usize> {
    (0..3).filter(|&a| plan.patch[a] > 1).collect()
}

/// The foreground classes or regions as the metrics know them.
pub fn classes_of(labels: &Labels) -> Vec<Class> {
    let targets = labels.foreground.iter();
    targets
        .map(|t| Class::new(t.name.clone(), t.values.clone()))
        .collect()
}
