//! What a plan means to the rooms above the data: its network, its mirrored axes, its classes.

use crate::dataset::{Labels, Plan};
use crate::metrics::Class;
use crate::models::{PlainNet, UNetConfig, plain_unet, residual_encoder_unet};

/// The network that a plan describes, with a head at every decoder stage.
pub fn network_of(plan: &Plan) -> UNetConfig {
    let net = PlainNet {
        in_channels: plan.channels(),
        out_channels: plan.classes(),
        features: plan.topology.features.clone(),
        kernels: plan.topology.kernels.clone(),
        strides: plan.topology.strides.clone(),
    };
    match &plan.topology.blocks {
        None => plain_unet(net),
        Some(blocks) => residual_encoder_unet(net, blocks.clone()),
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
