//! The U-Net's relatives: attention gates, summed heads, U-Net++; against PyTorch, with their counts.

use voxseg::graph::Graph;
use voxseg::models::{
    Architecture, Counts, Form, Heads, IsenseeUNet, ModelError, MonaiAttentionUNet, PlainNet,
    UNetConfig, UNetPlusPlus, model, plain_unet,
};
use voxseg::nn::{
    AttentionGate, DecoderStyle, HeadStyle, LayerStyle, Mode, Norm, Padding, conv_layer,
};
use voxseg::ops::ValueId;

use crate::family::matches;

const GATED: DecoderStyle = DecoderStyle {
    head_style: HeadStyle::Separate,
    attention_gates: true,
};

const SUMMED: DecoderStyle = DecoderStyle {
    head_style: HeadStyle::Summed,
    attention_gates: false,
};

/// One convolution a stage.
fn small(features: &[usize], kernels: Vec<[usize; 3]>, strides: Vec<[usize; 3]>) -> UNetConfig {
    let once = |list: &[usize]| list.iter().map(|&f| vec![f]).collect();
    UNetConfig {
        encoder_features: once(features),
        decoder_features: once(&features[..features.len() - 1]),
        ..plain_unet(PlainNet {
            in_channels: 2,
            out_channels: 3,
            features: features.to_vec(),
            kernels,
            strides,
        })
    }
}

#[test]
fn gates_match_pytorch() {
    let network = UNetConfig {
        decoder: GATED,
        ..small(
            &[4, 6, 8],
            vec![[1, 3, 3], [3; 3], [3; 3]],
            vec![[1; 3], [1, 2, 2], [2; 3]],
        )
    };
    matches("network_attention_unet", &network.into());
}

#[test]
fn summed_heads_match_pytorch() {
    let network = UNetConfig {
        heads: vec![0, 2],
        decoder: SUMMED,
        ..small(
            &[4, 4, 6, 8],
            vec![[3; 3]; 4],
            vec![[1; 3], [1, 2, 2], [2; 3], [1, 2, 2]],
        )
    };
    assert_eq!(Architecture::heads(&network), 1);
    matches("network_summed_unet", &network.into());
}

#[test]
fn unet_plus_plus_matches_monai() {
    let form = Form {
        channels: 2,
        classes: 3,
        extent: [8, 12, 16],
    };
    let network = UNetPlusPlus {
        features: vec![3, 4, 6],
        last_features: 4,
        kernels: vec![[3; 3]; 3],
        strides: vec![[1; 3], [2; 3], [2; 3]],
        heads: vec![0, 1],
        ..UNetPlusPlus::monai(form)
    };
    matches("network_unetpp", &network.into());
}

/// MONAI's gate between 1x1x1 convolutions.
#[derive(Debug)]
struct Gated;

impl Architecture for Gated {
    fn in_channels(&self) -> usize {
        2
    }

    fn out_channels(&self) -> usize {
        3
    }

    fn steps(&self) -> Option<[usize; 3]> {
        Some([1; 3])
    }

    fn build(&self, graph: &mut Graph, image: ValueId, mode: Mode) -> Result<Heads, ModelError> {
        let mut conv = |name: &str, x, channels| {
            graph.scope(name, |g| {
                conv_layer(g, x, channels, [1; 3], [1; 3], Padding::Same, true)
            })
        };
        let (x, g) = (conv("x", image, 6)?, conv("g", image, 4)?);
        let gate = AttentionGate {
            features: 3,
            stride: [1; 3],
            norm: Norm::Batch {
                eps: 1e-5,
                momentum: 0.1,
            },
        };
        let gated = graph.scope("gate", |b| gate.build(b, [x, g], mode))?;
        let logits = graph.scope("head", |g| {
            conv_layer(g, gated, 3, [1; 3], [1; 3], Padding::Same, true)
        })?;
        Ok(Heads {
            logits: vec![logits],
            dropout_seed: None,
        })
    }
}

#[test]
fn a_gate_with_batch_norm_matches_monai() {
    matches("network_attention_gate", &Gated.into());
}

/// A volume of thick slices: three stages that are halved along D once.
const THICK: Form = Form {
    channels: 2,
    classes: 3,
    extent: [6, 12, 16],
};
const THICK_STRIDES: [[usize; 3]; 3] = [[1; 3], [1, 2, 2], [2; 3]];

#[test]
fn monais_attention_unet_matches_monai() {
    let network = MonaiAttentionUNet {
        features: vec![4, 4, 6],
        kernels: vec![[3; 3]; 3],
        strides: THICK_STRIDES.to_vec(),
        ..MonaiAttentionUNet::usual(THICK)
    };
    matches("network_monai_attention_unet", &network.into());
}

#[test]
fn monais_attention_unet_has_as_many_parameters_as_in_monai() {
    let counts = |name| model(name).unwrap().counts().unwrap();
    assert_eq!(counts("monai_attention_unet").parameters, 5_909_130);
}

#[test]
fn isensees_network_of_2017_matches_its_definition_in_pytorch() {
    let network = IsenseeUNet {
        features: vec![3, 4, 6],
        kernels: vec![[1, 3, 3], [3; 3], [3; 3]],
        strides: THICK_STRIDES.to_vec(),
        layers: LayerStyle::default(),
        heads: vec![0, 1],
        ..IsenseeUNet::published(THICK)
    };
    assert_eq!(Architecture::heads(&network), 1);
    matches("network_isensee", &network.into());
}

#[test]
fn isensees_network_of_2017_has_as_many_parameters_as_its_definition() {
    let features = [16, 32, 64, 128, 256];
    let classes = 4;
    // A convolution without bias, and the scale and shift of a norm.
    let conv = |from: usize, to: usize| 27 * from * to;
    let norm = |f: usize| 2 * f;
    let entering = [4, 16, 32, 64, 128];
    let context: usize = entering
        .iter()
        .zip(features)
        .map(|(&from, f)| conv(from, f) + 2 * (conv(f, f) + norm(f)) + norm(f))
        .sum();
    let localization: usize = features
        .windows(2)
        .map(|f| {
            let (fine, coarse) = (f[0], f[1]);
            let up = conv(coarse, fine) + norm(fine);
            let wide = conv(2 * fine, 2 * fine) + norm(2 * fine);
            let halving = 2 * fine * fine + norm(fine);
            up + wide + if fine == 16 { 0 } else { halving }
        })
        .sum();
    let logits: usize = [2 * 16, 32, 64].iter().map(|f| classes * (f + 1)).sum();
    let total = context + localization + logits;
    assert_eq!(total, 9_464_268);
    let counts = model("isensee3d").unwrap().counts().unwrap();
    assert_eq!(counts.parameters, total);
}

fn parameters(network: &dyn Architecture, form: Form) -> usize {
    Counts::of(network, form).unwrap().parameters
}

#[test]
fn unet_plus_plus_has_as_many_parameters_as_in_monai() {
    let form = Form {
        channels: 1,
        classes: 2,
        extent: [16; 3],
    };
    let network = UNetPlusPlus::monai(form);
    assert_eq!(parameters(&network, form), 6_979_976);
    assert_eq!(network.steps(), Some([16; 3]));
}

#[test]
fn a_gate_costs_what_its_convolutions_do() {
    let form = Form {
        channels: 1,
        classes: 2,
        extent: [16; 3],
    };
    let net = || plain_unet(PlainNet::isotropic(1, 2, 3, 320, false));
    let gated = UNetConfig {
        decoder: GATED,
        ..net()
    };
    // Of a skip of s channels and a coarser stage of c: to s / 2 channels from both, from these to one; all with bias.
    let gate = |s: usize, c: usize| (s + c + 2) * (s / 2) + s / 2 + 1;
    let more = parameters(&gated, form) - parameters(&net(), form);
    assert_eq!(more, gate(32, 64) + gate(64, 128));
}

#[test]
fn the_network_with_gates_has_as_many_parameters_as_its_definition() {
    let features = [16, 32, 64, 128, 256];
    // With bias, and the scale and shift of the norm.
    let conv = |from: usize, to: usize| 27 * from * to + 3 * to;
    let entering = [1, 16, 32, 64, 128];
    let encoder: usize = entering
        .iter()
        .zip(features)
        .map(|(&from, f)| conv(from, f) + conv(f, f))
        .sum();
    let decoder: usize = features
        .windows(2)
        .map(|f| {
            let (fine, coarse, inner) = (f[0], f[1], f[0] / 2);
            let gate = (fine + coarse + 2) * inner + inner + 1;
            8 * coarse * fine + fine + conv(2 * fine, fine) + conv(fine, fine) + gate
        })
        .sum();
    let total = encoder + decoder + 2 * 17;
    assert_eq!(total, 5_680_878);
    let counts = model("attention_unet").unwrap().counts().unwrap();
    assert_eq!(counts.parameters, total);
}

#[test]
fn summing_heads_costs_no_parameters_and_leaves_one_output() {
    let form = Form {
        channels: 4,
        classes: 4,
        extent: [16; 3],
    };
    let summed = (model("kayalibay3d").unwrap().of_form)(form).unwrap();
    assert_eq!((summed.heads(), summed.steps()), (1, Some([8; 3])));
    let net = PlainNet::isotropic(4, 4, 4, 320, false);
    let separate = plain_unet(PlainNet {
        features: vec![16, 32, 64, 128],
        ..net
    });
    assert_eq!(
        parameters(summed.as_ref(), form),
        parameters(&separate, form)
    );
}

#[test]
fn heads_of_unpadded_networks_are_not_summed() {
    let config = UNetConfig {
        padding: Padding::Valid,
        decoder: SUMMED,
        ..plain_unet(PlainNet::isotropic(1, 2, 3, 320, false))
    };
    assert!(config.validate().unwrap_err().is_users_fault());
}
