//! Blueprints that no rule made: their fields are public, and whatever they hold ends as an error, never as a panic.

use std::fmt::Debug;

use voxseg::graph::Graph;
use voxseg::models::{Blueprint, Encoder, MODELS, ModelError, Network, UNetConfig, plain_unet_of};
use voxseg::nn::{Mode, Norm, TokenStyle};
use voxseg::tensor::Shape;

use crate::blueprints::blueprints;

/// What makes a blueprint impossible, and the change.
type Fault = (String, Box<dyn Fn(&mut Blueprint)>);

/// Makes the configuration of a network without a look at what it holds.
type Make = fn(&Blueprint) -> Box<dyn Debug>;

fn fault(name: impl Into<String>, change: impl Fn(&mut Blueprint) + 'static) -> Fault {
    (name.into(), Box::new(change))
}

/// Lists that are empty, too short, too long, or hold an entry that no network can have.
fn faults_of_list<T: Clone + 'static>(
    name: &'static str,
    list: fn(&mut Blueprint) -> &mut Vec<T>,
    wrong: &[(&'static str, T)],
) -> Vec<Fault> {
    let mut faults = vec![
        fault(format!("{name} empty"), move |b| list(b).clear()),
        fault(format!("{name} too short"), move |b| drop(list(b).pop())),
        fault(format!("{name} too long"), move |b| {
            let last = list(b).last().cloned();
            list(b).extend(last);
        }),
    ];
    for (what, value) in wrong {
        for at in [0, 1] {
            let value = value.clone();
            faults.push(fault(format!("{name} {at} {what}"), move |b| {
                list(b)[at] = value.clone();
            }));
        }
    }
    faults
}

fn faults() -> Vec<Fault> {
    const NUMBERS: [(&str, usize); 3] = [
        ("zero", 0),
        ("beyond u32", (u32::MAX as usize) + 1),
        ("the largest", usize::MAX),
    ];
    let axes = NUMBERS.map(|(what, n)| (what, [1, n, 1]));
    let mut all = faults_of_list("features", |b| &mut b.features, &NUMBERS);
    all.extend(faults_of_list("kernels", |b| &mut b.kernels, &axes));
    all.extend(faults_of_list("strides", |b| &mut b.strides, &axes));
    let blocks = [&NUMBERS[..], &[("millions", 5_000_000)]].concat();
    all.extend(faults_of_list(
        "encoder_blocks",
        |b| &mut b.encoder_blocks,
        &blocks,
    ));
    all.extend(faults_of_list(
        "decoder_blocks",
        |b| &mut b.decoder_blocks,
        &blocks,
    ));
    for heads in [vec![], vec![1], vec![0, 0], vec![0, 2], vec![0, usize::MAX]] {
        all.push(fault(format!("heads {heads:?}"), move |b| {
            b.heads.clone_from(&heads);
        }));
    }
    for (what, number) in NUMBERS {
        all.push(fault(format!("channels {what}"), move |b| {
            b.form.channels = number;
        }));
        all.push(fault(format!("classes {what}"), move |b| {
            b.form.classes = number;
        }));
        all.push(fault(format!("extent {what}"), move |b| {
            b.form.extent[1] = number;
        }));
        let given = Some(number);
        let tokens = [
            TokenStyle {
                blocks: given,
                ..TokenStyle::default()
            },
            TokenStyle {
                attention_heads: given,
                ..TokenStyle::default()
            },
            TokenStyle {
                hidden: given,
                ..TokenStyle::default()
            },
        ];
        for style in tokens {
            all.push(fault(format!("{style:?}"), move |b| b.tokens = style));
        }
    }
    for share in [-0.5, 1.0, f32::NAN] {
        all.push(fault(format!("dropout {share}"), move |b| {
            b.layers.dropout = share;
        }));
    }
    all.push(fault("no groups", |b| {
        b.layers.norm = Norm::Group {
            groups: 0,
            eps: 1e-5,
        };
    }));
    all.push(fault("nothing at all", |b| {
        for list in [
            &mut b.features,
            &mut b.encoder_blocks,
            &mut b.decoder_blocks,
            &mut b.heads,
        ] {
            list.clear();
        }
        b.kernels.clear();
        b.strides.clear();
    }));
    all.push(fault("hundreds of stages", |b| {
        b.features = vec![8; 300];
        b.kernels = vec![[1, 3, 3]; 300];
        b.strides = vec![[1; 3]; 300];
        b.encoder_blocks = vec![1; 300];
        b.decoder_blocks = vec![1; 299];
    }));
    all
}

/// Makes the network and appends it to a graph of the blueprint's own form.
fn build(
    make: voxseg::models::OfBlueprint,
    blueprint: &Blueprint,
    mode: Mode,
) -> Result<(), ModelError> {
    let network = Network::new(make(blueprint)?);
    let mut graph = Graph::new();
    let form = blueprint.form;
    let shape = Shape::new(1, form.channels, 1, 1, 1).with_spatial(form.extent);
    let image = graph.input("image", shape)?;
    let (_, _) = (network.steps(), network.supervision());
    network.build(&mut graph, image, mode).map(drop)
}

#[test]
fn every_network_refuses_blueprints_that_contradict_themselves() {
    let mut seen = 0;
    for model in MODELS {
        let Some(make) = model.of_blueprint else {
            continue;
        };
        for (kind, good) in blueprints() {
            for mode in [Mode::Training, Mode::Inference] {
                let made = build(make, &good, mode);
                made.unwrap_or_else(|e| panic!("{}, {kind}: {e}", model.name));
            }
            for (name, change) in faults() {
                let mut bad = good.clone();
                change(&mut bad);
                let error = match build(make, &bad, Mode::Training) {
                    Err(error) => error,
                    Ok(()) => panic!("{}, {kind}: {name} is accepted", model.name),
                };
                assert!(
                    error.is_users_fault(),
                    "{}, {kind}: {name}: {error}",
                    model.name
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 1000, "{seen}");
}

#[test]
fn large_numbers_that_could_be_meant_end_as_an_error_of_size_or_as_a_network() {
    for model in MODELS {
        let Some(make) = model.of_blueprint else {
            continue;
        };
        for (_, good) in blueprints() {
            let mut wide = good.clone();
            wide.features.fill(65_535);
            let mut long = good.clone();
            long.strides[1..].fill([1, 1 << 20, 1 << 20]);
            let mut thick = good.clone();
            thick.kernels.fill([1 << 20; 3]);
            let mut vast = good.clone();
            vast.form.extent = [1 << 20; 3];
            for blueprint in [wide, long, thick, vast] {
                // Some networks have widths or kernels of their own, so that either may come of it.
                if let Err(error) = build(make, &blueprint, Mode::Inference) {
                    assert!(error.is_users_fault(), "{}: {error}", model.name);
                }
            }
        }
    }
}

#[test]
fn what_makes_a_network_of_an_unchecked_blueprint_leaves_the_error_to_the_building() {
    use voxseg::models::{
        DilatedResNet, IsenseeUNet, LrAspp, MobileUNet, MonaiAttentionUNet, UNetPlusPlus, Unetr,
        VNetConfig, VNetForm, attention_unet_of, c1_deepsup_of, dense_unet_of, residual_unet_of,
        summed_unet_of,
    };
    let of: [Make; 14] = [
        |b| Box::new(plain_unet_of(b)),
        |b| Box::new(residual_unet_of(b)),
        |b| Box::new(attention_unet_of(b)),
        |b| Box::new(summed_unet_of(b)),
        |b| Box::new(dense_unet_of(b)),
        |b| Box::new(c1_deepsup_of(b)),
        |b| Box::new(DilatedResNet::of_blueprint(b)),
        |b| Box::new(LrAspp::of_blueprint(b)),
        |b| Box::new(MobileUNet::of_blueprint(b)),
        |b| Box::new(Unetr::of_blueprint(b)),
        |b| Box::new(IsenseeUNet::planned(b)),
        |b| Box::new(MonaiAttentionUNet::planned(b)),
        |b| Box::new(UNetPlusPlus::planned(b)),
        |b| Box::new(VNetConfig::planned(VNetForm::BatchNorm, b)),
    ];
    for (_, good) in blueprints() {
        for (_, change) in faults() {
            let mut bad = good.clone();
            change(&mut bad);
            for make in of {
                let made = make(&bad);
                assert!(!format!("{made:?}").is_empty());
            }
            assert!(bad.validate().is_err());
        }
        good.validate().unwrap();
    }
}

#[test]
fn a_unet_has_no_stage_without_a_block_and_none_of_millions() {
    let [(_, good), ..] = blueprints();
    for count in [0, 5_000_000] {
        let mut residual = voxseg::models::residual_unet_of(&good);
        residual.encoder = Encoder::Residual {
            blocks: vec![1, count, 1],
        };
        let mut blueprint = good.clone();
        blueprint.encoder_blocks[1] = count;
        let plain: UNetConfig = plain_unet_of(&blueprint);
        for network in [residual, plain] {
            let error = network.validate().unwrap_err().to_string();
            assert!(error.contains("from 1 to 1000"), "{error}");
        }
    }
}
