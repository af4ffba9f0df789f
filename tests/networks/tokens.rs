//! Networks of tokens: published parameters and multiply-adds, parity with timm and MONAI, and what does not fit.

use voxseg::graph::Graph;
use voxseg::models::{
    Architecture, Form, Mixer, ModelError, Network, Unetr, VisionTransformer, model,
};
use voxseg::nn::{LayerStyle, Mode};
use voxseg::ops::Build;
use voxseg::tensor::Shape;

use crate::family::matches;

#[track_caller]
fn parameters(name: &str, expected: usize) {
    let found = model(name).unwrap().counts().unwrap();
    assert_eq!(found.parameters, expected, "{name}");
}

#[test]
fn vision_transformers_have_their_published_parameters() {
    parameters("vit_b16", 86_567_656);
    parameters("vit_b32", 88_224_232);
    parameters("vit_l16", 304_326_632);
    parameters("vit_s16", 22_050_664);
    parameters("vit_ti16", 5_717_416);
}

#[test]
fn mixers_have_their_published_parameters_and_multiply_adds() {
    parameters("mixer_s32", 19_104_624);
    parameters("mixer_s16", 18_528_264);
    parameters("mixer_b32", 60_293_428);
    parameters("mixer_b16", 59_880_472);
    parameters("mixer_l16", 208_196_168);
    // The patches; of each of 12 blocks two layers over 196 tokens and two over 768 features; the classifier.
    let tokens = 2 * 196 * 384 * 768;
    let features = 2 * 768 * 3072 * 196;
    let total = 196 * 768 * 768 + 12 * (tokens + features) + 768 * 1000;
    assert_eq!(total, 12_601_767_936u64);
    let found = model("mixer_b16").unwrap().counts().unwrap();
    assert_eq!(found.madds, total as f64);
}

#[test]
fn attention_counts_among_the_multiply_adds_of_a_transformer() {
    let found = model("vit_b16").unwrap().counts().unwrap();
    let layers: u64 = 197 * 768 * 768 * (3 + 1 + 4 + 4);
    let attention = 2 * 197 * 197 * 768;
    let total = 196 * 768 * 768 + 12 * (layers + attention) + 768 * 1000;
    assert_eq!(found.madds, total as f64);
}

#[test]
fn unetr_has_the_parameters_of_monais_but_for_the_norms_that_it_does_not_use() {
    // MONAI 1.6.1: UNETR(1, 14, (96, 96, 96)) has 92,802,478, of which `norm_cross_attn` of 12 blocks are 12 * 2 * 768.
    parameters("unetr", 92_802_478 - 12 * 2 * 768);
}

fn small(channels: usize, classes: usize, extent: [usize; 3]) -> Form {
    Form {
        channels,
        classes,
        extent,
    }
}

#[test]
fn a_vision_transformer_matches_timm() {
    let form = small(2, 5, [1, 32, 32]);
    let network = VisionTransformer {
        heads: 3,
        hidden: 48,
        ..VisionTransformer::published(form, 8, 24, 2)
    };
    matches("network_vit", &network.into());
}

#[test]
fn a_mixer_matches_timm() {
    let form = small(2, 5, [1, 24, 32]);
    let network = Mixer {
        hidden_features: 48,
        ..Mixer::published(form, 8, 24, 2)
    };
    matches("network_mixer", &network.into());
}

/// Four stages, three blocks.
fn small_unetr(extent: [usize; 3], embedding: usize) -> Unetr {
    let published = Unetr::published(small(2, 3, extent));
    Unetr {
        embedding,
        depth: 3,
        attention_heads: 3,
        hidden: 2 * embedding,
        features: vec![2, 3, 4],
        kernels: published.kernels[..3].to_vec(),
        strides: published.strides[..4].to_vec(),
        ..published
    }
}

#[test]
fn unetr_matches_monai_in_slices_and_volumes() {
    let affine = Unetr {
        layers: LayerStyle::default(),
        ..small_unetr([1, 24, 16], 12)
    };
    matches("network_unetr2d", &affine.into());
    // Without scale and shift, as MONAI makes it where nothing is said.
    matches("network_unetr3d", &small_unetr([8, 16, 16], 6).into());
}

fn logits(network: impl Into<Network>, form: Form) -> Result<Shape, ModelError> {
    let mut graph = Graph::new();
    let shape = Shape::new(2, form.channels, 1, 1, 1).with_spatial(form.extent);
    let image = graph.input("image", shape)?;
    let heads = network.into().build(&mut graph, image, Mode::Training)?;
    Ok(graph.shape(heads.logits[0]))
}

#[test]
fn classifiers_of_tokens_take_volumes() {
    let form = small(2, 5, [32, 16, 48]);
    let classes = Shape::new(2, 5, 1, 1, 1);
    let transformer = VisionTransformer::published(form, 16, 64, 1);
    assert_eq!(logits(transformer, form).unwrap(), classes);
    assert_eq!(
        logits(Mixer::published(form, 16, 32, 1), form).unwrap(),
        classes
    );
}

#[track_caller]
fn refused(network: impl Architecture + 'static, form: Form, word: &str) {
    let error = logits(network, form).unwrap_err();
    assert!(
        error.is_users_fault() && error.to_string().contains(word),
        "{error}"
    );
}

#[test]
fn images_of_another_extent_and_numbers_that_do_not_fit_are_refused() {
    let form = small(1, 3, [1, 32, 48]);
    let other = small(1, 3, [1, 48, 32]);
    refused(
        VisionTransformer::published(form, 16, 64, 1),
        other,
        "[1, 32, 48]",
    );
    refused(Mixer::published(form, 16, 64, 1), other, "[1, 32, 48]");
    refused(Unetr::published(form), other, "[1, 32, 48]");
    let odd = small(1, 3, [1, 32, 40]);
    refused(
        VisionTransformer::published(odd, 16, 64, 1),
        odd,
        "[1, 16, 16]",
    );
    refused(Mixer::published(odd, 16, 64, 0), odd, "depth");
    let uneven = VisionTransformer {
        heads: 5,
        ..VisionTransformer::published(form, 16, 64, 1)
    };
    refused(uneven, form, "5 heads");
    let good = small_unetr([8, 16, 16], 12);
    let form = small(2, 3, [8, 16, 16]);
    logits(good.clone(), form).unwrap();
    let bad = [
        (
            Unetr {
                heads: vec![1],
                ..good.clone()
            },
            "heads",
        ),
        (
            Unetr {
                strides: vec![[1; 3]; 2],
                ..good.clone()
            },
            "strides",
        ),
        (
            Unetr {
                strides: vec![[2; 3]; 4],
                ..good.clone()
            },
            "strides",
        ),
        (
            Unetr {
                layers: LayerStyle {
                    dropout: 1.0,
                    ..LayerStyle::default()
                },
                ..good.clone()
            },
            "dropout",
        ),
        (
            Unetr {
                features: vec![2, 0, 4],
                ..good
            },
            "features",
        ),
    ];
    for (network, word) in bad {
        refused(network, form, word);
    }
}
