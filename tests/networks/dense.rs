//! DenseNet and the U-Net of dense blocks: parameter counts, and joins that copy nothing.

use voxseg::graph::Program;
use voxseg::models::{
    Architecture, Blueprint, Counts, DenseNet, DenseStage, DenseUNet, Form, Network, dense_unet_of,
    densenet121, densenet161, densenet169, densenet201, fc_densenet56, fc_densenet103, model,
};
use voxseg::nn::{DecoderStyle, LayerStyle, TokenStyle};
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::Shape;
use voxseg::train::{TargetForm, training_step};

use crate::family::matches;
use crate::gpu;

/// ImageNet's.
const IMAGENET: Form = Form {
    channels: 3,
    classes: 1000,
    extent: [1, 224, 224],
};

/// CamVid's.
const STREETS: Form = Form {
    channels: 3,
    classes: 11,
    extent: [1, 224, 224],
};

#[test]
fn densenets_have_the_parameters_of_torchvision() {
    let count = |network: DenseNet| Counts::of(&network, IMAGENET).unwrap().parameters;
    assert_eq!(count(densenet121(IMAGENET)), 7_978_856);
    assert_eq!(count(densenet169(IMAGENET)), 14_149_480);
    assert_eq!(count(densenet201(IMAGENET)), 20_013_928);
    assert_eq!(count(densenet161(IMAGENET)), 28_681_000);
}

#[test]
fn dense_unets_have_the_parameters_of_their_definition() {
    let count = |network: DenseUNet| Counts::of(&network, STREETS).unwrap().parameters;
    assert_eq!(count(fc_densenet103(STREETS)), 9_322_091);
    assert_eq!(count(fc_densenet56(STREETS)), 1_376_795);
}

#[test]
fn the_list_has_them_with_their_published_forms() {
    for name in ["densenet121", "densenet169", "densenet201", "densenet161"] {
        assert_eq!(model(name).unwrap().published, IMAGENET);
    }
    let unet = model("dense_unet").unwrap();
    assert_eq!(unet.published, STREETS);
    assert_eq!(unet.counts().unwrap().parameters, 9_322_091);
}

/// The training step of `network` on two inputs of `form`.
fn compiled(network: impl Architecture + 'static, form: Form) -> Program {
    let patch = Shape::new(2, form.channels, 1, 1, 1).with_spatial(form.extent);
    let step = training_step(
        &Network::from(network),
        patch,
        TargetForm::CLASSES,
        &Default::default(),
        &OptimizerConfig::default(),
        gpu().profile(),
    );
    step.unwrap().program
}

/// The joins of a program, and the copies that they make.
fn joins(program: &Program) -> (usize, usize) {
    let nodes = program.nodes();
    let joins: Vec<_> = nodes.iter().filter(|n| n.op == "layout.concat").collect();
    let elements = joins.iter().filter_map(|n| n.shape);
    let bytes: usize = elements.map(|s| 4 * s.iter().product::<usize>()).sum();
    println!(
        "{} joins, {:.1} MiB in all, in slots of {:.1} MiB",
        joins.len(),
        bytes as f64 / f64::from(1 << 20),
        program.summary().slot_bytes as f64 / f64::from(1 << 20)
    );
    (joins.len(), joins.iter().map(|n| n.kernels.len()).sum())
}

#[test]
fn a_dense_block_copies_nothing_in_a_training_step() {
    let volume = Form {
        channels: 1,
        classes: 3,
        extent: [32, 32, 32],
    };
    for form in [STREETS, volume] {
        // Some joins are made again in the backward part.
        let (joins, copies) = joins(&compiled(densenet121(form), form));
        assert!(joins >= 58 && copies == 0, "{joins} joins, {copies} copies");
    }
}

/// Stages as a plan has them whose voxels are longer along the depth.
fn anisotropic() -> Blueprint {
    Blueprint {
        form: Form {
            channels: 1,
            classes: 3,
            extent: [8, 32, 32],
        },
        features: vec![8, 16, 32],
        kernels: vec![[1, 3, 3], [3; 3], [3; 3]],
        strides: vec![[1; 3], [1, 2, 2], [2; 3]],
        encoder_blocks: vec![2; 3],
        decoder_blocks: vec![2; 2],
        heads: vec![0, 1],
        layers: LayerStyle::default(),
        decoder: DecoderStyle::default(),
        tokens: TokenStyle::default(),
    }
}

#[test]
fn skips_and_dense_blocks_of_a_unet_are_joined_without_a_copy() {
    let blueprint = anisotropic();
    let network = dense_unet_of(&blueprint);
    assert_eq!(network.steps(), Some([2, 4, 4]));
    // Five blocks of four layers and two joins with a skip.
    let (joins, copies) = joins(&compiled(network, blueprint.form));
    assert!(joins >= 22 && copies == 0, "{joins} joins, {copies} copies");
}

#[test]
fn a_dense_unet_that_contradicts_itself_is_refused() {
    let blueprint = anisotropic();
    let good = dense_unet_of(&blueprint);
    good.validate().unwrap();
    let nothing = DenseStage {
        layers: 0,
        growth: 8,
    };
    let bad = [
        DenseUNet {
            kernels: vec![[3; 3]; 2],
            ..good.clone()
        },
        DenseUNet {
            decoder: vec![nothing; 2],
            ..good.clone()
        },
        DenseUNet {
            heads: vec![0, 2],
            ..good.clone()
        },
        DenseUNet {
            strides: vec![[2; 3]; 3],
            ..good.clone()
        },
        DenseUNet {
            encoder: Vec::new(),
            decoder: Vec::new(),
            kernels: Vec::new(),
            strides: Vec::new(),
            ..good.clone()
        },
    ];
    for network in bad {
        let error = network.validate().unwrap_err();
        assert!(error.is_users_fault(), "{network:?}");
    }
}

/// As published.
fn batch_and_relu() -> LayerStyle {
    fc_densenet56(STREETS).layers
}

#[test]
fn a_densenet_computes_what_torchvisions_does() {
    let form = Form {
        classes: 5,
        ..IMAGENET
    };
    let network = DenseNet {
        growth_rate: 4,
        blocks: vec![2, 2],
        first_features: 8,
        ..densenet121(form)
    };
    matches("network_densenet", &network.into());
}

#[test]
fn a_dense_unet_computes_what_its_definition_in_pytorch_does() {
    let stage = |layers, growth| DenseStage { layers, growth };
    let network = DenseUNet {
        in_channels: 2,
        out_channels: 3,
        first_features: 3,
        encoder: vec![stage(2, 3), stage(2, 4), stage(3, 3)],
        decoder: vec![stage(2, 3), stage(2, 3)],
        layers: LayerStyle {
            dropout: 0.0,
            ..batch_and_relu()
        },
        ..dense_unet_of(&anisotropic())
    };
    matches("network_dense_unet", &network.into());
}
