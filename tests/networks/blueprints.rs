//! Every network of the list that can be trained follows plans of all kinds.

use std::collections::BTreeSet;

use voxseg::graph::Graph;
use voxseg::losses::LossConfig;
use voxseg::models::{Blueprint, Form, MODELS, Network, Task};
use voxseg::nn::{DecoderStyle, LayerStyle, Mode, TokenStyle};
use voxseg::ops::Build;
use voxseg::optim::OptimizerConfig;
use voxseg::tensor::Shape;
use voxseg::train::{TargetForm, training_step};

use crate::gpu;

/// A plan of three stages for a volume, a plane, and a volume with thick slices.
pub fn blueprints() -> [(&'static str, Blueprint); 3] {
    let blueprint = |extent, kernels: [[usize; 3]; 3], strides: [[usize; 3]; 3]| Blueprint {
        form: Form {
            channels: 2,
            classes: 3,
            extent,
        },
        features: vec![8, 16, 32],
        kernels: kernels.to_vec(),
        strides: strides.to_vec(),
        encoder_blocks: vec![2; 3],
        decoder_blocks: vec![2; 2],
        heads: vec![0, 1],
        layers: LayerStyle::default(),
        decoder: DecoderStyle::default(),
        tokens: TokenStyle::default(),
    };
    [
        (
            "volume",
            blueprint([16; 3], [[3; 3]; 3], [[1; 3], [2; 3], [2; 3]]),
        ),
        (
            "plane",
            blueprint([1, 32, 16], [[1, 3, 3]; 3], [[1; 3], [1, 2, 2], [1, 2, 2]]),
        ),
        (
            "thick slices",
            blueprint(
                [6, 32, 32],
                [[1, 3, 3], [3; 3], [3; 3]],
                [[1; 3], [1, 2, 2], [2; 3]],
            ),
        ),
    ]
}

#[test]
fn networks_follow_the_plan_in_volumes_planes_and_thick_slices() {
    for model in MODELS {
        let Some(make) = model.of_blueprint else {
            continue;
        };
        for (kind, blueprint) in blueprints() {
            let what = format!("{}, {kind}", model.name);
            let network = Network::new(make(&blueprint).unwrap_or_else(|e| panic!("{what}: {e}")));
            let form = blueprint.form;
            let image = Shape::new(2, form.channels, 1, 1, 1).with_spatial(form.extent);
            let logits = image.with_c(form.classes);
            if let Some(steps) = network.steps() {
                let divides = (0..3).all(|a| form.extent[a].is_multiple_of(steps[a]));
                assert!(divides, "{what}: {steps:?}");
            }
            let mut graph = Graph::new();
            let x = graph.input("image", image).unwrap();
            let heads = network.build(&mut graph, x, Mode::Inference);
            let heads = heads.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(graph.shape(heads.logits[0]), logits, "{what}");
            let step = training_step(
                &network,
                image,
                TargetForm::CLASSES,
                &LossConfig::default(),
                &OptimizerConfig::default(),
                gpu().profile(),
            );
            let step = step.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(step.heads, network.heads(), "{what}");
            let again = step.program.recomputed();
            assert!(again.iter().all(|value| !value.name.is_empty()), "{what}");
            let trained = step.program.graph().parameter_count();
            assert_eq!(trained, graph.parameter_count(), "{what}: both modes");
        }
    }
}

#[test]
fn the_list_names_each_network_once_and_counts_it() {
    let names: BTreeSet<&str> = MODELS.iter().map(|m| m.name).collect();
    assert_eq!(names.len(), MODELS.len());
    for model in MODELS {
        let counts = model.counts();
        let counts = counts.unwrap_or_else(|e| panic!("{}: {e}", model.name));
        assert!(
            counts.parameters > 0 && counts.madds > 0.0,
            "{}",
            model.name
        );
        let is_plan = model.of_blueprint.is_some();
        assert!(
            !is_plan || model.task == Task::Segmentation,
            "{}",
            model.name
        );
        assert!(!model.title.is_empty() && !model.source.is_empty());
    }
}
