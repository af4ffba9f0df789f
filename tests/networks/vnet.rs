//! The V-Net: counts, and what it makes of odd numbers of channels and stages.

use voxseg::gpu::{AdapterClass, DeviceProfile};
use voxseg::losses::LossConfig;
use voxseg::models::{Architecture, Counts, Form, Network, VNetConfig, VNetForm, model};
use voxseg::nn::Nonlinearity;
use voxseg::ops::loss::RegionLoss;
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::Shape;
use voxseg::train::{TargetForm, training_step};

use crate::family::matches;
use crate::gpu;
use crate::overfit::{Lesson, learns};

fn form(channels: usize, classes: usize) -> Form {
    Form {
        channels,
        classes,
        extent: [32; 3],
    }
}

fn parameters(network: &VNetConfig, form: Form) -> usize {
    Counts::of(network, form).unwrap().parameters
}

#[test]
fn the_published_network_has_as_many_parameters_as_its_definition() {
    let features = [16, 32, 64, 128, 256];
    // Weights, and a bias and a slope for each output.
    let layer = |weights: usize, outputs: usize| weights + 2 * outputs;
    let encoder: usize = [1, 2, 3, 3, 3]
        .iter()
        .zip(features)
        .map(|(n, f)| n * layer(125 * f * if f == 16 { 1 } else { f }, f))
        .sum();
    let down: usize = features
        .windows(2)
        .map(|f| layer(8 * f[0] * f[1], f[1]))
        .sum();
    let up: usize = [64, 128, 256, 256]
        .iter()
        .zip(features)
        .map(|(c, f)| layer(8 * c * f, f))
        .sum();
    let decoder: usize = [1, 2, 3, 3]
        .iter()
        .zip(features)
        .map(|(n, f)| n * layer(125 * 4 * f * f, 2 * f))
        .sum();
    let total = encoder + down + up + decoder + 2 * 33;
    assert_eq!(total, 65_175_314);
    assert_eq!(
        parameters(&VNetConfig::published(form(1, 2)), form(1, 2)),
        total
    );
    assert_eq!(model("vnet").unwrap().counts().unwrap().parameters, total);
}

#[test]
fn with_batch_norm_it_has_as_many_parameters_as_in_monai() {
    for (classes, prelu, elu) in [(1, 45_597_509, 45_593_892), (2, 45_601_516, 45_597_898)] {
        let form = form(1, classes);
        assert_eq!(parameters(&VNetConfig::batch_norm(form), form), prelu);
        assert_eq!(parameters(&VNetConfig::elu(form), form), elu);
    }
}

#[test]
fn the_published_network_matches_pytorch() {
    let form = Form {
        extent: [4, 12, 16],
        ..form(3, 3)
    };
    let network = VNetConfig {
        kernels: vec![[1, 5, 5], [1, 5, 5], [5; 3]],
        strides: vec![[1; 3], [1, 2, 2], [2; 3]],
        encoder_convs: vec![2, 1],
        decoder_convs: vec![2, 1],
        heads: vec![0, 1],
        ..VNetConfig::of(VNetForm::Published, form, &[4, 4, 6])
    };
    matches("network_vnet", &network.into());
}

#[test]
fn with_batch_norm_it_matches_monai() {
    let form = Form {
        extent: [1, 20, 24],
        ..form(2, 3)
    };
    let network = |activation| VNetConfig {
        encoder_convs: vec![2, 1],
        decoder_convs: vec![2, 1],
        activation,
        ..VNetConfig::of(VNetForm::BatchNorm, form, &[4, 8, 16])
    };
    matches("network_vnet_bn", &network(Nonlinearity::Prelu).into());
    matches("network_vnet_elu", &network(Nonlinearity::Elu).into());
}

#[test]
fn channels_that_do_not_divide_the_features_are_repeated_as_far_as_they_are_needed() {
    for channels in [3, 5, 40] {
        let form = form(channels, 2);
        let more = parameters(&VNetConfig::published(form), form);
        assert_eq!(more - 65_175_314, (channels - 1) * 125 * 16);
    }
}

#[test]
fn its_convolutions_have_fast_kernels_on_either_class_of_adapter() {
    let step = |channels: usize, device: &DeviceProfile| {
        let form = Form {
            extent: [16; 3],
            ..form(channels, 8)
        };
        let network = VNetConfig::of(VNetForm::Published, form, &[8, 16, 32]).into();
        let patch = Shape::new(2, channels, 16, 16, 16);
        let (target, loss) = (TargetForm::CLASSES, LossConfig::default());
        let optimizer = OptimizerConfig::default();
        let step = training_step(&network, patch, target, &loss, &optimizer, device).unwrap();
        let naive = |name: &&str| name.starts_with("conv/naive");
        let names = step.program.kernels().map(|(kernel, _)| kernel.name);
        names.filter(naive).map(str::to_owned).collect::<Vec<_>>()
    };
    // With fewer channels than a tile the naive kernel is what a GPU takes.
    assert!(step(8, &DeviceProfile::minimal_gpu()).is_empty());
    let own = gpu().profile().clone();
    if own.class == AdapterClass::CpuLike {
        assert!(step(1, &own).is_empty());
    }
}

#[test]
fn it_learns_with_the_dice_loss_of_the_paper() {
    let lesson = Lesson {
        // Without a norm a step of 0.01 drives the logits to where this loss, alone, has no gradient.
        rate: 0.001,
        loss: LossConfig {
            pixel: None,
            region: Some(RegionLoss::SquaredDice),
            ..LossConfig::default()
        },
        ..Lesson::slices()
    };
    let form = Form {
        channels: 1,
        classes: lesson.classes,
        extent: lesson.extent,
    };
    let network = VNetConfig::of(VNetForm::Published, form, &[8, 16, 24]);
    learns("vnet with Dice", &Network::from(network), &lesson);
}

#[test]
fn lists_that_do_not_fit_together_are_refused() {
    let good = VNetConfig::published(form(1, 2));
    good.validate().unwrap();
    assert_eq!(good.steps(), Some([16; 3]));
    let bad = [
        VNetConfig {
            features: vec![16],
            ..good.clone()
        },
        VNetConfig {
            decoder_convs: vec![1, 2, 3],
            ..good.clone()
        },
        VNetConfig {
            encoder_convs: vec![1, 2, 0, 3],
            ..good.clone()
        },
        VNetConfig {
            heads: vec![0, 4],
            ..good.clone()
        },
        VNetConfig {
            dropout: f32::NAN,
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
