//! What a plan means to the rooms above the data: its network, its mirrored axes, its classes.

use std::collections::BTreeMap;

use crate::dataset::{Labels, Plan};
use crate::graph::{Graph, Role};
use crate::metrics::Class;
use crate::models::{ModelError, PlainNet, UNetConfig, plain_unet, residual_encoder_unet};
use crate::nn::Mode;
use crate::tensor::Shape;

/// The network that a plan describes.
pub fn network_of(plan: &Plan) -> UNetConfig {
    let (topology, layers) = (&plan.topology, &plan.layers);
    let net = PlainNet {
        in_channels: plan.channels(),
        out_channels: plan.classes(),
        features: topology.features.clone(),
        kernels: topology.kernels.clone(),
        strides: topology.strides.clone(),
    };
    let mut network = match &topology.blocks {
        None => plain_unet(net),
        Some(blocks) => residual_encoder_unet(net, blocks.clone()),
    };
    if topology.blocks.is_none() {
        repeat(&mut network.encoder_features, &topology.encoder_blocks());
    }
    repeat(&mut network.decoder_features, &topology.decoder_blocks());
    network.heads = topology.heads();
    network.dropout = layers.dropout;
    network.norm = layers.norm;
    network.nonlinearity = layers.activation;
    network
}

/// Name and shape of all that makes up a network in `graph`: its parameters, and the running statistics of batch norms.
pub fn network_tensors(graph: &Graph) -> BTreeMap<String, Shape> {
    let values = graph.values().map(|(_, value)| value);
    let of_network = values.filter(|value| match value.role {
        Role::Parameter(_) => true,
        Role::State(_) => {
            value.name.ends_with(".running_mean") || value.name.ends_with(".running_var")
        }
        _ => false,
    });
    of_network.map(|v| (v.name.clone(), v.shape)).collect()
}

/// [`network_tensors`] of the network that `plan` describes.
///
/// # Errors
/// [`ModelError`] where the plan makes no network.
pub fn plan_tensors(plan: &Plan) -> Result<BTreeMap<String, Shape>, ModelError> {
    let network = network_of(plan);
    let mut graph = Graph::new();
    let shape = Shape::new(1, network.in_channels, 1, 1, 1).with_spatial(plan.patch);
    let image = graph.input("image", shape)?;
    network.build(&mut graph, image, Mode::Inference)?;
    Ok(network_tensors(&graph))
}

/// Gives each stage as many convolutions as `counts` says.
fn repeat(features: &mut [Vec<usize>], counts: &[usize]) {
    for (stage, &count) in features.iter_mut().zip(counts) {
        stage.resize(count, stage.last().copied().unwrap_or(0));
    }
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
