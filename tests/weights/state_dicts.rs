//! Networks as published have the tensors of the state dicts that users of other libraries have, by name and shape.

use std::collections::BTreeMap;

use serde::Deserialize;
use voxseg::graph::Graph;
use voxseg::models::{Blueprint, Network, model};
use voxseg::nn::{DecoderStyle, LayerStyle, Mode, Norm, TokenStyle};
use voxseg::run::network_tensors;
use voxseg::tensor::Shape;

use crate::fixture;

#[derive(Deserialize)]
struct StateDict {
    library: String,
    tensors: BTreeMap<String, Vec<usize>>,
}

/// What `export` would write of the network as published, or as `blueprint` says.
fn ours(name: &str, blueprint: Option<&Blueprint>) -> BTreeMap<String, Vec<usize>> {
    let model = model(name).unwrap();
    let form = model.published;
    let architecture = match blueprint {
        None => (model.of_form)(form),
        Some(blueprint) => model.of_blueprint.unwrap()(blueprint),
    };
    let network = Network::new(architecture.unwrap());
    let mut graph = Graph::new();
    let shape = Shape::new(1, form.channels, 1, 1, 1).with_spatial(form.extent);
    let image = graph.input("image", shape).unwrap();
    network.build(&mut graph, image, Mode::Inference).unwrap();
    let planar = form.extent[0] == 1;
    network_tensors(&graph)
        .into_iter()
        .map(|(name, tensor)| (name, tensor.axes.extents(tensor.shape, planar)))
        .collect()
}

#[test]
fn files_of_other_libraries_fit_by_name_and_shape() {
    let text = std::fs::read_to_string(fixture("state_dicts.json")).unwrap();
    let theirs: BTreeMap<String, StateDict> = serde_json::from_str(&text).unwrap();
    assert!(!theirs.is_empty());
    let mut differ = Vec::new();
    for (name, StateDict { library, tensors }) in theirs {
        let ours = ours(&name, None);
        let of = |from: &BTreeMap<String, Vec<usize>>, other: &BTreeMap<String, Vec<usize>>| {
            let alone = from
                .iter()
                .filter(|(n, shape)| other.get(*n) != Some(shape));
            alone
                .map(|(n, shape)| format!("{n} {shape:?}"))
                .collect::<Vec<_>>()
        };
        let alone = [of(&tensors, &ours), of(&ours, &tensors)];
        if alone.iter().any(|list| !list.is_empty()) {
            let [theirs, ours] = alone.map(|list| list.join(", "));
            differ.push(format!(
                "{name}: {library} alone has {theirs}; here alone {ours}"
            ));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// What a configuration with `features` in `[network]` makes of a data set of the form as published.
fn planned(name: &str, features: &[usize], heads: &[usize], tokens: TokenStyle) -> Blueprint {
    let stages = features.len();
    let mut strides = vec![[2; 3]; stages];
    strides[0] = [1; 3];
    Blueprint {
        form: model(name).unwrap().published,
        features: features.to_vec(),
        kernels: vec![[3; 3]; stages],
        strides,
        encoder_blocks: vec![2; stages],
        decoder_blocks: vec![2; stages - 1],
        heads: heads.to_vec(),
        layers: LayerStyle {
            norm: match name {
                "unetr" => Norm::BARE_INSTANCE,
                _ => Norm::default(),
            },
            ..LayerStyle::default()
        },
        decoder: DecoderStyle::default(),
        tokens,
    }
}

#[test]
fn features_and_tokens_make_planned_networks_those_of_the_files() {
    let none = TokenStyle::default();
    let twelve = TokenStyle {
        blocks: Some(12),
        ..none
    };
    let halved = &[32, 64, 128, 256, 512][..];
    for (name, features, heads, tokens) in [
        ("vnet_bn", halved, &[0][..], none),
        ("vnet_elu", halved, &[0], none),
        ("monai_attention_unet", &[16, 32, 64, 128, 256], &[0], none),
        ("unetpp", &[32, 32, 64, 128, 256], &[0, 1, 2, 3], none),
        ("unetr", &[16, 32, 64, 128, 768], &[0], twelve),
    ] {
        let blueprint = planned(name, features, heads, tokens);
        assert!(ours(name, Some(&blueprint)) == ours(name, None), "{name}");
    }
    let fewer = planned("unetr", &[16, 32, 64, 128, 768], &[0], none);
    assert!(ours("unetr", Some(&fewer)) != ours("unetr", None));
}
