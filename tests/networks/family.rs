//! A network of any family against PyTorch: logits in training and at inference, the loss, every gradient, running statistics.

use voxseg::graph::{Executor, Graph, Parameters, Program, ProgramOptions, remove_dead_nodes};
use voxseg::losses::LossConfig;
use voxseg::models::{Network, PlainNet, UNetConfig, plain_unet};
use voxseg::nn::{Mode, Nonlinearity, Norm};
use voxseg::reference::Tolerance;
use voxseg::tensor::{HostTensor, Shape};
use voxseg::train::{SupervisedGraph, TargetForm};

use crate::fixtures::{Fixture, Stored};
use crate::gpu;

/// Rounding errors of f32 pass through some twenty layers of up to 27 * 32 terms each, and every norm divides by a
/// standard deviation below one.
fn tolerance() -> Tolerance {
    Tolerance::for_terms(27 * 32).amplified(20.0)
}

/// Five axes, for activations.
fn shape_of(stored: &Stored) -> Shape {
    Shape(stored.shape[..].try_into().unwrap())
}

/// The stored numbers in the shape that the graph has for them: PyTorch leaves out axes of one element.
fn truth(name: &str, stored: &Stored, shape: Shape) -> HostTensor<f64> {
    let real =
        |extents: &[usize]| -> Vec<usize> { extents.iter().copied().filter(|&n| n != 1).collect() };
    assert_eq!(real(&stored.shape), real(&shape.0), "{name}");
    HostTensor {
        shape,
        data: stored.data.iter().map(|&v| f64::from(v)).collect(),
    }
}

fn check(what: &str, found: &HostTensor, expected: &HostTensor<f64>) {
    tolerance().compare(what, found, expected).unwrap();
}

/// A convolution bias before a norm has gradient 0: what is left is rounding, compared with the gradients around it.
fn is_rounding(expected: &HostTensor<f64>) -> bool {
    expected.data.iter().all(|v| v.abs() < 1e-12)
}

/// The stored parameters and running statistics on the device.
fn parameters(fixture: &Fixture, graph: &Graph) -> Parameters {
    let count = &fixture.network()["parameter_count"];
    assert_eq!(graph.parameter_count() as u64, count.as_u64().unwrap());
    let mut parameters = Parameters::new(gpu(), 0);
    parameters.ensure(graph).unwrap();
    let states = fixture.under("state");
    for (name, stored) in fixture.under("param").into_iter().chain(states) {
        let id = graph
            .find(name)
            .unwrap_or_else(|| panic!("the network has no {name}"));
        let shape = graph.value(id).shape;
        truth(name, stored, shape);
        parameters.insert(name, shape, &stored.data).unwrap();
    }
    parameters
}

/// Compares `network` with the fixture `name`, which `tests/fixtures/family.py` wrote.
pub fn matches(name: &str, network: &Network) {
    let fixture = Fixture::load(name);
    matches_at_inference(name, &fixture, network);
    matches_in_training(name, &fixture, network);
}

fn matches_at_inference(name: &str, fixture: &Fixture, network: &Network) {
    let input = fixture.tensor("input");
    let mut graph = Graph::new();
    let image = graph.input("image", shape_of(input)).unwrap();
    let logits = network.build(&mut graph, image, Mode::Inference).unwrap();
    let mut parameters = parameters(fixture, &graph);
    let outputs = [logits.logits[0]];
    remove_dead_nodes(&mut graph, &outputs);
    let program =
        Program::compile(graph, &outputs, gpu().profile(), ProgramOptions::default()).unwrap();
    let executor = Executor::new(program, &mut parameters).unwrap();
    let found = pollster::block_on(async {
        executor.run(&[(image, &input.data)]).await.unwrap();
        executor.fetch().await.unwrap().unwrap().remove(0)
    });
    let stored = fixture.tensor("inference");
    let what = format!("{name} at inference");
    check(&what, &found, &truth(&what, stored, shape_of(stored)));
}

fn matches_in_training(name: &str, fixture: &Fixture, network: &Network) {
    let of = fixture.network();
    let loss = match of["classifier"].as_bool().unwrap() {
        false => LossConfig::default(),
        true => LossConfig {
            region: None,
            ..LossConfig::default()
        },
    };
    let patch = shape_of(fixture.tensor("input"));
    let supervised = SupervisedGraph::build(network, patch, TargetForm::CLASSES, &loss).unwrap();
    let mut parameters = parameters(fixture, &supervised.graph);
    let trained: Vec<(String, Shape)> = supervised
        .gradients
        .keys()
        .map(|&p| supervised.graph.value(p))
        .map(|value| (value.name.clone(), value.shape))
        .collect();
    let (feeds, heads) = (supervised.feeds, supervised.logits.len());
    assert_eq!(heads, network.heads(), "{name}");
    let mut fetched = vec![supervised.total];
    fetched.extend(&supervised.logits);
    fetched.extend(supervised.gradients.values());
    let program = supervised.compile(&fetched, gpu().profile()).unwrap();
    let executor = Executor::new(program, &mut parameters).unwrap();
    let weights = of["head_weights"].as_array().unwrap().iter();
    let weights: Vec<f32> = weights.map(|w| w.as_f64().unwrap() as f32).collect();
    let mut feed: Vec<(_, &[f32])> = vec![
        (feeds.image, &fixture.tensor("input").data),
        (feeds.target, &fixture.tensor("target").data),
        (feeds.head_weights, &weights),
        (feeds.loss_scale, &[1.0]),
    ];
    feed.extend(feeds.dropout_seed.map(|seed| (seed, &[0.0][..])));
    let outputs = pollster::block_on(async {
        executor.run(&feed).await.unwrap();
        executor.fetch().await.unwrap().unwrap()
    });
    let expected = of["loss"].as_f64().unwrap();
    let total = f64::from(outputs[0].data[0]);
    assert!(
        (total - expected).abs() < 1e-5 * expected.abs().max(1.0),
        "{name}: loss {total}, PyTorch {expected}"
    );
    for (head, found) in outputs[1..=heads].iter().enumerate() {
        let stored = fixture.tensor(&format!("logits.{head}"));
        let what = format!("{name} logits {head}");
        check(&what, found, &truth(&what, stored, shape_of(stored)));
    }
    let gradients = &outputs[1 + heads..];
    let largest = gradients.iter().flat_map(|g| &g.data);
    let largest = largest.fold(0.0f32, |m, v| m.max(v.abs()));
    assert_eq!(trained.len(), fixture.under("grad").len(), "{name}");
    for ((parameter, shape), found) in trained.iter().zip(gradients) {
        let what = format!("{name} gradient of {parameter}");
        let stored = fixture.tensor(&format!("grad.{parameter}"));
        let expected = truth(&what, stored, *shape);
        if is_rounding(&expected) {
            let is_small = |v: &f32| v.abs() <= 1e-5 * largest;
            assert!(found.data.iter().all(is_small), "{what}");
        } else {
            check(&what, found, &expected);
        }
    }
    for (state, stored) in fixture.under("after") {
        let found = pollster::block_on(parameters.read(state)).unwrap();
        let what = format!("{name} {state} after a step");
        check(&what, &found, &truth(&what, stored, found.shape));
    }
}

#[test]
fn a_network_with_batch_norm() {
    let network = UNetConfig {
        norm: Norm::Batch {
            eps: 1e-5,
            momentum: 0.1,
        },
        nonlinearity: Nonlinearity::Relu,
        encoder_features: vec![vec![4], vec![6], vec![8]],
        decoder_features: vec![vec![4], vec![6]],
        ..plain_unet(PlainNet {
            in_channels: 2,
            out_channels: 3,
            features: vec![4, 6, 8],
            kernels: vec![[3; 3]; 3],
            strides: vec![[1; 3], [1, 2, 2], [2; 3]],
        })
    };
    matches("network_unet3d_batch_norm", &network.into());
}
