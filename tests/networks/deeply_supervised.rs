//! Networks whose auxiliary heads are there for training alone: Wang's classifiers and the C1 decoder.

use std::collections::BTreeMap;

use voxseg::graph::{Executor, Graph, Parameters, remove_dead_nodes};
use voxseg::losses::LossConfig;
use voxseg::models::{
    Architecture, Branch, C1Net, Counts, DilatedResNet, Form, Network, WangNet, c1_deepsup, model,
    wang8, wang13,
};
use voxseg::nn::Mode;
use voxseg::ops::Build;
use voxseg::optim::OptimizerConfig;
use voxseg::report::gradients::VANISHED;
use voxseg::tensor::{HostTensor, Shape};
use voxseg::train::{Fed, Profiling, SupervisedGraph, TargetForm, gradient_profile};

use crate::family::matches;
use crate::gpu;

/// That of the Places data set.
const PLACES: Form = Form {
    channels: 3,
    classes: 205,
    extent: [1, 227, 227],
};

const SMALL: Form = Form {
    channels: 2,
    classes: 3,
    extent: [1, 44, 36],
};

#[test]
fn parameters_are_those_of_the_definitions_in_pytorch() {
    let count = |network: WangNet| Counts::of(&network, PLACES).unwrap().parameters;
    assert_eq!(count(wang8(PLACES)), 56_442_202);
    assert_eq!(count(wang13(PLACES)), 96_793_370);
    let parameters = |name| model(name).unwrap().counts().unwrap().parameters;
    assert_eq!(parameters("wang8"), 56_442_202);
    assert_eq!(parameters("wang13"), 96_793_370);
    assert_eq!(parameters("c1_deepsup"), 12_248_940);
}

#[test]
fn wangs_network_computes_what_its_definition_in_pytorch_does() {
    matches("network_wang", &small_wang().into());
}

fn small_wang() -> WangNet {
    WangNet {
        in_channels: 2,
        out_channels: 5,
        stages: vec![vec![4], vec![6], vec![6, 8], vec![8, 8]],
        width: 12,
        branch: Branch {
            stage: 2,
            features: 3,
            width: 10,
        },
        dropout: 0.0,
    }
}

fn small_c1() -> C1Net {
    let published = c1_deepsup(SMALL);
    C1Net {
        encoder: DilatedResNet {
            stem: 3,
            features: [4, 6, 6, 8],
            blocks: [1, 2, 2, 1],
            ..published.encoder
        },
        ..published
    }
}

#[test]
fn a_c1_decoder_computes_what_its_definition_in_pytorch_does() {
    matches("network_c1_deepsup", &small_c1().into());
}

/// The nodes of inference whose names contain `part`.
fn left_at_inference(network: &dyn Architecture, form: Form, part: &str) -> usize {
    let mut graph = Graph::new();
    let shape = Shape::new(1, form.channels, 1, 1, 1).with_spatial(form.extent);
    let image = graph.input("image", shape).unwrap();
    let heads = network.build(&mut graph, image, Mode::Inference).unwrap();
    assert_eq!(heads.logits.len(), 2);
    let named = |graph: &Graph| {
        let nodes = graph.nodes().iter();
        nodes.filter(|node| node.name.contains(part)).count()
    };
    assert!(named(&graph) > 0);
    remove_dead_nodes(&mut graph, &heads.logits[..1]);
    named(&graph)
}

#[test]
fn branches_cost_nothing_at_inference() {
    assert_eq!(left_at_inference(&wang8(PLACES), PLACES, "DSN"), 0);
    assert_eq!(left_at_inference(&small_c1(), SMALL, "deepsup"), 0);
}

#[test]
fn the_branch_of_both_classifiers_follows_the_fourth_convolution() {
    for network in [wang8(PLACES), wang13(PLACES)] {
        let before = &network.stages[..=network.branch.stage];
        assert_eq!(before.iter().map(Vec::len).sum::<usize>(), 4);
        let all: usize = network.stages.iter().map(Vec::len).sum();
        assert!(matches!(all, 8 | 13));
        assert_eq!(network.heads(), 2);
        // Wang's rule: the branch counts less from epoch to epoch and nothing in the end.
        let decay = network.supervision();
        let alpha = |epoch| decay.weights(network.heads(), epoch, 20).unwrap()[1];
        assert_eq!(alpha(0), 0.3);
        assert!((alpha(2) - 0.3 * 0.95 * 0.90).abs() < 1e-6);
        assert_eq!(alpha(20), 0.0);
    }
}

#[test]
fn volumes_and_small_images_are_refused_by_name() {
    let build = |form: Form| {
        let mut graph = Graph::new();
        let shape = Shape::new(1, form.channels, 1, 1, 1).with_spatial(form.extent);
        let image = graph.input("image", shape).unwrap();
        wang8(form).build(&mut graph, image, Mode::Training)
    };
    let of = |extent| Form { extent, ..PLACES };
    let volume = build(of([64; 3])).unwrap_err();
    assert!(volume.is_users_fault(), "{volume}");
    assert!(volume.to_string().contains("64 slices"), "{volume}");
    let small = build(of([1, 32, 32])).unwrap_err();
    assert!(small.is_users_fault(), "{small}");
}

#[test]
fn the_logits_of_the_c1_decoder_have_the_size_of_the_image_where_they_should() {
    let heads = |network: &C1Net, mode| {
        let mut graph = Graph::new();
        let shape = Shape::new(1, 2, 1, 44, 36);
        let image = graph.input("image", shape).unwrap();
        let heads = network.build(&mut graph, image, mode).unwrap();
        let sizes = heads.logits.iter().map(|&l| graph.shape(l).spatial());
        sizes.collect::<Vec<_>>()
    };
    let published = small_c1();
    assert_eq!(heads(&published, Mode::Inference), [[1, 44, 36]; 2]);
    assert_eq!(heads(&published, Mode::Training), [[1, 6, 5]; 2]);
    let full = C1Net {
        full_size_in_training: true,
        deep_supervision: false,
        ..published
    };
    assert_eq!(full.heads(), 1);
    assert_eq!(heads(&full, Mode::Training), [[1, 44, 36]]);
}

/// Cross-entropy alone, as a classifier has it.
fn entropy() -> LossConfig {
    LossConfig {
        region: None,
        ..LossConfig::default()
    }
}

/// The mean absolute gradient of each parameter in the first step, only the main head supervised.
fn first_gradients(network: &Network, patch: Shape, batch: &Fed) -> BTreeMap<String, f64> {
    let step = SupervisedGraph::build(network, patch, TargetForm::CLASSES, &entropy()).unwrap();
    let names = step.gradients.keys().map(|&p| &step.graph.value(p).name);
    let names: Vec<String> = names.cloned().collect();
    let wanted: Vec<_> = step.gradients.values().copied().collect();
    let feeds = step.feeds;
    let program = step.compile(&wanted, gpu().profile()).unwrap();
    let executor = Executor::new(program, &mut Parameters::new(gpu(), 5)).unwrap();
    let feed: [(_, &[f32]); 4] = [
        (feeds.image, &batch.image),
        (feeds.target, &batch.target),
        (feeds.head_weights, &[1.0, 0.0]),
        (feeds.loss_scale, &[1.0]),
    ];
    let found = pollster::block_on(async {
        executor.run(&feed).await.unwrap();
        executor.fetch().await.unwrap().unwrap()
    });
    let mean = |g: &HostTensor| g.data.iter().map(|v| f64::from(v.abs())).sum::<f64>();
    let means = found.iter().map(|g| mean(g) / g.data.len() as f64);
    names.into_iter().zip(means).collect()
}

#[test]
fn the_gradient_profile_holds_the_convolutions_of_the_main_head() {
    let network = Network::from(small_wang());
    let patch = Shape::new(2, 2, 1, 84, 84);
    let batch = Fed {
        image: (0..patch.len()).map(|i| (i as f32 * 0.7).sin()).collect(),
        target: vec![1.0, 4.0],
        voxel_weights: None,
    };
    let profile = |iterations| {
        let with = Profiling {
            iterations,
            form: TargetForm::CLASSES,
            loss: entropy(),
            optimizer: OptimizerConfig::default(),
            learning_rate: 0.01,
        };
        let mut parameters = Parameters::new(gpu(), 5);
        let draw = |_| Ok(batch.clone());
        pollster::block_on(gradient_profile(
            &network,
            patch,
            &with,
            &mut parameters,
            draw,
        ))
        .unwrap()
    };
    let first = profile(1);
    let names: Vec<&str> = first.layers.iter().map(|l| l.layer.as_str()).collect();
    let convolutions = ["conv1", "conv2", "conv3_1", "conv3_2", "conv4_1", "conv4_2"];
    assert_eq!(names, convolutions);
    let expected = first_gradients(&network, patch, &batch);
    for layer in &first.layers {
        let expected = expected[&format!("{}.weight", layer.layer)];
        assert!(
            (layer.mean_abs - expected).abs() <= 1e-6 * expected,
            "{layer:?}, {expected}"
        );
    }
    let tenth = profile(10);
    assert_eq!(tenth.iterations, 10);
    assert_ne!(tenth.layers, first.layers);
    println!("{}", tenth.to_text(VANISHED));
}
