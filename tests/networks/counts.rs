//! Parameter counts of published networks, exact.

use voxseg::graph::Graph;
use voxseg::models::{
    Architecture, PlainNet, UNetConfig, cicek_unet3d, model, plain_unet, residual_encoder_unet,
    ronneberger_unet2d,
};
use voxseg::nn::Mode;
use voxseg::ops::Build;
use voxseg::tensor::Shape;

/// The graph of a network on one patch, and the shape of its finest logits.
fn build(config: &UNetConfig, patch: [usize; 3]) -> (Graph, Shape) {
    let mut graph = Graph::new();
    let shape = Shape::new(1, config.in_channels, 1, 1, 1).with_spatial(patch);
    let x = graph.input("image", shape).unwrap();
    let heads = config.build(&mut graph, x, Mode::Training).unwrap();
    let logits = graph.shape(heads.logits[0]);
    (graph, logits)
}

fn count(config: &UNetConfig, patch: [usize; 3]) -> usize {
    build(config, patch).0.parameter_count()
}

#[test]
fn plain_nnunet_3d() {
    let net = |classes| plain_unet(PlainNet::isotropic(1, classes, 6, 320, false));
    assert_eq!(count(&net(2), [32; 3]), 31_195_594);
    assert_eq!(count(&net(3), [32; 3]), 31_196_399);
}

#[test]
fn plain_nnunet_2d() {
    let net = plain_unet(PlainNet::isotropic(1, 2, 8, 512, true));
    assert_eq!(count(&net, [1, 128, 128]), 46_324_558);
}

#[test]
fn residual_encoder_nnunet_3d() {
    let net = PlainNet::isotropic(1, 3, 6, 320, false);
    let net = residual_encoder_unet(net, vec![1, 3, 4, 6, 6, 6]);
    assert_eq!(count(&net, [32; 3]), 102_350_575);
}

#[test]
fn residual_encoder_nnunet_2d() {
    let counts = model("resenc2d").unwrap().counts().unwrap();
    assert_eq!(counts.parameters, 140_017_038);
}

#[test]
fn cicek_3d_with_its_published_extents() {
    let (graph, logits) = build(&cicek_unet3d(3, 3), [116, 132, 132]);
    let norms: usize = graph
        .parameters()
        .filter(|(_, v)| v.name.contains(".norm."))
        .map(|(_, v)| v.shape.len())
        .sum();
    assert_eq!(graph.parameter_count() - norms, 19_069_955);
    assert_eq!(logits, Shape::new(1, 3, 28, 44, 44));
}

#[test]
fn ronneberger_2d_with_its_published_extents() {
    let (graph, logits) = build(&ronneberger_unet2d(1, 2), [1, 572, 572]);
    assert_eq!(graph.parameter_count(), 31_030_658);
    assert_eq!(logits, Shape::new(1, 2, 1, 388, 388));
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let good = plain_unet(PlainNet::isotropic(1, 2, 4, 320, false));
    good.validate().unwrap();
    let bad = [
        UNetConfig {
            kernels: vec![[3; 3]; 3],
            ..good.clone()
        },
        UNetConfig {
            heads: vec![0, 3],
            ..good.clone()
        },
        UNetConfig {
            heads: vec![],
            ..good.clone()
        },
        UNetConfig {
            out_channels: 0,
            ..good.clone()
        },
        UNetConfig {
            strides: vec![[1; 3], [2; 3], [0, 2, 2], [2; 3]],
            ..good.clone()
        },
    ];
    for config in bad {
        assert!(
            config.validate().unwrap_err().is_users_fault(),
            "{config:?}"
        );
    }
}

#[test]
fn a_patch_that_does_not_fit_the_strides_is_refused_when_the_graph_is_built() {
    let net = plain_unet(PlainNet::isotropic(1, 2, 4, 320, false));
    let error = net.output_extent([12, 16, 16]).unwrap_err();
    assert!(error.is_users_fault(), "{error}");
}
